"""A fold that also remembers what only tests ask for, and documents parsed through the sandbox into it."""

from __future__ import annotations

from pathlib import Path

from ingest_pipeline.models import Done, Page, ParseEvent, Properties, Section
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.fold import ParseFold
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.parsing.sandbox.steps import events_in_steps


class Recorded(ParseFold):
    """A fold that knows whether the file goes on, and how many pages it is said to have."""

    more = False
    total_pages: int | None = None

    def take(self, event: ParseEvent) -> Page | None:
        if isinstance(event, Done):
            self.more = event.more
        if isinstance(event, Properties):
            self.total_pages = event.total_pages or self.total_pages
        return super().take(event)


def request(path: Path, **limits: int) -> ParseRequest:
    """What is asked about a file."""
    with path.open("rb") as stream:
        return ParseRequest(path.name, detect.media_type(path.name, stream.read(4096)), **limits)


def parse(box: Sandbox, path: Path, fold: ParseFold | None = None, **limits: int) -> list[Page]:
    """Parse one file in a sandbox, by one child."""
    fold = fold or ParseFold()
    with path.open("rb") as stream:
        return list(fold.pages_of(box.events(stream, request(path, **limits))))


def parse_in_steps(box: Sandbox, path: Path, fold: ParseFold | None = None) -> list[Page]:
    """Parse one file by as many children as it takes."""
    fold = fold or ParseFold()
    with path.open("rb") as stream:
        return list(fold.pages_of(events_in_steps(box, stream, request(path))))


def before_page(sections: list[Section], page: int) -> list[Section]:
    """The sections that begin before a page."""
    return [section for section in sections if section.page_from < page]
