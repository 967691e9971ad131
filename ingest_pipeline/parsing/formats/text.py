"""Plain text, Markdown and reStructuredText become pages: slabs of a text, sections of a marked-up one."""

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
"""Three or more equal signs of punctuation: what stands under (and over) a title in reStructuredText."""


def text_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield a plain text in slabs that go on from each other."""
    pager = PageBuilder()
    with decoded_text(stream) as (text, warnings):
        yield from warnings
        while slab := text.read(SLAB_CHARACTERS):
            pager.add(slab)
            yield from pager.take()
    pager.close()
    yield from pager.take()


def markdown_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield a Markdown text as written, a page for each section."""
    pager = PageBuilder()
    with decoded_text(stream) as (text, warnings):
        yield from warnings
        for title, level, piece in markdown_pieces(iter(lambda: text.readline(SLAB_CHARACTERS), "")):
            if title:
                yield Properties(title)
                pager.begin(title, level)
            pager.add(piece)
            yield from pager.take()
    pager.close()
    yield from pager.take()


def rst_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield reStructuredText as written, a page for each section.

    Not through docutils: that builds the whole document as a tree, and its directives open other files. A title is a
    line with a rule under it that is at least as long; the styles of rules rank in the order in which they come.
    """
    pager, styles = PageBuilder(), list[str]()
    before, line = "", ""  # a title is known one line later, and its overline stands a line before it
    with decoded_text(stream) as (text, warnings):
        yield from warnings
        while after := text.readline(SLAB_CHARACTERS):
            if title := _rst_title(before, line, after):
                over = _is_overline(before, after)
                style = after[0] * (1 + over)
                styles += [style] if style not in styles else []
                yield Properties(title)
                if over:  # it belongs to the title, not to what came before
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
    return title if not line[0].isspace() or _is_overline(before, after) else None  # only a framed title is indented


def _is_overline(before: str, after: str) -> bool:
    return RULE.match(before) is not None and before.rstrip() == after.rstrip()
