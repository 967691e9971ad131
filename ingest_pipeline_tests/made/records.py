"""Tables, JSON and Parquet, plain and packed."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow
from pyarrow import parquet

from ingest_pipeline_tests.made.words import LANGUAGES

Rows = list[dict[str, Any]]


def rows(count: int) -> Rows:
    """Records with a number, a language and a text in it."""
    texts = list(LANGUAGES.items())
    return [
        {"id": number, "language": texts[number % len(texts)][0], "text": texts[number % len(texts)][1]}
        for number in range(1, count + 1)
    ]


def lines(*records: object) -> bytes:
    """A JSON value on each line."""
    return b"\n".join(json.dumps(record).encode() for record in records)


def table(records: Iterable[Mapping[str, Any]], delimiter: str = ",") -> bytes:
    """A table as spreadsheets write it."""
    buffer, found = io.StringIO(), list(records)
    writer = csv.DictWriter(buffer, list(found[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(found)
    return buffer.getvalue().encode()


def parquet_file(records: Rows, **options: Any) -> bytes:
    """A Parquet file."""
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(records), buffer, **options)
    return buffer.getvalue()


def packed(content: bytes) -> bytes:
    """A gzip file, the same each time."""
    return gzip.compress(content, mtime=0)
