"""A document is divided into the parts that are asked about; a sections file beside it is not trusted."""

from __future__ import annotations

import csv
import io
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.errors import UnreadableDocument
from ingest_pipeline.extraction.sections import (
    MAX_SECTIONS_BYTES,
    Part,
    Row,
    SectionChoice,
    parts_of,
    sections_path,
    sections_rows,
)
from ingest_pipeline.models import Section

OUTLINE = (
    Section(0, 1, "Introduction", "Introduction", 1, 3),
    Section(1, 2, "Aims", "Introduction › Aims", 2, 3),
    Section(2, 1, "Lesson 1", "Lesson 1", 3, 7),
    Section(3, 1, "Lesson 2", "Lesson 2", 8, None),
)
pages_and_size = st.tuples(st.integers(1, 500), st.integers(1, 600))
rows_strategy = st.lists(
    st.builds(
        lambda title, first, more: Row(title, first, first + more),
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30),
        st.integers(1, 400),
        st.integers(0, 50),
    ),
    min_size=1,
    max_size=20,
)


@given(pages_and_size)
def test_every_page_is_in_one_part(pages_size: tuple[int, int]) -> None:
    """Parts of n pages cover the document without overlap, in order, and only the last may be shorter."""
    pages, size = pages_size
    parts = parts_of(SectionChoice("pages", pages=size), pages=pages)
    assert [page for part in parts for page in range(part.page_from, part.page_to + 1)] == list(range(1, pages + 1))
    assert [part.ordinal for part in parts] == list(range(len(parts)))
    assert all(part.page_to - part.page_from + 1 == size for part in parts[:-1])


@given(st.integers(1, 50), st.lists(st.tuples(st.integers(1, 4), st.integers(0, 60), st.integers(0, 60) | st.none())))
def test_parts_of_an_outline_are_inside_the_document(pages: int, entries: list[tuple[int, int, int | None]]) -> None:
    """Whatever an outline says, a part names pages that can be cut."""
    outline = [Section(at, level, f"S{at}", "", max(first, 1), last) for at, (level, first, last) in enumerate(entries)]
    parts = parts_of(SectionChoice("outline"), pages=pages, sections=outline)
    assert all(1 <= part.page_from <= part.page_to <= pages for part in parts)
    assert [part.ordinal for part in parts] == list(range(len(parts)))


@given(rows_strategy)
def test_rows_become_parts_in_their_order(rows: list[Row]) -> None:
    """A sections file decides alone: order, titles, overlaps."""
    parts = parts_of(SectionChoice("file", suffix=".csv"), pages=450, rows=rows)
    assert [(part.title, part.page_from, part.page_to) for part in parts] == [
        (row.title, row.page_from, row.page_to) for row in rows
    ]


@given(rows_strategy, st.booleans())
def test_rows_are_read_as_written(rows: list[Row], in_csv: bool) -> None:
    """YAML and CSV say the same."""
    fields = [{"title": row.title, "page_from": row.page_from, "page_to": row.page_to} for row in rows]
    written = io.StringIO()
    if in_csv:
        writer = csv.DictWriter(written, fieldnames=list(fields[0]))
        writer.writeheader()
        writer.writerows(fields)
    else:
        yaml.safe_dump({"sections": fields}, written, allow_unicode=True)
    assert sections_rows("a.csv" if in_csv else "a.yaml", written.getvalue().encode()) == rows


@given(st.binary(max_size=300), st.sampled_from(["a.yaml", "a.csv"]))
def test_any_bytes_are_rows_or_a_typed_error(content: bytes, name: str) -> None:
    """A hostile sections file is an error of the file, whatever it contains."""
    try:
        rows = sections_rows(name, content)
    except UnreadableDocument as error:
        assert str(error).startswith(name)
        assert "\n" not in str(error)
    else:
        assert all(row.title and 1 <= row.page_from <= row.page_to for row in rows)


def test_the_outline_by_level_and_title() -> None:
    """The level, the title, or both."""

    def titles(**choice: object) -> list[str]:
        return [part.title for part in parts_of(SectionChoice("outline", **choice), pages=9, sections=OUTLINE)]  # type: ignore[arg-type]

    assert titles(level=1) == ["Introduction", "Lesson 1", "Lesson 2"]
    assert titles(title="^Lesson") == ["Lesson 1", "Lesson 2"]
    assert titles(level=2, title="Aims") == ["Aims"]
    assert titles() == ["Introduction", "Aims", "Lesson 1", "Lesson 2"]
    assert titles(level=5) == []


def test_a_section_without_an_end_ends_with_the_document() -> None:
    """The last section is open."""
    parts = parts_of(SectionChoice("outline", title="Lesson 2"), pages=9, sections=OUTLINE)
    assert parts == [Part(0, "Lesson 2", 8, 9)]
    assert parts[0].pages == "8-9"
    assert Part(0, "x", 3, 3).pages == "3"


