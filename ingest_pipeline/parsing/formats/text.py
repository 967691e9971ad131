"""Plain text, Markdown and reStructuredText become pages: slabs of a text, sections of a marked-up one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from ingest_pipeline.parsing.formats.encoding import decoded_text
from ingest_pipeline.parsing.formats.page_builder import SLAB_CHARACTERS, PageBuilder
from ingest_pipeline.parsing.request import Found, ParseFacts, ParseRequest

HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
RULE = re.compile(r"([!-/:-@\[-`{-~])\1{2,}[ \t]*$")
"""Three or more equal signs of punctuation: what stands under (and over) a title in reStructuredText."""


def text_pages(stream: BinaryIO, request: ParseRequest, facts: ParseFacts) -> Iterator[Found]:
    """Yield a plain text in slabs that go on from each other."""
    pager = PageBuilder()
    with decoded_text(stream, facts) as text:
        while slab := text.read(SLAB_CHARACTERS):
            pager.add(slab)
            yield from pager.take()
    pager.close()
    yield from pager.take()


def markdown_pages(stream: BinaryIO, request: ParseRequest, facts: ParseFacts) -> Iterator[Found]:
    """Yield a Markdown text as written, a page for each section; `#` inside a code fence is no heading."""
    pager, fence = PageBuilder(), ""
    with decoded_text(stream, facts) as text:
        while line := text.readline(SLAB_CHARACTERS):
            fence = _fence_after(line, fence)
            heading = None if fence else HEADING.match(line)
            title = line[heading.end() :].rstrip(" \t#\n") if heading else ""
            if heading and title:
                facts.title = facts.title or title
                pager.begin(title, len(heading[1]))
            pager.add(line)
            yield from pager.take()
    pager.close()
    yield from pager.take()


def rst_pages(stream: BinaryIO, request: ParseRequest, facts: ParseFacts) -> Iterator[Found]:
    """Yield reStructuredText as written, a page for each section.

    Not through docutils: that builds the whole document as a tree, and its directives open other files. A title is a
    line with a rule under it that is at least as long; the styles of rules rank in the order in which they come.
    """
    pager, styles = PageBuilder(), list[str]()
    before, line = "", ""  # a title is known one line later, and its overline stands a line before it
    with decoded_text(stream, facts) as text:
        while after := text.readline(SLAB_CHARACTERS):
            if title := _rst_title(before, line, after):
                over = _is_overline(before, after)
                style = after[0] * (1 + over)
                styles += [style] if style not in styles else []
                facts.title = facts.title or title
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


def _fence_after(line: str, fence: str) -> str:
    mark = FENCE.match(line)
    if not mark:
        return fence
    if not fence:
        return mark[1]
    return "" if mark[1].startswith(fence) else fence
