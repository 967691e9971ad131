"""The parser's child process: parses or cuts one file after another, sends events, reports its own peak.

Run as `python -m ingest_pipeline.parsing.sandbox.child <socket fd> <memory limit> <parent pid>` by `parent.py`.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from ingest_pipeline.errors import (
    IngestError,
    NoText,
    ParserOutOfMemory,
    TooManyPages,
    TooMuchText,
    UnreadableDocument,
)
from ingest_pipeline.memory.process import peak_memory_bytes, reset_peak, return_free_memory
from ingest_pipeline.models import CutPages, Done, Gap, Heading, Page, ParseCost, ParseEvent, ParseWarning, Properties
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.formats.clean import clean_text
from ingest_pipeline.parsing.formats.registry import parser_for
from ingest_pipeline.parsing.request import CutRequest, ParseRequest
from ingest_pipeline.parsing.sandbox.confinement import confine
from ingest_pipeline.parsing.sandbox.outline import MAX_TITLE_CHARACTERS
from ingest_pipeline.parsing.sandbox.protocol import (
    MAX_PAGE_CHARACTERS,
    OUT_OF_MEMORY_EXIT,
    Disconnected,
    Message,
    close_all,
    encode,
    receive_with_descriptors,
    send,
)

COST_SECONDS = 0.02  # between two reports of the cost: a table has thousands of events a second
MAX_REASON_CHARACTERS, MAX_LABEL_CHARACTERS = 500, 50  # of texts that a document may choose: a message has 1 MiB


def parsed_events(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield the events of one file within the limits of the request; `Done` is the last.

    Raises:
        PermanentError: the file cannot be parsed, or exceeds a limit.
    """
    yield from _disagreement(stream, request)
    last, characters, known = 0, 0, Properties()
    for event in parser_for(request.media_type)(stream, request):
        first = first_page_of(event)
        if first is not None and first < request.first_page:
            last = max(last, first)
            continue  # a parser that cannot begin in the middle yields the earlier pages, too
        if first is not None and request.last_page is not None and first > request.last_page:
            yield Done(last, more=True)
            return
        if isinstance(event, Page | Gap):
            _check_page(event, request)
            last = max(last, event.page_to if isinstance(event, Gap) else event.number)
        if isinstance(event, Page):
            characters += len(event.text)
            if characters > request.max_characters:
                raise TooMuchText(f"{request.name}: over {request.max_characters:,} characters of text: a bomb")
        if isinstance(event, Properties):  # the first title counts; only news is sent
            event = Properties(known.title or event.title, event.total_pages or known.total_pages)
            if event == known:
                continue
            known = event
        yield from _trimmed(event)
    yield Done(last)


def first_page_of(event: ParseEvent) -> int | None:
    """Return the first page that an event refers to; None if it refers to the document."""
    match event:
        case Page():
            return event.number
        case Gap():
            return event.page_from
        case Heading():
            return event.page
    return None


def _check_page(event: Page | Gap, request: ParseRequest) -> None:
    if (first_page_of(event) or 0) > request.max_pages:
        raise TooManyPages(f"{request.name}: over {request.max_pages:,} pages; raise INGEST_MAX_PAGES")


def _trimmed(event: ParseEvent) -> Iterator[ParseEvent]:
    """Yield an event in the form in which it is sent: text normalized, in pieces that fit into a message."""
    match event:
        case Page():
            yield from _pieces(event)
        case Heading():
            if title := " ".join(clean_text(event.title).split()):
                yield replace(event, title=title[:MAX_TITLE_CHARACTERS])
        case Gap():
            yield replace(event, reason=event.reason[:MAX_REASON_CHARACTERS])
        case ParseWarning():
            yield ParseWarning(event.text[:MAX_REASON_CHARACTERS])
        case Properties():
            yield replace(event, title=clean_text(event.title)[:MAX_REASON_CHARACTERS] if event.title else None)
        case _:
            yield event


def _pieces(page: Page) -> Iterator[Page]:
    text = clean_text(page.text)
    heading = clean_text(page.heading)[:MAX_REASON_CHARACTERS] if page.heading else None
    label = clean_text(page.label)[:MAX_LABEL_CHARACTERS] if page.label else None
    for start in range(0, max(1, len(text)), MAX_PAGE_CHARACTERS):
        end = start + MAX_PAGE_CHARACTERS
        yield replace(
            page, text=text[start:end], heading=heading, label=label, continues=page.continues or start > 0,
            whole=page.whole and end >= len(text),
        )  # fmt: skip


