"""The ledger, as it is read: what is known of every file, and the attempts that runs made on them.

An attempt is written before the work begins: if the run is killed, its kill is attributed to the open file. What
changes rows of `files` is in `files.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg.abc import Params
from psycopg.rows import class_row

from ingest_pipeline.errors import IngestError
from ingest_pipeline.models import RawFile
from ingest_pipeline.store import files
from ingest_pipeline.store.connection import Connection, repeatable, scalar

ROWS_AT_A_TIME = 1000
NEXT_SCAN = "SELECT nextval('scan_numbers')"
KNOWN = """
SELECT path, revision, version, status, error,
       coalesce(retryable, false) AND status = 'failed' AS retryable, fingerprint, media_type
FROM files WHERE source = %s AND path = ANY(%s)
"""
# LIMIT NULL is no limit.
WAITING = """
SELECT file_id, source, path, version, media_type, size_bytes, kills > 0 AS alone
FROM files f WHERE status = 'synced' AND batch IS NULL AND (%(of_batches)s::text[] IS NULL OR EXISTS (
    SELECT FROM batch_files m WHERE m.file_id = f.file_id AND m.batch = ANY(%(of_batches)s)))
ORDER BY source COLLATE "C", path COLLATE "C" LIMIT %(max_files)s
"""
# What a run on another machine would have to do: what waits, in a batch or not, and what was refused for memory. With
# `everything` also what is indexed, and what was planned and failed.
PRICED = """
SELECT file_id, source, path, version, media_type, size_bytes, kills > 0 AS alone
FROM files
WHERE status IN ('synced', 'processing', 'processed') OR status = 'failed' AND error = 'FileNeedsMoreMemory'
   OR %(everything)s AND (status = 'indexed' OR status = 'failed' AND predicted_peak_bytes IS NOT NULL)
ORDER BY source COLLATE "C", path COLLATE "C"
"""
WAITING_BYTES = f"""
SELECT media_type, count(*), sum(size_bytes)::bigint FROM ({WAITING}) w GROUP BY 1
"""  # noqa: S608
WAITING_COUNT = "SELECT count(*) FROM files WHERE status = 'synced' AND batch IS NULL"
BATCH_FILES = """
SELECT f.file_id, f.source, f.path, b.version, f.size_bytes, f.revision, f.media_type, f.status,
       coalesce(f.predicted_peak_bytes, 0) AS predicted_peak_bytes, f.kills, f.next_generation_id
FROM batch_files b JOIN files f USING (file_id)
WHERE b.batch = %s AND f.batch = b.batch AND f.version = b.version
ORDER BY f.source, f.path
"""
SHOWN_FILES = """
SELECT file_id, source, path, version, size_bytes, revision, media_type, status FROM files
WHERE generation_id IS NOT NULL AND status = 'indexed' AND (path = %(path)s OR source || '/' || path = %(path)s)
ORDER BY source, path
"""
OPEN_ATTEMPT = """
INSERT INTO attempts (file_id, batch, run_id, version, stage)
VALUES (%(file_id)s, %(batch)s, %(run_id)s, %(version)s, %(stage)s)
ON CONFLICT (file_id, run_id) DO UPDATE SET stage = excluded.stage, open = true, outcome = NULL, ended_at = NULL
RETURNING xmax = 0 AS is_new
"""
CLOSE_ATTEMPT = """
UPDATE attempts SET open = false, outcome = %(outcome)s, error = %(error)s, ended_at = now(),
       pages = pages + %(pages)s,
       parse_seconds = parse_seconds + %(parse_seconds)s, embed_seconds = embed_seconds + %(embed_seconds)s,
       parse_peak_bytes = greatest(parse_peak_bytes, %(parse_peak_bytes)s),
       embed_peak_bytes = greatest(embed_peak_bytes, %(embed_peak_bytes)s)