def test_a_document_without_an_outline() -> None:
    """One part, unless the choice says otherwise; a document without pages has none."""
    whole = [Part(0, "whole document", 1, 4)]
    assert parts_of(SectionChoice("outline", level=1), pages=4) == whole
    assert parts_of(SectionChoice("outline", level=1, without_outline="skip"), pages=4) == []
    assert parts_of(SectionChoice("whole"), pages=4, sections=OUTLINE) == whole
    assert parts_of(SectionChoice("whole"), pages=0) == []
    assert parts_of(SectionChoice("file", suffix=".csv"), pages=4) == []


def test_chunks_are_parts_of_their_own() -> None:
    """They are stored, so nothing here divides a document into them."""
    with pytest.raises(ValueError, match="each chunk"):
        parts_of(SectionChoice("chunk"), pages=4)


def test_rows_behind_the_end() -> None:
    """A row that names pages that are not there is a mistake: silence would lose a lesson."""
    with pytest.raises(UnreadableDocument, match="row 2 names pages 4-9, the document has 8"):
        parts_of(SectionChoice("file"), pages=8, rows=[Row("a", 1, 3), Row("b", 4, 9)])


@pytest.mark.parametrize(
    ("path", "suffix", "expected"),
    [
        ("a/b.pdf", ".sections.yaml", "a/b.sections.yaml"),
        ("b.tar.gz", ".csv", "b.tar.csv"),
        ("folder.d/b", ".yml", "folder.d/b.yml"),
    ],
)
def test_where_a_sections_file_is(path: str, suffix: str, expected: str) -> None:
    """Beside the document, with its name."""
    assert sections_path(path, SectionChoice("file", suffix=suffix)) == expected


ROW = "title: T\n  page_from: 1\n  page_to: 2"
BAD = [
    ("a.yaml", f"- {ROW.replace('1', '0')}", "row 1: page_from is no page number"),
    ("a.yaml", f"- {ROW}\n- {ROW.replace('2', '12345678')}", "row 2: page_to is no page number"),
    ("a.yaml", f"- {ROW.replace('1', '1.5')}", "row 1: page_from is no page number"),
    ("a.yaml", f"- {ROW.replace('1', '3')}", "row 1: page_to is before page_from"),
    ("a.yaml", "- title: T", "row 1: title, page_from, page_to are missing"),
    ("a.yaml", "- [T, 1, 2]", "row 1: title, page_from, page_to are missing"),
    ("a.yaml", f"- {ROW.replace('T', '[T]')}", "row 1: title, page_from, page_to are missing"),
    ("a.yaml", f"- {ROW.replace(': T', ': ' + 'T' * 501)}", "row 1: title has no text, or over 500"),
    ("a.yaml", f"- {ROW.replace(': T', ': ''')}", "row 1: title"),
    ("a.yaml", "sections: 5", "no list of rows"),
    ("a.yaml", "just text", "no list of rows"),
    ("a.yaml", "", "no list of rows"),
    ("a.yaml", "a: [\n", "not YAML, line 2"),
    ("a.yaml", "[" * 3000, "not YAML"),
    ("a.yaml", "!!python/object/apply:os.system ['true']", "row 1: title, page_from, page_to are missing"),
    ("a.yaml", "- {title: T, page_from: 1, page_to: 2}\n" * 2001, "over 2,000 rows"),
    ("a.yaml", "x" * (MAX_SECTIONS_BYTES + 1), "over 256 KiB"),
    ("a.csv", "title,page_from\nT,1", "row 1: title, page_from, page_to are missing"),
    ("a.csv", "title,page_from,page_to\nT,1", "row 1: title, page_from, page_to are missing"),
    ("a.csv", "title,page_from,page_to\nT\x00,1,2", ""),
    ("a.csv", "title,page_from,page_to\n" + "T" * 200_000, "not CSV"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "expected"), BAD, ids=range(len(BAD)))
def test_a_bad_sections_file(name: str, text: str, expected: str) -> None:
    """The message says which row, and quotes nothing."""
    with pytest.raises(UnreadableDocument) as caught:
        sections_rows(name, text.encode())
    assert str(caught.value).startswith(f"{name}: {expected}")
    assert len(str(caught.value)) < 120


def test_not_utf8() -> None:
    """Other encodings are not guessed: a wrong guess would change titles."""
    with pytest.raises(UnreadableDocument, match="not UTF-8"):
        sections_rows("a.csv", b"\xff\xfe")


def test_merged_keys_do_not_multiply() -> None:
    """A file of a few hundred bytes that means gigabytes costs nothing."""
    lines = ["a0: &a0 {k: v}"]
    lines += [f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    began = time.perf_counter()
    with pytest.raises(UnreadableDocument):
        sections_rows("a.yaml", "\n".join(lines).encode())
    assert time.perf_counter() - began < 1
