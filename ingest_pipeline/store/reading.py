"""Reads what readers see of one file: what it is, and its text a piece at a time."""

from __future__ import annotations

from typing import Any

from psycopg.rows import dict_row

from ingest_pipeline.store.connection import Connection

Row = dict[str, Any]
# What became of it, and what readers see of it.
FILE = """
SELECT f.file_id, f.source, f.path, f.status, f.error, f.message, f.media_type, f.size_bytes AS bytes, f.updated_at,
       g.title, coalesce(g.pages, 0) AS pages, coalesce(g.chunks, 0) AS chunks, f.gaps,
       f.generation_id IS NOT NULL AS searchable
FROM files f LEFT JOIN generations g USING (generation_id) WHERE f.file_id = %s
"""
# With or without its source; a file that its source still has comes before one that it has no more.
FILES_AT = """
SELECT file_id, source, path FROM files
WHERE path = %(path)s OR rtrim(source, '/') || '/' || path = %(path)s
ORDER BY status = 'deleted', source, path LIMIT %(limit)s
"""
# The chunks that have text of some pages, in document order, behind one of them.
CHUNKS = """
SELECT c.ordinal, c.page_from, c.page_to, c.text
FROM chunks c JOIN files f USING (generation_id)
WHERE f.file_id = %(file)s AND c.ordinal > %(after)s AND c.page_to >= %(page_from)s AND c.page_from <= %(page_to)s
ORDER BY c.ordinal LIMIT %(limit)s
"""


def file_row(connection: Connection, file_id: int) -> Row | None:
    """Return what a file is; None if there is no such file."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(FILE.encode(), (file_id,)).fetchone()


def files_at(connection: Connection, path: str, *, limit: int) -> list[Row]:
    """Return the files at a path, with or without its source: id, source, path."""
    return _rows(connection, FILES_AT, path=path, limit=limit)


def chunks_of_pages(
    connection: Connection, file_id: int, pages: tuple[int, int], *, after: int, limit: int
) -> list[Row]:
    """Return the chunks of a file that have text of some pages: ordinal, pages, text.

    Args:
        connection: to the store.
        file_id: the file.
        pages: the first and the last one.
        after: the ordinal of a chunk; those behind it are returned, -1: from the beginning.
        limit: chunks at most.
    """
    page_from, page_to = pages
    return _rows(connection, CHUNKS, file=file_id, after=after, page_from=page_from, page_to=page_to, limit=limit)


def _rows(connection: Connection, statement: str, **parameters: Any) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement.encode(), parameters).fetchall()
