"""Tables, JSON and Parquet: a record is a text of its own; what is no record is a gap, not a loss."""

from __future__ import annotations

import contextlib
import gzip
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_pipeline.errors import TooMuchText, UnreadableDocument
from ingest_pipeline_tests.made import records as made
from ingest_pipeline_tests.made.records import lines, parquet_file
from ingest_pipeline_tests.made.words import LANGUAGES
from ingest_pipeline_tests.parsers import (
    Parsed,
    Parser,
    ParseRequest,
    csv_pages,
    json_pages,
    jsonl_pages,
    parquet_pages,
    parse,
    parse_named,
    parser_for,
    records,
    rewinding,
    tsv_pages,
    unpacked,
)


def found_in(parser: Parser, content: bytes, **asked: Any) -> Parsed:
    """Parse records in this process."""
    return parse(parser, content, **asked)


def texts_of(parser: Parser, content: bytes, **asked: Any) -> list[str]:
    """The text of each record."""
    return parse(parser, content, **asked).texts


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_row(delimiter: str) -> None:
    """A row becomes its fields with their names; quotes hold delimiters and newlines; empty fields are left out."""
    rows = ["id,name,note", '7,"a' + delimiter + ' b","two\nlines"', "8,c,", ""]
    content = "\n".join(rows).replace(",", delimiter)
    assert texts_of(csv_pages, content.encode()) == [
        f"id: 7\nname: a{delimiter} b\nnote: two\nlines",
        "id: 8\nname: c",
    ]


def test_torn_header() -> None:
    """Columns whose names are missing, twice, or too few get numbers, and every value is kept."""
    assert texts_of(csv_pages, b"a,,a\n1,2,3,4\n") == ["a: 1\ncolumn 2: 2\na 3: 3\ncolumn 4: 4"]
    assert texts_of(tsv_pages, b"a\tb\n1,5\t2\n") == ["a: 1,5\nb: 2"]


def test_names_of_records() -> None:
    """A record is named by its field or its number, so that a search result can say which one it is."""
    found = found_in(jsonl_pages, lines({"id": 7, "t": "a"}, {"t": "b"}, {"key": "k", "t": "c"}))
    assert [page.heading for page in found.pages] == ["7", "record 2", "record 3"]
    found = found_in(jsonl_pages, lines({"key": "k", "t": "c"}), record_id="key")
    assert [page.heading for page in found.pages] == ["k"]


def test_template() -> None:
    """A template names the fields that are taken; a file that has none of them gives all it has, and a warning."""
    record = {"title": "T", "abstract": "A {x}", "meta": {"by": "me"}, "n": 1}
    template = "{title} by {meta.by}. {abstract}{none}"
    assert texts_of(jsonl_pages, lines(record), record_text=template) == ["T by me. A {x}"]
    found = found_in(jsonl_pages, lines({"other": 1}), record_text=template)
    assert found.texts == ["other: 1"]
    assert "INGEST_RECORD_TEXT" in found.warnings[0]


def test_values() -> None:
    """Lists are written with commas, objects by their names, and null not at all."""
    record = {"tags": ["a", "b"], "meta": {"x": {"y": 1}}, "null": None, "spans": [{"s": 1}], "yes": True}
    assert texts_of(jsonl_pages, lines(record)) == ['tags: a, b\nmeta.x.y: 1\nspans: [{"s":1}]\nyes: True']


def test_hundred_to_a_page() -> None:
    """A hundred records share a page, which is what is taken up again after a crash."""
    content = lines(*({"id": number} for number in range(250)))
    found = found_in(jsonl_pages, content)
    assert [page.number for page in found.pages] == [1] * 100 + [2] * 100 + [3] * 50
    later = found_in(jsonl_pages, content, first_page=3)
    assert [page.heading for page in later.pages] == [str(number) for number in range(200, 250)]


def test_no_record() -> None:
    """What is no record is a gap with the number of the first and how many; the others are read."""
    content = lines({"a": 1}) + b"\nnot json\n[1]\n" + lines({"a": 2})
    found = found_in(jsonl_pages, content)
    assert found.texts == ["a: 1", "a: 2"]
    [gap] = found.gaps
    assert (gap.page_from, gap.page_to) == (1, 1)
    assert gap.reason.startswith("record 2: not JSON")
    assert gap.reason.endswith("and 1 more")


def test_endless_line() -> None:
    """A line without end is cut at 4 million characters, read over, and is a gap."""
    content = b'{"a": "' + b"x" * (records.MAX_LINE_CHARACTERS * 2) + b'"}\n' + lines({"a": 2})
    assert texts_of(jsonl_pages, content) == ["a: 2"]
    assert len(found_in(jsonl_pages, content).gaps) == 1


