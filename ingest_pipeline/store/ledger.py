"""The ledger: what is true of every file now. Attempts are written before the work that they are attributed for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from psycopg.rows import class_row

from ingest_pipeline.errors import IngestError
from ingest_pipeline.models import Gap, ListedFile, RawFile
from ingest_pipeline.store.connection import Connection

MAX_KILLS = 3

NEXT_SCAN = "SELECT nextval('scan_numbers')"
KNOWN = """
SELECT path, revision, version, status, error,
       coalesce(retryable, false) AND status = 'failed' AS retryable
FROM files WHERE source = %s AND path = ANY(%s)
"""
SEEN = "UPDATE files SET last_scan = %s WHERE source = %s AND path = ANY(%s)"
TOUCHED = """
UPDATE files SET size_bytes = %(size_bytes)s, revision = %(revision)s, last_scan = %(scan)s
WHERE source = %(source)s AND path = %(path)s
"""
# A new version waits from its first attempt on; what readers see (generation_id) stays until it is indexed.
UPSERT_VERSION = """
INSERT INTO files (source, path, size_bytes, revision, version, media_type, status, last_scan)
VALUES (%(source)s, %(path)s, %(size_bytes)s, %(revision)s, %(version)s, %(media_type)s, 'synced', %(scan)s)
ON CONFLICT (source, path) DO UPDATE SET
    size_bytes = excluded.size_bytes, revision = excluded.revision, version = excluded.version,
    media_type = excluded.media_type, status = 'synced', last_scan = excluded.last_scan, batch = NULL,
    error = NULL, message = NULL, retryable = NULL, attempts = 0, kills = 0, gaps = '[]', warnings = '[]',
    pages = NULL, predicted_peak_bytes = NULL, measured_peak_bytes = NULL, embed_peak_bytes = NULL, seconds = NULL,
    fingerprint = NULL, updated_at = now()
"""
UPSERT_REFUSED = """
INSERT INTO files (source, path, size_bytes, revision, version, media_type, status, last_scan,
                   error, message, retryable, fingerprint)
VALUES (%(source)s, %(path)s, %(size_bytes)s, %(revision)s, %(version)s, %(media_type)s, 'failed', %(scan)s,
        %(error)s, %(message)s, %(retryable)s, %(fingerprint)s)
ON CONFLICT (source, path) DO UPDATE SET
    size_bytes = excluded.size_bytes, revision = excluded.revision, version = excluded.version,
    media_type = excluded.media_type, status = 'failed', last_scan = excluded.last_scan, batch = NULL,
    error = excluded.error, message = excluded.message, retryable = excluded.retryable,
    fingerprint = excluded.fingerprint, updated_at = now()
"""
# Equal bytes that are searchable already: a renamed file, a copy, a file that came back.
ADOPT = """
UPDATE files f SET generation_id = g.generation_id, status = 'indexed', fingerprint = %(fingerprint)s, pages = g.pages,
       gaps = g.gaps, warnings = g.warnings, batch = NULL, error = NULL, message = NULL, retryable = NULL,
       updated_at = now()
FROM generations g
WHERE f.status = 'synced' AND g.version = f.version AND g.fingerprint = %(fingerprint)s || ':' || f.media_type AND
g.complete
  AND NOT EXISTS (SELECT FROM chunks c WHERE c.generation_id = g.generation_id AND NOT EXISTS (
        SELECT FROM embeddings e WHERE e.model_id = g.model_id AND e.text_hash = c.text_hash))
"""
DELETE_UNSEEN = """
UPDATE files SET status = 'deleted', generation_id = NULL, batch = NULL, error = NULL, message = NULL,
       retryable = NULL, updated_at = now()
WHERE source = %s AND last_scan < %s AND status <> 'deleted'
"""
OUTDATED = """
UPDATE files SET status = 'synced', batch = NULL, error = NULL, message = NULL, retryable = NULL, attempts = 0,
       kills = 0, updated_at = now()
WHERE status IN ('indexed', 'failed') AND fingerprint IS NOT NULL AND fingerprint <> ALL(%s) AND version <> ''
"""
WAITING = """
SELECT file_id, source, path, version, media_type, size_bytes, kills > 0 AS alone
FROM files WHERE status = 'synced' AND batch IS NULL ORDER BY source, path
"""
REFUSE = """
UPDATE files SET status = 'failed', error = %(error)s, message = %(message)s, retryable = %(retryable)s,
       fingerprint = %(fingerprint)s, predicted_peak_bytes = coalesce(%(predicted)s, predicted_peak_bytes), updated_at
       = now()
