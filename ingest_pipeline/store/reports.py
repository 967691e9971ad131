"""Counts and lists for people, checks and the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from psycopg.rows import dict_row

from ingest_pipeline.models import BATCH_STATUSES, FILE_STATUSES
from ingest_pipeline.store.connection import Connection, scalar

COUNT_FILES = "SELECT status, count(*) FROM files GROUP BY status"
COUNT_BATCHES = "SELECT status, count(*) FROM batches GROUP BY status"
# What a search can find: not what is rejected or deferred.
COUNT_CHUNKS = """
SELECT count(*) FROM files f JOIN chunks c USING (generation_id) WHERE NOT EXISTS (
    SELECT FROM unembedded_texts u WHERE u.model_id = f.model_id AND u.text_hash = c.text_hash)
"""
COUNT_EMBEDDINGS = "SELECT count(*) FROM embeddings"
FILES = """
SELECT source, path, version, media_type, bytes, pages, status, attempts, error, message, retryable, gaps, chunks,
       predicted_peak_bytes, measured_peak_bytes, seconds, batch, embed_peak_bytes
FROM file_status WHERE (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(batch)s::text IS NULL OR batch = %(batch)s) AND (source, path) > (%(source)s, %(path)s)
ORDER BY source, path LIMIT %(limit)s
"""
FILE = """
SELECT source, path, version, media_type, bytes, pages, status, attempts, error, message, retryable, gaps, chunks,
       predicted_peak_bytes, measured_peak_bytes, seconds, batch, embed_peak_bytes
FROM file_status WHERE source = %s AND path = %s
"""
PAGE_ROWS = 500
NOW = "SELECT now()"
WORK_SINCE = """
SELECT count(*) FILTER (WHERE pages > 0 OR parse_seconds > 0) AS parsed, coalesce(sum(pages), 0) AS pages,
       coalesce(sum(chunks_embedded), 0) AS embedded, coalesce(sum(parse_seconds), 0) AS parse_seconds,
       coalesce(sum(embed_seconds), 0) AS embed_seconds, max(parse_peak_bytes) AS parse_peak_bytes,
       max(embed_peak_bytes) AS embed_peak_bytes
FROM attempts WHERE started_at >= %(since)s AND (%(batch)s::text IS NULL OR batch = %(batch)s)
"""
BATCH_TOTALS = """
SELECT count(*) AS files, count(*) FILTER (WHERE status = 'indexed') AS indexed,
       coalesce(sum(bytes), 0)::bigint AS bytes,
       coalesce(sum(pages), 0) AS pages, coalesce(sum(chunks), 0)::bigint AS chunks FROM file_status WHERE batch = %s
"""
PEAK_OF_BATCHES = "SELECT max(measured_peak_bytes) FROM batches WHERE batch = ANY(%s)"
WORK_BY_TYPE = """
SELECT f.media_type, count(*) AS files, sum(a.pages) AS pages, sum(a.chunks_embedded) AS chunks,
       sum(a.parse_seconds) AS parse_seconds, sum(a.embed_seconds) AS embed_seconds,
       max(a.parse_peak_bytes) AS parse_peak_bytes, max(a.embed_peak_bytes) AS embed_peak_bytes
FROM attempts a JOIN files f USING (file_id) WHERE a.started_at >= %s GROUP BY 1 ORDER BY embed_seconds DESC
"""
LAST_CHANGE = "SELECT max(updated_at) FROM files WHERE status IN ('indexed', 'deleted')"
# A file that is being embedded counts by the share of its chunks that have vectors: large files move the line too.
PROGRESS = """
SELECT count(*) FILTER (WHERE f.status IN ('indexed', 'failed'))::int AS done, count(*)::int AS files,
       coalesce(sum(g.tokens), 0)::bigint AS parsed_tokens,
       coalesce(sum(g.tokens * CASE f.status WHEN 'indexed' THEN 1 ELSE coalesce(a.share, 0) END), 0)::bigint
           AS embedded_tokens,
       coalesce(sum(f.predicted_seconds) FILTER (WHERE f.status IN ('processed', 'indexed')), 0)
           AS parsed_predicted_seconds,
       coalesce(sum(f.predicted_seconds) FILTER (WHERE f.status IN ('synced', 'processing')), 0)
           AS waiting_predicted_seconds,
       coalesce(sum(g.tokens) FILTER (WHERE f.status = 'indexed'), 0)::bigint AS finished_tokens
