"""A file in steps: where a child died, the next one goes on with fewer pages, and a page that kills alone is a gap.

    all pages ──dies after 40──▶ 20 pages from 41 ──dies at once──▶ page 41 alone ──dies──▶ gap 41, on from 42

A step is halved after each child that got somewhere. A child that dies at its very first page says that this page
kills, not the number of pages: it is tried once more alone, then it is a gap. A file of which three children in a row
brought not one page is not a damaged page but a damaged file: it fails with the last child's error. After the first
death children read the pages' own text only: what is beside it (a form of 60,000 fields) may be what killed.
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
from ingest_pipeline.models import Gap, Page, ParsedFile
from ingest_pipeline.parsing.sandbox.outline import before_page
from ingest_pipeline.parsing.request import ParseRequest, without_text

logger = logging.getLogger(__name__)
CHILDREN_WITHOUT_ANY_PAGE = 3
BARREN_CHILDREN = 20
"""In a row, in a file that has given pages: what is left of it then is one gap."""
BARREN_WAITS = 3
"""The same for children that hang: each costs `page_seconds`."""
STEP_AFTER_KILLS: tuple[int | None, ...] = (None, 32, 4)
"""Pages for one child, by how many runs were killed while the file was open. 32: FINDINGS C, growth is flat there."""
CHILD_FAILURES = (ParserOutOfMemory, ParserTimedOut, ParserCrashed)


class PageParser(Protocol):
    """What a file is parsed by: the sandbox, or a fake."""

    file_seconds: float

    def pages(self, stream: BinaryIO, request: ParseRequest, parsed: ParsedFile) -> Iterator[Page]:
        """Yield the pages of a request; raise a PermanentError for a child's death."""

    def close(self) -> None:
        """End the child."""


@dataclass(slots=True)
class Steps:
    """Which pages the next child gets. Pure: what arrived and what died goes in, the next range comes out."""

    next_page: int
    width: int | None = None
    """Pages for a child; None: all that are left."""
    file_seconds: float = float("inf")
    alone: bool = False
    """The next child gets one page: the last one died at its first."""
    ended: bool = False
    brought: int = 0
    """Pages that arrived from all children."""
    _began_at: int = 0
    _ends_at: int | None = None
    _barren: int = 0
    _hung: int = 0

    @property
    def last_page(self) -> int | None:
        """The last page of the next step; None: to the end."""
        width = 1 if self.alone else self.width
        return None if width is None else self.next_page + width - 1

    def begin(self) -> None:
        """Note that a child starts on the next step."""
        self._began_at, self._ends_at = self.next_page, self.last_page

    def reached(self, page: int) -> None:
        """Note that every page before this one is complete."""
        self.brought += max(0, page - self.next_page)
        self.next_page = max(self.next_page, page)

    def finished(self, *, more: bool) -> None:
        """Note that a child came to the end of its step; `more`: the file goes on behind it."""
        self.ended = self._ends_at is None or not more
        self.next_page = max(self.next_page, (self._ends_at or 0) + 1)
        self._barren = self._hung = 0
        self.alone = False

    def died(self, error: PermanentError, *, total: int | None, waited_seconds: float) -> Gap | None:
        """Note a child's death; return the gap that it leaves, if it leaves one.

        Args:
            error: how it died.
            total: pages of the file, where its parser could say so.
            waited_seconds: spent on the file so far.

        Raises:
            PermanentError: the same, when there is no sense in going on.
        """
        arrived = self.next_page - self._began_at
        self._barren = 0 if arrived else self._barren + 1
        self._hung = 0 if arrived else self._hung + isinstance(error, ParserTimedOut)
        late = waited_seconds >= self.file_seconds
        if not self.brought and (late or self._barren >= CHILDREN_WITHOUT_ANY_PAGE):
            raise error
        if late or self._barren >= BARREN_CHILDREN or self._hung >= BARREN_WAITS:
            self.ended = True
            return self._gap(max(total or 0, self.next_page), f"{error.reason}; given up from here on")
        if arrived:
            self.width, self.alone = max(1, arrived // 2), False
        elif self._ends_at == self._began_at:
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


def pages_in_steps(
    parser: PageParser,
    stream: BinaryIO,
    request: ParseRequest,
    parsed: ParsedFile,
    *,
    width: int | None = None,
) -> Iterator[Page]:
    """Yield every page that can be had, each once, and fill `parsed`: its gaps say which could not.

    Args:
        parser: usually the sandbox.
        stream: the file, at any position.
        request: the whole file, from the first page that is wanted.
        parsed: filled while the pages stream by; peaks are the highest, seconds the sum of all children.
        width: pages for one child from the start, for a file that killed a run before.

    Raises:
        PermanentError: what the parser says of the file, or why no child brought a page.
        NoText, UnreadableDocument: it was read to its end, and there was nothing.
    """
    steps, pieces = Steps(request.first_page, width, parser.file_seconds), _Pieces()
    while not steps.ended:
        steps.begin()
        step = replace(request, first_page=steps.next_page, last_page=steps.last_page)
        # Shared, not copied: what is written while a child works must hold its gaps and sections.
        parsed.sections = before_page(parsed.sections, steps.next_page)
        part = ParsedFile(sections=parsed.sections, gaps=parsed.gaps)
        try:
            yield from pieces.new(parser.pages(stream, step, part), steps, part)
        except CHILD_FAILURES as error:
            parsed.add(part)
            # The next child finds the others again.
            parsed.gaps = [gap for gap in parsed.gaps if gap.page_to < steps.next_page]
            gap = steps.died(error, total=parsed.total_pages, waited_seconds=parsed.waited_seconds)
            parsed.gaps += [gap] if gap else []
            request = replace(request, plain=True)
            logger.warning("%s at page %d: %s", error.reason, step.first_page, gap or "again in a smaller step")
            continue
        except BaseException:
            parsed.add(part)
            raise
        parsed.add(part)
        steps.finished(more=part.more)
        if step.last_page is not None:
            parser.close()  # the next step gets a fresh child: that is what steps are for
    if request.first_page == 1 and not parsed.has_text:
        raise _nothing_read(request, parsed)


@dataclass(slots=True)
class _Pieces:
    """A long page comes in pieces: those that an earlier child brought are left out when the page comes again."""

    number: int = 0
    brought: int = 0

    def new(self, pages: Iterator[Page], steps: Steps, part: ParsedFile) -> Iterator[Page]:
        current = pieces = 0
        for page in pages:
            if page.number != current:
                steps.reached(page.number)
                current, pieces = page.number, 0
            pieces += 1
            if page.number != self.number or pieces > self.brought:
                self.number, self.brought = page.number, pieces
                yield page
            if part.complete_page == page.number:
                steps.reached(page.number + 1)
        if current:
            steps.reached(current + 1)


def _nothing_read(request: ParseRequest, parsed: ParsedFile) -> PermanentError:
    if parsed.gaps:
        return UnreadableDocument(f"{request.name}: not one page could be read ({parsed.gaps[0].reason})")
    return NoText(f"{request.name}: {without_text(request.media_type, parsed.pages)}")
