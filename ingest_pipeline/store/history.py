"""What the ledger knows of one file, for a report: its row, its generations, its attempts, their batches and incidents.

Only columns that hold no content, no name and no setting are read here; what may hold one (messages, warnings, reasons
of gaps) is read apart by `words_of`, for whoever withholds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.rows import class_row, dict_row

from ingest_pipeline.models import RawFile
from ingest_pipeline.store.connection import Connection

# Whatever became of it: also files that are deleted, and such that were never read.
NAMED = """
SELECT file_id, source, path, version, size_bytes, revision, media_type, status,
       coalesce(predicted_peak_bytes, 0) AS predicted_peak_bytes, kills, next_generation_id
FROM files WHERE path = %(path)s OR source || '/' || path = %(path)s ORDER BY source, path
"""
# `fingerprint` ends at `+`: what follows names settings, and passwords by a hash.
FILE = """
SELECT file_id, version, media_type, size_bytes, status, error, retryable, attempts, kills, batch, generation_id,
       next_generation_id, split_part(fingerprint, '+', 1) AS fingerprint, pages, jsonb_array_length(gaps) AS gaps,
       jsonb_array_length(warnings) AS warnings, predicted_peak_bytes, predicted_seconds, measured_peak_bytes,
       embed_peak_bytes, seconds, first_seen_at, updated_at
FROM files WHERE file_id = %s
"""
GENERATIONS = """
SELECT generation_id, fingerprint, complete, pages, max_tokens, jsonb_array_length(gaps) AS gaps,
       jsonb_array_length(warnings) AS warnings, checkpoint_pages, checkpoint_characters, checkpoint_chunks, chunks,
       limits, created_at
FROM generations WHERE version = %s ORDER BY generation_id
"""
ATTEMPTS = """
SELECT attempt_id, batch, run_id, version, stage, open, outcome, error, pages, chunks_embedded, parse_seconds,
       embed_seconds, parse_peak_bytes, embed_peak_bytes, started_at, ended_at
FROM attempts WHERE file_id = %s ORDER BY attempt_id
"""
# That it is in now, and those of its attempts.
BATCHES = """
SELECT b.batch, b.status, b.files, b.runs, b.failures, b.memory_limit_bytes, b.predicted_peak_bytes,
       b.predicted_seconds, b.measured_peak_bytes, b.cost_model, b.sealed_at, b.started_at, b.ended_at
FROM batches b WHERE b.batch IN (
    SELECT batch FROM attempts WHERE file_id = %(file)s UNION SELECT batch FROM batch_files WHERE file_id = %(file)s)
ORDER BY b.batch
"""
INCIDENTS = "SELECT run_id, batch, cause, reset, happened_at FROM incidents WHERE run_id = ANY(%s) ORDER BY incident_id"
# A file that failed has the gaps that were found before in its generation.
WORDS = """
SELECT f.message, f.fingerprint, f.warnings, CASE WHEN f.gaps <> '[]' THEN f.gaps ELSE coalesce((
    SELECT g.gaps FROM generations g WHERE g.version = f.version AND f.status = 'failed' AND NOT g.complete
    ORDER BY generation_id DESC LIMIT 1), '[]') END AS gaps
FROM files f WHERE f.file_id = %s
"""
# The last one that parsed it, or would have: of which it had the memory.
MEMORY_LIMIT = """
SELECT b.memory_limit_bytes FROM batches b JOIN batch_files f USING (batch)
LEFT JOIN attempts a ON a.batch = b.batch AND a.file_id = f.file_id
WHERE f.file_id = %s ORDER BY a.attempt_id DESC NULLS LAST, b.batch DESC LIMIT 1
"""
# Of what readers see, or will: a file that failed has none.
LIMITS = """
SELECT g.limits FROM files f JOIN generations g ON g.version = f.version AND g.complete
WHERE f.file_id = %s AND f.status <> 'failed' ORDER BY g.generation_id = f.generation_id DESC, g.generation_id DESC
LIMIT 1
"""
SERVER = """
SELECT current_setting('server_version') AS postgres,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector
"""


@dataclass(frozen=True, slots=True)
class FileWords:
    """The columns of a file that may hold names, settings or content."""

    message: str | None
    fingerprint: str | None
    """With what decided a refusal."""
    warnings: list[str]
    gaps: list[dict[str, Any]]
    """`page_from`, `page_to`, `reason`."""


def files_named(connection: Connection, path: str) -> list[RawFile]:
    """Return the files that the ledger has at a path, with or without its source."""
    with connection.cursor(row_factory=class_row(RawFile)) as cursor:
        return cursor.execute(NAMED, {"path": path}).fetchall()


def rows_of(connection: Connection, file: RawFile) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a file by table, without names and content."""
    attempts = _rows(connection, ATTEMPTS, (file.file_id,))
    runs = sorted({str(row["run_id"]) for row in attempts})
    return {
        "files": _rows(connection, FILE, (file.file_id,)),
        "generations": _rows(connection, GENERATIONS, (file.version,)),
        "attempts": attempts,
        "batches": _rows(connection, BATCHES, {"file": file.file_id}),
        "incidents": _rows(connection, INCIDENTS, (runs,)),
    }


def words_of(connection: Connection, file: RawFile) -> FileWords:
    """Return what may hold names, settings or content."""
    with connection.cursor(row_factory=class_row(FileWords)) as cursor:
        words = cursor.execute(WORDS, (file.file_id,)).fetchone()
    assert words is not None, f"file {file.file_id} left the ledger"
    return words


def memory_limit_bytes(connection: Connection, file: RawFile) -> int | None:
    """Return the run budget under which a file was last parsed; None if no batch ever had it."""
    row = connection.execute(MEMORY_LIMIT, (file.file_id,)).fetchone()
    return int(row[0]) if row else None


def parse_limits(connection: Connection, file: RawFile) -> dict[str, float]:
    """Return `page_seconds`, `file_seconds` and `parser_bytes` under which a file was parsed; {} if unknown."""
    row = connection.execute(LIMITS, (file.file_id,)).fetchone()
    return dict(row[0]) if row else {}


def server_versions(connection: Connection) -> dict[str, str | None]:
    """Return the versions of Postgres and pgvector."""
    [row] = _rows(connection, SERVER, ())
    return row


def _rows(connection: Connection, query: str, parameters: Sequence[Any] | dict[str, Any]) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), parameters).fetchall()
