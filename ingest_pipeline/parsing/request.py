"""What a parser is asked: one file, and the limits that it must keep to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ingest_pipeline.models import ParseEvent, ParseWarning


@dataclass(frozen=True, slots=True)
class ParseRequest:
    """One file to parse, and the limits that it must keep to."""

    name: str
    media_type: str
    first_page: int = 1
    """Pages before this one are in the store already: they need not be yielded."""
    last_page: int | None = None
    """Pages after this one are for another child."""
    max_pages: int = 20_000
    max_characters: int = 1 << 40
    """Of text, all pages together."""
    max_expanded_bytes: int = 512 * 1024**2
    """Bytes that an archive's entries, or a packed text, may unpack to, all together."""
    passwords: tuple[str, ...] = ()
    """Tried on an encrypted document, after the empty one."""
    record_text: str = ""
    """How a record becomes text: `{title}. {abstract}`; empty: every field with its name."""
    record_id: str = "id"
    """The field that names a record."""
    plain: bool = False
    """The pages' own text and nothing beside it: an earlier child failed on this file."""


def without_text(media_type: str, pages: int) -> str:
    """Return in words what it means that a file of this type holds no text."""
    if media_type == "application/pdf" and pages:
        return f"{pages} page{'s' * (pages != 1)} without a text layer, probably scanned: it needs OCR first"
    return "there is no text in it"


def drained(warnings: list[str]) -> Iterator[ParseWarning]:
    """Yield what waits in a list of warnings, and empty it: for parsers whose helpers collect them."""
    while warnings:
        yield ParseWarning(warnings.pop(0))


Parser = Callable[[BinaryIO, ParseRequest], Iterator[ParseEvent]]
"""Reads a file from its start and yields its events; a heading comes before its page."""
