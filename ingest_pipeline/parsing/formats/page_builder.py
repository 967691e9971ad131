"""Text and headings become pages: one for each section, short ones together, long ones in slabs."""

from __future__ import annotations

from collections.abc import Iterator

from ingest_pipeline.models import Gap, Heading, Page

SLAB_CHARACTERS = 20_000  # encoding so much text costs the chunker 7 MB, 2 MB cost it 427 (docs/findings.md, F)
MIN_SECTION_CHARACTERS = 400  # a hundred tokens: a section of one line would be a chunk that answers nothing


Damage = type[Exception] | tuple[type[Exception], ...]


class PageBuilder:
    """Collects one document's text; headings and finished pages wait in `ready`, in this order."""

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
        """The number of the page that is open, or of the next one."""
        return self._number

    def begin(self, heading: str, level: int = 1) -> None:
        """Start a section; where the one before it is short, the two share a page."""
        if self._length >= MIN_SECTION_CHARACTERS:
            self.close()
        if not self._length or self._heading is None:
            self._heading = heading
        self.ready.append(Heading(level, heading, self._number))

    def add(self, text: str) -> None:
        """Append text to the page that is open; cut it into slabs when it grows too long."""
        start = 0
        while self._length + len(text) - start > SLAB_CHARACTERS:
            end = start + SLAB_CHARACTERS - self._length
            self._append(text[start:end])
            self._emit()
            self._continues = True
            start = end
        self._append(text[start:])

    def close(self) -> None:
        """End the page that is open."""
        self._emit()
        self._continues = False

    def take(self) -> list[Page | Heading]:
        """Return what is finished and forget it."""
        ready, self.ready = self.ready, []
        return ready

    def pages_while(self, pushes: Iterator[None], *, damage: Damage, reason: str) -> Iterator[Page | Heading | Gap]:
        """Yield what is finished after each push, and the rest; where the pushes break off, that is a gap.

        Args:
            pushes: each fills this pager a little.
            damage: what they raise where the document is damaged.
            reason: of the gap, before the error.

        Raises:
            damage: before anything came.
        """
        came, broken = False, None
        try:
            for _ in pushes:
                for found in self.take():
                    came = True
                    yield found
        except damage as error:
            broken = error
        self.close()
        rest = self.take()
        yield from rest
        if broken is not None and not came and not rest:
            raise broken
        if broken is not None:
            yield Gap(self.number, self.number, f"{reason}: {broken}")

    def _append(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._length += len(text)

    def _emit(self) -> None:
        text = "".join(self._parts)
        self._parts, self._length = [], 0
        if not text.strip() and not self._continues:
            return
        self.characters += len(text.strip())
        self.ready.append(Page(self._number, text, self._heading, self._continues))
        if self._fixed is None:
            self._number += 1
