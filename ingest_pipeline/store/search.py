"""A query vector becomes the chunks that answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.rows import class_row

from ingest_pipeline.models import ModelCard, SearchHit
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.vectors import known_model_id

if TYPE_CHECKING:
    import numpy as np

# The nearest texts by the index, each with every place where it stands in a live generation. A text that holds
# the query word for word goes before one that is merely near: who pastes a sentence wants the place it is from.
SEARCH = """
WITH near AS MATERIALIZED (
    SELECT e.text_hash, e.embedding::halfvec({dimension}) <=> %(vector)s::halfvec({dimension}) AS distance
    FROM embeddings e
    WHERE e.model_id = {model} AND EXISTS (
        SELECT FROM chunks c JOIN files f ON f.generation_id = c.generation_id WHERE c.text_hash = e.text_hash)
    ORDER BY e.embedding::halfvec({dimension}) <=> %(vector)s::halfvec({dimension})
    LIMIT %(candidates)s
)
SELECT 1 - near.distance AS score, f.source, f.path, c.page_from, c.page_to, c.text, c.heading
FROM near
JOIN chunks c USING (text_hash)
JOIN generations g ON g.generation_id = c.generation_id AND g.model_id = {model}
JOIN files f ON f.generation_id = c.generation_id
ORDER BY position(%(phrase)s in regexp_replace(lower(c.text), '\\s+', ' ', 'g')) > 0 DESC,
         near.distance, f.source, f.path, c.ordinal
LIMIT %(top)s
"""
CANDIDATES_PER_HIT = 5
MIN_CANDIDATES = 50
MIN_PHRASE_CHARACTERS = 20
"""Shorter queries are words, not a sentence that somebody copied."""
BEAM = "SET LOCAL hnsw.ef_search = {candidates}"
MAX_BEAM = 1000


def search(connection: Connection, card: ModelCard, vector: np.ndarray, *, query: str, top: int) -> list[SearchHit]:
    """Return the `top` chunks nearest to a query vector, best first; [] when nothing was embedded yet.

    Args:
        connection: from `store`, so that vectors are known.
        card: the model that made the vector.
        vector: shape (dimension,).
        query: its words; a chunk that holds them literally is put first.
        top: how many.
    """
    model = known_model_id(connection, card)
    if model is None:
        return []
    from pgvector import HalfVector

    candidates = min(MAX_BEAM, max(MIN_CANDIDATES, top * CANDIDATES_PER_HIT))
    names = {"dimension": sql.Literal(card.dimension), "model": sql.Literal(model)}
    facts = {
        "vector": HalfVector(vector),
        "candidates": max(candidates, top),
        "top": top,
        "phrase": _phrase(query),
    }
    with connection.transaction(), connection.cursor(row_factory=class_row(SearchHit)) as cursor:
        cursor.execute(sql.SQL(BEAM).format(candidates=sql.Literal(candidates)))
        return cursor.execute(sql.SQL(SEARCH).format(**names), facts).fetchall()


def _phrase(query: str) -> str:
    folded = " ".join(query.lower().split())
    return folded if len(folded) >= MIN_PHRASE_CHARACTERS else "\x01"  # in no text: control characters are cleaned out
