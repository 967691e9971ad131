"""The parser's child process: takes one file after another, sends pages, reports its own peak.

Run as `python -m ingest_pipeline.parsing.sandbox.child <socket fd> <memory limit> <parent pid>`; started by `sandbox.py`.
"""

from __future__ import annotations

import gzip
import os
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import BinaryIO

from ingest_pipeline.errors import (
    IngestError,
    NoText,
    ParserOutOfMemory,
    TooManyPages,
    TooMuchText,
    UnreadableDocument,
    UnsupportedFormat,
)
from ingest_pipeline.memory.process import peak_memory_bytes, reset_peak, return_free_memory
from ingest_pipeline.models import Gap, Heading, Page
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.formats.clean import clean_text
from ingest_pipeline.parsing.sandbox.confinement import confine
from ingest_pipeline.parsing.sandbox.outline import MAX_TITLE_CHARACTERS
from ingest_pipeline.parsing.sandbox.protocol import (
    MAX_PAGE_CHARACTERS,
    OUT_OF_MEMORY_EXIT,
    Disconnected,
    Message,
    receive_with_descriptor,
    send,
)
from ingest_pipeline.parsing.request import Found, ParseFacts, Parser, ParseRequest
from ingest_pipeline.parsing.formats.streams import unpacked

PEAK_SECONDS = 0.02
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
"""Modules are imported when a file needs them: each brings libraries of its own."""


def parser_for(media_type: str) -> Parser:
    """Return the parser of a media type; its libraries are imported here and not before.

    Raises:
        UnsupportedFormat: there is none.
    """
    if media_type.endswith(detect.GZIPPED):
        return partial(_unpacked_pages, parser_for(media_type.removesuffix(detect.GZIPPED)))
    if media_type not in PARSERS:
        raise UnsupportedFormat(f"no parser for {media_type}")
    module, function = PARSERS[media_type]
    parser: Parser = getattr(import_module(f"ingest_pipeline.parsing.{module}"), function)
    return parser


def _unpacked_pages(parser: Parser, stream: BinaryIO, request: ParseRequest, facts: ParseFacts) -> Iterator[Found]:
    try:
        yield from parser(unpacked(stream, request), request, facts)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableDocument(f"{request.name}: not a readable gzip file: {error}") from None


def parsed_messages(stream: BinaryIO, request: ParseRequest) -> Iterator[Message]:
    """Yield what the parent is told about one file: pages, gaps, and at last `done`.

    Raises:
        PermanentError: what is wrong with the file.
    """
    facts, last, more, characters = ParseFacts(warnings=_disagreement(stream, request)), 0, False, 0
    for found in parser_for(request.media_type)(stream, request, facts):
        first = _first_page(found)
        if first < request.first_page:
            last = max(last, first)
            continue  # a parser that cannot begin in the middle reads through what is known
        if request.last_page is not None and first > request.last_page:
            more = True
            break
        if isinstance(found, Heading):
            if title := " ".join(clean_text(found.title).split()):
                yield {"kind": "section", "level": found.level, "title": title[:MAX_TITLE_CHARACTERS], "page": first}
            continue
        if first > request.max_pages:
            raise TooManyPages(f"{request.name}: over {request.max_pages:,} pages; raise INGEST_MAX_PAGES")
        if isinstance(found, Gap):
            last = max(last, found.page_to)
            yield {"kind": "gap", "from": found.page_from, "to": found.page_to, "reason": found.reason[:500]}
            continue
        last = max(last, found.number)
        characters += len(found.text)
        if characters > request.max_characters:
            raise TooMuchText(f"{request.name}: over {request.max_characters:,} characters of text: a bomb")
        for message in _page_messages(found):
            message["whole"] &= facts.one_text_per_page
            yield message | {"total": facts.total_pages}
    yield {
        "kind": "done",
        "pages": last,
        "more": more,
        "title": facts.title and clean_text(facts.title)[:500],
        "warnings": [warning[:500] for warning in facts.warnings[:20]],
    }


def _first_page(found: Found) -> int:
    if isinstance(found, Heading):
        return found.page
    return found.page_from if isinstance(found, Gap) else found.number


def _disagreement(stream: BinaryIO, request: ParseRequest) -> list[str]:
    """Return a warning where the file's name says something else than its bytes.

    Raises:
        NoText: there are no bytes.
    """
    head = stream.read(detect.HEAD_BYTES)
    stream.seek(0)
    if not head:
        raise NoText(f"{request.name}: the file is empty")
    found = detect.detected(request.name, head)
    return [found.disagreement] if found.disagreement else []


def _page_messages(page: Page) -> Iterator[Message]:
    text = clean_text(page.text)
    heading = clean_text(page.heading)[:500] if page.heading else None
    for start in range(0, max(1, len(text)), MAX_PAGE_CHARACTERS):
        yield {
            "kind": "page",
            "number": page.number,
            "text": text[start : start + MAX_PAGE_CHARACTERS],
            "heading": heading,
            "label": clean_text(page.label)[:50] if page.label else None,
            "continues": page.continues or start > 0,
            "whole": start + MAX_PAGE_CHARACTERS >= len(text),
        }


def _answer(sock: socket.socket, descriptor: int, message: Message) -> None:
    request = ParseRequest(**message["request"])
    reset_peak()
    cost = _Cost()
    try:
        with os.fdopen(descriptor, "rb") as stream:
            for answer in parsed_messages(stream, request):
                send(sock, answer | cost.now(exactly=answer["kind"] == "done"))
    except IngestError as error:
        _send_failure(sock, error.reason, str(error), cost)
    except (MemoryError, ImportError):  # ImportError: a library that cannot be mapped under the limit
        _send_failure(sock, ParserOutOfMemory.__name__, f"{request.name}: the parser reached its memory limit", cost)
    except Exception as error:  # a parser that trips over a file is that file's failure, whatever it throws
        reason = f"{request.name}: {type(error).__name__}: {error}"
        _send_failure(sock, UnreadableDocument.__name__, reason[:1000], cost)


def _send_failure(sock: socket.socket, reason: str, text: str, cost: _Cost) -> None:
    send(sock, {"kind": "failed", "reason": reason, "message": text} | cost.now(exactly=True))


class _Cost:
    """What a file cost so far; the peak is read anew when it could have moved: a table has a message for each row."""

    def __init__(self) -> None:
        self._began = self._read_at = time.monotonic()
        self._peak = peak_memory_bytes()

    def now(self, *, exactly: bool) -> Message:
        now = time.monotonic()
        if exactly or now - self._read_at > PEAK_SECONDS:
            self._peak, self._read_at = peak_memory_bytes(), now
        return {"peak": self._peak, "seconds": now - self._began}


def main(arguments: list[str]) -> None:
    """Serve files from the socket until the parent hangs up."""
    descriptor, limit_bytes, parent_pid = (int(argument) for argument in arguments)
    reached = confine(limit_bytes, parent_pid)
    try:
        _serve(descriptor, reached)
    except MemoryError:
        os._exit(OUT_OF_MEMORY_EXIT)


def _serve(descriptor: int, reached: dict[str, str]) -> None:
    with socket.socket(fileno=descriptor) as sock:
        send(sock, {"kind": "ready", "confined": reached})
        while True:
            try:
                message, file_descriptor = receive_with_descriptor(sock)
                if file_descriptor is not None:
                    _answer(sock, file_descriptor, message)
                    return_free_memory()  # or the next file's peak would begin where this one's ended
            except (Disconnected, BrokenPipeError, ConnectionResetError):
                return


if __name__ == "__main__":
    main(sys.argv[1:])
