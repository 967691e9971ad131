"""The one place where tests call parsers: how parsers are called and what they return is known here and nowhere else.

Tests name a parser, hand it bytes, a path or a stream, and look at `Parsed`. The parsers and the modules that tests
change by `monkeypatch` are imported from here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ingest_pipeline.models import Gap, Heading, Page, ParseEvent, ParseWarning, Properties
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.formats import archive, epub, html, mail, pdf, pdf_annotations, pypdf_walker, records, text
from ingest_pipeline.parsing.formats.docx import docx_pages
from ingest_pipeline.parsing.formats.epub import epub_pages
from ingest_pipeline.parsing.formats.html import html_pages
from ingest_pipeline.parsing.formats.json_values import json_pages
from ingest_pipeline.parsing.formats.mail import eml_pages, mbox_pages
from ingest_pipeline.parsing.formats.odt import odt_pages
from ingest_pipeline.parsing.formats.ole import ole_pages
from ingest_pipeline.parsing.formats.pdf import Outline, pdf_pages
from ingest_pipeline.parsing.formats.pptx import pptx_pages
from ingest_pipeline.parsing.formats.records import csv_pages, jsonl_pages, parquet_pages, tsv_pages
from ingest_pipeline.parsing.formats.registry import parser_for
from ingest_pipeline.parsing.formats.streams import rewinding, unpacked
from ingest_pipeline.parsing.formats.text import markdown_pages, rst_pages, text_pages
from ingest_pipeline.parsing.request import Parser, ParseRequest

__all__ = [
    "Content",
    "Event",
    "Outline",
    "ParseRequest",
    "Parsed",
    "Parser",
    "archive",
    "csv_pages",
    "detect",
    "docx_pages",
    "eml_pages",
    "epub",
    "epub_pages",
    "events_of",
    "html",
    "html_pages",
    "json_pages",
    "jsonl_pages",
    "mail",
    "markdown_pages",
    "mbox_pages",
    "odt_pages",
    "ole_pages",
    "parquet_pages",
    "parse",
    "parse_named",
    "parser_for",
    "pdf",
    "pdf_annotations",
    "pdf_pages",
    "pptx_pages",
    "pypdf_walker",
    "records",
    "rewinding",
    "rst_pages",
    "text",
    "text_pages",
    "tsv_pages",
    "unpacked",
]  # fmt: skip

Content = bytes | Path | BinaryIO
Event = Page | Gap | Heading
MEDIA_TYPES = {
    pdf_pages: detect.PDF,
    epub_pages: detect.EPUB,
    docx_pages: detect.DOCX,
    pptx_pages: detect.PPTX,
    odt_pages: detect.ODT,
    html_pages: detect.HTML,
    markdown_pages: detect.MARKDOWN,
    rst_pages: detect.RST,
    csv_pages: detect.CSV,
    tsv_pages: detect.TSV,
    json_pages: detect.JSON,
    jsonl_pages: detect.JSONL,
    parquet_pages: detect.PARQUET,
    eml_pages: detect.EMAIL,
    mbox_pages: detect.MBOX,
    ole_pages: detect.OLE,
}


@dataclass(frozen=True, slots=True)
class Parsed:
    """Everything that a parser said about one document."""

    pages: list[Page]
    gaps: list[Gap]
    headings: list[Heading]
    title: str | None
    warnings: list[str]
    total_pages: int | None
    events: list[Event]
    """Pages, gaps and headings, in the order in which they came."""

    @property
    def text(self) -> str:
        """The text of all pages, one after another."""
        return "".join(page.text for page in self.pages)

    @property
    def texts(self) -> list[str]:
        """The text of each page."""
        return [page.text for page in self.pages]

    @property
    def outline(self) -> list[tuple[int, str]]:
        """Level and title of each heading."""
        return [(heading.level, heading.title) for heading in self.headings]


def parse(
    parser: Parser, content: Content, *, name: str = "name", media_type: str | None = None, **request_fields: Any
) -> Parsed:
    """Parse a document in this process.

    Args:
        parser: one of those above.
        content: bytes, a file or an open stream.
        name: of the document, for messages.
        media_type: as it was detected; None: what the parser is for, else plain text.
        request_fields: `first_page`, `max_pages`, `passwords` and so on.
    """
    events = list(_events(parser, content, _request(parser, name, media_type, request_fields)))
    properties = [event for event in events if isinstance(event, Properties)]
    return Parsed(
        pages=[event for event in events if isinstance(event, Page)],
        gaps=[event for event in events if isinstance(event, Gap)],
        headings=[event for event in events if isinstance(event, Heading)],
        title=next((known.title for known in properties if known.title), None),
        warnings=list(dict.fromkeys(event.text for event in events if isinstance(event, ParseWarning))),
        total_pages=next((known.total_pages for known in properties if known.total_pages is not None), None),
        events=[event for event in events if isinstance(event, Page | Gap | Heading)],
    )


def parse_named(name: str, content: bytes, **request_fields: Any) -> Parsed:
    """Parse a document by the parser that its first bytes and its name ask for."""
    media_type = detect.media_type(name, content[: detect.HEAD_BYTES])
    return parse(parser_for(media_type), content, name=name, media_type=media_type, **request_fields)


def events_of(
    parser: Parser, content: Content, *, name: str = "name", media_type: str | None = None, **request_fields: Any
) -> Iterator[Event]:
    """Yield pages, gaps and headings while the document is read."""
    events = _events(parser, content, _request(parser, name, media_type, request_fields))
    return (event for event in events if isinstance(event, Page | Gap | Heading))


def _request(parser: Parser, name: str, media_type: str | None, fields: dict[str, Any]) -> ParseRequest:
    return ParseRequest(name, media_type or MEDIA_TYPES.get(parser, detect.TEXT), **fields)


def _events(parser: Parser, content: Content, request: ParseRequest) -> Iterator[ParseEvent]:
    with ExitStack() as stack:
        if isinstance(content, Path):
            content = stack.enter_context(content.open("rb"))
        yield from parser(io.BytesIO(content) if isinstance(content, bytes) else content, request)
