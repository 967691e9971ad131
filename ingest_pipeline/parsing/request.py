"""What a parser is asked, and what it says beside its pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ingest_pipeline.models import Gap, Page


@dataclass(frozen=True, slots=True)
class ParseRequest:
    """One file to parse, and the limits that it must keep to."""

    name: str
    media_type: str
    first_page: int = 1
    """Pages before this one are in the store already: they need not be yielded."""
    max_pages: int = 20_000
    max_expanded_bytes: int = 512 * 1024**2
    """Bytes that the entries of an archive may unpack to, all together."""


@dataclass(slots=True)
class ParseFacts:
    """Filled by a parser while it yields pages."""

    title: str | None = None
    warnings: list[str] = field(default_factory=list)


Parser = Callable[[BinaryIO, ParseRequest, ParseFacts], Iterator[Page | Gap]]
