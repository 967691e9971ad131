"""Formats names, sizes and durations for a terminal."""

from __future__ import annotations

import re

from ingest_pipeline.sizes import format_size

STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # controls, and overrides of direction


def printable(text: str) -> str:
    """Return a text with control characters escaped: a file's name may contain terminal sequences."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def passage(text: str) -> str:
    """Return a document's text on one line, without what could steer a terminal; joiners within words stay."""
    return STEERING.sub("", " ".join(text.split()))


def fitted(text: str, width: int) -> str:
    """Return a text that fills exactly so many cells of a terminal; the end of a longer text is kept.

    Cells, not characters: a Chinese character takes two.
    """
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) > width:
        while cell_len(text) > width - 1:  # by characters, because their widths differ
            text = text[1:]
        text = f"…{text}"
    return set_cell_size(text, width)


def size(size_bytes: int | None) -> str:
    """Return a size, or a dash for none."""
    return format_size(size_bytes) if size_bytes else "-"


def clock(seconds: float) -> str:
    """Return a duration: `45s`, `3m05s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
