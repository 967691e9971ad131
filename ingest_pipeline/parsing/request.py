"""What a parser is asked, and what it says beside its pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ingest_pipeline.models import Gap, Heading, Page


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
    """The pages' own text and nothing beside it: a child died of this file."""


@dataclass(slots=True)
class ParseFacts:
    """Filled by a parser while it yields pages."""

    title: str | None = None
    total_pages: int | None = None
    """Set before the first page by a parser that knows it."""
    one_text_per_page: bool = True
    """False for a parser that yields several `Page`s with the same number, one for each section."""
    warnings: list[str] = field(default_factory=list)


def without_text(media_type: str, pages: int) -> str:
    """Return in words what it means that a file of this type holds no text."""
    if media_type == "application/pdf" and pages:
        return f"{pages} page{'s' * (pages != 1)} without a text layer, probably scanned: it needs OCR first"
    return "there is no text in it"


Found = Page | Gap | Heading
"""What a parser yields; an outline entry comes before its page."""
Parser = Callable[[BinaryIO, ParseRequest, ParseFacts], Iterator[Found]]
