"""The schema comes up from nothing, and only once."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from ingest_pipeline.store import migrate as module
from ingest_pipeline.store.migrate import migrate, migrations


def test_an_empty_database_gets_every_migration_once(empty_url: str) -> None:
    """From empty: all of them, in order; then none."""
    assert migrate(empty_url) == [name for name, _ in migrations()]
    assert migrate(empty_url) == []


def test_migrations_are_numbered_without_gaps() -> None:
    """0001, 0002, …: two branches cannot both add the next one unnoticed."""
    numbers = [int(re.match(r"(\d{4})_\w+\.sql$", name)[1]) for name, _ in migrations()]  # type: ignore[index]
    assert numbers == list(range(1, len(numbers) + 1))


def test_four_processes_that_migrate_at_once_apply_each_once(empty_url: str) -> None:
    """The advisory lock makes the others wait and find nothing to do."""
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(lambda _: migrate(empty_url), range(4)))
    assert sorted(map(len, applied)) == [0, 0, 0, len(migrations())]


def test_the_views_can_be_read_by_anybody_without_our_search_path(url: str) -> None:
    """`searchable_chunks` and `file_status` are a contract: a plain psql sees them."""
    with psycopg.connect(url) as connection:
        chunks = connection.execute("SELECT * FROM searchable_chunks").description
        files = connection.execute("SELECT * FROM file_status").description
    assert {"source", "path", "page_from", "page_to", "text", "embedding"} <= {column.name for column in chunks or []}
    assert {"source", "path", "status", "attempts", "error", "gaps"} <= {column.name for column in files or []}


def test_a_ledger_of_the_last_release_is_brought_up_to_date_with_its_rows(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.1.0 ended at 0001: its files and batches are all there afterwards, and the new columns have their defaults."""
    first, *rest = migrations()
    with monkeypatch.context() as patch:
        patch.setattr(module, "migrations", lambda: [first])
        migrate(empty_url)
    with psycopg.connect(empty_url, options="-csearch_path=ingest,public", autocommit=True) as connection:
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
