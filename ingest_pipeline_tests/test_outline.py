"""Sections: nested whatever the levels, each chunk in one, broken outlines survive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.models import Heading, Section
from ingest_pipeline.parsing.sandbox.fold import ParseFold
from ingest_pipeline.parsing.sandbox.outline import MAX_PATH_CHARACTERS, with_ends, with_entry
from ingest_pipeline_tests.folding import before_page


def sections_of(*entries: tuple[int, str, int]) -> list[Section]:
    found: list[Section] = []
    for entry in entries:
        found.append(with_entry(found, Heading(*entry)))
    return found


def test_parent() -> None:
    """A section stands below the nearest one above it, also where a level was skipped."""
    found = sections_of((1, "One", 1), (3, "Deep", 2), (2, "Two", 3), (1, "Next", 5))
    assert [section.path for section in found] == ["One", "One › Deep", "One › Two", "Next"]


def test_ends() -> None:
    """A section ends before the next that is not below it; the last at the document's end."""
    found = with_ends(sections_of((1, "One", 1), (2, "A", 1), (2, "B", 3), (1, "Two", 3), (2, "C", 9)), 12)
    assert [(section.title, section.page_from, section.page_to) for section in found] == [
        ("One", 1, 2), ("A", 1, 2), ("B", 3, 3), ("Two", 3, 12), ("C", 9, 12),
    ]  # fmt: skip


entries = st.lists(
    st.tuples(st.integers(-3, 60), st.text(min_size=1, max_size=400), st.integers(1, 50)).map(
        lambda one: Heading(*one)
    ),
    max_size=40,
)


@given(entries)
def test_any_outline(outline: list[Heading]) -> None:
    """Ordinals are in order, ends not before beginnings, paths within bounds, and a prefix stays what it was."""
    ordered = sorted(outline, key=lambda entry: entry.page)
    found: list[Section] = []
    for entry in ordered:
        found.append(with_entry(found, entry))
    ended = with_ends(found, 50)
    assert [section.ordinal for section in ended] == list(range(len(ordered)))
    for section in ended:
        assert section.page_to is not None
        assert section.page_from <= section.page_to <= 50
        assert section.path.endswith(section.title[-MAX_PATH_CHARACTERS:])
        assert len(section.path) <= MAX_PATH_CHARACTERS
    kept = before_page(found, 20)
    assert kept == found[: len(kept)]


def test_fold_goes_on_with_known_sections() -> None:
    """What an earlier run recorded stays, and what this one adds is below it."""
    fold = ParseFold(sections=sections_of((1, "One", 1), (1, "Two", 4)))
    fold.take(Heading(2, "Below", 5))
    assert [section.path for section in fold.result().sections] == ["One", "Two", "Two › Below"]
