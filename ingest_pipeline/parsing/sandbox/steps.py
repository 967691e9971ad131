"""Parses a file in steps: after a child's failure the next child gets fewer pages; a page that fails alone is a gap.

    all pages ──fails after 40──▶ 20 pages from 41 ──fails at once──▶ page 41 alone ──fails──▶ gap 41, on from 42

A step is the range of pages for one child. After a child that read some pages, the step is half of what it read. A
child that fails on its first page shows that this page is the cause, not the number of pages: the page is tried once
more alone, then it is a gap. If three children in a row read not one page of a file, the whole file is damaged, and it
fails with the last child's error. After the first failure children read only the text of the pages: annotations (a form
of 60,000 fields) may be the cause.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

from ingest_pipeline.errors import (
    NoText,
    ParserCrashed,
    ParserOutOfMemory,
    ParserTimedOut,
    PermanentError,
    UnreadableDocument,
)
from ingest_pipeline.models import Done, Gap, Heading, Page, ParseCost, ParseEvent, Properties
from ingest_pipeline.parsing.request import ParseRequest, without_text
from ingest_pipeline.parsing.sandbox.outline import MAX_SECTIONS

logger = logging.getLogger(__name__)
CHILDREN_WITHOUT_ANY_PAGE = 3
FRUITLESS_CHILDREN = 20
"""Children in a row without a page, in a file of which some pages were read: the rest becomes one gap."""
FRUITLESS_WAITS = 3
"""The same for children that time out: each costs `page_seconds`."""
STEP_AFTER_KILLS: tuple[int | None, ...] = (None, 32, 4)
"""Pages for one child, by the number of runs that were killed while the file was open. With 32 pages memory does not
grow (docs/findings.md, C3)."""
CHILD_FAILURES = (ParserOutOfMemory, ParserTimedOut, ParserCrashed)


class EventParser(Protocol):
    """What parses a file: the sandbox, or a fake in tests."""

    file_seconds: float

    def events(self, stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
        """Yield the events of a request; raise a PermanentError if the child fails."""

    def close(self) -> None:
        """End the child."""


@dataclass(slots=True)
class Steps:
    """Computes the range of pages for the next child from the pages that arrived and the failures. Pure."""

    next_page: int
    width: int | None = None
    """Pages for one child; None: all remaining pages."""
    file_seconds: float = float("inf")
    alone: bool = False
    """The next child gets one page, because the last one failed on its first page."""
    ended: bool = False
    brought: int = 0
    """Pages that arrived from all children."""
    _began_at: int = 0
    _ends_at: int | None = None
    _without_page: int = 0
    _timed_out: int = 0

    @property
    def last_page(self) -> int | None:
        """The last page of the next step; None: the last page of the file."""
        width = 1 if self.alone else self.width
        return None if width is None else self.next_page + width - 1

    def begin(self) -> None:
        """Record that a child starts the next step."""
        self._began_at, self._ends_at = self.next_page, self.last_page

    def reached(self, page: int) -> None:
        """Record that every page before this one is complete."""
        self.brought += max(0, page - self.next_page)
        self.next_page = max(self.next_page, page)

    def finished(self, *, more: bool) -> None:
        """Record that a child finished its step; `more`: the file has further pages."""
        self.ended = self._ends_at is None or not more
        self.next_page = max(self.next_page, (self._ends_at or 0) + 1)
        self._without_page = self._timed_out = 0
        self.alone = False

    def failed(self, error: PermanentError, *, total: int | None, waited_seconds: float) -> Gap | None:
        """Record a child's failure; return the gap if the failure leaves one.

        Args:
            error: the failure.
            total: pages of the file, if its parser reported them.
            waited_seconds: time spent on the file so far.

        Raises:
            PermanentError: the same error, if the file is to be given up.
        """
        arrived = self.next_page - self._began_at
        self._without_page = 0 if arrived else self._without_page + 1
        self._timed_out = 0 if arrived else self._timed_out + isinstance(error, ParserTimedOut)
        late = waited_seconds >= self.file_seconds
        if not self.brought and (late or self._without_page >= CHILDREN_WITHOUT_ANY_PAGE):
            raise error
        if late or self._without_page >= FRUITLESS_CHILDREN or self._timed_out >= FRUITLESS_WAITS:
            self.ended = True
            return self._gap(max(total or 0, self.next_page), f"{error.reason}; given up from here on")
        if arrived:
            self.width, self.alone = max(1, arrived // 2), False
        elif self._ends_at == self._began_at:  # the page was tried alone
            gap = self._gap(self.next_page, error.reason)
            self.alone, self.ended = False, total is not None and self.next_page > total
            return gap
        else:
            self.alone = True
        return None

    def _gap(self, page_to: int, reason: str) -> Gap:
        gap = Gap(self.next_page, page_to, reason)
        self.next_page = page_to + 1
        return gap


def events_in_steps(
    parser: EventParser, stream: BinaryIO, request: ParseRequest, *, width: int | None = None
) -> Iterator[ParseEvent]:
    """Yield the events of a whole file, each page once; pages that no child could read are gaps. `Done` is the last.

    Args:
        parser: usually the sandbox.
        stream: the file, at any position.
        request: the whole file, from the first page to parse.
        width: pages for one child from the start, for a file that was open when a run was killed.

    Raises:
        PermanentError: the parser's error, or the reason why no child read a page.
        NoText, UnreadableDocument: the file was read to its end, but has no text.
    """
    steps = Steps(request.first_page, width, parser.file_seconds)
    joined = _Joined(steps)
    while not steps.ended:
        steps.begin()
        step = replace(request, first_page=steps.next_page, last_page=steps.last_page)
        try:
            for event in parser.events(stream, step):
                yield from joined.take(event)
        except CHILD_FAILURES as error:
            yield from joined.after_failure(error)
            request = replace(request, plain=True)
            logger.warning("%s at page %d", error.reason, step.first_page)
        else:
            yield from joined.after_step()
            if step.last_page is not None:
                parser.close()  # a new child for each step: steps bound what a child can accumulate
    # If parsing continued from a checkpoint, an earlier run has read text.
    if request.first_page == 1 and not joined.has_text:
        raise joined.nothing_read(request)
    yield Done(joined.pages)


class _Joined:
    """Joins the events of several children; drops what a child repeats of a page that an earlier one had begun.

    Headings are held until their page arrives, and gaps until every page before their end is complete: those of the
    page on which a child failed arrive again from the next child.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.pages, self.has_text = 0, False
        self._first_gap: Gap | None = None
        self._total: int | None = None
        self._cost_before, self._cost = ParseCost(0, 0.0), ParseCost(0, 0.0)
        self._gaps, self._headings = list[Gap](), list[Heading]()
        self._brought, self._child = _Position(), _Position()
        self._more = False

    def take(self, event: ParseEvent) -> Iterator[ParseEvent]:
        """Take one event of the current child; yield the events that are now final."""
        match event:
            case Page():
                yield from self._take_page(event)
            case Heading():
                if self._child.next_heading(event.page) > self._brought.headings_of(event.page):
                    self._headings += [event] if len(self._headings) < MAX_SECTIONS else []
            case Gap():
                self._gaps.append(event)
            case ParseCost():
                self._cost = event
                yield self._total_cost()
            case Done():
                self.pages, self._more = max(self.pages, event.pages), event.more
            case Properties():
                self._total = event.total_pages or self._total
                yield event
            case _:
                yield event

    def after_step(self) -> Iterator[ParseEvent]:
        """Yield the held events after a child finished its step."""
        if self._child.page:
            self._steps.reached(self._child.page + 1)
        yield from self._headings
        yield from self._emit_gaps(self._gaps)
        self._steps.finished(more=self._more)
        self._begin_child()

    def after_failure(self, error: PermanentError) -> Iterator[ParseEvent]:
        """Yield the gaps that a child's failure leaves.

        Raises:
            PermanentError: the same error, if the file is to be given up.
        """
        yield from self._emit_gaps([gap for gap in self._gaps if gap.page_to < self._steps.next_page])
        waited = self._total_cost().waited_seconds
        gap = self._steps.failed(error, total=self._total, waited_seconds=waited)
        yield from self._emit_gaps([gap] if gap else [])
        self._begin_child()

    def nothing_read(self, request: ParseRequest) -> PermanentError:
        """Return the error for a file without any text."""
        if self._first_gap:
            return UnreadableDocument(f"{request.name}: not one page could be read ({self._first_gap.reason})")
        return NoText(f"{request.name}: {without_text(request.media_type, self.pages)}")

    def _take_page(self, page: Page) -> Iterator[ParseEvent]:
        if self._child.next_piece(page.number) == 1:
            self._steps.reached(page.number)
            complete = [gap for gap in self._gaps if gap.page_to < self._steps.next_page]
            self._gaps = [gap for gap in self._gaps if gap.page_to >= self._steps.next_page]
            yield from self._emit_gaps(complete)
        self.pages = max(self.pages, page.number)
        self.has_text = self.has_text or bool(page.text.strip())
        if self._child.pieces > self._brought.pieces_of(page.number):
            yield from self._headings
            self._headings.clear()
            self._brought = replace(self._child)
            yield page
        if page.whole:
            self._steps.reached(page.number + 1)

    def _emit_gaps(self, gaps: list[Gap]) -> Iterator[Gap]:
        for gap in gaps:
            self._first_gap = self._first_gap or gap
            yield gap

    def _begin_child(self) -> None:
        self._cost_before, self._cost = self._total_cost(), ParseCost(0, 0.0)
        self._child, self._more = _Position(), False
        self._gaps, self._headings = [], []

    def _total_cost(self) -> ParseCost:
        before, now = self._cost_before, self._cost
        return ParseCost(
            max(before.peak_memory_bytes, now.peak_memory_bytes),
            before.seconds + now.seconds,
            before.waited_seconds + now.waited_seconds,
        )


@dataclass(slots=True)
class _Position:
    """The position of a child: its page, and the number of pieces and headings of that page."""

    page: int = 0
    pieces: int = 0
    heading_page: int = 0
    headings: int = 0

    def next_piece(self, page: int) -> int:
        """Count a piece of a page; return its number within the page."""
        self.page, self.pieces = page, self.pieces + 1 if page == self.page else 1
        return self.pieces

    def next_heading(self, page: int) -> int:
        """Count a heading of a page; return its number within the page."""
        self.heading_page, self.headings = page, self.headings + 1 if page == self.heading_page else 1
        return self.headings

    def pieces_of(self, page: int) -> int:
        return self.pieces if page == self.page else 0

    def headings_of(self, page: int) -> int:
        return self.headings if page == self.heading_page else 0
