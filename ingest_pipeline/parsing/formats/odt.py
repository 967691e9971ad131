"""OpenDocument texts: the same structure as Word documents, with other element names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from ingest_pipeline.errors import EncryptedDocument, UnreadableDocument
from ingest_pipeline.models import ParseEvent, Properties
from ingest_pipeline.parsing.formats.archive import opened_archive
from ingest_pipeline.parsing.formats.page_builder import PageBuilder
from ingest_pipeline.parsing.formats.paragraphs import (
    ParagraphBuilder,
    attribute,
    document_title,
    local_name,
    pushed_pages,
)
from ingest_pipeline.parsing.request import ParseRequest

MANIFEST, CONTENT = "META-INF/manifest.xml", "content.xml"
# Deleted text, comments, the numbers of notes, and definitions of styles: not text of the document.
DROPPED = frozenset(("tracked-changes", "annotation", "note-citation", "automatic-styles", "tracked-change"))
MAX_SPACES = 1_000  # `text:s text:c="99999999"` would be a decompression bomb of one element


class OpenDocumentTarget:
    """Parser target for `content.xml`."""

    def __init__(self, pager: PageBuilder) -> None:
        self._prose = ParagraphBuilder(pager)
        self._dropping = 0
        self._levels: list[int | None] = []
        self._items = 0

    def start(self, tag: str, attributes: Any) -> None:
        """An element opens."""
        name = local_name(tag)
        if self._dropping or name in DROPPED:
            self._dropping += 1
        elif name in ("p", "h"):
            self._prose.open_paragraph()
            level = attribute(attributes, "outline-level") or "1"
            self._levels.append(int(level) if name == "h" and level.isdecimal() else None)
        elif name == "s":
            count = attribute(attributes, "c") or "1"
            self._prose.add(" " * (min(int(count), MAX_SPACES) if count.isdecimal() else 1))
        elif name in ("tab", "line-break"):
            self._prose.add("\t" if name == "tab" else "\n")
        elif name == "table-row":
            self._prose.open_row()
        elif name in ("table-cell", "covered-table-cell"):
            self._prose.open_cell()
        self._items += name == "list-item"  # also in dropped elements: `end` counts down the same way

    def end(self, tag: str) -> None:
        """An element closes."""
        name = local_name(tag)
        if self._dropping:
            self._dropping -= 1
        elif name in ("p", "h") and self._levels:
            level = self._levels.pop()
            self._prose.close_paragraph(level=level, bullet=level is None and self._items > 0)
        elif name == "table-row":
            self._prose.close_row()
        elif name == "table":
            self._prose.close_table()
        self._items -= name == "list-item" and self._items > 0

    def data(self, text: str) -> None:
        """Text; outside of paragraphs it is white space of the XML and is dropped."""
        if not self._dropping:
            self._prose.add(text)

    def close(self) -> None:
        """The document ends."""


def odt_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield an OpenDocument text, one page for each section.

    Raises:
        UnreadableDocument, EncryptedDocument, TooMuchText: see `opened_archive`.
    """
    with opened_archive(stream, request, kind="OpenDocument text") as archive:
        if MANIFEST in archive and next(archive.xml(MANIFEST).iter("{*}encryption-data"), None) is not None:
            raise EncryptedDocument(f"{request.name}: the document needs a password")
        if CONTENT not in archive:
            raise UnreadableDocument(f"{request.name}: not a readable OpenDocument text: it has no content.xml")
        yield Properties(document_title(archive, "meta.xml"))
        pager = PageBuilder()
        yield from pushed_pages(archive, CONTENT, OpenDocumentTarget(pager), pager)
