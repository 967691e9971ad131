"""Maps media types to parsers. A new format is a row here, its type in `detect.py`, and a new module."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import BinaryIO

from ingest_pipeline.errors import UnreadableDocument, UnsupportedFormat
from ingest_pipeline.models import ParseEvent
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.formats.streams import unpacked
from ingest_pipeline.parsing.request import Parser, ParseRequest

PARSERS = {
    detect.PDF: ("pdf", "pdf_pages"),
    detect.EPUB: ("epub", "epub_pages"),
    detect.DOCX: ("docx", "docx_pages"),
    detect.PPTX: ("pptx", "pptx_pages"),
    detect.ODT: ("odt", "odt_pages"),
    detect.HTML: ("html", "html_pages"),
    detect.MARKDOWN: ("text", "markdown_pages"),
    detect.RST: ("text", "rst_pages"),
    detect.TEXT: ("text", "text_pages"),
    detect.CSV: ("records", "csv_pages"),
    detect.TSV: ("records", "tsv_pages"),
    detect.JSON: ("json_values", "json_pages"),
    detect.JSONL: ("records", "jsonl_pages"),
    detect.PARQUET: ("records", "parquet_pages"),
    detect.EMAIL: ("mail", "eml_pages"),
    detect.MBOX: ("mail", "mbox_pages"),
    detect.OLE: ("ole", "ole_pages"),
}
"""Module and function. A module is imported when a file needs it: each imports libraries of its own."""


def parser_for(media_type: str) -> Parser:
    """Return the parser of a media type; its libraries are imported at this point.

    Raises:
        UnsupportedFormat: there is none.
    """
    if media_type.endswith(detect.GZIPPED):
        return partial(_unpacked_pages, parser_for(media_type.removesuffix(detect.GZIPPED)))
    if media_type not in PARSERS:
        raise UnsupportedFormat(f"no parser for {media_type}")
    module, function = PARSERS[media_type]
    parser: Parser = getattr(import_module(f"ingest_pipeline.parsing.formats.{module}"), function)
    return parser


def _unpacked_pages(parser: Parser, stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    try:
        yield from parser(unpacked(stream, request), request)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableDocument(f"{request.name}: not a readable gzip file: {error}") from None
