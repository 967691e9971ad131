"""Presentations: one page for each slide, with its diagrams, charts and notes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from ingest_pipeline.errors import TooMuchText, UnreadableDocument
from ingest_pipeline.models import Gap, Heading, Page, ParseEvent, Properties
from ingest_pipeline.parsing.formats.archive import DAMAGE, Archive
from ingest_pipeline.parsing.formats.drawings import drawn_text
from ingest_pipeline.parsing.formats.page_builder import PageBuilder
from ingest_pipeline.parsing.formats.paragraphs import ParagraphBuilder, attribute, local_name, opened_office, relations
from ingest_pipeline.parsing.request import ParseRequest, drained

# Placeholders that repeat on every slide: number, date, footer, header, the picture of the slide on its notes page.
NO_CONTENT = ("sldNum", "dt", "ftr", "hdr", "sldImg")
TITLES = ("title", "ctrTitle")
DRAWING = "drawingml"


class SlideTarget:
    """Parser target for a slide or its notes."""

    def __init__(self) -> None:
        self.pager = PageBuilder(number=1)
        self.title: str | None = None
        self._prose = ParagraphBuilder(self.pager)
        self._placeholder = ""
        self._fallbacks = 0
        self._in_text = False

    @property
    def text(self) -> str:
        """All of its text, in the file's order."""
        self.pager.close()
        return "".join(event.text for event in self.pager.take() if isinstance(event, Page)).strip()

    def start(self, tag: str, attributes: Any) -> None:
        """An element opens."""
        name = local_name(tag)
        if self._fallbacks or name == "Fallback":  # repeats the content for old readers
            self._fallbacks += 1
        elif name == "sp":
            self._placeholder = ""
        elif name == "ph":
            self._placeholder = attribute(attributes, "type") or "body"
        elif DRAWING not in tag:
            return
        elif name == "p":
            self._prose.open_paragraph()
        elif name in ("br", "tab"):
            self._prose.add("\n" if name == "br" else "\t")
        elif name == "tr":
            self._prose.open_row()
        elif name == "tc":
            self._prose.open_cell()
        self._in_text = name == "t"

    def end(self, tag: str) -> None:
        """An element closes."""
        name = local_name(tag)
        if self._fallbacks:
            self._fallbacks -= 1
        elif name == "p" and DRAWING in tag:
            text = self._prose.close_paragraph()
            if self._placeholder in TITLES and text:
                self.title = f"{self.title} {text}" if self.title else " ".join(text.split())
        elif name == "tr" and DRAWING in tag:
            self._prose.close_row()
        elif name == "sp":
            self._placeholder = ""
        self._in_text = False

    def data(self, text: str) -> None:
        """Text; only text in `a:t` belongs to the slide, without its number, date and footer."""
        if self._in_text and not self._fallbacks and self._placeholder not in NO_CONTENT:
            self._prose.add(text)

    def close(self) -> None:
        """The part ends."""


def pptx_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield a presentation's slides in the order of the show.

    Raises:
        UnreadableDocument, EncryptedDocument, TooMuchText: see `opened_archive`.
    """
    with opened_office(stream, request, kind="presentation") as (archive, main, properties):
        slides = _slides(archive, main)
        yield Properties(properties.title, len(slides))
        for number, path in enumerate(slides, start=1):
            if number >= request.first_page:
                yield from _slide(archive, path, number)


def _slides(archive: Archive, main: str) -> list[str]:
    targets = relations(archive, main)
    ids = [_relation_id(slide) for slide in archive.xml(main).iter("{*}sldId")]
    # `#id` is in no archive: a slide without a relation becomes a gap with its number.
    return [targets[name][1] if name in targets else f"#{name}" for name in ids]


def _relation_id(slide: Any) -> str:
    # A slide has two ids: `id`, and `r:id` with a namespace, which names the relation.
    return next((value for key, value in slide.attrib.items() if key.endswith("}id")), "")


def _slide(archive: Archive, path: str, number: int) -> Iterator[ParseEvent]:
    warnings: list[str] = []
    try:
        slide, parts = _pushed(archive, path), relations(archive, path).values()
        drawn = drawn_text(archive, parts, warnings)
        notes = [_pushed(archive, note).text for kind, note in parts if kind == "notesSlide"]
    except TooMuchText:  # concerns the whole archive, not this slide
        raise
    except (UnreadableDocument, *DAMAGE) as error:
        yield Gap(number, number, f"slide {number}: {error}")
        return
    yield from drained(warnings)
    if slide.title:
        yield Heading(1, slide.title, number)
    yield Page(number, "\n\n".join(text for text in (slide.text, drawn, *notes) if text), slide.title)


def _pushed(archive: Archive, path: str) -> SlideTarget:
    target = SlideTarget()
    for _ in archive.push(path, target):
        pass
    return target
