"""Text of diagrams (SmartArt) and charts of an Office document; each is a part of its own in the archive."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingest_pipeline.errors import TooMuchText, UnreadableDocument
from ingest_pipeline.parsing.formats.archive import DAMAGE, Archive
from ingest_pipeline.parsing.formats.paragraphs import local_name

DRAWN = ("diagramData", "chart", "chartEx")
NAMES = frozenset(("tx", "strCache", "strLit", "multiLvlStrCache", "dlblRangeCache", "txData", "strDim"))
"""The elements that hold a chart's texts; its numbers are in others."""


class DrawingTarget:
    """Parser target for a diagram or a chart: one line for each paragraph and each name of a series or category."""

    def __init__(self) -> None:
        self.lines: dict[str, None] = {}
        """In the file's order, without duplicates: a chart repeats its categories for each series."""
        self._parts: list[str] = []
        self._names = 0
        self._in_text = False

    def start(self, tag: str, attributes: Any) -> None:
        """An element opens."""
        name = local_name(tag)
        self._names += name in NAMES
        self._in_text = name == "t" or (name in ("v", "pt") and self._names > 0)
        if name == "br":
            self._parts.append(" ")

    def end(self, tag: str) -> None:
        """An element closes."""
        name = local_name(tag)
        self._names -= name in NAMES
        self._in_text = False
        if name in ("p", "v", "pt"):
            line = " ".join("".join(self._parts).split())
            self._parts.clear()
            self.lines |= {line: None} if line else {}

    def data(self, text: str) -> None:
        """Text; only text in `a:t` and in the points of a name is kept, numbers are not."""
        if self._in_text:
            self._parts.append(text)

    def close(self) -> None:
        """The part ends."""


def drawn_text(archive: Archive, parts: Iterable[tuple[str, str]], warnings: list[str]) -> str:
    """Return the text of the diagrams and charts among an Office part's relations; a damaged one is a warning."""
    texts = []
    for path in [path for kind, path in parts if kind in DRAWN]:
        target = DrawingTarget()
        try:
            for _ in archive.push(path, target):
                pass
        except TooMuchText:  # concerns the whole archive, not this part
            raise
        except (UnreadableDocument, RuntimeError, *DAMAGE) as error:  # RuntimeError: encrypted, or unknown compression
            warnings.append(f"a diagram or chart cannot be read to its end: {error}")
        texts.append("\n".join(target.lines))
    return "\n\n".join(text for text in texts if text)
