"""Shared by the office formats: nested paragraphs and table rows become pages; relations between parts."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from ingest_pipeline.errors import UnreadableDocument
from ingest_pipeline.models import ParseEvent, Properties
from ingest_pipeline.parsing.formats.archive import DAMAGE, Archive, opened_archive
from ingest_pipeline.parsing.formats.page_builder import PageBuilder
from ingest_pipeline.parsing.request import ParseRequest

MAX_DEPTH = 64  # of text boxes and tables within each other; real documents stay far below


class ParagraphBuilder:
    """Collects text from an XML target; passes a paragraph on when it closes, a table row when the row closes."""

    def __init__(self, pager: PageBuilder) -> None:
        self.pager = pager
        self._paragraphs: list[list[str]] = []
        self._rows: list[list[list[str]]] = []

    def open_paragraph(self) -> None:
        """Begin a paragraph, perhaps inside another one (a text box, a note)."""
        if len(self._paragraphs) >= MAX_DEPTH:
            raise UnreadableDocument(f"paragraphs nested {MAX_DEPTH} deep")
        self._paragraphs.append([])

    def add(self, text: str) -> None:
        """Append text to the innermost paragraph; outside of paragraphs it is dropped."""
        if self._paragraphs:
            self._paragraphs[-1].append(text)

    def close_paragraph(self, *, level: int | None = None, bullet: bool = False) -> str:
        """End the innermost paragraph and return its text; with a level it is a heading."""
        text = "".join(self._paragraphs.pop()).strip() if self._paragraphs else ""
        if not text:
            return ""
        if self._rows and self._rows[-1]:
            self._rows[-1][-1].append(text)
            return text
        if level is not None:
            self.pager.begin(" ".join(text.split()), level)
        self.pager.add(f"- {text}\n" if bullet else f"{text}\n\n")
        return text

    def open_row(self) -> None:
        """Begin a table row."""
        if len(self._rows) >= MAX_DEPTH:
            raise UnreadableDocument(f"tables nested {MAX_DEPTH} deep")
        self._rows.append([])

    def open_cell(self) -> None:
        """Begin a cell of the innermost row."""
        if self._rows:
            self._rows[-1].append([])

    def close_row(self) -> None:
        """End the innermost row: its cells become a line of the page, or of the enclosing cell."""
        cells = [" ".join(cell) for cell in self._rows.pop()] if self._rows else []
        line = " | ".join(cells)
        if not line.strip(" |"):
            return
        if self._rows and self._rows[-1]:
            self._rows[-1][-1].append(line)
        else:
            self.pager.add(f"{line}\n")

    def close_table(self) -> None:
        """End a table."""
        if not self._rows:  # a table in a cell is part of that cell's line
            self.pager.add("\n")


def pushed_pages(archive: Archive, path: str, target: Any, pager: PageBuilder) -> Iterator[ParseEvent]:
    """Yield the events of an XML entry while it is pushed into a target; after an error the rest is a gap.

    Raises:
        UnreadableDocument: the entry is damaged before its first page.
    """
    damage = (UnreadableDocument, *DAMAGE)
    yield from pager.pages_while(archive.push(path, target), damage=damage, reason=path)


def local_name(tag: str) -> str:
    """Return `p` for `{http://…}p`: transitional and strict documents differ only in the namespace."""
    return tag.rpartition("}")[2]


def attribute(attributes: Any, name: str) -> str | None:
    """Return the value of an attribute by its local name; None if it is missing."""
    return next((value for key, value in attributes.items() if local_name(key) == name), None)


@contextmanager
def opened_office(stream: BinaryIO, request: ParseRequest, *, kind: str) -> Iterator[tuple[Archive, str, Properties]]:
    """Open an Office document; yield its archive, the path of its main part, and its properties.

    Raises:
        UnreadableDocument, EncryptedDocument, TooMuchText: see `opened_archive`; or it has no main part.
    """
    with opened_archive(stream, request, kind=kind) as archive:
        main = next((path for role, path in relations(archive, "").values() if role == "officeDocument"), "")
        if main not in archive:
            raise UnreadableDocument(f"{request.name}: not a readable {kind}: it has no main part")
        yield archive, main, Properties(document_title(archive, "docProps/core.xml"))


def relations(archive: Archive, path: str) -> dict[str, tuple[str, str]]:
    """Return the relations of an Office part by id: `(kind, path in the archive)`; {} if it has none."""
    folder, _, name = path.rpartition("/")
    file = f"{folder}/_rels/{name}.rels" if folder else f"_rels/{name}.rels"
    if file not in archive:
        return {}
    relations_by_id = {}
    for relation in archive.xml(file).iter("{*}Relationship"):
        if relation.get("TargetMode") != "External":  # external targets are links, and no part of the archive
            # From "/", so that `..` cannot leave the archive.
            target = posixpath.normpath(posixpath.join("/", folder, relation.get("Target", "")))
            kind = relation.get("Type", "").rpartition("/")[2]
            relations_by_id[relation.get("Id", "")] = (kind, target.lstrip("/"))
    return relations_by_id


def document_title(archive: Archive, path: str) -> str | None:
    """Return the title in an office document's properties; None if it has none or it cannot be read."""
    try:
        title = next(
            (element.text for element in archive.xml(path).iter("{http://purl.org/dc/elements/1.1/}title")), None
        )
    except (UnreadableDocument, *DAMAGE):
        return None
    return (title or "").strip() or None
