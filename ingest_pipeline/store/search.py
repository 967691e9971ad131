"""A query vector becomes the chunks that answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql
from psycopg.rows import class_row

from ingest_pipeline.search_models import SearchHit, SearchQuery
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.entities import entity_name

if TYPE_CHECKING:
    import numpy as np

# The nearest texts by the index, each with every place where it stands in a live generation.
SEARCH = """
WITH near AS MATERIALIZED (
    SELECT e.text_hash, e.embedding::halfvec({dimension}) <=> %(vector)s::halfvec({dimension}) AS distance
    FROM embeddings e
    WHERE e.model_id = {model} AND EXISTS (
        SELECT FROM chunks c JOIN files f USING (generation_id) JOIN generation_models m USING (generation_id)
        WHERE c.text_hash = e.text_hash AND m.model_id = {model} AND {scope}) AND {filter}
    ORDER BY e.embedding::halfvec({dimension}) <=> %(vector)s::halfvec({dimension})
    LIMIT %(candidates)s
)
SELECT 1 - near.distance AS score, f.source, f.path, c.page_from, c.page_to, c.text, c.heading,
       c.page_label, s.path AS section, f.file_id, c.ordinal, c.char_from, c.char_to, f.media_type
FROM near
JOIN chunks c USING (text_hash)
JOIN generation_models m ON m.generation_id = c.generation_id AND m.model_id = {model}
JOIN files f ON f.generation_id = c.generation_id AND {scope}
LEFT JOIN sections s ON s.generation_id = c.generation_id AND s.ordinal = c.section
ORDER BY near.distance, f.source, f.path, c.ordinal
LIMIT %(rows)s
"""
EVERYTHING = sql.SQL("true")
HAS_ENTITY = sql.SQL(
    "EXISTS (SELECT FROM entities n WHERE n.text_hash = e.text_hash AND lower(n.name) = lower(%(entity)s))"
)
# Files that readers see under the model only because the model that is asked first cannot answer for them yet.
SHOWN_UNDER = "f.model_id = {model}"
CANDIDATES_PER_HIT = 5
MIN_CANDIDATES = 100
MAX_PLACES = 4
"""Rows read for each candidate text: a boilerplate text that stands everywhere must not fill the answer."""
BEAM = "SET LOCAL hnsw.ef_search = {candidates}"
MAX_BEAM = 1000


def search(
    connection: Connection, model: int, vector: np.ndarray, query: SearchQuery, *, only_shown: bool = False
) -> list[SearchHit]:
    """Return the chunks nearest to a query vector, best first.

    Args:
        connection: from `store`, so that vectors are known.
        model: the number of the model that made the vector.
        vector: shape (dimension,).
        query: its words, how many hits, and in which passages.
        only_shown: only in files that readers see under this model; otherwise in all that it can answer for.
    """
    from pgvector import HalfVector

    candidates = min(MAX_BEAM, max(MIN_CANDIDATES, query.top * CANDIDATES_PER_HIT))
    number = sql.Literal(model)
    scope = sql.SQL(SHOWN_UNDER).format(model=number) if only_shown else EVERYTHING
    names = {"dimension": sql.Literal(len(vector)), "model": number, "scope": scope}
    names["filter"] = HAS_ENTITY if query.scope.entity else EVERYTHING
    wanted = max(candidates, query.top)
    parameters = {"vector": HalfVector(vector), "candidates": wanted, "rows": wanted * MAX_PLACES}
    parameters["entity"] = entity_name(query.scope.entity or "")
    with connection.transaction(), connection.cursor(row_factory=class_row(SearchHit)) as cursor:
        cursor.execute(sql.SQL(BEAM).format(candidates=sql.Literal(candidates)))
        hits = cursor.execute(sql.SQL(SEARCH).format(**names), parameters).fetchall()
    return hits[: query.top]
