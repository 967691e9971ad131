"""Vectors, keyed by (model, hash of the text): the same text is embedded once, wherever it appears.

The state of a text under a model is `done` with a vector, `rejected` or `deferred` with a row in `unembedded_texts`,
and `waiting` with neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from psycopg import sql

from ingest_pipeline.models import StoredChunk
from ingest_pipeline.store import locks
from ingest_pipeline.store.connection import Connection, repeatable, scalar
from ingest_pipeline.store.embedding_models import index_name
from ingest_pipeline.store.pages import page_of_chunks

if TYPE_CHECKING:
    import numpy as np

    Vectors = Sequence[np.ndarray] | np.ndarray

# Keyset, not a cursor: a named cursor ends at each COMMIT (docs/findings.md, B6).
PENDING = """
SELECT generation_id, ordinal, text, text_hash, tokens FROM (
    SELECT DISTINCT ON (text_hash) generation_id, ordinal, text, text_hash, tokens FROM (
        SELECT * FROM waiting_chunks
        WHERE generation_id = ANY(%(generations)s) AND (generation_id, ordinal) > (%(after_generation)s, %(after)s)
          AND model_id = %(model)s
        ORDER BY generation_id, ordinal LIMIT %(limit)s
    ) c ORDER BY text_hash, generation_id, ordinal
) c ORDER BY generation_id, ordinal
"""
INSERT_VECTOR = "INSERT INTO embeddings (model_id, text_hash, embedding) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
SELECT_VECTOR = "SELECT embedding FROM embeddings WHERE model_id = %s AND text_hash = %s"
NOT_UNEMBEDDED = "DELETE FROM unembedded_texts WHERE model_id = %s AND text_hash = ANY(%s)"
REJECT = """
INSERT INTO unembedded_texts (model_id, text_hash, state, reason) VALUES (%s, %s, 'rejected', %s)
ON CONFLICT (model_id, text_hash) DO UPDATE SET state = 'rejected', reason = excluded.reason
"""
# On demand: what waits is no longer waited for.
DEFER = """
INSERT INTO unembedded_texts (model_id, text_hash, state)
SELECT DISTINCT model_id, text_hash, 'deferred' FROM waiting_chunks
WHERE generation_id = %(generation)s AND model_id = %(model)s
ON CONFLICT DO NOTHING
"""
# Deferred texts wait again, of one file that readers see or of all.
REQUEST = """
DELETE FROM unembedded_texts u WHERE u.model_id = %(model)s AND u.state = 'deferred' AND (
    %(generation)s::bigint IS NULL
    OR EXISTS (SELECT FROM chunks c WHERE c.generation_id = %(generation)s AND c.text_hash = u.text_hash))