def _disagreement(stream: BinaryIO, request: ParseRequest) -> list[ParseWarning]:
    """Return a warning if the file's name and its bytes indicate different types.

    Raises:
        NoText: the file is empty.
    """
    head = stream.read(detect.HEAD_BYTES)
    stream.seek(0)
    if not head:
        raise NoText(f"{request.name}: the file is empty")
    detected = detect.detected(request.name, head)
    return [ParseWarning(detected.disagreement)] if detected.disagreement else []


def cut_pages(stream: BinaryIO, output: BinaryIO, request: CutRequest) -> Iterator[CutPages]:
    """Write the requested pages of a PDF into a file; yield what it holds.

    Raises:
        PermanentError: the pages cannot be cut, or exceed the limit.
    """
    from ingest_pipeline.parsing.formats.pdf_cut import LimitedOutput, cut_pdf

    limited = LimitedOutput(output, request)
    pages = cut_pdf(stream, request, limited)
    yield CutPages(pages, limited.size_bytes, peak_memory_bytes())


@dataclass(frozen=True, slots=True)
class _Task:
    """What the parent may ask for."""

    request: type[ParseRequest] | type[CutRequest]
    modes: tuple[str, ...]
    """In which the descriptors are opened that come with the request."""
    events: Callable[..., Iterator[ParseEvent | CutPages]]
    """Takes the opened files and the request."""


TASKS = {
    "parse": _Task(ParseRequest, ("rb",), parsed_events),
    "cut": _Task(CutRequest, ("rb", "wb"), cut_pages),
}


def _perform(sock: socket.socket, task: _Task, fields: dict[str, Any], descriptors: tuple[int, ...]) -> None:
    reset_peak()
    cost, request = _Cost(), task.request(**fields)
    try:
        with ExitStack() as files:
            opened = [files.enter_context(os.fdopen(*each)) for each in zip(descriptors, task.modes, strict=True)]
            for event in task.events(*opened, request):
                for sent in (*cost.news(exactly=isinstance(event, Done | CutPages)), event):
                    send(sock, encode(sent))
    except IngestError as error:
        _send_failure(sock, error.reason, str(error), cost)
    except Exception as error:  # any error of a parser is a failure of the file, not of the child
        if _is_out_of_memory(error):
            reason, text = ParserOutOfMemory.__name__, f"{request.name}: the parser reached its memory limit"
        else:
            reason, text = UnreadableDocument.__name__, f"{request.name}: {type(error).__name__}: {error}"[:1000]
        _send_failure(sock, reason, text, cost)


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out, also in the import of a library, which fails when it cannot be mapped."""
    # C code that ignores a failed allocation returns NULL without an exception.
    lost = isinstance(error, SystemError) and "without setting an exception" in str(error)
    return lost or isinstance(error, MemoryError | ImportError)


def _send_failure(sock: socket.socket, reason: str, text: str, cost: _Cost) -> None:
    for news in cost.news(exactly=True):
        send(sock, encode(news))
    send(sock, {"kind": "failed", "reason": reason, "message": text})


class _Cost:
    """The cost of a file so far; read at intervals, not for each event."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._read_at = 0.0

    def news(self, *, exactly: bool) -> Iterator[ParseCost]:
        """Yield the cost if the last report is COST_SECONDS old, or in any case if `exactly`."""
        now = time.monotonic()
        if exactly or now - self._read_at > COST_SECONDS:
            self._read_at = now
            yield ParseCost(peak_memory_bytes(), now - self._began)


def main(arguments: list[str]) -> None:
    """Serve the requests that come through the socket until the parent closes it."""
    descriptor, limit_bytes, parent_pid = (int(argument) for argument in arguments)
    reached = confine(limit_bytes, parent_pid)
    try:
        _serve(descriptor, reached)
    except MemoryError:  # while a failure was reported: an ordinary exit would need memory, too
        os._exit(OUT_OF_MEMORY_EXIT)


def _answer(sock: socket.socket, message: Message, descriptors: tuple[int, ...]) -> None:
    """Perform one request; a message that is none gets no answer."""
    task = TASKS.get(message["kind"])
    if task is None or len(descriptors) != len(task.modes):
        close_all(descriptors)
        return
    _perform(sock, task, message["request"], descriptors)
    return_free_memory()  # otherwise the next file's peak includes this one's freed memory


def _serve(descriptor: int, reached: dict[str, str]) -> None:
    with socket.socket(fileno=descriptor) as sock:
        send(sock, {"kind": "ready", "confined": reached})
        while True:
            try:
                message, descriptors = receive_with_descriptors(sock)
                _answer(sock, message, descriptors)
            except (Disconnected, BrokenPipeError, ConnectionResetError):
                return


if __name__ == "__main__":
    main(sys.argv[1:])
