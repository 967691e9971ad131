"""Connections to Postgres, and one name for all the ways in which they fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg.abc import Params
from psycopg.rows import TupleRow, scalar_row

from ingest_pipeline.errors import BadSetting, StoreUnavailable
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.pooler import require_session
from ingest_pipeline.store.server import EmbeddedServer

Connection = psycopg.Connection[TupleRow]

CONNECT_SECONDS = 10
# pgvector may live in any of these; a name that does not exist is harmless.
SEARCH_PATH = "ingest,public,extensions"
# By a statement: poolers refuse or ignore `options=-csearch_path=...` when a connection is opened. It also tells the
# backend, which shows whether there is a pooler.
BEGIN_SESSION = "SELECT pg_backend_pid(), set_config('search_path', %s, false)"
DAGSTER_SCHEMA = "dagster"
DAGSTER_OPTIONS = f"-csearch_path={DAGSTER_SCHEMA}"
NO_WAIT = "SET LOCAL synchronous_commit = off"
# Without it an HNSW index full of dead rows answered `LIMIT 20` with 10 rows (docs/findings.md, B).
ITERATIVE_SCAN = "SET hnsw.iterative_scan = 'strict_order'"


def database_url(settings: Settings) -> str:
    """Return the URL of the database, starting the embedded server when no other is set."""
    return settings.database_url or EmbeddedServer(settings.home).start()


def dagster_url(url: str) -> str:
    """Return the same database for Dagster's own tables: schema `dagster`, by psycopg2.

    psycopg2, because dagster-postgres 0.29 sends `NOTIFY run_events, $1` through psycopg 3, which is a syntax
    error, and SQLAlchemy 2.1 takes psycopg 3 for a bare `postgresql://`.
    """
    parts = urlsplit(url)
    query = [(key, value) for key, value in parse_qsl(parts.query) if key != "options"]
    query.append(("options", DAGSTER_OPTIONS))
    text = urlencode(query, quote_via=quote, safe="/")
    return urlunsplit(("postgresql+psycopg2", parts.netloc, parts.path or "/", text, ""))


def place_of(url: str) -> str:
    """Return where a database is, for messages: host, port and name, without user and password.

    Raises:
        BadSetting: it is no URL of a database; the message does not show it, for it may contain a password.
    """
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        raise BadSetting("--to", "postgresql://…", "postgresql://user@host:5432/database") from None
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Open a connection whose transactions are explicit, with our schema in sight.

    Raises:
        StoreUnavailable: Postgres cannot be reached, or went away meanwhile.
        ConfigurationError: it is reached through a pooler that shares sessions.
    """
    with unchecked(url) as (connection, backend):
        require_session(connection, url, backend)
        yield connection


@contextmanager
def unchecked(url: str) -> Iterator[tuple[Connection, int]]:
    """Open a connection, whatever is between; yield it with its backend's process id.

    Raises:
        StoreUnavailable: Postgres cannot be reached, or went away meanwhile.
        BadSetting: the URL cannot be read.
    """
    with _named_failures():
        try:
            connection = psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS)
        except psycopg.ProgrammingError:  # its message has the URL with the password
            raise BadSetting("INGEST_DATABASE_URL", "…", "postgresql://user:password@host:port/database") from None
    with connection, _named_failures():
        yield connection, int(scalar(connection, BEGIN_SESSION, (SEARCH_PATH,)))


@contextmanager
def store(url: str) -> Iterator[Connection]:
    """Open a connection that also knows vectors; the schema must be up to date.

    Raises:
        StoreUnavailable: as for `connected`.
    """
    from pgvector.psycopg import register_vector

    with connected(url) as connection:
        register_vector(connection)
        connection.execute(ITERATIVE_SCAN)
        yield connection


@contextmanager
def _named_failures() -> Iterator[None]:
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise StoreUnavailable(f"Postgres: {first_line(error)}; is it running? `ingest db start`") from error


@contextmanager
def repeatable(connection: Connection) -> Iterator[None]:
    """A transaction whose commit does not wait for the disk: a power cut may lose it, and the work is done again.

    It is written before any later commit that does wait, so a file that is published has all its chunks and vectors
    (docs/adr/0012-commits-that-a-power-cut-may-lose.md).
    """
    with connection.transaction():
        connection.execute(NO_WAIT)
        yield


def scalar(connection: Connection, query: str, parameters: Params | None = None) -> Any:
    """Return the first column of a query's first row; None where there is no row."""
    with connection.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(query.encode(), parameters).fetchone()


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type where it says nothing."""
    lines: list[Any] = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
