"""The schema comes up from nothing, and only once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ingest_pipeline.sources.download import revision_of
from ingest_pipeline.sources.folder import Folder
from ingest_pipeline.store import migrate as module
from ingest_pipeline.store.migrate import migrate, migrations


def test_an_empty_database_is_migrated_once(empty_url: str) -> None:
    """From empty: all of them, in order; then none."""
    assert migrate(empty_url) == [name for name, _ in migrations()]
    assert migrate(empty_url) == []


def test_migrations_have_no_missing_numbers() -> None:
    """0001, 0002, …: two branches cannot both add the next one unnoticed."""
    numbers = [int(re.match(r"(\d{4})_\w+\.sql$", name)[1]) for name, _ in migrations()]  # type: ignore[index]
    assert numbers == list(range(1, len(numbers) + 1))


def test_four_processes_migrate_at_once(empty_url: str) -> None:
    """The advisory lock makes the others wait and find nothing to do."""
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda _: migrate(empty_url), range(4)))
    assert sorted(map(len, applied)) == [0, 0, 0, len(migrations())]


def test_the_views_need_no_search_path(url: str) -> None:
    """`searchable_chunks` and `file_status` are a contract: a plain psql sees them."""
    with psycopg.connect(url) as connection:
        chunks = connection.execute("SELECT * FROM searchable_chunks").description
        files = connection.execute("SELECT * FROM file_status").description
    assert {"source", "path", "page_from", "page_to", "text", "embedding"} <= {column.name for column in chunks or []}
    assert {"source", "path", "status", "attempts", "error", "gaps"} <= {column.name for column in files or []}


@contextmanager
def database_after(
    empty_url: str, last: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A database to which the migrations up to this one were applied."""
    applied = [one for one in migrations() if one[0] <= last]
    with monkeypatch.context() as patch:
        patch.setattr(module, "migrations", lambda: applied)
        assert migrate(empty_url)[-1] == last
    with psycopg.connect(empty_url, options="-csearch_path=ingest,public", autocommit=True) as connection:
        yield connection


def test_revisions_are_filled(empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0004 writes the revision that the source writes, and '' where the file must be read again."""
    (tmp_path / "a.txt").write_bytes(b"12345")
    os.utime(tmp_path / "a.txt", ns=(1, 1_700_000_000_123_456_789))
    rows: list[tuple[str, str, int, int, str, str]] = [
        (str(tmp_path), "a.txt", 5, 1_700_000_000_123_456_789, "", "5 1700000000123456789"),
        (str(tmp_path), "forgotten", 5, -1, "", ""),
        ("s3://bucket/docs", "a", 7, 1_700_000_000 * 10**9, "9a0364b9", "9a0364b9 7 1700000000"),
        ("s3://bucket/docs", "forgotten", 7, -1, "", ""),
        ("https://host/list", "both", 3, 1_700_000_000 * 10**9, '"x y"', '"x y" 3 1700000000'),
        ("https://host/list", "etag", 3, 0, 'W/"1"', 'W/"1" 3 0'),
        ("https://host/list", "time", 3, 1_700_000_000 * 10**9, "", " 3 1700000000"),
        ("https://host/list", "neither", 3, 0, "", ""),
    ]
    with database_after(empty_url, "0003_sections_and_etags.sql", monkeypatch) as connection:
        connection.cursor().executemany(
            "INSERT INTO files (source, path, size_bytes, modified_ns, etag, media_type, status) "
            "VALUES (%s, %s, %s, %s, %s, 'text/plain', 'indexed')",
            [row[:5] for row in rows],
        )
        assert migrate(empty_url)[0] == "0004_revisions.sql"
        filled = connection.execute("SELECT source, path, revision FROM files ORDER BY file_id").fetchall()
        assert filled == [(row[0], row[1], row[5]) for row in rows]
        assert connection.execute("SELECT count(*) FROM file_status").fetchone() == (len(rows),)
    assert [file.revision for file in Folder(str(tmp_path)).files()] == ["5 1700000000123456789"]
    assert revision_of("9a0364b9", 7, 1_700_000_000) == "9a0364b9 7 1700000000"
    assert revision_of("", 3, 1_700_000_000) == " 3 1700000000"
    assert revision_of('W/"1"', 3, 0) == 'W/"1" 3 0'
    assert revision_of("", 3, 0) == ""


def test_the_last_releases_ledger(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.1.0 ended at 0001: its files and batches are all there afterwards, and the new columns have their defaults."""
    (first, _), *rest = migrations()
    with database_after(empty_url, first, monkeypatch) as connection:
        connection.execute(
            "INSERT INTO batches (batch, memory_limit_bytes, predicted_peak_bytes, predicted_seconds) "
            "VALUES ('b', 1, 2, 3)"
        )
        connection.execute(
            "INSERT INTO files (source, path, size_bytes, modified_ns, media_type, status, batch) "
            "VALUES ('s', 'p', 1, 1, 'text/plain', 'indexed', 'b')"
        )
        assert migrate(empty_url) == [name for name, _ in rest]
        assert connection.execute("SELECT status FROM file_status").fetchall() == [("indexed",)]
        assert connection.execute("SELECT batch, predicted_peak_bytes, cost_model FROM batches").fetchall() == [
            ("b", 2, 0)
        ]
        assert connection.execute("SELECT count(*) FROM incidents").fetchone() == (0,)