WHERE file_id = %(file_id)s
"""
REFUSED_FOR_MEMORY = """
UPDATE files SET status = 'synced', batch = NULL, error = NULL, message = NULL, retryable = NULL
WHERE status = 'failed' AND error = 'FileNeedsMoreMemory' AND predicted_peak_bytes <= %s
"""
# Indexed, but a chunk that readers should see has no vector: embedded again, not parsed again.
WITHOUT_VECTOR = """
UPDATE files f SET status = 'synced', batch = NULL, attempts = 0, kills = 0, updated_at = now()
WHERE f.status = 'indexed' AND EXISTS (
    SELECT FROM chunks c JOIN generations g USING (generation_id)
    WHERE c.generation_id = f.generation_id AND NOT EXISTS (
        SELECT FROM embeddings e WHERE e.model_id = g.model_id AND e.text_hash = c.text_hash))
"""
REFUSED_FOR_GAPS = """
UPDATE files SET status = 'synced', batch = NULL, error = NULL, message = NULL, retryable = NULL
WHERE status = 'failed' AND error = 'UnreadablePages'
"""
BATCH_FILES = """
SELECT f.file_id, f.source, f.path, b.version, f.size_bytes, f.revision, f.media_type, f.status,
       coalesce(f.predicted_peak_bytes, 0) AS predicted_peak_bytes, f.kills
FROM batch_files b JOIN files f USING (file_id)
WHERE b.batch = %s AND f.batch = b.batch AND f.version = b.version
ORDER BY f.source, f.path
"""
REOPEN_FAILED = """
UPDATE files SET status = 'synced', error = NULL, message = NULL, retryable = NULL, kills = 0
WHERE batch = %s AND status = 'failed'
"""
OPEN_ATTEMPT = """
INSERT INTO attempts (file_id, batch, run_id, version, stage)
VALUES (%(file_id)s, %(batch)s, %(run_id)s, %(version)s, %(stage)s)
ON CONFLICT (file_id, run_id) DO UPDATE SET stage = excluded.stage, open = true, outcome = NULL, ended_at = NULL
RETURNING xmax = 0 AS is_new
"""
COUNT_ATTEMPT = "UPDATE files SET attempts = attempts + 1 WHERE file_id = %s"
MARK_PROCESSING = "UPDATE files SET status = 'processing', updated_at = now() WHERE file_id = %s AND status = 'synced'"
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
ADD_COST = """
UPDATE files SET measured_peak_bytes = greatest(measured_peak_bytes, %(parse_peak_bytes)s),
       embed_peak_bytes = greatest(embed_peak_bytes, %(embed_peak_bytes)s),
       seconds = coalesce(seconds, 0) + %(parse_seconds)s + %(embed_seconds)s, updated_at = now()
WHERE file_id = %(file_id)s
"""
MARK_PROCESSED = """
UPDATE files SET status = 'processed', pages = %(pages)s, gaps = %(gaps)s, warnings = %(warnings)s, updated_at = now()
WHERE file_id = %(file_id)s AND version = %(version)s AND status IN ('synced', 'processing', 'processed')
"""
# A file that changed while it was read must be hashed again even if its revision looks the same.
FORGET_REVISION = "UPDATE files SET revision = '' WHERE file_id = %s"


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
class AttemptCost:
    """What one stage of an attempt did and cost."""

    pages: int = 0
    parse_seconds: float = 0.0
    embed_seconds: float = 0.0
    parse_peak_bytes: int | None = None
    embed_peak_bytes: int | None = None


def next_scan(connection: Connection) -> int:
    """Return the number of a new scan; rows that a scan does not see are deleted at its end."""
    row = connection.execute(NEXT_SCAN).fetchone()
    assert row is not None
    return int(row[0])


def known_files(connection: Connection, source: str, paths: Sequence[str]) -> dict[str, KnownFile]:
    """Return what is known of these paths, by path."""
    with connection.cursor(row_factory=class_row(KnownFile)) as cursor:
        return {known.path: known for known in cursor.execute(KNOWN, (source, list(paths)))}


def mark_seen(connection: Connection, source: str, paths: Sequence[str], scan: int) -> None:
    """Note that these paths are there and as they were."""
    connection.execute(SEEN, (scan, source, list(paths)))


def record_touch(connection: Connection, source: str, file: ListedFile, scan: int) -> None:
    """Note the new revision of a file whose bytes are the same."""
    connection.execute(TOUCHED, {"source": source, "scan": scan, **_listed(file)})


def record_version(
    connection: Connection, source: str, file: ListedFile, scan: int, *, version: str, media_type: str
) -> None:
    """Note a new or changed file: it waits."""
    facts = {"source": source, "scan": scan, "version": version, "media_type": media_type, **_listed(file)}
    connection.execute(UPSERT_VERSION, facts)


def record_refusal(
    connection: Connection,
    source: str,
    file: ListedFile,
    scan: int,
    error: IngestError,
    *,
    media_type: str,
    version: str = "",
) -> None:
    """Note a file that will not be parsed, and why."""
    facts = {
        "source": source,
        "scan": scan,
        "version": version,
        "media_type": media_type,
        "fingerprint": None,
        **_listed(file),
    }
    connection.execute(UPSERT_REFUSED, facts | _error(error))


def adopt_known_versions(connection: Connection, fingerprint: str) -> int:
    """Make waiting files whose bytes are searchable already indexed at once; return how many."""
    return connection.execute(ADOPT, {"fingerprint": fingerprint}).rowcount


def delete_unseen(connection: Connection, source: str, scan: int) -> int:
    """Mark the files that a finished scan did not see as deleted, out of every reader's sight; return how many."""
    return connection.execute(DELETE_UNSEEN, (source, scan)).rowcount