FROM files f
LEFT JOIN LATERAL (
    SELECT chunks, tokens FROM generations WHERE version = f.version AND complete ORDER BY generation_id DESC LIMIT 1
) g ON f.status IN ('processed', 'indexed')
LEFT JOIN LATERAL (
    SELECT least(1.0, chunks_embedded / greatest(1.0, g.chunks)) AS share FROM attempts
    WHERE file_id = f.file_id AND open AND stage = 'embeddings'
) a ON f.status = 'processed'
WHERE f.batch = ANY(%s)
"""
FAILED_BY_REASON = """
SELECT error, count(*) FROM files WHERE status = 'failed' AND (%(batch)s::text IS NULL OR batch = %(batch)s)
GROUP BY 1 ORDER BY 2 DESC, 1
"""
INCONSISTENT = """
SELECT 'indexed without chunks shown' AS problem, count(*) FROM files f
WHERE f.status = 'indexed' AND f.generation_id IS NULL
UNION ALL
SELECT 'indexed, but shows other bytes', count(*) FROM files f JOIN generations g USING (generation_id)
WHERE f.status = 'indexed' AND g.version <> f.version
UNION ALL
SELECT 'deleted, but still shown', count(*) FROM files f WHERE f.status = 'deleted' AND f.generation_id IS NOT NULL
UNION ALL
SELECT 'shown, but not complete', count(*) FROM files f JOIN generations g USING (generation_id) WHERE NOT g.complete
UNION ALL
-- Not of a file that waits: its deferred vectors may just have been asked for.
SELECT 'a chunk shown without its vector', count(*) FROM files f JOIN waiting_chunks c USING (generation_id, model_id)
WHERE f.status = 'indexed'
UNION ALL
SELECT 'processing without an open attempt', count(*) FROM files f
WHERE f.status = 'processing' AND NOT EXISTS (SELECT FROM attempts a WHERE a.file_id = f.file_id AND a.open)
  -- A run closes the attempt a moment before it notes what it has stored; if it is killed then, it is reconciled.
  AND NOT EXISTS (SELECT FROM batches b WHERE b.batch = f.batch AND b.status = 'running')
"""
BATCH_WITHOUT_VECTOR = """
SELECT count(*) FROM files f JOIN waiting_chunks c USING (generation_id, model_id) WHERE f.batch = %s
"""
BATCH_STATES = """
SELECT s.state, count(*) FROM files f JOIN chunk_states s USING (generation_id, model_id)
WHERE f.batch = %s AND s.state IN ('rejected', 'deferred') GROUP BY 1
"""


def status_counts(connection: Connection) -> dict[str, Any]:
    """Return the counts of files and batches by status, of chunks shown and of embeddings."""
    files = dict.fromkeys(FILE_STATUSES, 0) | dict(connection.execute(COUNT_FILES).fetchall())
    batches = dict.fromkeys(BATCH_STATUSES, 0) | dict(connection.execute(COUNT_BATCHES).fetchall())
    return {
        "files": files,
        "chunks": scalar(connection, COUNT_CHUNKS),
        "embeddings": scalar(connection, COUNT_EMBEDDINGS),
        "batches": batches,
    }


def files(connection: Connection, *, status: str | None = None, batch: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield what is true of every file, by source and path, 500 rows in memory at a time."""
    source = path = ""
    while True:
        wanted = {"status": status, "batch": batch, "source": source, "path": path, "limit": PAGE_ROWS}
        with connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(FILES, wanted).fetchall()
        yield from rows
        if len(rows) < PAGE_ROWS:
            return
        source, path = rows[-1]["source"], rows[-1]["path"]


def file_at(connection: Connection, source: str, path: str) -> dict[str, Any] | None:
    """Return what happened to one file, as `files` shows it; None if no catalog run has seen it."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(FILE, (source, path)).fetchone()


def now(connection: Connection) -> Any:
    """Return the database's clock, to ask for work since then."""
    return scalar(connection, NOW)


def last_change(connection: Connection) -> Any:
    """Return when what readers see last changed; None if there is nothing."""
    return scalar(connection, LAST_CHANGE)


def work_since(connection: Connection, since: Any, *, batch: str | None = None) -> dict[str, Any]:
    """Return what the attempts since a moment did and cost: files parsed, pages, chunks embedded, seconds, peaks."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(WORK_SINCE, {"since": since, "batch": batch}).fetchone() or {}


def batch_totals(connection: Connection, batch: str) -> dict[str, int]:
    """Return files, indexed files, bytes, pages and chunks of a batch as they are now."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(BATCH_TOTALS, (batch,)).fetchone() or {}


def peak_of_batches(connection: Connection, batches: list[str]) -> int | None:
    """Return the highest peak that a run of these batches measured; None if none did."""
    return scalar(connection, PEAK_OF_BATCHES, (batches,))


def work_by_type(connection: Connection, since: Any) -> list[dict[str, Any]]:
    """Return the same by media type, most expensive first."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(WORK_BY_TYPE, (since,)).fetchall()


def progress(connection: Connection, batches: Sequence[str]) -> dict[str, Any]:
    """Return files done and in all, and what is known of the work on them, of these batches."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(PROGRESS, (list(batches),)).fetchone() or {}


def failures_by_reason(connection: Connection, *, batch: str | None = None) -> dict[str, int]:
    """Return how many files failed for each reason."""
    return dict(connection.execute(FAILED_BY_REASON, {"batch": batch}).fetchall())


def inconsistencies(connection: Connection) -> dict[str, int]:
    """Return where ledger and tables disagree: a count for each kind of problem that is there."""
    return {problem: count for problem, count in connection.execute(INCONSISTENT) if count}


def chunks_without_vector(connection: Connection, batch: str) -> int:
    """Return how many chunks that readers see of a batch's files wait for a vector."""
    return int(scalar(connection, BATCH_WITHOUT_VECTOR, (batch,)))


def chunks_by_state(connection: Connection, batch: str) -> dict[str, int]:
    """Return how many chunks that readers see of a batch's files are `rejected` or `deferred`."""
    return dict(connection.execute(BATCH_STATES, (batch,)).fetchall())
