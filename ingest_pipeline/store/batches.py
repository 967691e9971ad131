"""Batches in the ledger: sealed once, begun by a run, reconciled when the run has ended, however it ended."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from psycopg.rows import class_row

from ingest_pipeline.models import Batch, BatchKind, FileCost, PlannedBatch
from ingest_pipeline.store import files, locks
from ingest_pipeline.store.connection import Connection, scalar
from ingest_pipeline.store.incidents import record_incident

MAX_FAILURES = 3
"""Runs of one batch that may end without finishing it before it stays `failed` until it is materialized again."""

NEXT_KEY = """
SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD') || '-' || lpad(nextval('batch_numbers')::text, 6, '0')
"""
INSERT_BATCH = """
INSERT INTO batches (batch, memory_limit_bytes, predicted_peak_bytes, predicted_seconds, cost_model, files)
VALUES (%(batch)s, %(memory_limit_bytes)s, %(predicted_peak_bytes)s, %(predicted_seconds)s, %(cost_model)s, %(files)s)
"""
INSERT_FILES = """
INSERT INTO batch_files (batch, file_id, version)
SELECT %s, file_id, version FROM unnest(%s::bigint[], %s::text[]) AS file (file_id, version)
"""
SELECT_BATCHES = """
SELECT b.batch AS key, b.status, b.predicted_peak_bytes, b.predicted_seconds, b.memory_limit_bytes,
       b.measured_peak_bytes, b.runs, b.failures, b.run_id, b.files
FROM batches b WHERE (%(status)s::text IS NULL OR b.status = %(status)s)
  AND (%(batch)s::text IS NULL OR b.batch = %(batch)s) ORDER BY b.batch
"""
BEGIN = """
UPDATE batches b SET status = 'running', run_id = %(run_id)s,
       runs = runs + (b.run_id IS DISTINCT FROM %(run_id)s)::int,
       started_at = CASE WHEN b.run_id IS DISTINCT FROM %(run_id)s THEN now() ELSE started_at END, ended_at = NULL
FROM (SELECT status, run_id FROM batches WHERE batch = %(batch)s FOR UPDATE) before
WHERE b.batch = %(batch)s
RETURNING CASE WHEN before.run_id = %(run_id)s THEN 'running' ELSE before.status END
"""
UNFINISHED = """
SELECT count(*) FROM batch_files b JOIN files f USING (file_id)
WHERE b.batch = %s AND f.batch = b.batch AND f.version = b.version
  AND f.status IN ('synced', 'processing', 'processed')
"""
COUNT_FILES = "SELECT count(*) FROM files WHERE batch = %s AND status <> 'failed'"
# By the run that took it up last: an earlier one would end it under a run that has given failed files another try.
FINISH = """
UPDATE batches SET status = 'done', ended_at = now(), message = NULL, failures = 0
WHERE batch = %(batch)s AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
"""
RECORD_PEAK = "UPDATE batches SET measured_peak_bytes = greatest(measured_peak_bytes, %s) WHERE batch = %s"
LOCK_BATCH = "SELECT status, run_id, failures FROM batches WHERE batch = %s FOR UPDATE"
OPEN_ATTEMPTS = "SELECT file_id FROM attempts WHERE batch = %s AND run_id = %s AND open"
CLOSE_ATTEMPTS = """
UPDATE attempts SET open = false, outcome = %s, ended_at = now() WHERE batch = %s AND run_id = %s AND open
"""
# Of other runs: a partition may have been materialized by hand while its run was at work, and that one was killed.
CLOSE_LEFT_ATTEMPTS = """
UPDATE attempts SET open = false, outcome = 'interrupted', ended_at = now() WHERE batch = %s AND open
"""
RECONCILE = """
UPDATE batches SET status = %(status)s, failures = %(failures)s, message = %(message)s, ended_at = now()
WHERE batch = %(batch)s
"""
KIND = """
SELECT CASE
    WHEN b.runs > 0 THEN 'retry'
    WHEN EXISTS (SELECT FROM files f WHERE f.batch = b.batch AND f.kills > 0) THEN 'alone'
    WHEN EXISTS (SELECT FROM files f JOIN attempts a USING (file_id)
                 WHERE f.batch = b.batch AND a.version = f.version AND a.batch <> b.batch) THEN 'requeue'
    ELSE 'first' END
FROM batches b WHERE b.batch = %s
"""
MESSAGE = "SELECT message FROM batches WHERE batch = %s"
LAST_ENDED = "SELECT max(ended_at) FROM batches WHERE status = 'done'"
RETRY_FAILED_BATCHES = """
UPDATE batches b SET status = 'waiting', failures = 0
WHERE b.status = 'failed' AND EXISTS (
    SELECT FROM files f WHERE f.batch = b.batch AND f.status IN ('synced', 'processing', 'processed'))
