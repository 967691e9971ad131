"""The one place where tests call parsers: how parsers are called and what they return is known here and nowhere else.

Tests name a parser, hand it bytes, a path or a stream, and look at `Parsed`. All that tests of parsing import of the
package comes from here, also the modules that they change by `monkeypatch`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ingest_pipeline.models import Gap, OutlineEntry, Page
from ingest_pipeline.parsing import (
    archive,
    child,
    confine,
    detect,
    epub,
    html,
    mail,
    pdf,
    pdf_typed,
    protocol,
    pypdf_walker,
    records,
    sandbox,
    text,
)
from ingest_pipeline.parsing.alphabets import eastern_encoding, latin_encoding
from ingest_pipeline.parsing.child import parser_for
from ingest_pipeline.parsing.clean import clean_text
from ingest_pipeline.parsing.docx import docx_pages
from ingest_pipeline.parsing.encoding import SAMPLE_BYTES, detect_encoding
from ingest_pipeline.parsing.epub import epub_pages
from ingest_pipeline.parsing.html import html_pages
from ingest_pipeline.parsing.json_values import json_pages
from ingest_pipeline.parsing.mail import eml_pages, mbox_pages
from ingest_pipeline.parsing.odt import odt_pages
from ingest_pipeline.parsing.ole import ole_pages
from ingest_pipeline.parsing.outline import (
    MAX_PATH_CHARACTERS,
    MAX_TITLE_CHARACTERS,
    before_page,
    with_ends,
    with_entry,
)
from ingest_pipeline.parsing.pager import MIN_SECTION_CHARACTERS, SLAB_CHARACTERS, Pager
from ingest_pipeline.parsing.pdf import Headings, pdf_pages
from ingest_pipeline.parsing.pptx import pptx_pages
from ingest_pipeline.parsing.protocol import (
    MAX_MESSAGE_BYTES,
    MAX_PAGE_CHARACTERS,
    OUT_OF_MEMORY_EXIT,
    DeadlinePassed,
    Disconnected,
    Message,
    ProtocolError,
    receive,
    receive_with_descriptor,
    send,
)
from ingest_pipeline.parsing.records import csv_pages, jsonl_pages, parquet_pages, tsv_pages
from ingest_pipeline.parsing.request import ParseFacts, Parser, ParseRequest, without_text
from ingest_pipeline.parsing.sandbox import Sandbox
from ingest_pipeline.parsing.steps import pages_in_steps
from ingest_pipeline.parsing.streams import rewinding, unpacked
from ingest_pipeline.parsing.text import markdown_pages, rst_pages, text_pages

__all__ = [
    "MAX_MESSAGE_BYTES", "MAX_PAGE_CHARACTERS", "MAX_PATH_CHARACTERS", "MAX_TITLE_CHARACTERS",
    "MIN_SECTION_CHARACTERS", "OUT_OF_MEMORY_EXIT", "SAMPLE_BYTES", "SLAB_CHARACTERS", "Content", "DeadlinePassed",
    "Disconnected", "Event", "Heading", "Headings", "Message", "Pager", "ParseRequest", "Parsed", "Parser",
    "ProtocolError", "Sandbox", "archive", "before_page", "child", "clean_text", "confine", "csv_pages", "detect",
    "detect_encoding", "docx_pages", "eastern_encoding", "eml_pages", "epub", "epub_pages", "events_of", "html",
    "html_pages", "json_pages", "jsonl_pages", "latin_encoding", "mail", "markdown_pages", "mbox_pages", "odt_pages",
    "ole_pages", "pages_in_steps", "parquet_pages", "parse", "parse_named", "parser_for", "parser_of", "pdf",
    "pdf_pages", "pdf_typed", "pptx_pages", "protocol", "pypdf_walker", "receive", "receive_with_descriptor",
    "records", "rewinding", "rst_pages", "sandbox", "send", "text", "text_pages", "tsv_pages", "unpacked",
    "with_ends", "with_entry", "without_text",
]  # fmt: skip

Content = bytes | Path | BinaryIO
Heading = OutlineEntry
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
    facts = ParseFacts()
    events = list(_events(parser, content, _request(parser, name, media_type, request_fields), facts))
    return Parsed(
        pages=[event for event in events if isinstance(event, Page)],
        gaps=[event for event in events if isinstance(event, Gap)],
        headings=[event for event in events if isinstance(event, Heading)],
        title=facts.title,
        warnings=facts.warnings,
        total_pages=facts.total_pages,
        events=events,
    )


def parse_named(name: str, content: bytes, **request_fields: Any) -> Parsed:
    """Parse a document by the parser that its first bytes and its name ask for."""
    media_type = detect.media_type(name, content[: detect.HEAD_BYTES])
    return parse(parser_for(media_type), content, name=name, media_type=media_type, **request_fields)


def events_of(
    parser: Parser, content: Content, *, name: str = "name", media_type: str | None = None, **request_fields: Any
) -> Iterator[Event]:
    """Yield pages, gaps and headings while the document is read."""
    return _events(parser, content, _request(parser, name, media_type, request_fields), ParseFacts())


def parser_of(*events: Event, error: BaseException | None = None) -> Parser:
    """Return a parser that finds these in any document, and then fails if it is told to."""

    def parser(*_: object) -> Iterator[Event]:
        yield from events
        if error is not None:
            raise error

    return parser


def _request(parser: Parser, name: str, media_type: str | None, fields: dict[str, Any]) -> ParseRequest:
    return ParseRequest(name, media_type or MEDIA_TYPES.get(parser, detect.TEXT), **fields)


def _events(parser: Parser, content: Content, request: ParseRequest, facts: ParseFacts) -> Iterator[Event]:
    with ExitStack() as stack:
        if isinstance(content, Path):
            content = stack.enter_context(content.open("rb"))
        yield from parser(io.BytesIO(content) if isinstance(content, bytes) else content, request, facts)
