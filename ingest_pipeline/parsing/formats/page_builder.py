"""Builds pages from text and headings: one for each section; short sections share a page, long ones are split."""

from __future__ import annotations

from collections.abc import Iterator

from ingest_pipeline.models import Gap, Heading, Page

SLAB_CHARACTERS = 20_000  # to encode, the chunker needs 7 MB for so many, 427 MB for 2.2 MB (docs/findings.md, F2)
MIN_SECTION_CHARACTERS = 400  # about a hundred tokens: a chunk of one line is too short to answer a query


Damage = type[Exception] | tuple[type[Exception], ...]


class PageBuilder:
    """Collects one document's text; finished pages and headings are in `ready`, in document order."""

    def __init__(self, *, number: int | None = None, heading: str | None = None) -> None:
        self.ready: list[Page | Heading] = []
        self.characters = 0
        self._fixed = number
        self._number = number or 1
        self._heading = heading
        self._parts: list[str] = []
        self._length = 0
        self._continues = False

    @property
    def number(self) -> int:
        """The number of the open page, or of the next one if none is open."""
        return self._number

    def begin(self, heading: str, level: int = 1) -> None:
        """Start a section; if the section before it is short, the two share a page."""
        if self._length >= MIN_SECTION_CHARACTERS:
            self.close()
        if not self._length or self._heading is None:
            self._heading = heading
        self.ready.append(Heading(level, heading, self._number))

    def add(self, text: str) -> None:
        """Append text to the open page; split it into slabs when it grows too long."""
        start = 0
        while self._length + len(text) - start > SLAB_CHARACTERS:
            end = start + SLAB_CHARACTERS - self._length
            self._append(text[start:end])
            self._emit()
            self._continues = True
            start = end
        self._append(text[start:])

    def close(self) -> None:
        """End the open page."""
        self._emit()
        self._continues = False

    def take(self) -> list[Page | Heading]:
        """Return and clear the finished pages and headings."""
        ready, self.ready = self.ready, []
        return ready

    def pages_while(self, pushes: Iterator[None], *, damage: Damage, reason: str) -> Iterator[Page | Heading | Gap]:
        """Yield what is finished after each push, then the rest; if a push fails, the last event is a gap.

        Args:
            pushes: each one adds some text to this builder.
            damage: the errors that a damaged document causes.
            reason: the beginning of the gap's reason; the error follows.

        Raises:
            damage: it failed before there was any text.
        """
        yielded, failure = False, None
        try:
            for _ in pushes:
                for event in self.take():
                    yielded = True
                    yield event
        except damage as error:
            failure = error
        self.close()
        rest = self.take()
        yield from rest
        # A document of which nothing could be read fails as a whole; gaps are for documents with readable pages.
        if failure is not None and not yielded and not rest:
            raise failure
        if failure is not None:
            yield Gap(self.number, self.number, f"{reason}: {failure}")

    def _append(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._length += len(text)

    def _emit(self) -> None:
        text = "".join(self._parts)
        self._parts, self._length = [], 0
        # Empty pages are dropped; within a text that continues, white space counts for the offsets.
        if not text.strip() and not self._continues:
            return
        self.characters += len(text.strip())
        self.ready.append(Page(self._number, text, self._heading, self._continues))
        if self._fixed is None:
            self._number += 1
