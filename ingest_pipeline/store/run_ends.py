"""How runs ended, copied from the records of the machines on which they were; kept for a year."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from psycopg.rows import class_row

from ingest_pipeline.store.connection import Connection, scalar

KEEP_DAYS = 365

INSERT = """
INSERT INTO run_ends (run_id, batch, host, exit_code, cause, oom_kills, group_peak_bytes, limit_bytes, cpu_seconds,
                      ended_at)
VALUES (%(run_id)s, %(batch)s, %(host)s, %(exit_code)s, %(cause)s, %(oom_kills)s, %(group_peak_bytes)s,
        %(limit_bytes)s, %(cpu_seconds)s, to_timestamp(%(ended_at)s))
ON CONFLICT DO NOTHING
"""
SELECT = """
SELECT run_id, batch, host, exit_code, cause, oom_kills, group_peak_bytes, limit_bytes, cpu_seconds,
       extract(epoch FROM ended_at)::float AS ended_at
FROM run_ends
"""
OF_RUN = f"{SELECT} WHERE run_id = %s"
OF_BATCH = f"{SELECT} WHERE batch = %s ORDER BY run_ends.ended_at"
MISSING = """
SELECT run_id FROM unnest(%s::text[]) AS run (run_id)
WHERE NOT EXISTS (SELECT FROM run_ends e WHERE e.run_id = run.run_id)
"""
HAS_RUNS = "SELECT to_regclass('dagster.runs') IS NOT NULL"
# Nobody asks the machine on which they were: it has another database.
END_UNFINISHED = """
INSERT INTO run_ends (run_id, batch, host, exit_code, cause, ended_at)
SELECT run_id, partition, 'another machine', NULL, %s, now() FROM dagster.runs
WHERE status IN ('STARTING', 'STARTED', 'CANCELING') ON CONFLICT DO NOTHING
"""
PRUNE = "DELETE FROM run_ends WHERE ended_at < now() - make_interval(days => %s)"


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run's process ended."""

    run_id: str
    batch: str | None
    host: str
    """The machine on which it was."""
    exit_code: int | None
    """Negative: the signal that killed it; None: nobody was left to see the end."""
    cause: str
    ended_at: float
    """Seconds since 1970."""
    oom_kills: int | None = None
    group_peak_bytes: int | None = None
    limit_bytes: int | None = None
    cpu_seconds: float | None = None

    @property
    def by_itself(self) -> bool:
        """Whether the process ended with an exit code of its own, and was not killed by a signal."""
        return self.exit_code is not None and self.exit_code >= 0


def store_end(connection: Connection, end: RunEnd) -> bool:
    """Store how a run ended, if that is not known already; return whether it was not."""
    return connection.execute(INSERT, asdict(end)).rowcount > 0


def end_of_run(connection: Connection, run_id: str) -> RunEnd | None:
    """Return how a run ended; None if no machine has said so."""
    with connection.cursor(row_factory=class_row(RunEnd)) as cursor:
        return cursor.execute(OF_RUN.encode(), (run_id,)).fetchone()


def ends_of_batch(connection: Connection, batch: str) -> list[RunEnd]:
    """Return how the runs of a batch ended, the oldest first."""
    with connection.cursor(row_factory=class_row(RunEnd)) as cursor:
        return cursor.execute(OF_BATCH.encode(), (batch,)).fetchall()


def without_end(connection: Connection, run_ids: Sequence[str]) -> list[str]:
    """Return those of some runs of which no end is stored."""
    return [run_id for (run_id,) in connection.execute(MISSING, (list(run_ids),))]


def end_unfinished(connection: Connection, cause: str) -> int:
    """Note the end of every run that Dagster's history shows at work; return how many."""
    return connection.execute(END_UNFINISHED, (cause,)).rowcount if scalar(connection, HAS_RUNS) else 0


def prune_ends(connection: Connection, *, days: int = KEEP_DAYS) -> int:
    """Delete ends that are longer ago; return how many."""
    return connection.execute(PRUNE, (days,)).rowcount
