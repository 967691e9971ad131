"""Chunks page by page: a named cursor ends at each COMMIT (docs/findings.md, B6), a place in the order does not."""

from __future__ import annotations

from typing import Any

from psycopg.rows import class_row

from ingest_pipeline.models import StoredChunk
from ingest_pipeline.store.connection import Connection


def page_of_chunks(
    connection: Connection, statement: str, *, after: StoredChunk | None, limit: int, **wanted: Any
) -> list[StoredChunk]:
    """Return the chunks that a statement selects behind a place, in order.

    Args:
        connection: to the store.
        statement: has %(after_generation)s, %(after)s and %(limit)s, beside what is wanted.
        after: the last chunk of the page before; None: from the beginning.
        limit: chunks in a page.
        wanted: the other parameters.
    """
    place = {"after_generation": after.generation_id if after else 0, "after": after.ordinal if after else -1}
    with connection.cursor(row_factory=class_row(StoredChunk)) as cursor:
        return cursor.execute(statement.encode(), wanted | place | {"limit": limit}).fetchall()
