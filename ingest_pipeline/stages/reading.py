"""One file for a reader who has little room: what it is, its sections, and its text, a piece at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.store import file_details, reading
from ingest_pipeline.store.connection import Connection

MOST_SECTIONS = 100
MOST_CHARACTERS = 20_000
"""Of text in one piece: about 5,000 tokens of English."""
MOST_CHUNKS = 100
LAST_PAGE = 2**31 - 1
MOST_NAMED = 5
Row = dict[str, Any]


class NoSuchFile(ConfigurationError):
    """The ledger has no such file, or several of that name; the message says what to do."""


def file_id_of(connection: Connection, file: int | str) -> int:
    """Return the id of a file that is named by its id, or by its path with or without its source.

    Raises:
        NoSuchFile: there is none, or the name is that of several.
    """
    if isinstance(file, int):
        if not 0 < file <= 2**63 - 1 or reading.file_row(connection, file) is None:
            raise NoSuchFile(f"there is no file with the id {file}")
        return file
    found = reading.files_at(connection, file, limit=MOST_NAMED)
    if len(found) == 1:
        return int(found[0]["file_id"])
    if found:
        ids = ", ".join(str(row["file_id"]) for row in found)
        raise NoSuchFile(f"several files have this path: ask for one of the ids {ids}")
    raise NoSuchFile("there is no file at this path; a search shows the paths of what it finds")


def file_summary(connection: Connection, file_id: int, *, sections_after: int = -1) -> Row:
    """Return what a file is, its gaps, and its sections behind one of them, in types that JSON has.

    Raises:
        NoSuchFile: it is gone.
    """
    row = reading.file_row(connection, file_id)
    if row is None:
        raise NoSuchFile(f"there is no file with the id {file_id}")
    sections = file_details.sections(connection, file_id, after=sections_after, limit=MOST_SECTIONS + 1)
    shown = sections[:MOST_SECTIONS]
    times = {name: value.isoformat(timespec="seconds") for name, value in row.items() if isinstance(value, datetime)}
    return row | times | {
        "section_count": file_details.section_count(connection, file_id),
        "sections": shown,
        "more_sections_after": shown[-1]["ordinal"] if len(sections) > MOST_SECTIONS else None,
    }  # fmt: skip


def text_of_pages(
    connection: Connection, file_id: int, pages: tuple[int, int], *, after: int = -1, most: int = MOST_CHARACTERS
) -> Row:
    """Return the text of some pages of a file as far as it has room, and where it goes on.

    Args:
        connection: to the store.
        file_id: the file.
        pages: the first and the last one.
        after: what `more_after` of the piece before said.
        most: characters at most; one chunk comes whatever its length.
    """
    texts: list[str] = []
    used, last = 0, None
    chunks = reading.chunks_of_pages(connection, file_id, pages, after=after, limit=MOST_CHUNKS + 1)
    for chunk in chunks[:MOST_CHUNKS]:
        if texts and used + len(chunk["text"]) > most:
            break
        texts.append(chunk["text"])
        used, last = used + len(chunk["text"]) + 1, chunk
    return {
        "file_id": file_id,
        "pages": [min(chunk["page_from"] for chunk in chunks[: len(texts)]), last["page_to"]] if last else [],
        "text": "\n".join(texts),
        "more_after": last["ordinal"] if last and len(texts) < len(chunks) else None,
    }


def pages_of_section(connection: Connection, file_id: int, ordinal: int) -> tuple[int, int]:
    """Return the first and the last page of a section.

    Raises:
        NoSuchFile: the file has no such section.
    """
    rows = file_details.sections(connection, file_id, after=ordinal - 1, limit=1)
    if not rows or rows[0]["ordinal"] != ordinal:
        raise NoSuchFile(f"file {file_id} has no section {ordinal}; the tool `file` lists its sections")
    return rows[0]["page_from"], rows[0]["page_to"] or LAST_PAGE
