"""The schema comes up from nothing, and only once."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import psycopg

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
