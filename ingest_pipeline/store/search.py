"""A query's words and vector become the texts that answer it, with every place where they stand.

The two arms and their fusion are functions of the database (migrations/0010_search.sql), so that `search_chunks` in SQL
gives the same answers.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from psycopg.rows import dict_row

from ingest_pipeline.search_models import MAX_PLACES, Place, SearchHit, SearchQuery
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.marks import marked_words, marks_of
from ingest_pipeline.store.scope import scope_json

if TYPE_CHECKING:
    import numpy as np

Row = dict[str, Any]

# The best texts, each at the first places where it stands.
SEARCH = """
WITH texts AS MATERIALIZED (
    SELECT * FROM hybrid_texts(%(words)s, %(vector)s, %(model)s, %(scope)s, %(top)s, %(vector_weight)s)
), placed AS (
    SELECT p.*, f.source, f.path, f.media_type, count(*) OVER (PARTITION BY p.text_hash) AS places,
           row_number() OVER (PARTITION BY p.text_hash ORDER BY f.source, f.path, p.ordinal) AS place
    FROM text_places((SELECT array_agg(text_hash) FROM texts), %(model)s, %(scope)s) p JOIN files f USING (file_id)
)
SELECT t.text_hash, t.score, t.vector_score, t.lexical_score, p.source, p.path, p.media_type, p.file_id, p.places,
       p.ordinal, p.generation_id, c.page_from, c.page_to, c.page_label, c.heading, c.text, c.char_from, c.char_to,
       c.language, s.path AS section, g.title
FROM texts t JOIN placed p ON p.text_hash = t.text_hash AND p.place <= %(most_places)s
JOIN chunks c ON c.generation_id = p.generation_id AND c.ordinal = p.ordinal
JOIN generations g ON g.generation_id = p.generation_id
LEFT JOIN sections s ON s.generation_id = c.generation_id AND s.ordinal = c.section
ORDER BY t.score DESC, t.vector_score DESC NULLS LAST, t.text_hash, p.place
"""
# The chunks before and after some chunks.
NEIGHBOURS = """
SELECT h.number, c.ordinal - h.ordinal AS distance, c.text
FROM unnest(%(generations)s::bigint[], %(ordinals)s::int[]) WITH ORDINALITY AS h (generation_id, ordinal, number)
JOIN chunks c ON c.generation_id = h.generation_id
     AND c.ordinal BETWEEN h.ordinal - %(context)s AND h.ordinal + %(context)s AND c.ordinal <> h.ordinal
ORDER BY h.number, c.ordinal
"""
OF_HIT = (
    "score", "vector_score", "lexical_score", "source", "path", "media_type", "file_id", "places", "ordinal",
    "page_from", "page_to", "page_label", "heading", "text", "char_from", "char_to", "section", "title",
)  # fmt: skip


def search(
    connection: Connection,
    model: int,
    vector: np.ndarray | None,
    query: SearchQuery,
    *,
    only_shown: bool = False,
    vector_weight: float = 1.0,
) -> list[SearchHit]:
    """Return the texts that answer a query, best first.

    Args:
        connection: from `store`, so that vectors are known.
        model: the number of the model that made the vector.
        vector: shape (dimension,); None: only words are asked.
        query: its words (none: only the vector is asked), how many hits, and where.
        only_shown: only in files that readers see under this model; otherwise in all that it can answer for.
        vector_weight: how much a rank among the vectors counts; a rank among the words counts 1.5.
    """
    from pgvector import HalfVector

    scope = scope_json(query.scope, shown_under=model if only_shown else None)
    asked: dict[str, Any] = {
        "words": query.text,
        "vector": None if vector is None else HalfVector(vector),
        "model": model,
    }
    asked |= {"scope": scope, "top": query.top, "vector_weight": vector_weight, "most_places": 1 + MAX_PLACES}
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(SEARCH, asked).fetchall()
        texts = [list(places) for _, places in groupby(rows, key=lambda row: row["text_hash"])]
        hits = _with_marks(connection, [_hit(places) for places in texts], texts, query.text)
        return _with_neighbours(connection, hits, texts, query.context) if query.context else hits


def _hit(places: list[Row]) -> SearchHit:
    first, others = places[0], places[1 : 1 + MAX_PLACES]
    also = tuple(Place(row["source"], row["path"], row["page_from"], row["page_to"]) for row in others)
    return SearchHit(**{name: first[name] for name in OF_HIT}, also_at=also)


def _with_marks(connection: Connection, hits: list[SearchHit], texts: list[list[Row]], query: str) -> list[SearchHit]:
    words = marked_words(connection, query, [(places[0]["language"], places[0]["text"]) for places in texts])
    return [replace(hit, marks=marks_of(hit.text, words)) for hit in hits]


def _with_neighbours(
    connection: Connection, hits: list[SearchHit], texts: list[list[Row]], context: int
) -> list[SearchHit]:
    generations = [places[0]["generation_id"] for places in texts]
    asked = {"generations": generations, "ordinals": [hit.ordinal for hit in hits], "context": context}
    around: dict[int, tuple[list[str], list[str]]] = {number: ([], []) for number in range(1, len(hits) + 1)}
    for number, distance, text in connection.execute(NEIGHBOURS, asked):
        around[number][distance > 0].append(text)
    return [
        replace(hit, before=tuple(around[number][0]), after=tuple(around[number][1]))
        for number, hit in enumerate(hits, start=1)
    ]
