"""Tables, JSON and Parquet: a record is a text of its own; what is no record is a gap, not a loss."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from ingest_pipeline.errors import TooMuchText, UnreadableDocument
from ingest_pipeline.models import Gap, Page
from ingest_pipeline.parsing.formats.json_values import json_pages
from ingest_pipeline.parsing.formats.records import (
    MAX_LINE_CHARACTERS,
    csv_pages,
    jsonl_pages,
    parquet_pages,
    tsv_pages,
)
from ingest_pipeline.parsing.request import Found, ParseFacts, Parser, ParseRequest
from ingest_pipeline.parsing.sandbox.child import parser_for


def found_in(parser: Parser, content: bytes, **asked: Any) -> tuple[list[Found], ParseFacts]:
    facts = ParseFacts()
    return list(parser(io.BytesIO(content), ParseRequest("name", "x/y", **asked), facts)), facts


def texts_of(parser: Parser, content: bytes, **asked: Any) -> list[str]:
    return [one.text for one in found_in(parser, content, **asked)[0] if isinstance(one, Page)]


def gaps_of(parser: Parser, content: bytes) -> list[Gap]:
    return [one for one in found_in(parser, content)[0] if isinstance(one, Gap)]


def lines(*records: object) -> bytes:
    return b"\n".join(json.dumps(record).encode() for record in records)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_row_becomes_its_fields_with_their_names(delimiter: str) -> None:
    """The delimiter is the header's; quotes hold delimiters and newlines; empty fields are left out."""
    rows = ["id,name,note", '7,"a' + delimiter + ' b","two\nlines"', "8,c,", ""]
    content = "\n".join(rows).replace(",", delimiter)
    assert texts_of(csv_pages, content.encode()) == [
        f"id: 7\nname: a{delimiter} b\nnote: two\nlines",
        "id: 8\nname: c",
    ]


def test_a_table_with_a_torn_header_keeps_every_value() -> None:
    """Names that are missing, twice, or too few get numbers."""
    assert texts_of(csv_pages, b"a,,a\n1,2,3,4\n") == ["a: 1\ncolumn 2: 2\na 3: 3\ncolumn 4: 4"]
    assert texts_of(tsv_pages, b"a\tb\n1,5\t2\n") == ["a: 1,5\nb: 2"]


def test_a_record_is_named_by_its_field_or_its_number() -> None:
    """So that a search result can say which one it is."""
    found, _ = found_in(jsonl_pages, lines({"id": 7, "t": "a"}, {"t": "b"}, {"key": "k", "t": "c"}))
    assert [one.heading for one in found if isinstance(one, Page)] == ["7", "record 2", "record 3"]
    found, _ = found_in(jsonl_pages, lines({"key": "k", "t": "c"}), record_id="key")
    assert [one.heading for one in found if isinstance(one, Page)] == ["k"]


def test_a_template_says_what_is_embedded() -> None:
    """Fields in braces, also of an object inside; a file that has none of them gives all it has, and a warning."""
    record = {"title": "T", "abstract": "A {x}", "meta": {"by": "me"}, "n": 1}
    template = "{title} by {meta.by}. {abstract}{none}"
    assert texts_of(jsonl_pages, lines(record), record_text=template) == ["T by me. A {x}"]
    found, facts = found_in(jsonl_pages, lines({"other": 1}), record_text=template)
    assert [one.text for one in found if isinstance(one, Page)] == ["other: 1"]
    assert "INGEST_RECORD_TEXT" in facts.warnings[0]


def test_values_are_written_as_a_reader_would() -> None:
    """Lists with commas, objects by their names, nothing for null."""
    record = {"tags": ["a", "b"], "meta": {"x": {"y": 1}}, "null": None, "spans": [{"s": 1}], "yes": True}
    assert texts_of(jsonl_pages, lines(record)) == ['tags: a, b\nmeta.x.y: 1\nspans: [{"s":1}]\nyes: True']


def test_a_hundred_records_share_a_page() -> None:
    """A page is what is taken up again after a crash."""
    content = lines(*({"id": number} for number in range(250)))
    found, _ = found_in(jsonl_pages, content)
    assert [one.number for one in found if isinstance(one, Page)] == [1] * 100 + [2] * 100 + [3] * 50
    later, _ = found_in(jsonl_pages, content, first_page=3)
    assert [one.heading for one in later if isinstance(one, Page)] == [str(number) for number in range(200, 250)]


def test_what_is_no_record_is_a_gap() -> None:
    """With the number of the first and how many; the others are read."""
    content = lines({"a": 1}) + b"\nnot json\n[1]\n" + lines({"a": 2})
    found, _ = found_in(jsonl_pages, content)
    assert [one.text for one in found if isinstance(one, Page)] == ["a: 1", "a: 2"]
    [gap] = gaps_of(jsonl_pages, content)
    assert (gap.page_from, gap.page_to) == (1, 1)
    assert gap.reason.startswith("record 2: not JSON")
    assert gap.reason.endswith("and 1 more")