WHERE file_id = %(file_id)s AND run_id = %(run_id)s
"""
ADD_EMBEDDED = """
UPDATE attempts SET chunks_embedded = chunks_embedded + %s WHERE file_id = %s AND run_id = %s
"""


# A file whose chunks were all known has no attempt in this run.
ADD_EXTRACT_SECONDS = """
INSERT INTO attempts (file_id, batch, run_id, version, stage, open, outcome, extract_seconds)
SELECT file_id, coalesce(batch, ''), %(run_id)s, version, 'extracts', false, 'done', %(seconds)s
FROM files WHERE file_id = %(file_id)s
ON CONFLICT (file_id, run_id) DO UPDATE SET extract_seconds = attempts.extract_seconds + excluded.extract_seconds
"""
EXTRACT_SECONDS = """
SELECT f.media_type, avg(a.extract_seconds)
FROM (SELECT file_id, extract_seconds FROM attempts WHERE extract_seconds > 0 ORDER BY attempt_id DESC LIMIT 500) a
JOIN files f USING (file_id) GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What the ledger remembers of one path, for the comparison with the source."""

    path: str
    revision: str
    version: str
    status: str
    error: str | None
    retryable: bool = False
    """It failed, and the reason may be gone."""
    fingerprint: str | None = None
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """A file that has no batch yet."""

    file_id: int
    source: str
    path: str
    version: str
    media_type: str
    size_bytes: int
    alone: bool


@dataclass(frozen=True, slots=True)
class WaitingScope:
    """Which of the waiting files are planned; without limits all of them."""

    max_files: int | None = None
    """At most so many, by source and path."""
    of_batches: Sequence[str] | None = None
    """Only files that were in one of these batches before."""


EVERY_FILE = WaitingScope()


@dataclass(frozen=True, slots=True)
class AttemptCost:
    """What one stage of an attempt did and cost."""

    pages: int = 0
    parse_seconds: float = 0.0
    embed_seconds: float = 0.0
    parse_peak_bytes: int | None = None
    embed_peak_bytes: int | None = None


def next_scan(connection: Connection) -> int:
    """Return the number of a new scan; rows that a scan does not see are deleted at its end."""
    return int(scalar(connection, NEXT_SCAN))


def known_files(connection: Connection, source: str, paths: Sequence[str]) -> dict[str, KnownFile]:
    """Return what is known of these paths, by path."""
    with connection.cursor(row_factory=class_row(KnownFile)) as cursor:
        return {known.path: known for known in cursor.execute(KNOWN, (source, list(paths)))}


def waiting_files(connection: Connection, scope: WaitingScope = EVERY_FILE) -> Iterator[WaitingFile]:
    """Yield the files that wait for a batch, by source and path; 1,000 rows are in memory at a time."""
    yield from _streamed(connection, WAITING, _columns(scope))


def priced_files(connection: Connection, *, everything: bool) -> Iterator[WaitingFile]:
    """Yield every file that is not indexed yet and could be, or every known one, by source and path; as a stream."""
    yield from _streamed(connection, PRICED, {"everything": everything})


def _streamed(connection: Connection, query: str, parameters: Params) -> Iterator[WaitingFile]:
    files = connection.cursor("files", row_factory=class_row(WaitingFile))
    with connection.transaction(), files as cursor:
        cursor.itersize = ROWS_AT_A_TIME
        yield from cursor.execute(query.encode(), parameters)


def waiting_bytes(connection: Connection, scope: WaitingScope = EVERY_FILE) -> list[tuple[str, int, int]]:
    """Return what waits for a batch: type, number of files, bytes together."""
    return [(kind, count, size) for kind, count, size in connection.execute(WAITING_BYTES.encode(), _columns(scope))]


def waiting_count(connection: Connection) -> int:
    """Return how many files wait for a batch."""
    return int(scalar(connection, WAITING_COUNT))


def _columns(scope: WaitingScope) -> dict[str, Any]:
    return {"max_files": scope.max_files, "of_batches": None if scope.of_batches is None else [*scope.of_batches]}


def batch_files(connection: Connection, batch: str) -> list[RawFile]:
    """Return the files that a batch still answers for: not those that changed, or went to another batch."""
    with connection.cursor(row_factory=class_row(RawFile)) as cursor:
        return cursor.execute(BATCH_FILES, (batch,)).fetchall()


def shown_files(connection: Connection, path: str) -> list[RawFile]:
    """Return the files that readers see at a path, with or without its source."""
    with connection.cursor(row_factory=class_row(RawFile)) as cursor:
        return cursor.execute(SHOWN_FILES, {"path": path}).fetchall()


def open_attempt(connection: Connection, file: RawFile, *, batch: str, run_id: str, stage: str) -> None:
    """Write down, before it begins, that this run works on this file."""
    attempt = {"file_id": file.file_id, "batch": batch, "run_id": run_id, "version": file.version, "stage": stage}
    with connection.transaction():
        is_new = bool(scalar(connection, OPEN_ATTEMPT, attempt))
        files.begin_attempt(connection, file, batch=batch, is_new=is_new)


def add_embedded(connection: Connection, file: RawFile, *, run_id: str, chunks: int) -> None:
    """Note that some more chunks of an open attempt have their vectors: progress that can be watched."""
    with repeatable(connection):
        connection.execute(ADD_EMBEDDED, (chunks, file.file_id, run_id))


def add_extract_seconds(connection: Connection, file: RawFile, *, run_id: str, seconds: float) -> None:
    """Note how long questions about a file took: the next batch is planned by it."""
    with repeatable(connection):
        known = {"file_id": file.file_id, "run_id": run_id, "seconds": seconds}
        connection.execute(ADD_EXTRACT_SECONDS, known)


def extract_seconds(connection: Connection) -> dict[str, float]:
    """Return how long the questions about one file took on average, by media type."""
    return dict(connection.execute(EXTRACT_SECONDS).fetchall())


def close_attempt(
    connection: Connection, file: RawFile, *, run_id: str, cost: AttemptCost, error: IngestError | None = None
) -> None:
    """Write down how the work on a file ended and what it cost."""
    ended = {
        "file_id": file.file_id,
        "run_id": run_id,
        "outcome": "failed" if error else "done",
        "error": error.reason if error else None,
    }
    with repeatable(connection):
        connection.execute(CLOSE_ATTEMPT, ended | asdict(cost))
        files.add_cost(connection, file, asdict(cost))
