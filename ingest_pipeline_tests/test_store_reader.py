"""Sessions that read: what refuses a write, by role and by transaction, and what happens without the role."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from ingest_pipeline.errors import StoreUnavailable
from ingest_pipeline.store.backup import public_views
from ingest_pipeline.store.connection import Connection, scalar
from ingest_pipeline.store.pool import ReadPool
from ingest_pipeline.store.reader import READER, prepare_reader

WRITES = (
    "INSERT INTO files (source, path, size_bytes) VALUES ('/s', 'p', 1)",
    "UPDATE files SET path = 'other'",
    "DELETE FROM chunks",
    "TRUNCATE files CASCADE",
    "CREATE TABLE ingest.mine (one int)",
    "DROP TABLE ingest.files CASCADE",
)
TABLES = """
SELECT 'ingest.' || relname FROM pg_class
WHERE relnamespace = 'ingest'::regnamespace AND relkind IN ('r', 'v', 'm', 'p')
"""
WRITABLE = "SET default_transaction_read_only = off"


@contextmanager
def pooled(url: str, role: str | None, *, seconds: float = 5.0) -> Iterator[ReadPool]:
    pool = ReadPool(url, size=2, statement_seconds=seconds, role=role)
    pool.open()
    try:
        yield pool
    finally:
        pool.close()


def refused(connection: Connection, statement: str) -> str:
    """The SQLSTATE with which a statement is refused."""
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statement.encode())
    return str(caught.value.sqlstate)


@pytest.mark.parametrize("statement", WRITES)
def test_a_transaction_refuses_writes(url: str, statement: str) -> None:
    """Without a role each write ends as 25006, read-only transaction."""
    with pooled(url, None) as pool, pool.connection() as connection:
        assert refused(connection, statement) == "25006"


@pytest.mark.parametrize("statement", WRITES)
def test_the_role_refuses_writes(url: str, statement: str) -> None:
    """With the role each write ends as 42501 even in a transaction that may write; it reads all that is ours."""
    with pooled(url, prepare_reader(url)) as pool, pool.connection() as connection:
        assert scalar(connection, "SELECT current_user") == READER
        connection.execute(WRITABLE)
        assert refused(connection, statement) == "42501"
        for name in (*connection.execute(TABLES), *((f"public.{view}",) for view in public_views(connection))):
            connection.execute(f"SELECT * FROM {name[0]} LIMIT 1".encode())


def test_vectors_are_read_by_the_role(url: str) -> None:
    """The type and the operators of pgvector are in sight of the role."""
    with pooled(url, prepare_reader(url)) as pool, pool.connection() as connection:
        assert scalar(connection, "SELECT '[1,0]'::vector <=> '[0,1]'::vector") == 1.0


def test_tables_of_later_are_read(url: str) -> None:
    """A table that a later migration makes can be read, and not written."""
    role = prepare_reader(url)
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("CREATE TABLE ingest.later AS SELECT 7 AS seven")
    with pooled(url, role) as pool, pool.connection() as connection:
        assert scalar(connection, "SELECT seven FROM later") == 7
        connection.execute(WRITABLE)
        assert refused(connection, "DELETE FROM later") == "42501"


def test_the_role_is_made_once(url: str) -> None:
    """Six services that start at once, and one that starts again, agree on one role."""
    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(lambda _: prepare_reader(url), range(6))) == {READER}
    assert prepare_reader(url) == READER


@pytest.fixture
def poor(url: str) -> Iterator[str]:
    """The URL of a user who owns what is in the schema, and may not make roles."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE ROLE poor LOGIN")
        admin.execute("GRANT ALL ON SCHEMA ingest TO poor")
        admin.execute("GRANT ALL ON ALL TABLES IN SCHEMA ingest TO poor")
        admin.execute(f"REVOKE {READER} FROM poor" if scalar(admin, EXISTS_READER) else "SELECT 1")  # type: ignore[arg-type]
        yield url.replace("postgres@", "poor@")
        admin.execute("DROP OWNED BY poor")
        admin.execute("DROP ROLE poor")


EXISTS_READER = f"SELECT count(*) > 0 FROM pg_roles WHERE rolname = '{READER}'"


def test_without_the_right_to_make_it(poor: str, caplog: pytest.LogCaptureFixture) -> None:
    """A user who may not take the role gets a warning, and transactions that only read."""
    with caplog.at_level(logging.WARNING):
        assert prepare_reader(poor) is None
    [record] = caplog.records
    assert "their transactions are read-only all the same" in record.getMessage()
    with pooled(poor, None) as pool, pool.connection() as connection:
        assert refused(connection, WRITES[0]) == "25006"


def test_a_role_that_others_made(url: str, poor: str) -> None:
    """Where the administrator has made the role and granted it, a user without rights takes it."""
    assert prepare_reader(url) == READER
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"GRANT {READER} TO poor".encode())
    assert prepare_reader(poor) == READER


def test_a_role_that_may_write(url: str, poor: str) -> None:
    """A role of that name with rights to write is not taken for a reader's."""
    prepare_reader(url)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"GRANT {READER} TO poor".encode())
        admin.execute(f"GRANT INSERT ON ingest.files TO {READER}".encode())
        assert prepare_reader(poor) is None
        admin.execute(f"REVOKE INSERT ON ingest.files FROM {READER}".encode())
    assert prepare_reader(poor) == READER


def test_a_statement_ends_in_time(url: str) -> None:
    """A statement that takes too long ends with an error that says so, and its connection goes on."""
    with pooled(url, None, seconds=0.3) as pool:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.3 s"), pool.connection() as connection:
            connection.execute("SELECT pg_sleep(20)")
        assert time.monotonic() - began < 5
        with pool.connection() as connection:
            assert scalar(connection, "SELECT 1") == 1


def test_a_busy_pool_says_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gets no connection is not told that Postgres is away."""
    monkeypatch.setattr("ingest_pipeline.store.pool.LENDING_SECONDS", 0.2)
    with (
        pooled(url, None) as pool,
        pool.connection(),
        pool.connection(),
        pytest.raises(StoreUnavailable, match="all connections are at work"),
        pool.connection(),
    ):
        pass