def test_a_line_without_end_is_a_gap_and_not_memory() -> None:
    """Cut at 4 million characters, read over, and on with the next."""
    content = b'{"a": "' + b"x" * (MAX_LINE_CHARACTERS * 2) + b'"}\n' + lines({"a": 2})
    assert texts_of(jsonl_pages, content) == ["a: 2"]
    assert len(gaps_of(jsonl_pages, content)) == 1


def test_a_quote_that_never_closes_is_a_gap() -> None:
    """One field of a megabyte, then on."""
    content = b'a,b\n1,2\n"' + b"x,y\n" * 400_000 + b"3,4\n"
    found, _ = found_in(csv_pages, content)
    assert isinstance(found[-1], Page | Gap)
    assert "field larger" in " ".join(one.reason for one in found if isinstance(one, Gap))
    assert next(one for one in found if isinstance(one, Page)).text == "a: 1\nb: 2"


@pytest.mark.parametrize("deep", [b'{"a":' * 5000 + b"1" + b"}" * 5000, b"[" * 100_000, b'{"a": 1e999999}', b'"'])
def test_json_that_means_harm_is_a_gap_or_an_error_of_ours(deep: bytes) -> None:
    """Nesting, huge numbers, half a string."""
    assert len(gaps_of(jsonl_pages, deep)) <= 1
    with contextlib.suppress(UnreadableDocument):
        found_in(json_pages, deep)


def test_an_array_of_objects_is_records() -> None:
    """As if each stood on a line of its own; what breaks off later is a gap."""
    assert texts_of(json_pages, b'[{"id": 1, "a": "x"}, {"id": 2}]') == ["id: 1\na: x", "id: 2"]
    found, _ = found_in(json_pages, b'[{"id": 1}, {"id"')
    assert [type(one) for one in found] == [Page, Gap]


def test_other_json_is_its_values() -> None:
    """With their names, escapes resolved: a reader searches for letters, not for \\u9ed1."""
    content = b'{"data": [{"context": "\\u9ed1\\u8c79", "n": [1, 2]}], "none": null}'
    assert texts_of(json_pages, content) == ["context: 黑豹\nn: 1\nn: 2\n"]
    with pytest.raises(UnreadableDocument):
        found_in(json_pages, b"no json")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=20), min_size=1), max_size=30))
def test_no_record_is_lost(records: list[dict[str, str]]) -> None:
    """Whatever is in it, each object gives one text, in order."""
    texts = texts_of(jsonl_pages, lines(*records))
    assert len(texts) == len(records)
    for record, text in zip(records, texts, strict=True):
        assert all(value.strip() in text for value in record.values())


def parquet_bytes(rows: list[dict[str, Any]], **options: Any) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer, **options)
    return buffer.getvalue()


def test_parquet_is_read_batch_by_batch() -> None:
    """Also when all rows are in one group; binary columns are no text."""
    rows = [{"id": number, "text": f"row {number}", "tags": ["a"], "blob": b"\xff"} for number in range(250)]
    found, facts = found_in(parquet_pages, parquet_bytes(rows, row_group_size=250))
    pages = [one for one in found if isinstance(one, Page)]
    assert facts.total_pages == 3
    assert [page.number for page in pages] == [1] * 100 + [2] * 100 + [3] * 50
    assert pages[-1].text == "id: 249\ntext: row 249\ntags: a"


DAMAGES = [lambda raw: raw[:-20], lambda raw: raw[:60] + b"\xff" * 60 + raw[120:], lambda raw: raw[:4]]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_parquet_is_unreadable(damage: Any) -> None:
    """One error of ours."""
    raw = parquet_bytes([{"id": number, "text": "x" * 50} for number in range(500)])
    with pytest.raises(UnreadableDocument):
        found_in(parquet_pages, damage(raw))


def test_packed_text_is_what_is_in_it() -> None:
    """By the parser of what is inside."""
    packed = gzip.compress(lines({"id": 1, "a": "b"}))
    assert texts_of(parser_for("application/jsonl+gzip"), packed) == ["id: 1\na: b"]
    assert texts_of(parser_for("text/plain+gzip"), gzip.compress("пісня".encode("utf-16") * 50))[0].startswith("пісня")


def test_a_packed_bomb_is_stopped() -> None:
    """A megabyte that unpacks to a gigabyte."""
    packed = gzip.compress(bytes(1) * 1024**2) * 64  # members one after another are one file
    assert len(packed) < 100_000
    with pytest.raises(TooMuchText, match="bomb"):
        found_in(parser_for("text/plain+gzip"), packed, max_expanded_bytes=4 * 1024**2)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_gzip_is_unreadable(damage: Any) -> None:
    """Cut, overwritten, or hardly begun."""
    raw = gzip.compress(bytes(range(256)) * 100)
    with pytest.raises(UnreadableDocument):
        found_in(parser_for("text/plain+gzip"), damage(raw))


def test_real_records_come_whole(corpus: Path) -> None:
    """As many texts as the files have records."""
    artists = (corpus / "records" / "tate-artist_data.csv").read_bytes()
    assert len(texts_of(csv_pages, artists)) == 3532
    assert len(texts_of(jsonl_pages, (corpus / "records" / "plot_summaries.jsonl").read_bytes())) == 200
