"""Turns headings into sections: nested by level, each with its path and its pages. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ingest_pipeline.models import Heading, Section

MAX_SECTIONS = 10_000
"""The sections of a file are in memory while it is parsed: 10,000 take 7 MB. The longest manual of the corpus has 1,200
(docs/findings.md, E9)."""
MAX_LEVEL = 32
MAX_TITLE_CHARACTERS = 300
MAX_PATH_CHARACTERS = 1_000
BETWEEN = " › "


def with_entry(sections: Sequence[Section], entry: Heading) -> Section:
    """Return the section that begins with a heading after these sections.

    Its parent is the nearest earlier section with a lower level; a skipped level (an `h4` below an `h2`) is no error.
    """
    level = min(max(1, entry.level), MAX_LEVEL)
    title = entry.title[:MAX_TITLE_CHARACTERS]
    parent = next((section for section in reversed(sections) if section.level < level), None)
    path = f"{parent.path}{BETWEEN}{title}" if parent else title
    # A path that is too long loses its beginning: the section's own title is more specific than the document's.
    return Section(len(sections), level, title, path[-MAX_PATH_CHARACTERS:], entry.page)


def with_ends(sections: Sequence[Section], last_page: int) -> list[Section]:
    """Return the sections with their last pages: the page before the next section that is not below it."""
    ended: list[Section] = []
    open_after: list[Section] = []  # the later sections that can end an earlier one; a stack keeps this linear
    for section in reversed(sections):
        while open_after and open_after[-1].level > section.level:
            open_after.pop()
        end = open_after[-1].page_from - 1 if open_after else last_page
        # Several sections may begin on one page: none ends before it begins.
        ended.append(replace(section, page_to=max(section.page_from, end)))
        open_after.append(section)
    return ended[::-1]