"""


@contextmanager
def sealing(connection: Connection) -> Iterator[None]:
    """Seal in one transaction, one process at a time."""
    with connection.transaction():
        locks.hold_sealing(connection)
        yield


def seal_batch(connection: Connection, planned: PlannedBatch, *, memory_limit_bytes: int, cost_model: int = 0) -> str:
    """Write a batch and its file versions down for good; return its key (sortable, never used again)."""
    with connection.transaction():
        key = f"{_next_key(connection)}-{_plan_hash(planned.costs)}"
        batch = {
            "batch": key,
            "memory_limit_bytes": memory_limit_bytes,
            "predicted_peak_bytes": planned.predicted_peak_bytes,
            "predicted_seconds": planned.predicted_seconds,
            "cost_model": cost_model,
            "files": len(planned.costs),
        }
        connection.execute(INSERT_BATCH, batch)
        ids, versions = ([cost.file_id for cost in planned.costs], [cost.version for cost in planned.costs])
        connection.execute(INSERT_FILES, (key, ids, versions))
        files.assign_batch(connection, key, planned.costs)
    return key


def list_batches(connection: Connection, *, status: str | None = None, batch: str | None = None) -> list[Batch]:
    """Return batches in the order of their keys."""
    with connection.cursor(row_factory=class_row(Batch)) as cursor:
        return cursor.execute(SELECT_BATCHES, {"status": status, "batch": batch}).fetchall()


def begin_batch(connection: Connection, batch: str, run_id: str) -> str:
    """Note that a run works on a batch; return the status it had before.

    Raises:
        LookupError: there is no such batch.
    """
    status = scalar(connection, BEGIN, {"batch": batch, "run_id": run_id})
    if status is None:
        raise LookupError(f"batch {batch} is not in the ledger: was the partition added by hand?")
    return str(status)


def finish_batch(connection: Connection, batch: str, *, run_id: str | None = None) -> None:
    """Note that every file of a batch is accounted for; by a run: only while no other one has taken it up.

    No attempt of any run is open any more then.
    """
    with connection.transaction():
        if connection.execute(FINISH, {"batch": batch, "run_id": run_id}).rowcount:
            connection.execute(CLOSE_LEFT_ATTEMPTS, (batch,))


def record_peak(connection: Connection, batch: str, peak_bytes: int) -> None:
    """Note a peak that a run of this batch measured; the highest stays."""
    connection.execute(RECORD_PEAK, (peak_bytes, batch))


def unfinished_files(connection: Connection, batch: str) -> int:
    """Return how many files of a batch are neither indexed nor failed."""
    return int(scalar(connection, UNFINISHED, (batch,)))


def reconcile_batch(
    connection: Connection, batch: str, run_id: str, *, killed: bool, canceled: bool, message: str
) -> str:
    """Reconcile a batch whose run ended without finishing it; return its new status.

    If the run was killed, the kill is attributed to the file that was open: it leaves for a batch of its own, and
    after `files.MAX_KILLS` it fails. The other files stay and wait. A batch whose runs end `MAX_FAILURES` times with no
    file to attribute it to stays failed: then something else is wrong. A canceled run is no failure: its batch waits.
    """
    with connection.transaction():
        row = connection.execute(LOCK_BATCH, (batch,)).fetchone()
        if row is None or row[0] != "running" or row[1] != run_id:
            return str(row[0]) if row else "unknown"
        attributed = _attribute_kill(connection, batch, run_id) if killed else []
        connection.execute(CLOSE_ATTEMPTS, ("killed" if killed else "interrupted", batch, run_id))
        files.release_batch(connection, batch)
        failures = 0 if attributed else int(row[2]) + (not canceled)
        status = _status_after(connection, batch, failures=failures)
        if status == "done":
            connection.execute(CLOSE_LEFT_ATTEMPTS, (batch,))
        ended = {"batch": batch, "status": status, "failures": failures, "message": message[:2000]}
        connection.execute(RECONCILE, ended)
        if not attributed and not canceled:
            record_incident(connection, batch=batch, run_id=run_id, message=message)
        return status


def retry_failed_batches(connection: Connection) -> int:
    """Let failed batches with unfinished files wait again: a new `ingest run` is a new beginning."""
    return connection.execute(RETRY_FAILED_BATCHES).rowcount


def _status_after(connection: Connection, batch: str, *, failures: int) -> str:
    # A run that did not finish a batch of searchable files was asking about them, or reading them for entities.
    if not scalar(connection, COUNT_FILES, (batch,)):
        return "done"  # each file left it for a batch of its own
    return "failed" if failures >= MAX_FAILURES else "waiting"


def _attribute_kill(connection: Connection, batch: str, run_id: str) -> list[int]:
    open_files = [file_id for (file_id,) in connection.execute(OPEN_ATTEMPTS, (batch, run_id))]
    return files.attribute_kills(connection, open_files, batch)


def _next_key(connection: Connection) -> str:
    return str(scalar(connection, NEXT_KEY))


def _plan_hash(costs: Sequence[FileCost]) -> str:
    digest = hashlib.sha256()
    for cost in costs:
        digest.update(f"{cost.name}\n{cost.version}\n".encode())
    return digest.hexdigest()[:8]


def last_ended(connection: Connection) -> datetime | None:
    """Return when the latest batch ended, None if none ever did."""
    ended: datetime | None = scalar(connection, LAST_ENDED)
    return ended


def message(connection: Connection, batch: str) -> str:
    """Return why a batch's last run did not finish it."""
    return str(scalar(connection, MESSAGE, (batch,)) or "")


def batch_kind(connection: Connection, batch: str) -> BatchKind:
    """Return whether a batch's next run is its first one, and why its files are in it."""
    kind: BatchKind = scalar(connection, KIND, (batch,)) or "first"
    return kind
