"""Adds up the events of a file to a `ParsedFile`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ingest_pipeline.models import (
    Done,
    Gap,
    Heading,
    Page,
    ParseCost,
    ParsedFile,
    ParseEvent,
    ParseWarning,
    Properties,
    Section,
)
from ingest_pipeline.parsing.sandbox.outline import MAX_SECTIONS, with_ends, with_entry

MAX_SINGLE_GAPS = 100  # from then on adjacent gaps are joined: every checkpoint writes all of them
MAX_WARNINGS = 20  # a damaged file may give one for each page


class ParseFold:
    """Adds up the events of one file.

    Args:
        gaps: gaps that an earlier run recorded before the page from which this one continues.
        sections: the same for sections.
        warnings: the same for warnings, of whatever page.
    """

    def __init__(
        self, *, gaps: Iterable[Gap] = (), sections: Sequence[Section] = (), warnings: Iterable[str] = ()
    ) -> None:
        self.gaps, self.sections, self.warnings = list(gaps), list(sections), list(warnings)
        self.pages, self.title = 0, ""
        self.cost = ParseCost(0, 0.0)
        self._sections_before_page = len(self.sections)

    def pages_of(self, events: Iterable[ParseEvent]) -> Iterator[Page]:
        """Yield the pages among these events, each with its section, and add up all events."""
        for event in events:
            if page := self.take(event):
                yield page

    def take(self, event: ParseEvent) -> Page | None:
        """Add one event; return it with its section if it is a page."""
        match event:
            case Page():
                self.pages = max(self.pages, event.number)
                return replace(event, section=self._section_of_page())
            case Heading():
                if len(self.sections) < MAX_SECTIONS:
                    self.sections.append(with_entry(self.sections, event))
            case Gap():
                self._add_gap(event)
            case ParseWarning():
                if len(self.warnings) < MAX_WARNINGS:
                    self._add_warning(event.text)
            case Properties():
                self.title = self.title or event.title or ""
            case ParseCost():
                self.cost = event
            case Done():
                self._end(event)
        return None

    def result(self) -> ParsedFile:
        """Return what is known of the file; open sections end on its last page."""
        return ParsedFile(
            pages=self.pages,
            title=self.title or None,
            gaps=tuple(self.gaps),
            sections=tuple(with_ends(self.sections, self.pages)),
            warnings=tuple(self.warnings),
            peak_memory_bytes=self.cost.peak_memory_bytes,
            seconds=self.cost.seconds,
        )

    def _section_of_page(self) -> int | None:
        """Return the ordinal of the first section that began since the page before, else of the last one.

        Where a title, a chapter and a section begin one after another without text between them, it is the innermost.
        """
        ordinal, self._sections_before_page = self._sections_before_page, len(self.sections)
        if ordinal == len(self.sections):
            return ordinal - 1 if ordinal else None
        while ordinal + 1 < len(self.sections) and self.sections[ordinal + 1].level > self.sections[ordinal].level:
            ordinal += 1
        return ordinal

    def _add_gap(self, gap: Gap) -> None:
        """Add a gap; from MAX_SINGLE_GAPS on, join it to the one before if they are adjacent."""
        last = self.gaps[-1] if self.gaps else None
        if last and len(self.gaps) >= MAX_SINGLE_GAPS and last.page_to + 1 == gap.page_from:
            self.gaps[-1] = Gap(last.page_from, gap.page_to, last.reason)
        else:
            self.gaps.append(gap)

    def _end(self, event: Done) -> None:
        self.pages = max(self.pages, event.pages)
        if len(self.sections) == MAX_SECTIONS:
            self._add_warning(f"only the first {MAX_SECTIONS:,} of its headings are kept as sections")

    def _add_warning(self, text: str) -> None:
        if text not in self.warnings:  # an earlier run may have recorded it, too
            self.warnings.append(text)