"""
REJECTED_COUNT = """
SELECT count(*) FROM chunks c JOIN unembedded_texts u USING (text_hash)
WHERE c.generation_id = %s AND u.model_id = %s AND u.state = 'rejected'
"""
REJECTION_REASON = """
SELECT u.reason FROM chunks c JOIN unembedded_texts u USING (text_hash)
WHERE c.generation_id = %s AND u.model_id = %s AND u.state = 'rejected' ORDER BY c.ordinal DESC LIMIT 1
"""
WAITING_TEXTS = """
SELECT count(DISTINCT text_hash) FROM waiting_chunks WHERE generation_id = ANY(%s) AND model_id = %s
"""
# Rejected texts of a batch's failed files are tried again.
FORGET_REJECTIONS = """
DELETE FROM unembedded_texts u USING files f JOIN chunks c ON c.generation_id = f.next_generation_id
WHERE f.batch = %s AND f.status = 'failed' AND u.text_hash = c.text_hash AND u.model_id = %s AND u.state = 'rejected'
"""
CREATE_INDEX = """
CREATE INDEX IF NOT EXISTS {name} ON embeddings USING hnsw ((embedding::halfvec({dimension})) halfvec_cosine_ops)
WHERE model_id = {model}
"""
INVALID_INDEX = """
SELECT count(*) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid WHERE c.relname = %s AND NOT i.indisvalid
"""
HAS_INDEX = "SELECT count(*) FROM pg_class WHERE relname = %s AND relkind = 'i'"
LEFT_BY_REBUILD = "SELECT relname FROM pg_class WHERE relname LIKE %s AND relkind = 'i'"
WORKERS = "SET LOCAL max_parallel_workers = {workers}; SET LOCAL max_parallel_maintenance_workers = {workers}"
# A slab of vectors by their key; those of them that no chunk relies on are deleted.
DROP_UNUSED = """
WITH slab AS (
    SELECT model_id, text_hash FROM embeddings WHERE (model_id, text_hash) > (%(model)s, %(text_hash)s)
    ORDER BY model_id, text_hash LIMIT %(limit)s
), dropped AS (
    DELETE FROM embeddings e USING slab s
    WHERE e.model_id = s.model_id AND e.text_hash = s.text_hash
      AND NOT EXISTS (SELECT FROM chunks c WHERE c.text_hash = e.text_hash)
    RETURNING 1
)
SELECT (SELECT count(*) FROM dropped), (SELECT count(*) FROM slab), last.model_id, last.text_hash
FROM (SELECT model_id, text_hash FROM slab ORDER BY model_id DESC, text_hash DESC LIMIT 1) last
"""
DROP_UNUSED_STATES = """
DELETE FROM unembedded_texts u WHERE NOT EXISTS (SELECT FROM chunks c WHERE c.text_hash = u.text_hash)
"""
SLAB_VECTORS = 10_000  # runs that store chunks wait for one slab: 30 ms (2026-11)
MAX_REASON_CHARACTERS = 500
NOT_UNIT = """
SELECT count(*) FROM embeddings e
WHERE e.model_id = %(model)s AND abs(l2_norm(e.embedding) - 1) > 0.01 AND (%(batch)s::text IS NULL OR EXISTS (
    SELECT FROM files f JOIN chunks c USING (generation_id) WHERE f.batch = %(batch)s AND c.text_hash = e.text_hash))
"""


def pending_chunks(
    connection: Connection, model: int, generation_ids: Sequence[int], *, after: StoredChunk | None = None, limit: int
) -> list[StoredChunk]:
    """Return the next chunks of some generations whose texts wait under a model, each text once; [] when none does.

    Args:
        connection: to the store.
        model: its number.
        generation_ids: whose chunks.
        after: the last chunk of the page before; None: from the beginning.
        limit: chunks in a page.
    """
    return page_of_chunks(connection, PENDING, after=after, limit=limit, model=model, generations=list(generation_ids))


def write_vectors(connection: Connection, model: int, chunks: Sequence[StoredChunk], vectors: Vectors) -> None:
    """Store one micro-batch of vectors, committed; half precision (docs/findings.md, B: index 23 MB against 41)."""
    from pgvector import HalfVector

    rows = [(model, chunk.text_hash, HalfVector(vector)) for chunk, vector in zip(chunks, vectors, strict=True)]
    rows.sort(key=lambda row: row[1])  # two runs with the same texts wait for each other, and not in a circle
    with repeatable(connection), connection.cursor() as cursor:
        cursor.executemany(INSERT_VECTOR, rows)
        cursor.execute(NOT_UNEMBEDDED, (model, [chunk.text_hash for chunk in chunks]))


def known_vector(connection: Connection, model: int, text_hash: bytes) -> list[float] | None:
    """Return the vector of a text under a model; None if it has none."""
    vector = scalar(connection, SELECT_VECTOR, (model, text_hash))
    return None if vector is None else [float(number) for number in vector.to_list()]


def reject_texts(connection: Connection, model: int, rejected: Sequence[tuple[StoredChunk, str]]) -> None:
    """Note that the embedder rejected texts, and why: they are not asked for again."""
    rows = [(model, chunk.text_hash, reason.replace("\x00", "")[:MAX_REASON_CHARACTERS]) for chunk, reason in rejected]
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(REJECT, rows)


def rejection_reason(connection: Connection, model: int, generation_id: int) -> str:
    """Return why a chunk of a generation was rejected under a model; '' if none was."""
    return str(scalar(connection, REJECTION_REASON, (generation_id, model)) or "")


def waiting_texts(connection: Connection, model: int, generation_ids: Sequence[int]) -> int:
    """Return how many texts of some generations wait under a model."""
    return int(scalar(connection, WAITING_TEXTS, (list(generation_ids), model)))


def rejected_count(connection: Connection, model: int, generation_id: int) -> int:
    """Return how many chunks of a generation are rejected under a model."""
    return int(scalar(connection, REJECTED_COUNT, (generation_id, model)))


def forget_rejections(connection: Connection, model: int, batch: str) -> int:
    """Let the rejected texts of a batch's failed files wait again; return how many."""
    return connection.execute(FORGET_REJECTIONS, (batch, model)).rowcount


