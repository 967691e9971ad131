"""Headings become sections: nested by level, each with its path and its pages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ingest_pipeline.models import Heading, Section

MAX_SECTIONS = 10_000
"""A file's sections are in memory while it is read: 10,000 are 7 MB. The longest manual of the corpus has 1,200."""
MAX_LEVEL = 32
MAX_TITLE_CHARACTERS = 300
MAX_PATH_CHARACTERS = 1_000
BETWEEN = " › "


def with_entry(sections: Sequence[Section], entry: Heading) -> Section:
    """Return the section that an entry begins after these sections.

    A level that was skipped (an `h4` below an `h2`, a broken outline) is no error: the nearest section above with a
    lower level is the parent.
    """
    level = min(max(1, entry.level), MAX_LEVEL)
    title = entry.title[:MAX_TITLE_CHARACTERS]
    parent = next((section for section in reversed(sections) if section.level < level), None)
    path = f"{parent.path}{BETWEEN}{title}" if parent else title
    return Section(len(sections), level, title, path[-MAX_PATH_CHARACTERS:], entry.page)


def with_ends(sections: Sequence[Section], last_page: int) -> list[Section]:
    """Return the sections with the page on which each ends: the one before the next section that is not below it."""
    ended: list[Section] = []
    open_after: list[Section] = []  # from the end backwards: the sections that could end an earlier one
    for section in reversed(sections):
        while open_after and open_after[-1].level > section.level:
            open_after.pop()
        end = open_after[-1].page_from - 1 if open_after else last_page
        ended.append(replace(section, page_to=max(section.page_from, end)))
        open_after.append(section)
    return ended[::-1]