def test_unclosed_quote() -> None:
    """A quote that never closes is a gap of one field of a megabyte."""
    content = b'a,b\n1,2\n"' + b"x,y\n" * 270_000 + b"3,4\n"
    found = found_in(csv_pages, content)
    assert "field larger" in " ".join(gap.reason for gap in found.gaps)
    assert found.texts[0] == "a: 1\nb: 2"


@pytest.mark.parametrize("deep", [b'{"a":' * 5000 + b"1" + b"}" * 5000, b"[" * 100_000, b'{"a": 1e999999}', b'"'])
def test_hostile_json(deep: bytes) -> None:
    """Deep nesting, huge numbers and half a string are a gap or an error of ours."""
    assert len(found_in(jsonl_pages, deep).gaps) <= 1
    with contextlib.suppress(UnreadableDocument):
        found_in(json_pages, deep)


def test_array_of_objects() -> None:
    """An array of objects is records; what breaks off later is a gap."""
    assert texts_of(json_pages, b'[{"id": 1, "a": "x"}, {"id": 2}]') == ["id: 1\na: x", "id: 2"]
    found = found_in(json_pages, b'[{"id": 1}, {"id"')
    assert found.events == [found.pages[0], found.gaps[0]]


def test_other_json() -> None:
    """Other JSON is its values with their names, escapes resolved: a reader searches for letters."""
    content = b'{"data": [{"context": "\\u9ed1\\u8c79", "n": [1, 2]}], "none": null}'
    assert texts_of(json_pages, content) == ["context: 黑豹\nn: 1\nn: 2\n"]
    with pytest.raises(UnreadableDocument):
        found_in(json_pages, b"no json")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=20), min_size=1), max_size=30))
def test_any_records(records: list[dict[str, str]]) -> None:
    """Whatever is in it, each object gives one text, in order."""
    texts = texts_of(jsonl_pages, lines(*records))
    assert len(texts) == len(records)
    for record, text in zip(records, texts, strict=True):
        assert all(value.strip() in text for value in record.values())


def test_parquet() -> None:
    """Parquet is read batch by batch, also when all rows are in one group; binary columns are no text."""
    rows = [{"id": number, "text": f"row {number}", "tags": ["a"], "blob": b"\xff"} for number in range(250)]
    found = found_in(parquet_pages, parquet_file(rows, row_group_size=250))
    pages = found.pages
    assert found.total_pages == 3
    assert [page.number for page in pages] == [1] * 100 + [2] * 100 + [3] * 50
    assert pages[-1].text == "id: 249\ntext: row 249\ntags: a"


DAMAGES = [lambda raw: raw[:-20], lambda raw: raw[:60] + b"\xff" * 60 + raw[120:], lambda raw: raw[:4]]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_parquet(damage: Any) -> None:
    """Damaged Parquet is one error of ours."""
    raw = parquet_file([{"id": number, "text": "x" * 50} for number in range(500)])
    with pytest.raises(UnreadableDocument):
        found_in(parquet_pages, damage(raw))


def test_packed_text() -> None:
    """Packed text is read by the parser of what is inside."""
    packed = gzip.compress(lines({"id": 1, "a": "b"}))
    assert texts_of(parser_for("application/jsonl+gzip"), packed) == ["id: 1\na: b"]
    assert texts_of(parser_for("text/plain+gzip"), gzip.compress("пісня".encode("utf-16") * 50))[0].startswith("пісня")


def test_packed_bomb() -> None:
    """Packed text that unpacks to a gigabyte is stopped."""
    packed = gzip.compress(bytes(1) * 1024**2) * 64  # members one after another are one file
    assert len(packed) < 100_000
    with pytest.raises(TooMuchText, match="bomb"):
        found_in(parser_for("text/plain+gzip"), packed, max_expanded_bytes=4 * 1024**2)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_gzip(damage: Any) -> None:
    """Gzip that is cut, overwritten, or hardly begun is unreadable."""
    raw = gzip.compress(bytes(range(256)) * 100)
    with pytest.raises(UnreadableDocument):
        found_in(parser_for("text/plain+gzip"), damage(raw))


def test_real_records(corpus: Path) -> None:
    """Real files give as many texts as they have records."""
    artists = (corpus / "records" / "tate-artist_data.csv").read_bytes()
    assert len(texts_of(csv_pages, artists)) == 3532
    assert len(texts_of(jsonl_pages, (corpus / "records" / "plot_summaries.jsonl").read_bytes())) == 200


