"""The requests to a parser: one file to parse, or pages to cut out of one, and the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ingest_pipeline.models import ParseEvent, ParseWarning


@dataclass(frozen=True, slots=True)
class ParseRequest:
    """One file to parse, and the limits that the parser must keep."""

    name: str
    media_type: str
    first_page: int = 1
    """Pages before this one are in the store already and need not be yielded."""
    last_page: int | None = None
    """Pages after this one are for another child."""
    max_pages: int = 20_000
    max_characters: int = 1 << 40
    """Limit for the text of all pages together."""
    max_expanded_bytes: int = 512 * 1024**2
    """Limit for the unpacked size of all entries of an archive, or of a compressed text."""
    passwords: tuple[str, ...] = ()
    """Tried on an encrypted document, after the empty one."""
    record_text: str = ""
    """How a record becomes text: `{title}. {abstract}`; empty: every field with its name."""
    record_id: str = "id"
    """The field whose value becomes a record's heading."""
    plain: bool = False
    """Read only the text of the pages, without annotations: an earlier child failed on this file."""


@dataclass(frozen=True, slots=True)
class CutRequest:
    """Pages to cut out of one PDF, and the limit for the document that holds them."""

    name: str
    page_from: int
    """From 1."""
    page_to: int
    """Inclusive; pages after the document's last one are not missed."""
    max_bytes: int
    """Limit for the size of the output."""
    passwords: tuple[str, ...] = ()
    """Tried on an encrypted document, after the empty one."""

    def __post_init__(self) -> None:
        if not 1 <= self.page_from <= self.page_to:
            raise ValueError(f"pages {self.page_from} to {self.page_to} are no range")

    @property
    def pages(self) -> int:
        """How many pages the output has at most."""
        return self.page_to - self.page_from + 1


def without_text(media_type: str, pages: int) -> str:
    """Return the message for a file of this type without text."""
    if media_type == "application/pdf" and pages:
        return f"{pages} page{'s' * (pages != 1)} without a text layer, probably scanned: it needs OCR first"
    return "there is no text in it"


def drained(warnings: list[str]) -> Iterator[ParseWarning]:
    """Yield the warnings of a list and empty it, for parsers whose helpers collect warnings in a list."""
    while warnings:
        yield ParseWarning(warnings.pop(0))


Parser = Callable[[BinaryIO, ParseRequest], Iterator[ParseEvent]]
"""Reads a file from its start and yields its events; a heading comes before its page."""
