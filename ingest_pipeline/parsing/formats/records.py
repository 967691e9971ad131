"""Tables and streams of records: one text for each record, a hundred records on a page.

Each record is a page event of its own, and so a chunk of its own (several if it is long): a record that did not change
keeps its vector, whatever happens to the records around it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, TextIO

from ingest_pipeline.errors import UnreadableDocument
from ingest_pipeline.models import Gap, Page, ParseEvent, ParseWarning, Properties
from ingest_pipeline.parsing.formats.encoding import decoded_text
from ingest_pipeline.parsing.request import ParseRequest

PAGE_RECORDS = 100
MAX_LINE_CHARACTERS = 4 * 1024**2
MAX_FIELD_CHARACTERS = 1024**2  # without it a quote that is never closed makes one field of the rest of the file
SNIFF_CHARACTERS = 64 * 1024
DELIMITERS = ",;\t|"
MAX_DEPTH = 3  # objects below this depth become JSON text
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")

Record = Mapping[str, Any]
Row = Record | str
"""A record, or the reason why there is none."""


def csv_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield the rows of a table whose first row names its columns, split at the delimiter most frequent in that row."""
    with decoded_text(stream) as (text, warnings):
        yield from warnings
        header = next((line for line in iter(lambda: text.readline(SNIFF_CHARACTERS), "") if line.strip()), "")
        delimiter = max(DELIMITERS, key=header.count)
        text.seek(0)
        yield from grouped(_rows(text, delimiter), request)


def tsv_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield the rows of a table with tabs between its columns."""
    with decoded_text(stream) as (text, warnings):
        yield from warnings
        yield from grouped(_rows(text, "\t"), request)


def jsonl_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield the objects of a file that has one JSON object on each line."""
    with decoded_text(stream) as (text, warnings):
        yield from warnings
        yield from grouped(_json_rows(text), request)


def parquet_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield the rows of a Parquet file, a hundred in memory at a time.

    Raises:
        UnreadableDocument: not Parquet, or damaged.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        # Without pre-buffering and threads 55-63 MB, also with one row group of all rows (docs/findings.md, E4).
        file = parquet.ParquetFile(stream, pre_buffer=False, memory_map=False)
        yield Properties(total_pages=-(-file.metadata.num_rows // PAGE_RECORDS))
        batches = file.iter_batches(batch_size=PAGE_RECORDS, use_threads=False)
        yield from grouped((row for batch in batches for row in batch.to_pylist()), request)
    except (pyarrow.ArrowException, OSError) as error:  # ArrowMemoryError is a MemoryError, too: the run handles it
        if isinstance(error, MemoryError):
            raise
        raise UnreadableDocument(f"{request.name}: not a readable Parquet file: {error}") from error


def grouped(rows: Iterator[Row], request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield one text for each record, a hundred with the same page number; a page's invalid records are one gap."""
    text_of: Callable[[Record], str] | None = None
    bad: list[str] = []
    number = 0
    for index, row in enumerate(rows, start=1):
        if (index - 1) // PAGE_RECORDS + 1 != number:
            yield from _gap(number, bad)
            number, bad = number + 1, []
        if isinstance(row, str):
            bad.append(f"record {index}: {row}")
            continue
        if text_of is None:  # the first record decides for all, so that one column order serves the whole file
            text_of, warning = _text_of(row, request)
            yield from [ParseWarning(warning)] if warning else []
        if number >= request.first_page:
            name = row.get(request.record_id)
            heading = f"record {index}" if name in (None, "") else str(name)
            yield Page(number, text_of(row), heading, whole=False)
    yield from _gap(number, bad)


def _gap(number: int, bad: list[str]) -> Iterator[Gap]:
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        yield Gap(number, number, f"{bad[0]}{more}")


def _text_of(first: Record, request: ParseRequest) -> tuple[Callable[[Record], str], str | None]:
    """Return the function that makes a record's text: by the template, or, with a warning, of all its fields."""
    names = PLACEHOLDER.findall(request.record_text)
    if names and any(name in dict(_flat(first)) for name in names):
        return lambda row: _filled(request.record_text, dict(_flat(row)) | dict(row)) or _all_fields(row), None
    return _all_fields, "no field of INGEST_RECORD_TEXT is in its records: every field was taken" if names else None


def _all_fields(row: Record) -> str:
    return "\n".join(f"{name}: {text}" for name, value in _flat(row) if (text := value_text(value)))


def _flat(row: Record, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a record's fields; a field of a nested object as `meta.source`."""
    for name, value in row.items():
        if isinstance(value, dict) and value and prefix.count(".") < MAX_DEPTH:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _filled(template: str, row: Record) -> str:
    """Return the template filled with a record's fields; '' if the record has none of them."""
    texts = {name: value_text(row.get(name)) for name in PLACEHOLDER.findall(template)}
    return PLACEHOLDER.sub(lambda match: texts[match[1]], template).strip() if any(texts.values()) else ""


def value_text(value: Any) -> str:
    """Return a field's value as text; '' for bytes that are not UTF-8."""
    if value is None:
        return ""
    if isinstance(value, bytes):  # Parquet writers often leave texts without a type
        try:
            return value.decode().strip()
        except UnicodeDecodeError:
            return ""
    if isinstance(value, (list, tuple)) and not any(isinstance(item, (dict, list)) for item in value):
        return ", ".join(text for item in value if (text := value_text(item)))
    if isinstance(value, (dict, list, tuple)):
        import orjson

        try:
            return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # orjson refuses deeper nesting than 254
            return str(value)
    return str(value).strip()


def _rows(text: TextIO, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    lines = _Lines(text)
    reader, names = csv.reader(lines, delimiter=delimiter), list[str]()
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # of this row alone: the reader goes on with the next line
            yield str(error)
            continue
        if lines.take_cut():
            yield f"a row of over {MAX_LINE_CHARACTERS:,} characters"
        if not any(values):
            continue
        if not names:
            names = _columns(values)
            continue
        if len(values) > len(names):  # a row longer than the header: its further columns get numbers as names
            names = _columns([*names, *[""] * (len(values) - len(names))])
        yield dict(zip(names, values, strict=False))


def _columns(header: list[str]) -> list[str]:
    """Return unique column names: an empty or repeated one gets the number of its column."""
    names: list[str] = []
    taken = {" ".join(name.split()) for name in header}
    seen: set[str] = set()
    for number, name in enumerate(header, start=1):
        plain = " ".join(name.split())
        while not plain or plain in seen:
            plain = f"{plain or 'column'} {number}"
            plain = f"{plain}'" if plain in taken else plain
        seen.add(plain)
        names.append(plain)
    return names


def _json_rows(text: TextIO) -> Iterator[Row]:
    lines = _Lines(text)
    for line in lines:
        if lines.take_cut():
            yield f"a line of over {MAX_LINE_CHARACTERS:,} characters"
        elif line.strip():
            yield _json_row(line)


def _json_row(line: str) -> Row:
    import orjson

    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error.msg}"
    return value if isinstance(value, dict) else "not a JSON object"


class _Lines:
    """Lines of at most MAX_LINE_CHARACTERS; the rest of a longer one is skipped, and `take_cut` returns True once."""

    def __init__(self, text: TextIO) -> None:
        self._text, self._cut = text, False

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(MAX_LINE_CHARACTERS):
            rest = line
            while len(rest) >= MAX_LINE_CHARACTERS and not rest.endswith("\n"):
                self._cut, rest = True, self._text.readline(MAX_LINE_CHARACTERS)
            yield line

    def take_cut(self) -> bool:
        cut, self._cut = self._cut, False
        return cut
