"""Exact counts of what a search covers."""

from __future__ import annotations

import time
from dataclasses import replace

from psycopg.rows import args_row

from ingest_pipeline.search_models import Coverage, SearchQuery
from ingest_pipeline.store.connection import Connection

COUNT = """
SELECT count(*), count(*) FILTER (WHERE generation_id IS NOT NULL),
       count(*) FILTER (WHERE generation_id IS NULL AND status <> 'failed'),
       count(*) FILTER (WHERE generation_id IS NULL AND status = 'failed')
FROM files WHERE status <> 'deleted'
"""


def coverage(connection: Connection, query: SearchQuery, *, model: int | None = None) -> Coverage:
    """Return what a search covers."""
    began = time.perf_counter()
    with connection.cursor(row_factory=args_row(Coverage)) as cursor:
        [counted] = cursor.execute(COUNT)
    return replace(counted, seconds=time.perf_counter() - began)
