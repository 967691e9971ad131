"""What is known of files, for whoever looks at them: a list in pages, and all about one."""

from __future__ import annotations

from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.entities import NUMBERS
from ingest_pipeline.store.facets import FileFilter, condition_of
from ingest_pipeline.store.queries import query

# In the order of the unique index, from a place on: so a page costs the same wherever it is.
LIST = """
SELECT f.file_id, f.source, f.path, f.media_type, f.size_bytes AS bytes, f.status, f.error, f.message, f.pages,
       coalesce(g.chunks, 0) AS chunks, jsonb_array_length(f.gaps) AS gaps, g.title, f.predicted_peak_bytes,
       f.measured_peak_bytes, f.seconds, f.batch, f.updated_at
FROM files f LEFT JOIN generations g USING (generation_id)
WHERE {chosen} AND {from_here}
ORDER BY f.source {direction}, f.path {direction} LIMIT %(limit)s
"""
ANYWHERE = sql.SQL("true")
AFTER = sql.SQL("(f.source, f.path) > (SELECT o.source, o.path FROM files o WHERE o.file_id = %(place)s)")
BEFORE = sql.SQL("(f.source, f.path) < (SELECT o.source, o.path FROM files o WHERE o.file_id = %(place)s)")
FORWARD, BACKWARD = sql.SQL("ASC"), sql.SQL("DESC")
Row = dict[str, Any]


def listed_files(
    connection: Connection, chosen: FileFilter, *, limit: int, after: int | None = None, before: int | None = None
) -> list[Row]:
    """Return the next files by source and path.

    Args:
        connection: to the store.
        chosen: which files.
        limit: at most.
        after: the id of a file: those after it.
        before: the id of a file: the last ones before it, in the same order.
    """
    from_here = ANYWHERE if after is before is None else AFTER if before is None else BEFORE
    direction = FORWARD if before is None else BACKWARD
    statement = sql.SQL(LIST).format(chosen=condition_of(connection, chosen), from_here=from_here, direction=direction)
    place = after if before is None else before
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(statement, {"place": place, "limit": limit}).fetchall()
    return rows if before is None else rows[::-1]


def file_row(connection: Connection, file_id: int) -> Row | None:
    """Return the ledger's row of a file, with what readers see of it; None if there is no such file."""
    rows = _rows(connection, "file", file_id)
    return rows[0] if rows else None


def attempts(connection: Connection, file_id: int, *, limit: int) -> list[Row]:
    """Return the last attempts on a file, the latest first."""
    return _rows(connection, "attempts", file_id, limit=limit)


def batch_of(connection: Connection, file_id: int) -> Row | None:
    """Return the batch that has a file, or had it last; None if none ever did."""
    rows = _rows(connection, "batch", file_id)
    return rows[0] if rows else None


def sections(connection: Connection, file_id: int, *, limit: int, after: int = -1) -> list[Row]:
    """Return the sections of what readers see of a file, in document order, after one of them."""
    return _rows(connection, "sections", file_id, limit=limit, after=after)


def section_count(connection: Connection, file_id: int) -> int:
    """Return how many sections readers see of a file."""
    return int(_rows(connection, "section_count", file_id)[0]["count"])


def extracts(connection: Connection, file_id: int, *, limit: int) -> list[Row]:
    """Return what was asked about the first sections of a file, and the answers."""
    return _rows(connection, "extracts", file_id, limit=limit)


def extract_counts(connection: Connection, file_id: int) -> dict[str, int]:
    """Return how many sections that are asked about have each status."""
    return {row["status"]: row["count"] for row in _rows(connection, "extract_counts", file_id)}


def top_entities(connection: Connection, file_id: int, *, limit: int) -> list[Row]:
    """Return the names that stand in a file most often: label, name, count."""
    return _rows(connection, "entities", file_id, limit=limit, without=list(NUMBERS))


def unembedded_counts(connection: Connection, file_id: int) -> dict[str, int]:
    """Return how many chunks of what readers see are `rejected` or `deferred`."""
    return {row["state"]: row["count"] for row in _rows(connection, "unembedded", file_id)}


def same_bytes(connection: Connection, file_id: int, *, limit: int) -> list[Row]:
    """Return other files with the same bytes."""
    return _rows(connection, "same_bytes", file_id, limit=limit)


def _rows(connection: Connection, name: str, file_id: int, **parameters: Any) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query("file_details", name), {"file": file_id, **parameters}).fetchall()