def requeue_outdated(connection: Connection, *fingerprints: str) -> int:
    """Put back in line what was indexed or failed under a fingerprint that is none of these."""
    return connection.execute(OUTDATED, (list(fingerprints),)).rowcount


def requeue_affordable(connection: Connection, file_budget_bytes: int) -> int:
    """Put back in line what was refused for memory and fits by now."""
    return connection.execute(REFUSED_FOR_MEMORY, (file_budget_bytes,)).rowcount


def requeue_with_gaps(connection: Connection) -> int:
    """Put back in line what failed only because gaps were not allowed."""
    return connection.execute(REFUSED_FOR_GAPS).rowcount


def requeue_without_vector(connection: Connection) -> int:
    """Put back in line what is indexed with a vector missing; return how many files."""
    return connection.execute(WITHOUT_VECTOR).rowcount


def waiting_files(connection: Connection) -> list[WaitingFile]:
    """Return every file that waits for a batch."""
    with connection.cursor(row_factory=class_row(WaitingFile)) as cursor:
        return cursor.execute(WAITING).fetchall()


def refuse_file(
    connection: Connection,
    file_id: int,
    error: IngestError,
    *,
    fingerprint: str,
    predicted_peak_bytes: int | None = None,
) -> None:
    """Fail a file, with a typed reason."""
    facts = {"file_id": file_id, "fingerprint": fingerprint, "predicted": predicted_peak_bytes}
    connection.execute(REFUSE, facts | _error(error))


def batch_files(connection: Connection, batch: str) -> list[RawFile]:
    """Return the files that a batch still answers for: not those that changed, or went to another batch."""
    with connection.cursor(row_factory=class_row(RawFile)) as cursor:
        return cursor.execute(BATCH_FILES, (batch,)).fetchall()


def reopen_failed(connection: Connection, batch: str) -> int:
    """Give a batch's failed files another chance: somebody asked for it by hand."""
    return connection.execute(REOPEN_FAILED, (batch,)).rowcount


def open_attempt(connection: Connection, file: RawFile, *, batch: str, run_id: str, stage: str) -> None:
    """Write down, before it begins, that this run works on this file: if it dies, the file is attributed."""
    facts = {
        "file_id": file.file_id,
        "batch": batch,
        "run_id": run_id,
        "version": file.version,
        "stage": stage,
    }
    with connection.transaction():
        row = connection.execute(OPEN_ATTEMPT, facts).fetchone()
        if row and row[0]:
            connection.execute(COUNT_ATTEMPT, (file.file_id,))
        connection.execute(MARK_PROCESSING, (file.file_id,))


def add_embedded(connection: Connection, file: RawFile, *, run_id: str, chunks: int) -> None:
    """Note that some more chunks of an open attempt have their vectors: progress that can be watched."""
    connection.execute(ADD_EMBEDDED, (chunks, file.file_id, run_id))


def close_attempt(
    connection: Connection, file: RawFile, *, run_id: str, cost: AttemptCost, error: IngestError | None = None
) -> None:
    """Write down how the work on a file ended and what it cost."""
    facts = {
        "file_id": file.file_id,
        "run_id": run_id,
        "outcome": "failed" if error else "done",
        "error": error.reason if error else None,
        **asdict(cost),
    }
    with connection.transaction():
        connection.execute(CLOSE_ATTEMPT, facts)
        connection.execute(ADD_COST, facts)


def mark_processed(
    connection: Connection, file: RawFile, *, pages: int, gaps: Iterable[Gap], warnings: Sequence[str]
) -> None:
    """Note that all chunks of a file are stored."""
    facts = {
        "file_id": file.file_id,
        "version": file.version,
        "pages": pages,
        "gaps": json.dumps([asdict(gap) for gap in gaps]),
        "warnings": json.dumps(list(warnings)),
    }
    connection.execute(MARK_PROCESSED, facts)


def forget_revision(connection: Connection, file: RawFile) -> None:
    """Make the next catalog run hash this file, whatever its revision is then."""
    connection.execute(FORGET_REVISION, (file.file_id,))


def _listed(file: ListedFile) -> dict[str, object]:
    return {"path": file.path, "size_bytes": file.size_bytes, "revision": file.revision}


def _error(error: IngestError) -> dict[str, object]:
    return {
        "error": error.reason,
        "message": str(error)[:2000].replace("\x00", ""),
        "retryable": error.retryable,
    }
