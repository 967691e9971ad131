"""Plain text becomes pages of equal size; Markdown and reStructuredText become one page for each section."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from ingest_pipeline.models import ParseEvent, Properties
from ingest_pipeline.parsing.formats.encoding import decoded_text
from ingest_pipeline.parsing.formats.markdown import markdown_pieces
from ingest_pipeline.parsing.formats.page_builder import SLAB_CHARACTERS, PageBuilder
from ingest_pipeline.parsing.request import ParseRequest

RULE = re.compile(r"([!-/:-@\[-`{-~])\1{2,}[ \t]*$")
"""Three or more of the same punctuation character: the line below (and above) a title in reStructuredText."""


def text_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield a plain text in slabs of 20,000 characters, each continuing the one before."""
    pager = PageBuilder()
    with decoded_text(stream) as (text, warnings):
        yield from warnings
        while slab := text.read(SLAB_CHARACTERS):
            pager.add(slab)
            yield from pager.take()
    pager.close()
    yield from pager.take()


def markdown_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield a Markdown text as written, one page for each section."""
    pager = PageBuilder()
    with decoded_text(stream) as (text, warnings):
        yield from warnings
        # By `readline`, because iterating would read a file without line breaks into memory as a whole.
        for title, level, piece in markdown_pieces(iter(lambda: text.readline(SLAB_CHARACTERS), "")):
            if title:
                yield Properties(title)  # the first one becomes the document's title
                pager.begin(title, level)
            pager.add(piece)
            yield from pager.take()
    pager.close()
    yield from pager.take()


def rst_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield reStructuredText as written, one page for each section.

    Not by docutils: it builds a tree of the whole document, and its directives open other files. A title is a line
    with an underline that is at least as long; the level of an underline's style is the order of its first use.
    """
    pager, styles = PageBuilder(), list[str]()
    before, line = "", ""  # a window of three lines: overline, title, underline
    with decoded_text(stream) as (text, warnings):
        yield from warnings
        while after := text.readline(SLAB_CHARACTERS):
            if title := _rst_title(before, line, after):
                over = _is_overline(before, after)
                style = after[0] * (1 + over)
                styles += [style] if style not in styles else []
                yield Properties(title)
                if over:  # the overline belongs to the title's section, not to the one before
                    before, line = "", before + line
                pager.add(before)
                pager.begin(title, styles.index(style) + 1)
            else:
                pager.add(before)
            yield from pager.take()
            before, line = line, after
    pager.add(before + line)
    pager.close()
    yield from pager.take()


def _rst_title(before: str, line: str, after: str) -> str | None:
    title = line.strip()
    if not title or not RULE.match(after) or RULE.match(line) or len(after.rstrip()) < len(title):
        return None
    return title if not line[0].isspace() or _is_overline(before, after) else None  # indented only with an overline


def _is_overline(before: str, after: str) -> bool:
    return RULE.match(before) is not None and before.rstrip() == after.rstrip()
