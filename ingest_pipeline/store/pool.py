"""Connections that read the store, kept open for a process that answers many questions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg import sql

from ingest_pipeline.errors import StoreUnavailable
from ingest_pipeline.store.connection import BEGIN_SESSION, CONNECT_SECONDS, ITERATIVE_SCAN, SEARCH_PATH, Connection

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

READ_ONLY = "SET default_transaction_read_only = on"
STATEMENT_LIMIT = "SET statement_timeout = {milliseconds}"
TAKE_ROLE = "SET ROLE {role}"
LENDING_SECONDS = 10.0
"""For how long a request waits for a connection while all are at work."""


class ReadPool:
    """A few connections whose transactions can only read, and whose statements end after a time.

    Args:
        url: of the database.
        size: connections at most; who finds none free waits.
        statement_seconds: the longest that one statement may take.
        role: a database role without rights to write, which sessions take; None where there is none.
    """

    def __init__(self, url: str, *, size: int, statement_seconds: float, role: str | None = None) -> None:
        self._url, self._size, self._seconds, self._role = url, size, statement_seconds, role
        self._pool: ConnectionPool[Connection] | None = None

    def open(self) -> None:
        """Connect.

        Raises:
            StoreUnavailable: Postgres cannot be reached.
        """
        from psycopg_pool import ConnectionPool, PoolTimeout

        self._pool = ConnectionPool(
            self._url, min_size=1, max_size=self._size, open=False, configure=self._configure,
            kwargs={"autocommit": True, "connect_timeout": CONNECT_SECONDS}, check=ConnectionPool.check_connection,
        )  # fmt: skip
        try:
            self._pool.open(wait=True, timeout=CONNECT_SECONDS)
        except PoolTimeout as error:
            raise StoreUnavailable(f"Postgres: {error}; is it running? `ingest db start`") from error

    def close(self) -> None:
        """End the connections."""
        if self._pool is not None:
            self._pool.close()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection.

        Raises:
            StoreUnavailable: Postgres cannot be reached, or went away meanwhile.
        """
        import psycopg
        from psycopg_pool import PoolTimeout

        assert self._pool is not None, "the pool is not open"
        try:
            with self._pool.connection(timeout=LENDING_SECONDS) as connection:
                yield connection
        except psycopg.errors.QueryCanceled as error:
            raise StoreUnavailable(f"Postgres: no answer within {self._seconds:g} s; ask for less") from error
        except PoolTimeout as error:
            raise StoreUnavailable("Postgres: all connections are at work; try again later") from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise StoreUnavailable(f"Postgres: {type(error).__name__}; is it running? `ingest db start`") from error

    def _configure(self, connection: Connection) -> None:
        from pgvector.psycopg import register_vector

        connection.execute(BEGIN_SESSION, (SEARCH_PATH,))
        register_vector(connection)
        connection.execute(ITERATIVE_SCAN)
        milliseconds = sql.Literal(int(self._seconds * 1000))
        connection.execute(sql.SQL(STATEMENT_LIMIT).format(milliseconds=milliseconds))
        connection.execute(READ_ONLY)
        if self._role:
            connection.execute(sql.SQL(TAKE_ROLE).format(role=sql.Identifier(self._role)))
