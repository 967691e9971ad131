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


class ReadPool:
    """A few connections whose transactions can only read, and whose statements end after a time.

    Args:
        url: of the database.
        size: connections at most; who finds none free waits.
        statement_seconds: the longest that one statement may take.
    """

    def __init__(self, url: str, *, size: int, statement_seconds: float) -> None:
        self._url, self._size, self._seconds = url, size, statement_seconds
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
            with self._pool.connection(timeout=CONNECT_SECONDS) as connection:
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
            raise StoreUnavailable(f"Postgres: {type(error).__name__}; is it running? `ingest db start`") from error

    def _configure(self, connection: Connection) -> None:
        from pgvector.psycopg import register_vector

        connection.execute(BEGIN_SESSION, (SEARCH_PATH,))
        register_vector(connection)
        connection.execute(ITERATIVE_SCAN)
        milliseconds = sql.Literal(int(self._seconds * 1000))
        connection.execute(sql.SQL(STATEMENT_LIMIT).format(milliseconds=milliseconds))
        connection.execute(READ_ONLY)
