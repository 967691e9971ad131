"""Dagster's event log: what nobody reads of old runs is deleted, in pieces that block nobody.

What stays of an old run: that it was, with its tags, start and end (`runs`); that it succeeded, failed or was canceled;
which partitions it materialized, and when. Of a failure that no later run has mended, why it failed and what was
planned. Partitions keep their status, and no run disappears: `delete_run` would make partitions look missing
(docs/dagster.md, H3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.queries import query

FULL_RUNS = 1000
"""The newest runs that keep everything, at 94 kB each, unless they are too old (docs/findings.md, K1)."""
MOST_DAYS = 36_500
"""So many days before now is a moment that PostgreSQL knows."""
SLAB_RUNS = 100
"""In one transaction: some 5,000 rows, below a second."""
REINDEX_ROWS = 50_000
"""Deleted rows above which the indexes are built anew: pages that lose most of their entries are not used again
(docs/findings.md, K2)."""
KEPT = (
    "ASSET_MATERIALIZATION", "ASSET_OBSERVATION", "ASSET_WIPED", "ASSET_MATERIALIZATION_PLANNED",
    "PIPELINE_FAILURE", "PIPELINE_CANCELED",
)  # fmt: skip
KEPT_OF_LAST = ("PIPELINE_START", "STEP_FAILURE", "ASSET_FAILED_TO_MATERIALIZE")
STATES = ("FRESHNESS_STATE_CHANGE", "FRESHNESS_STATE_EVALUATION", "ASSET_HEALTH_CHANGED")


@dataclass(frozen=True, slots=True)
class PrunedRuns:
    """What was deleted of some old runs, or would be."""

    run_ids: tuple[str, ...]
    """Those of which no failure is shown."""
    runs: int
    rows: int


@dataclass(frozen=True, slots=True)
class HistorySize:
    """How much Dagster's tables take."""

    total_bytes: int
    runs: int


def has_history(connection: Connection) -> bool:
    """Return whether Dagster has made its tables."""
    return bool(_value(connection, "exists"))


def history_size(connection: Connection) -> HistorySize:
    """Return the size of all of Dagster's tables with their indexes, and the number of runs."""
    row = connection.execute(query("event_log", "sizes")).fetchone()
    assert row is not None
    return HistorySize(*row)


def prune_runs(
    connection: Connection, *, days: int, full_runs: int = FULL_RUNS, dry_run: bool = False
) -> Iterator[PrunedRuns]:
    """Prune runs that ended so many days ago, and those that are not among the newest; yield each committed piece.

    A dry run deletes, counts and rolls back.
    """
    newest = [number for _, number in connection.execute(query("event_log", "newest"))]
    checks = connection.execute(query("event_log", "checks")).fetchall()
    wanted: dict[str, Any] = {
        "days": min(days, MOST_DAYS), "full_until": _value(connection, "full_until", full_runs=full_runs),
        "kept": list(KEPT), "kept_of_last": list(KEPT_OF_LAST),
    }  # fmt: skip
    for after, until in _slabs(connection):
        rows = connection.execute(query("event_log", "old_runs"), wanted | {"after": after, "until": until}).fetchall()
        last = [run_id for run_id, is_last in rows if is_last]
        others = [run_id for run_id, is_last in rows if not is_last]
        if rows:
            with connection.transaction(force_rollback=dry_run):
                count = _pruned(connection, others, last, newest, checks)
            yield PrunedRuns(tuple(others), len(rows), count)


def _slabs(connection: Connection) -> Iterator[tuple[int, int]]:
    """Yield ids of runs between which are some runs each; those that are pruned already are passed by quickly."""
    after = 0
    while until := _value(connection, "next_runs", after=after, slab=SLAB_RUNS):
        yield after, until
        after = until


def prune_states(connection: Connection, *, days: int) -> int:
    """Delete old states of assets but for the newest of each; return how many."""
    wanted = {"days": min(days, MOST_DAYS), "states": list(STATES)}
    return connection.execute(query("event_log", "delete_states"), wanted).rowcount


def reclaim(connection: Connection, *, deleted_rows: int, compact: bool = False) -> None:
    """Make the space of deleted rows usable again.

    Args:
        connection: to the store.
        deleted_rows: after many, indexes are built anew beside those in use.
        compact: return the space to the disk; Dagster waits meanwhile.
    """
    for (drop,) in connection.execute(query("event_log", "unfinished_indexes")).fetchall():
        connection.execute(drop.encode())
    for table in ("event_logs", "asset_check_executions", "asset_event_tags"):
        connection.execute(f"VACUUM ({'FULL, ' * compact}ANALYZE) dagster.{table}".encode())
        if deleted_rows >= REINDEX_ROWS and not compact:
            connection.execute(f"REINDEX TABLE CONCURRENTLY dagster.{table}".encode())


def _pruned(
    connection: Connection, others: list[str], last: list[str], newest: list[int], checks: list[tuple[Any, ...]]
) -> int:
    """Delete and shorten rows of some runs; return how many were deleted."""
    runs = others + last
    events = {"runs": others, "kept": list(KEPT)}, {"runs": last, "kept": list(KEPT + KEPT_OF_LAST)}
    deleted = sum(connection.execute(query("event_log", "delete_events"), each).rowcount for each in events)
    deleted += connection.execute(query("event_log", "delete_planned"), {"runs": runs}).rowcount
    for name in ("delete_tags", "delete_run_tags", "shorten_materializations"):
        connection.execute(query("event_log", name), {"runs": runs, "newest": newest})
    for asset_key, check_name, number in checks:
        check = {"asset_key": asset_key, "check_name": check_name, "newest": number, "runs": runs}
        deleted += connection.execute(query("event_log", "delete_executions"), check).rowcount
    return deleted


def _value(connection: Connection, name: str, **parameters: Any) -> Any:
    row = connection.execute(query("event_log", name), parameters).fetchone()
    return row[0] if row else None
