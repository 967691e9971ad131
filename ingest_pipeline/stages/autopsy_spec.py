"""What `replay.json` says: everything that a replay needs beside the document's bytes."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.parsing.detect import SUPPORTED
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings

FORMAT = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,60}")
CUT_MEMORY_BYTES, CUT_SECONDS = 1024**3, 60.0
"""For a cut, at least: a page that needs 320 MiB to be parsed takes as much to be cut out."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Under what the parser worked; numbers, and no other setting."""

    parser_memory_bytes: int
    page_seconds: float
    file_seconds: float
    max_pages: int
    max_characters: int
    max_expanded_bytes: int
    allow_gaps: bool
    width: int | None = None
    """Pages for one child from the start: fewer after runs were killed."""


@dataclass(frozen=True, slots=True)
class ReplayedDocument:
    """The document of a folder."""

    file: str
    """Its name in the folder."""
    sha256: str
    size_bytes: int
    pages: tuple[int, int] | None = None
    """Those of the original that were cut out; None: it is the whole document."""


@dataclass(frozen=True, slots=True)
class ReplaySpec:
    """What `replay.json` says: everything that a replay needs beside the document's bytes."""

    name: str
    """For messages: not the name of the document."""
    media_type: str
    expected: tuple[str, ...]
    """Any of these kinds of failure is the same failure."""
    limits: Limits
    document: ReplayedDocument | None = None
    passwords: bool = False
    """The document was parsed with `INGEST_PDF_PASSWORDS` set."""
    record_template: bool = False
    """The same for `INGEST_RECORD_TEXT` or `INGEST_RECORD_ID`."""

    def request(self, settings: Settings) -> ParseRequest:
        """Return what the parser is asked; passwords and templates are those of whoever replays."""
        limits = self.limits
        return ParseRequest(
            name=self.name,
            media_type=self.media_type,
            max_pages=limits.max_pages,
            max_characters=limits.max_characters,
            max_expanded_bytes=limits.max_expanded_bytes,
            passwords=settings.pdf_passwords,
            record_text=settings.record_text,
            record_id=settings.record_id,
        )

    def sandbox(self) -> Sandbox:
        """Return a sandbox under the limits."""
        limits = self.limits
        return Sandbox(
            memory_limit_bytes=limits.parser_memory_bytes,
            page_seconds=limits.page_seconds,
            file_seconds=limits.file_seconds,
        )

    def roomy(self) -> ReplaySpec:
        """Return the same with room for what is no replay: cutting out a page loads it, too."""
        memory = max(self.limits.parser_memory_bytes, CUT_MEMORY_BYTES)
        seconds = max(self.limits.page_seconds, CUT_SECONDS)
        return replace(self, limits=replace(self.limits, parser_memory_bytes=memory, page_seconds=seconds))

    def written(self) -> str:
        """Return the text of `replay.json`."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2)


def read_spec(text: str) -> ReplaySpec:
    """Return what a `replay.json` says: it comes from somebody else, so every part is checked.

    Raises:
        ConfigurationError: it is none, or of a later release.
    """
    try:
        values = json.loads(text)
        if values.pop("format") != FORMAT:
            raise ValueError("another format")
        document = values.pop("document")
        limits, expected = Limits(**values.pop("limits")), tuple(map(str, values.pop("expected")))
        spec = ReplaySpec(**values, expected=expected, limits=limits, document=_document(document))
        parsed = spec.media_type in SUPPORTED or not expected
        if not (parsed and NAME.fullmatch(spec.name) and _are_numbers(limits)):
            raise ValueError("a value that cannot be used")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigurationError(f"replay.json: not of this release: {type(error).__name__}") from None
    return spec


def _document(values: dict[str, Any] | None) -> ReplayedDocument | None:
    if values is None:
        return None
    pages = values.pop("pages")
    document = ReplayedDocument(**values, pages=(int(pages[0]), int(pages[1])) if pages else None)
    if not NAME.fullmatch(document.file):  # in the folder, never a path
        raise ValueError(document.file)
    return document


def _are_numbers(limits: Limits) -> bool:
    optional = (limits.width,) if limits.width is not None else ()
    numbers = (limits.parser_memory_bytes, limits.page_seconds, limits.file_seconds, limits.max_pages)
    numbers += (limits.max_characters, limits.max_expanded_bytes, *optional)
    return all(isinstance(number, int | float) and number > 0 for number in numbers)
