"""A failure is replayed: one document goes through the sandbox under the limits of the run in which it failed."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

from ingest_pipeline.errors import IngestError, PermanentError, UnreadablePages, error_named
from ingest_pipeline.models import Gap, Page, ParseCost, ParseEvent
from ingest_pipeline.parsing.detect import PDF
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.fold import ParseFold
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.parsing.sandbox.steps import CHILD_FAILURES, events_in_steps
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.autopsy_spec import ReplaySpec

READ_BYTES = 256 * 1024
UNREADABLE = "unreadable page"
"""The kind of a gap whose reason names no error type: what a parser says of a page may quote it."""
ERROR_TYPE = re.compile(r"\b([A-Z]\w*(?:Error|Exception)|Damaged)\b")
MAX_CHILDREN_SHOWN = 50  # a file of many gaps has one for each


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """What one child of the sandbox was asked for, and how it ended."""

    first_page: int
    last_page: int | None
    pages: int
    """That arrived."""
    failure: str | None
    seconds: float
    peak_memory_bytes: int

    @property
    def failed_at(self) -> int:
        """The page on which it was at work when it ended."""
        return self.first_page + self.pages


@dataclass(frozen=True, slots=True)
class Observed:
    """How a document went through the sandbox."""

    reason: str | None
    """Why it failed as a whole; None if it did not."""
    message: str
    """May quote the document: for the screen, never for a file."""
    pages: int
    gaps: tuple[Gap, ...]
    children: tuple[ChildEnd, ...]
    peak_memory_bytes: int
    seconds: float
    confined: dict[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every kind of failure that occurred."""
        reasons = [self.reason] if self.reason else []
        return tuple(dict.fromkeys([*reasons, *(kind_of(gap.reason) for gap in self.gaps)]))

    @property
    def causes(self) -> tuple[str, ...]:
        """The kinds that a page causes, and not the whole document: `not one page could be read` says little."""
        failures = {kind.__name__ for kind in CHILD_FAILURES}
        of_gaps = {kind_of(gap.reason) for gap in self.gaps}
        return tuple(kind for kind in self.kinds if kind in failures | of_gaps)

    def is_one_of(self, expected: Sequence[str]) -> bool:
        """Return whether the failure is one that was expected."""
        return any(kind in expected for kind in self.kinds)

    def row(self) -> dict[str, Any]:
        """Return it without what may quote the document."""
        gaps = [[gap.page_from, gap.page_to, kind_of(gap.reason)] for gap in self.gaps[:MAX_CHILDREN_SHOWN]]
        return {
            "failed_with": self.reason,
            "pages": self.pages,
            "gaps": gaps,
            "peak_memory_bytes": self.peak_memory_bytes,
            "seconds": round(self.seconds, 2),
            "children": [asdict(child) for child in self.children],
            "confined_by": self.confined,
        }


def kind_of(reason: str) -> str:
    """Return what kind of failure a gap's reason names: an error type, and nothing of the text behind it."""
    first = re.match(r"\w*", reason.strip())
    try:
        return error_named(first[0] if first else "").__name__
    except KeyError:
        named = ERROR_TYPE.search(reason)
        return named[1] if named else UNREADABLE


def observe(stream: BinaryIO, spec: ReplaySpec, settings: Settings) -> Observed:
    """Parse a document as a run would, and return how that ended; its text is dropped page by page.

    Raises:
        ParserUnavailable: the parser's child cannot start under these limits.
    """
    fold, began = ParseFold(), time.monotonic()
    failure: PermanentError | None = None
    with spec.sandbox() as sandbox:
        noting = _NotingParser(sandbox)
        try:
            for event in events_in_steps(noting, stream, spec.request(settings), width=spec.limits.width):
                fold.take(event)
            if fold.gaps and not spec.limits.allow_gaps:
                failure = UnreadablePages(f"{spec.name}: pages that could not be read")
        except PermanentError as error:
            failure = error
        confined = dict(sandbox.confined)
    return Observed(
        reason=failure.reason if failure else None,
        message=str(failure or ""),
        pages=fold.pages,
        gaps=tuple(fold.gaps),
        children=tuple(noting.children),
        peak_memory_bytes=fold.cost.peak_memory_bytes,
        seconds=time.monotonic() - began,
        confined=confined,
    )


class _NotingParser:
    """Passes requests on to the sandbox, and notes how each child ended."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox, self.file_seconds = sandbox, sandbox.file_seconds
        self.children: list[ChildEnd] = []

    def events(self, stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
        """Yield the child's events."""
        began, last, cost, failure = time.monotonic(), request.first_page - 1, ParseCost(0, 0.0), None
        try:
            for event in self._sandbox.events(stream, request):
                if isinstance(event, Page):
                    last = max(last, event.number - (not event.whole))
                cost = event if isinstance(event, ParseCost) else cost
                yield event
        except IngestError as error:
            failure = error.reason
            raise
        finally:
            arrived = last - request.first_page + 1
            end = ChildEnd(
                request.first_page, request.last_page, arrived, failure, round(time.monotonic() - began, 2),
                cost.peak_memory_bytes,
            )  # fmt: skip
            self.children += [end] if len(self.children) < MAX_CHILDREN_SHOWN else []

    def close(self) -> None:
        """End the child."""
        self._sandbox.close()


def pages_at_fault(observed: Observed, media_type: str, *, most: int) -> list[tuple[int, int]]:
    """Return the ranges of pages to cut out, the smallest first; none where no page is the cause.

    Args:
        observed: how the whole document ended.
        media_type: of the document; only of a PDF pages can be cut out.
        most: pages in a range.
    """
    if media_type != PDF:
        return []
    failures = {kind.__name__ for kind in CHILD_FAILURES}
    failing = [child.failed_at for child in observed.children if child.failure in failures]
    gaps = [gap.page_from for gap in observed.gaps]
    if not gaps and not failing:
        return []
    # A child may have failed at a page that the next one read: what is a gap comes first.
    spans = [(page, page) for page in (*gaps[:1], *failing[:1])]
    first, last = min([*gaps, *failing]), max([*failing, *(gap.page_to for gap in observed.gaps)])
    spans.append((first, min(last, first + most - 1)))
    return list(dict.fromkeys(spans))


def pieces_of(stream: BinaryIO) -> Iterator[bytes]:
    """Yield a document from its start, whatever its position: a child shares it, and moves it."""
    offset = 0
    while piece := os.pread(stream.fileno(), READ_BYTES, offset):
        offset += len(piece)
        yield piece


def sha256_of(stream: BinaryIO) -> str:
    """Return the SHA-256 of a document, in hex."""
    digest = hashlib.sha256()
    for piece in pieces_of(stream):
        digest.update(piece)
    return digest.hexdigest()