WRITTEN = {
    "words.csv": made.table(made.rows(250)),
    "words.tsv": made.table(made.rows(250), "\t"),
    "words.json": b"[" + made.lines(*made.rows(250)).replace(b"\n", b",") + b"]",
    "words.jsonl": made.lines(*made.rows(250)),
    "words.parquet": made.parquet_file(made.rows(250)),
    "words.csv.gz": made.packed(made.table(made.rows(250))),
    "words.jsonl.gz": made.packed(made.lines(*made.rows(250))),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_written_records(name: str) -> None:
    """Records of each format come whole and alike: a text for each, in order, a hundred to a page."""
    found = parse_named(name, WRITTEN[name])
    texts = list(LANGUAGES.items())
    assert found.texts == [
        f"id: {number}\nlanguage: {texts[number % len(texts)][0]}\ntext: {texts[number % len(texts)][1]}"
        for number in range(1, 251)
    ]
    assert [page.number for page in found.pages] == [1] * 100 + [2] * 100 + [3] * 50
    assert [page.heading for page in found.pages] == [str(number) for number in range(1, 251)]
    assert (found.gaps, found.warnings) == ([], [])


@pytest.mark.parametrize("encoding", ["cp1251", "utf-16", "utf-8-sig"])
def test_table_in_an_encoding(encoding: str) -> None:
    """A table is read in the encoding that it is in."""
    rows = "город;число\n" + "".join(f"Киев номер {number};{number}\n" for number in range(40))
    assert texts_of(csv_pages, rows.encode(encoding))[39] == "город: Киев номер 39\nчисло: 39"


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_characters="\r\0", codec="utf-8"), min_size=1), min_size=3, max_size=3),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from(",;\t|"),
)
@settings(max_examples=60, deadline=None)
def test_any_table(rows: list[list[str]], delimiter: str) -> None:
    """Whatever stands in the cells of a written table, each row gives one text that holds them."""
    table = made.table([dict(zip("abc", row, strict=True)) for row in rows], delimiter)
    texts = texts_of(csv_pages, table)
    assert len(texts) == len(rows)
    for row, text in zip(rows, texts, strict=True):
        assert all(cell.strip() in text for cell in row)


def test_parquet_values() -> None:
    """Bytes that are text are read, nested lists as JSON; a memory limit is no damage."""
    rows = [{"id": 1, "raw": "naïve".encode(), "parts": [["a", "b"], ["c"]], "when": None}]
    assert texts_of(parquet_pages, parquet_file(rows)) == ['id: 1\nraw: naïve\nparts: [["a","b"],["c"]]']


def test_parquet_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Parquet needs more memory than there is, the file is not damaged."""
    import pyarrow
    from pyarrow import parquet

    def greedy(*_: object, **__: object) -> Any:
        raise pyarrow.lib.ArrowMemoryError("malloc failed")

    monkeypatch.setattr(parquet, "ParquetFile", greedy)
    with pytest.raises(MemoryError):
        texts_of(parquet_pages, b"PAR1")


def test_value_that_is_too_deep() -> None:
    """A value that is nested too deep to be written as JSON is written some other way."""
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    assert records.value_text([{"a": deep}]).startswith("[{'a': [[[")


def test_short_rows_and_blank_lines() -> None:
    """A row with fewer fields than columns has those, and a blank one is none."""
    assert texts_of(csv_pages, b"a,b\n1\n\n,\n2,3\n") == ["a: 1", "a: 2\nb: 3"]


def test_one_long_row_is_cut() -> None:
    """A row of over four million characters is a gap, the row behind it is read."""
    row = ",".join(["x" * 900_000] * 5)
    found = found_in(csv_pages, f"a,b,c,d,e\n{row}\n1,2,3,4,5\n".encode())
    assert found.texts[-1] == "a: 1\nb: 2\nc: 3\nd: 4\ne: 5"
    assert [gap.reason for gap in found.gaps] == ["record 1: a row of over 4,194,304 characters"]


def test_packed_stream_is_seekable() -> None:
    """A packed text can be read, in part and again, like a file, and says where it is."""
    request = ParseRequest("name", "text/plain+gzip")
    with io.BytesIO(made.packed(b"one two three")) as packed, io.BufferedReader(unpacked(packed, request)) as stream:  # type: ignore[type-var]
        assert stream.read(3) == b"one"
        assert stream.tell() == 3
        stream.seek(0)
        assert stream.read() == b"one two three"


def test_rewinding_stream() -> None:
    """A stream that is opened again and again begins at its start, and outlives what was opened."""
    stream = io.BytesIO(b"one two")
    opens = rewinding(stream)
    for _ in range(2):
        with io.BufferedReader(opens()) as opened:  # type: ignore[type-var]
            assert opened.read(3) == b"one"
            assert opened.tell() == 3
    assert not stream.closed