def defer_texts(connection: Connection, model: int, generation_id: int) -> int:
    """Make vectors for the waiting texts of a generation only when they are asked for; return how many."""
    with repeatable(connection):
        return connection.execute(DEFER, {"model": model, "generation": generation_id}).rowcount


def request_deferred(connection: Connection, model: int, generation_id: int | None = None) -> int:
    """Let deferred texts wait for their vectors, of one generation or of all; return how many."""
    return connection.execute(REQUEST, {"model": model, "generation": generation_id}).rowcount


def ensure_index(connection: Connection, model: int, dimension: int, *, workers: int = 0) -> None:
    """Make a model's HNSW index if it has none: after the bulk of the first load, kept up from then on.

    Args:
        connection: to the store.
        model: its number.
        dimension: of its vectors.
        workers: processes of the server that help: 3.2 s with one, 5.0 without, for 20,000 vectors.
    """
    name = sql.Identifier(index_name(model))
    statement = sql.SQL(CREATE_INDEX).format(name=name, dimension=sql.Literal(dimension), model=sql.Literal(model))
    with connection.transaction():
        locks.hold_indexes(connection)  # two `ingest run` at once: `IF NOT EXISTS` alone ends in a UniqueViolation
        connection.execute(sql.SQL(WORKERS).format(workers=sql.Literal(workers)))
        connection.execute(statement)


def rebuild_index(connection: Connection, model: int) -> bool:
    """Build a model's index anew beside the old one, while searches go on; return False if it has none.

    An interrupted rebuild leaves an invalid index behind, with the ending `_ccnew`: it is dropped first.
    """
    name = index_name(model)
    for (left,) in connection.execute(LEFT_BY_REBUILD, (f"{name}\\_cc%",)).fetchall():
        connection.execute(sql.SQL("DROP INDEX {name}").format(name=sql.Identifier(left)))
    if not scalar(connection, HAS_INDEX, (name,)):
        return False
    connection.execute(sql.SQL("REINDEX INDEX CONCURRENTLY {name}").format(name=sql.Identifier(name)))
    return True


def drop_invalid_index(connection: Connection, model: int) -> None:
    """Drop a model's index if an interrupted rebuild left it invalid: it is kept up, and never used."""
    name = index_name(model)
    if scalar(connection, INVALID_INDEX, (name,)):
        connection.execute(sql.SQL("DROP INDEX {name}").format(name=sql.Identifier(name)))


def drop_unused_vectors(connection: Connection) -> int:
    """Delete the vectors whose text is in no chunk any more; return how many.

    A vector that a chunk relies on, live or in the making, is never deleted: each slab is a transaction that holds
    the vector lock alone, and chunks are stored under the same lock, shared (see `locks.py`).
    """
    dropped, model, text_hash = 0, -1, b""
    while True:
        with connection.transaction():
            locks.hold_vectors(connection)
            arguments = {"model": model, "text_hash": text_hash, "limit": SLAB_VECTORS}
            row = connection.execute(DROP_UNUSED, arguments).fetchone()
        if row is None:
            connection.execute(DROP_UNUSED_STATES)
            return dropped
        dropped, model, text_hash = dropped + row[0], row[2], row[3]


def vacuum(connection: Connection) -> None:
    """Take dead rows out of the index: it answered `LIMIT 20` with 10 rows when full of them (docs/findings.md, B)."""
    connection.execute("VACUUM (ANALYZE) embeddings")
    connection.execute("VACUUM (ANALYZE) chunks")
    connection.execute("VACUUM (ANALYZE) files")  # counts of what a search covers read the index alone then


def not_unit_norm(connection: Connection, model: int, *, batch: str | None = None) -> int:
    """Return how many vectors have a length that is not 1 (half precision: within 0.01)."""
    return int(scalar(connection, NOT_UNIT, {"model": model, "batch": batch}))
