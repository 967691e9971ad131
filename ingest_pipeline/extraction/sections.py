"""The parts of a document that are asked about; pure functions."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from ingest_pipeline.errors import UnreadableDocument
from ingest_pipeline.models import Section

MAX_SECTIONS_BYTES = 256 * 1024
"""2,000 rows with long titles. PyYAML reads 256 KiB in about 2 s."""
MAX_SECTIONS = 2000
MAX_TITLE_CHARACTERS = 500
MAX_LINE_CHARACTERS = 8 * MAX_TITLE_CHARACTERS
COLUMNS = ("title", "page_from", "page_to")
WHOLE = "whole document"


@dataclass(frozen=True, slots=True)
class SectionChoice:
    """Which parts of a document are asked about."""

    by: Literal["outline", "pages", "file", "chunk", "whole"]
    level: int | None = None
    """outline: only entries of this level; None: of every level."""
    title: str = ""
    """outline: a regular expression that the title contains; '': any title."""
    without_outline: Literal["whole", "skip"] = "whole"
    """outline: what becomes of a document that has none."""
    pages: int = 0
    """pages: the number of pages in each part."""
    suffix: str = ""
    """file: what the name of the sections file has in place of the document's last suffix, as in `.sections.yaml`."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a document, about which one question is asked."""

    ordinal: int
    """From 0, in the order in which they are asked."""
    title: str
    page_from: int
    page_to: int

    @property
    def pages(self) -> str:
        """The pages as a text: `3-7`, or `3`."""
        return f"{self.page_from}" if self.page_from == self.page_to else f"{self.page_from}-{self.page_to}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a sections file."""

    title: str
    page_from: int
    page_to: int


def parts_of(
    choice: SectionChoice, *, pages: int, sections: Sequence[Section] = (), rows: Sequence[Row] | None = None
) -> list[Part]:
    """Return the parts of a document that are asked about.

    Entries of the outline are chosen by level and title. A document without an outline is one part, unless the choice
    says `without_outline: skip`; a document whose outline has no such entry has no part. Text before the first entry
    belongs to no part. Parts may share a page: a section may end where the next begins.

    Args:
        choice: how to divide. Not for each chunk: chunks are stored, and each is a part of its own.
        pages: the number of pages of the document; 0 has no parts.
        sections: the document's outline.
        rows: of the document's sections file; None: it has none, and so no part.

    Raises:
        UnreadableDocument: a row names pages that the document does not have.
    """
    if pages < 1:
        return []
    if choice.by == "whole":
        return [Part(0, WHOLE, 1, pages)]
    if choice.by == "pages":
        starts = range(1, pages + 1, choice.pages)
        return _parts([Row("", first, min(first + choice.pages - 1, pages)) for first in starts])
    if choice.by == "file":
        return _parts(_within(rows or (), pages))
    if choice.by == "outline":
        return _outline_parts(choice, sections, pages)
    raise ValueError("each chunk is a part of its own")


def _outline_parts(choice: SectionChoice, sections: Sequence[Section], pages: int) -> list[Part]:
    if not sections:
        return [] if choice.without_outline == "skip" else [Part(0, WHOLE, 1, pages)]
    return _parts(
        [
            Row(section.title, section.page_from, max(section.page_from, min(section.page_to or pages, pages)))
            for section in sections
            if choice.level in (None, section.level)
            and re.search(choice.title, section.title[:MAX_TITLE_CHARACTERS])
            and section.page_from <= pages  # an outline may point behind the end
        ]
    )


def _parts(rows: Sequence[Row]) -> list[Part]:
    return [
        Part(ordinal, row.title or f"pages {row.page_from}-{row.page_to}", row.page_from, row.page_to)
        for ordinal, row in enumerate(rows)
    ]


def _within(rows: Sequence[Row], pages: int) -> Sequence[Row]:
    for number, row in enumerate(rows, start=1):
        if row.page_to > pages:
            raise UnreadableDocument(
                f"sections file: row {number} names pages {row.page_from}-{row.page_to}, the document has {pages}"
            )
    return rows


def sections_path(path: str, choice: SectionChoice) -> str:
    """Return the path of the sections file of a document: `a/b.pdf` -> `a/b.sections.yaml`."""
    document = PurePosixPath(path)
    return str(document.with_name(document.stem + choice.suffix))


def sections_rows(name: str, content: bytes) -> list[Row]:
    """Return the rows of a sections file, which is YAML or CSV by its name.

    A YAML file is a list of rows, or has one under `sections`. The file is not trusted: its size, its rows and each
    field are limited, and a message quotes nothing of it.

    Args:
        name: the name of the file, for messages and its type.
        content: its bytes; of a larger file read `MAX_SECTIONS_BYTES` + 1.

    Raises:
        UnreadableDocument: what is wrong with it, and in which row.
    """
    if len(content) > MAX_SECTIONS_BYTES:
        raise UnreadableDocument(f"{name}: over {MAX_SECTIONS_BYTES // 1024} KiB; a sections file is a short list")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableDocument(f"{name}: not UTF-8") from None
    listed = _csv_rows(name, text) if name.lower().endswith(".csv") else _yaml_rows(name, text)
    if len(listed) > MAX_SECTIONS:
        raise UnreadableDocument(f"{name}: over {MAX_SECTIONS:,} rows")
    return [_row(f"{name}: row {number}", values) for number, values in enumerate(listed, start=1)]


def _yaml_rows(name: str, text: str) -> list[Any]:
    import yaml

    try:
        # BaseLoader makes texts of everything: no types, no tags, no merged keys; `1.10` and `yes` stay titles.
        loaded = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise UnreadableDocument(f"{name}: not YAML" + (f", line {mark.line + 1}" if mark else "")) from None
    rows = loaded.get("sections") if isinstance(loaded, dict) else loaded
    if not isinstance(rows, list):
        raise UnreadableDocument(f"{name}: no list of rows with {', '.join(COLUMNS)}")
    return rows


def _csv_rows(name: str, text: str) -> list[Any]:
    if any(len(line) > MAX_LINE_CHARACTERS for line in text.splitlines()):
        raise UnreadableDocument(f"{name}: not CSV")  # the limit of the csv module is one for all its users
    try:
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error:
        raise UnreadableDocument(f"{name}: not CSV") from None


def _row(place: str, values: Any) -> Row:
    if not isinstance(values, Mapping) or not all(isinstance(values.get(column), str) for column in COLUMNS):
        raise UnreadableDocument(f"{place}: {', '.join(COLUMNS)} are missing")
    title = " ".join(values["title"].split())
    if not 0 < len(title) <= MAX_TITLE_CHARACTERS or "\x00" in title:
        raise UnreadableDocument(f"{place}: title has no text, or over {MAX_TITLE_CHARACTERS} characters")
    first, last = (_page(place, column, values[column]) for column in COLUMNS[1:])
    if last < first:
        raise UnreadableDocument(f"{place}: page_to is before page_from")
    return Row(title, first, last)


def _page(place: str, column: str, text: str) -> int:
    # Seven digits: `int` of a longer text costs time, and no document has so many pages.
    if not re.fullmatch(r"[0-9]{1,7}", text.strip()) or int(text) < 1:
        raise UnreadableDocument(f"{place}: {column} is no page number")
    return int(text)
