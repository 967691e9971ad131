"""Exact counts of what a search covers."""

from __future__ import annotations

import time

from psycopg.rows import dict_row

from ingest_pipeline.search_models import Coverage, SearchQuery
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.scope import scope_json

# Files in the scope, by what a search can say of them; failed ones whose names have a word of the query.
COVERAGE = "SELECT * FROM search_coverage(%(words)s, %(model)s, %(scope)s)"


def coverage(connection: Connection, query: SearchQuery, *, model: int | None = None) -> Coverage:
    """Return what a search covers: 100,000 files in 5 ms, in a part of them in 50 ms (2026-11).

    Args:
        connection: to the store.
        query: the words, and where they are looked for.
        model: the number of the only model that is asked; None: each file under the model that readers see it by.
    """
    began = time.perf_counter()
    asked = {"words": query.text, "model": model, "scope": scope_json(query.scope)}
    with connection.cursor(row_factory=dict_row) as cursor:
        [row] = cursor.execute(COVERAGE, asked)
    names = tuple(row.pop("failed_names"))
    return Coverage(**row, failed_names=names, seconds=time.perf_counter() - began)
