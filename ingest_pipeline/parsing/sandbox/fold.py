"""The events of a file become what is known of it: the one place that adds them up."""

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

MAX_SINGLE_GAPS = 100
MAX_WARNINGS = 20


class ParseFold:
    """Adds up the events of one file.

    Args:
        gaps: those that an earlier run recorded before the page from which this one goes on.
        sections: the same for sections.
    """

    def __init__(self, *, gaps: Iterable[Gap] = (), sections: Sequence[Section] = ()) -> None:
        self.gaps, self.sections, self.warnings = list(gaps), list(sections), list[str]()
        self.pages, self.title = 0, ""
        self.cost = ParseCost(0, 0.0)
        self._sections_before_page = len(self.sections)

    def pages_of(self, events: Iterable[ParseEvent]) -> Iterator[Page]:
        """Yield the pages among these events, each with the section that it begins in; add up everything."""
        for event in events:
            if page := self.take(event):
                yield page

    def take(self, event: ParseEvent) -> Page | None:
        """Add one event; return it where it is a page."""
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
                if event.text not in self.warnings and len(self.warnings) < MAX_WARNINGS:
                    self.warnings.append(event.text)
            case Properties():
                self.title = self.title or event.title or ""
            case ParseCost():
                self.cost = event
            case Done():
                self._end(event)
        return None

    def result(self) -> ParsedFile:
        """Return what is known; sections end where the file ended."""
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
        """Return the first section that came since the page before it, else the last one.

        Where a title, its chapter and its first section begin one after another, it is the section.
        """
        at, self._sections_before_page = self._sections_before_page, len(self.sections)
        if at == len(self.sections):
            return at - 1 if at else None
        while at + 1 < len(self.sections) and self.sections[at + 1].level > self.sections[at].level:
            at += 1
        return at

    def _add_gap(self, gap: Gap) -> None:
        """Note a gap; of very many, those that follow each other are one: they are written with each checkpoint."""
        last = self.gaps[-1] if self.gaps else None
        if last and len(self.gaps) >= MAX_SINGLE_GAPS and last.page_to + 1 == gap.page_from:
            self.gaps[-1] = Gap(last.page_from, gap.page_to, last.reason)
        else:
            self.gaps.append(gap)

    def _end(self, event: Done) -> None:
        self.pages = max(self.pages, event.pages)
        if len(self.sections) == MAX_SECTIONS:
            self.warnings.append(f"only the first {MAX_SECTIONS:,} of its headings are kept as sections")
