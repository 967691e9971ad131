"""Keeps Dagster's history small: rows of its event log, and the log files of old runs."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest_pipeline.settings import Settings
from ingest_pipeline.store import event_log
from ingest_pipeline.store.connection import Connection

RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class RetentionWork:
    """What keeping the history small did, or would do."""

    runs: int
    """Of which rows were deleted; none of them disappears."""
    rows_deleted: int
    logs_deleted: int
    """Files and folders with the output of old runs."""
    bytes_before: int
    bytes_after: int
    runs_in_history: int
    seconds: float

    @property
    def bytes_per_run(self) -> int:
        """What Dagster's tables take for a run."""
        return self.bytes_after // max(1, self.runs_in_history)


def prune_history(
    connection: Connection,
    settings: Settings,
    *,
    dry_run: bool = False,
    compact: bool = False,
    report: Callable[[int], None] = lambda runs: None,
) -> RetentionWork:
    """Delete what nobody reads of runs that are older than `INGEST_RETENTION_DAYS`, or not among the newest.

    Args:
        connection: to the store.
        settings: say how old, and where the logs are.
        dry_run: only count.
        compact: return the space to the disk; Dagster waits meanwhile.
        report: gets the number of runs so far after each committed piece.
    """
    began, runs, rows = time.monotonic(), 0, 0
    if not event_log.has_history(connection):
        return RetentionWork(0, 0, 0, 0, 0, 0, 0.0)
    before, logs = event_log.history_size(connection), list(_old_logs(settings))
    for piece in event_log.prune_runs(connection, days=settings.retention_days, dry_run=dry_run):
        runs, rows = runs + piece.runs, rows + piece.rows
        logs += [path for run_id in piece.run_ids for path in _logs_of(settings, run_id)]
        report(runs)
    if not dry_run:
        rows += event_log.prune_states(connection, days=settings.retention_days)
        for path in {*logs}:
            _delete(path)
        event_log.reclaim(connection, deleted_rows=rows, compact=compact)
    after = event_log.history_size(connection)
    return RetentionWork(
        runs=runs, rows_deleted=rows, logs_deleted=len({*logs}), bytes_before=before.total_bytes,
        bytes_after=after.total_bytes, runs_in_history=after.runs, seconds=time.monotonic() - began,
    )  # fmt: skip


def _old_logs(settings: Settings) -> Iterator[Path]:
    """Yield the output of runs that wrote nothing for so many days, also of those that Dagster no longer knows."""
    oldest = time.time() - settings.retention_days * 86_400
    for folder in (settings.home / "dagster" / "storage", settings.home / "runs"):
        for path in folder.iterdir() if folder.is_dir() else ():
            with contextlib.suppress(OSError):  # another process deletes old records, too
                if RUN_ID.fullmatch(path.stem) and path.stat().st_mtime < oldest:
                    yield path


def _logs_of(settings: Settings, run_id: str) -> list[Path]:
    records = settings.home / "runs"
    paths = (settings.home / "dagster" / "storage" / run_id, records / f"{run_id}.log", records / f"{run_id}.json")
    return [path for path in paths if path.exists()]


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
