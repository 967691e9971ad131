"""Headings of Markdown: both ways of writing them, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.parsing.formats.markdown import markdown_pieces


def headings(text: str) -> list[tuple[int, str]]:
    """Level and title of each heading."""
    return [(level, title) for title, level, _ in markdown_pieces(text.splitlines(keepends=True)) if title]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Title\n=====\n\ntext\n", [(1, "Title")]),
        ("Part\n---\ntext\n", [(2, "Part")]),
        ("  Title  \n  ==   \n", [(1, "Title")]),
        ("Two\nlines\n=\n", [(1, "Two lines")]),
        ("Überschrift mit *Betonung*\n=\n", [(1, "Überschrift mit *Betonung*")]),
        ("text\n\nTitle\n===\n", [(1, "Title")]),
        ("# One\nTwo\n---\n", [(1, "One"), (2, "Two")]),
        ("Title\n===", [(1, "Title")]),
    ],
)
def test_setext_heading(text: str, expected: list[tuple[int, str]]) -> None:
    """A paragraph with a line of `=` or `-` under it is a heading of level 1 or 2."""
    assert headings(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "text\n\n---\n\ntext\n",  # a rule
        "- item\n---\n",
        "- item\ngoes on\n---\n",
        "> said\n---\n",
        "1. first\n---\n",
        "| a | b |\n|---|---|\n",
        "```\nTitle\n=====\n```\n",
        "    code\n----\n",
        "<b>\n---\n",
        "a\nb\nc\nd\n---\n",  # a paragraph of four lines with a rule under it
        "a\nb\nc\nd\ne\n===\n",
        "---\ntitle: Front matter\nauthor: nobody\n---\n",
        "Title\n==-\n",
        "Title\n\n===\n",
        "***\n---\n",
    ],
)
def test_no_heading(text: str) -> None:
    """What only looks like an underline makes no heading."""
    assert headings(text) == []


def test_front_matter_ends() -> None:
    """Headings count again behind the front matter, and behind a rule that only looks like its beginning."""
    assert headings("---\ntitle: x\n---\nTitle\n===\n") == [(1, "Title")]
    assert headings("---\n\nTitle\n===\n") == [(1, "Title")]


@given(st.lists(st.sampled_from(["Title", "===", "---", "", "- item", "# One", "```", "    code", "a: b"])))
def test_nothing_is_lost(lines: list[str]) -> None:
    """The pieces put together are the text."""
    text = "".join(f"{line}\n" for line in lines)
    assert "".join(piece for _, _, piece in markdown_pieces(text.splitlines(keepends=True))) == text
