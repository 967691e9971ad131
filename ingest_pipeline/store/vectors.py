"""Vectors, keyed by (model, hash of the text): the same text is embedded once, wherever it appears."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.rows import class_row

from ingest_pipeline.models import ModelCard, StoredChunk
from ingest_pipeline.store import locks
from ingest_pipeline.store.connection import Connection, repeatable, scalar

if TYPE_CHECKING:
    import numpy as np

UPSERT_MODEL = """
INSERT INTO models (name, identity, dimension, max_tokens) VALUES (%s, %s, %s, %s)
ON CONFLICT (identity, max_tokens) DO UPDATE SET name = excluded.name RETURNING model_id
"""
SELECT_MODEL = "SELECT model_id FROM models WHERE identity = %s AND max_tokens = %s"
# Keyset, not a cursor: a named cursor ends at each COMMIT (docs/findings.md, B6).
PENDING = """
SELECT generation_id, ordinal, text, text_hash, tokens FROM (
    SELECT DISTINCT ON (text_hash) generation_id, ordinal, text, text_hash, tokens FROM (
        SELECT * FROM chunks_without_vector
        WHERE generation_id = ANY(%(generations)s) AND (generation_id, ordinal) > (%(after_generation)s, %(after)s)
        ORDER BY generation_id, ordinal LIMIT %(limit)s
    ) c ORDER BY text_hash, generation_id, ordinal
) c ORDER BY generation_id, ordinal
"""
INSERT_VECTOR = "INSERT INTO embeddings (model_id, text_hash, embedding) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
CREATE_INDEX = """
CREATE INDEX IF NOT EXISTS {name} ON embeddings USING hnsw ((embedding::halfvec({dimension})) halfvec_cosine_ops)
WHERE model_id = {model}
"""
WORKERS = "SET LOCAL max_parallel_workers = {workers}; SET LOCAL max_parallel_maintenance_workers = {workers}"
# A slab of vectors by their key; those of them that no chunk relies on are deleted.
DROP_UNUSED = """
WITH slab AS (
    SELECT model_id, text_hash FROM embeddings WHERE (model_id, text_hash) > (%(model)s, %(text_hash)s)
    ORDER BY model_id, text_hash LIMIT %(limit)s
), dropped AS (
    DELETE FROM embeddings e USING slab s
    WHERE e.model_id = s.model_id AND e.text_hash = s.text_hash AND NOT EXISTS (
        SELECT FROM chunks c JOIN generations g USING (generation_id)
        WHERE c.text_hash = e.text_hash AND g.model_id = e.model_id)
    RETURNING 1
)
SELECT (SELECT count(*) FROM dropped), (SELECT count(*) FROM slab), last.model_id, last.text_hash
FROM (SELECT model_id, text_hash FROM slab ORDER BY model_id DESC, text_hash DESC LIMIT 1) last
"""
SLAB_VECTORS = 10_000  # runs that store chunks wait for one slab: 30 ms (2026-11)
NOT_UNIT = """
SELECT count(*) FROM embeddings e
WHERE e.model_id = %(model)s AND abs(l2_norm(e.embedding) - 1) > 0.01 AND (%(batch)s::text IS NULL OR EXISTS (
    SELECT FROM files f JOIN chunks c USING (generation_id) WHERE f.batch = %(batch)s AND c.text_hash = e.text_hash))
"""


def model_id(connection: Connection, card: ModelCard) -> int:
    """Return the number of a model in the store, adding it when it is new."""
    known = known_model_id(connection, card)
    return (
        known
        if known is not None
        else int(scalar(connection, UPSERT_MODEL, (card.name, card.identity, card.dimension, card.max_tokens)))
    )


def known_model_id(connection: Connection, card: ModelCard) -> int | None:
    """Return the number of a model in the store, or None when nothing was ever embedded with it."""
    number: int | None = scalar(connection, SELECT_MODEL, (card.identity, card.max_tokens))
    return number


def pending_chunks(
    connection: Connection, generation_ids: Sequence[int], *, after: StoredChunk | None = None, limit: int
) -> list[StoredChunk]:
    """Return the next chunks of some generations whose texts have no vector, each text once; [] when all have.

    Args:
        connection: to the store.
        generation_ids: whose chunks.
        after: the last chunk of the page before; None: from the beginning.
        limit: chunks in a page.
    """
    place = {"after_generation": after.generation_id if after else 0, "after": after.ordinal if after else -1}
    wanted = {"generations": list(generation_ids), "limit": limit, **place}
    with connection.cursor(row_factory=class_row(StoredChunk)) as cursor:
        return cursor.execute(PENDING, wanted).fetchall()


def write_vectors(connection: Connection, model: int, chunks: Sequence[StoredChunk], vectors: np.ndarray) -> None:
    """Store one micro-batch of vectors, committed; half precision (docs/findings.md, B: index 23 MB against 41)."""
    from pgvector import HalfVector

    rows = [(model, chunk.text_hash, HalfVector(vector)) for chunk, vector in zip(chunks, vectors, strict=True)]
    rows.sort(key=lambda row: row[1])  # two runs with the same texts wait for each other, and not in a circle
    with repeatable(connection), connection.cursor() as cursor:
        cursor.executemany(INSERT_VECTOR, rows)


def ensure_index(connection: Connection, model: int, dimension: int, *, workers: int = 0) -> None:
    """Make a model's HNSW index if it has none: after the bulk of the first load, kept up from then on.

    Args:
        connection: to the store.
        model: its number.
        dimension: of its vectors.
        workers: processes of the server that help: 3.2 s with one, 5.0 without, for 20,000 vectors.
    """
    name = sql.Identifier(f"embeddings_hnsw_{model}")
    statement = sql.SQL(CREATE_INDEX).format(name=name, dimension=sql.Literal(dimension), model=sql.Literal(model))
    with connection.transaction():
        connection.execute(sql.SQL(WORKERS).format(workers=sql.Literal(workers)))
        connection.execute(statement)


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
            return dropped
        dropped, model, text_hash = dropped + row[0], row[2], row[3]


def vacuum(connection: Connection) -> None:
    """Take dead rows out of the index: it answered `LIMIT 20` with 10 rows when full of them (docs/findings.md, B)."""
    connection.execute("VACUUM (ANALYZE) embeddings")
    connection.execute("VACUUM (ANALYZE) chunks")
    connection.execute("ANALYZE files")


def not_unit_norm(connection: Connection, model: int, *, batch: str | None = None) -> int:
    """Return how many vectors have a length that is not 1 (half precision: within 0.01)."""
    return int(scalar(connection, NOT_UNIT, {"model": model, "batch": batch}))
