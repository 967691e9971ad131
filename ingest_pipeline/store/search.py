"""A query vector becomes the chunks that answer it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.rows import class_row

from ingest_pipeline.models import ModelCard, SearchHit
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.vectors import known_model_id

if TYPE_CHECKING:
    import numpy as np

# The nearest texts by the index, each with every place where it stands in a live generation.
SEARCH = """
WITH near AS MATERIALIZED (
    SELECT e.text_hash, e.embedding::halfvec({dimension}) <=> %(vector)s::halfvec({dimension}) AS distance
    FROM embeddings e
    WHERE e.model_id = {model} AND EXISTS (
        SELECT FROM chunks c JOIN files f ON f.generation_id = c.generation_id WHERE c.text_hash = e.text_hash)
    ORDER BY e.embedding::halfvec({dimension}) <=> %(vector)s::halfvec({dimension})
    LIMIT %(candidates)s
)
SELECT 1 - near.distance AS score, f.source, f.path, c.page_from, c.page_to, c.text, c.heading,
       c.page_label, s.path AS section
FROM near
JOIN chunks c USING (text_hash)
JOIN generations g ON g.generation_id = c.generation_id AND g.model_id = {model}
JOIN files f ON f.generation_id = c.generation_id
LEFT JOIN sections s ON s.generation_id = c.generation_id AND s.ordinal = c.section
ORDER BY near.distance, f.source, f.path, c.ordinal
LIMIT %(rows)s
"""
CANDIDATES_PER_HIT = 5
MIN_CANDIDATES = 100
MAX_PLACES = 4
"""Rows read for each candidate text: a boilerplate text that stands everywhere must not fill the answer."""
MIN_COPIED_WORDS = 6
"""A shorter query is a set of words, not a copied sentence."""
RUN_WORDS = 3
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")  # scripts without spaces: each sign is a word
BEAM = "SET LOCAL hnsw.ef_search = {candidates}"
MAX_BEAM = 1000


def search(connection: Connection, card: ModelCard, vector: np.ndarray, *, query: str, top: int) -> list[SearchHit]:
    """Return the `top` chunks nearest to a query vector, best first; [] when nothing was embedded yet.

    A chunk from which at least half of the query was copied goes before those that are merely near: who pastes a
    sentence wants the place it is from, also when a chunk ends in the middle of it.

    Args:
        connection: from `store`, so that vectors are known.
        card: the model that made the vector.
        vector: shape (dimension,).
        query: its words.
        top: how many.
    """
    model = known_model_id(connection, card)
    if model is None:
        return []
    from pgvector import HalfVector

    candidates = min(MAX_BEAM, max(MIN_CANDIDATES, top * CANDIDATES_PER_HIT))
    names = {"dimension": sql.Literal(card.dimension), "model": sql.Literal(model)}
    wanted = max(candidates, top)
    parameters = {"vector": HalfVector(vector), "candidates": wanted, "rows": wanted * MAX_PLACES}
    with connection.transaction(), connection.cursor(row_factory=class_row(SearchHit)) as cursor:
        cursor.execute(sql.SQL(BEAM).format(candidates=sql.Literal(candidates)))
        hits = cursor.execute(sql.SQL(SEARCH).format(**names), parameters).fetchall()
    return sorted(hits, key=lambda hit: -_copied(query, hit.text))[:top]  # stable: by distance within a share


def _copied(query: str, text: str) -> float:
    """Return the share of the query that was copied from a text, in runs of three words; 0 when under a half."""
    wanted = _runs(query)
    if len(wanted) <= MIN_COPIED_WORDS - RUN_WORDS:
        return 0.0
    share = len(wanted & _runs(text)) / len(wanted)
    return share if share >= 0.5 else 0.0


def _runs(text: str) -> set[tuple[str, ...]]:
    words = WORD.findall(text.lower())
    return set(zip(*(words[offset:] for offset in range(RUN_WORDS)), strict=False))
