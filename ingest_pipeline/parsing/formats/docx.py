"""Word documents, parsed as a stream: paragraphs, headings, lists, tables, notes, text boxes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from ingest_pipeline.errors import UnreadableDocument
from ingest_pipeline.models import ParseEvent
from ingest_pipeline.parsing.formats.archive import DAMAGE, Archive
from ingest_pipeline.parsing.formats.drawings import drawn_text
from ingest_pipeline.parsing.formats.page_builder import PageBuilder
from ingest_pipeline.parsing.formats.paragraphs import (
    ParagraphBuilder,
    attribute,
    local_name,
    opened_office,
    pushed_pages,
    relations,
)
from ingest_pipeline.parsing.request import ParseRequest, drained

WORD, MATH = "wordprocessingml", "officeDocument/2006/math"
DROPPED = frozenset(("Fallback", "moveFrom", "del", "rPrChange", "pPrChange"))
"""A text box repeated for old readers; text that was moved or deleted under change tracking."""
CHARACTERS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
HEADING_NAME = re.compile(r"heading\s*([1-9])", re.IGNORECASE)
NOTES = ("footnotes", "endnotes")


class WordTarget:
    """What lxml pushes a Word part into."""

    def __init__(self, pager: PageBuilder, levels: dict[str, int]) -> None:
        self._prose, self._levels = ParagraphBuilder(pager), levels
        self._dropping = 0
        self._in_text = False
        self._marks: list[dict[str, int]] = []
        """For each open paragraph: `level` if it is a heading, `bullet` if it is a list item."""

    def start(self, tag: str, attributes: Any) -> None:
        """An element opens."""
        name = local_name(tag)
        if self._dropping or name in DROPPED:
            self._dropping += 1
            return
        if MATH in tag and name == "t":  # formulas have a namespace of their own
            self._in_text = True
        if WORD not in tag:
            return
        if name == "p":
            self._prose.open_paragraph()
            self._marks.append({})
        elif name in CHARACTERS and not self._in_tabs(name, attributes):
            self._prose.add(CHARACTERS[name])
        elif name == "tr":
            self._prose.open_row()
        elif name == "tc":
            self._prose.open_cell()
        elif self._marks:
            self._mark(name, attribute(attributes, "val") or "")
        self._in_text = name == "t"

    def _in_tabs(self, name: str, attributes: Any) -> bool:
        return name == "tab" and attribute(attributes, "pos") is not None  # the definition of a tab stop, not a tab

    def _mark(self, name: str, value: str) -> None:
        if name == "pStyle" and value in self._levels:
            # The paragraph's own outline level, if it has one, overrides its style's.
            self._marks[-1].setdefault("level", self._levels[value])
        elif name == "outlineLvl" and value in tuple("012345678"):
            self._marks[-1]["level"] = int(value) + 1
        elif name == "numPr":
            self._marks[-1]["bullet"] = 1

    def end(self, tag: str) -> None:
        """An element closes."""
        if self._dropping:
            self._dropping -= 1
            return
        self._in_text = False
        if WORD not in tag:
            return
        name = local_name(tag)
        if name == "p" and self._marks:
            marks = self._marks.pop()
            level = marks.get("level")
            self._prose.close_paragraph(level=level, bullet=level is None and "bullet" in marks)
        elif name == "tr":
            self._prose.close_row()
        elif name == "tbl":
            self._prose.close_table()

    def data(self, text: str) -> None:
        """Text; only text in `w:t` belongs to the document."""
        if self._in_text and not self._dropping:
            self._prose.add(text)

    def close(self) -> None:
        """The part ends."""


def docx_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield a Word document, one page for each section; notes, diagrams and charts follow the text.

    Raises:
        UnreadableDocument, EncryptedDocument, TooMuchText: see `opened_archive`.
    """
    with opened_office(stream, request, kind="Word document") as (archive, main, properties):
        yield properties
        pager, parts = PageBuilder(), list(relations(archive, main).values())
        styles = next((path for kind, path in parts if kind == "styles"), "")
        yield from pushed_pages(archive, main, WordTarget(pager, _heading_levels(archive, styles)), pager)
        for kind, path in parts:
            if kind in NOTES and path in archive:
                yield from pushed_pages(archive, path, WordTarget(pager, {}), pager)
        warnings: list[str] = []
        pager.add(drawn_text(archive, parts, warnings))
        yield from drained(warnings)
        pager.close()
        yield from pager.take()


def _heading_levels(archive: Archive, path: str) -> dict[str, int]:
    """Return the level of each paragraph style that is a heading; a style inherits it from the style it is based on."""
    try:
        styles = list(archive.xml(path).iter("{*}style"))
    except (UnreadableDocument, *DAMAGE):  # styles are optional: the text can be read without them
        return {}
    own = {attribute(style.attrib, "styleId") or "": _level(style) for style in styles}
    based = {attribute(style.attrib, "styleId") or "": _value(style, "basedOn") for style in styles}
    levels = {}
    for style in own:
        ancestor, steps = style, 0
        while own.get(ancestor) is None and based.get(ancestor) and steps < 10:  # styles may be based on each other
            ancestor, steps = based[ancestor] or "", steps + 1
        level = own.get(ancestor)
        if level is not None:
            levels[style] = level
    return levels


def _level(style: Any) -> int | None:
    named = HEADING_NAME.fullmatch(_value(style, "name") or "")
    outline = _value(style, "pPr/{*}outlineLvl")
    if named:
        return int(named[1])
    if (_value(style, "name") or "").lower() == "title":
        return 1
    return int(outline) + 1 if outline in tuple("012345678") else None


def _value(style: Any, path: str) -> str | None:
    element = style.find("{*}" + path)
    return attribute(element.attrib, "val") if element is not None else None
