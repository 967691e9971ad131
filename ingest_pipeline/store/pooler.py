"""Tells a direct connection from one through a pooler, and refuses poolers that share sessions.

Sessions hold advisory locks and settings. A pooler in transaction or statement mode gives each transaction another
backend of the server: a lock stays with a backend that somebody else uses next. A pooler in session mode keeps one
backend for each client, and works.
"""

from __future__ import annotations

import select
import threading

import psycopg
from psycopg.rows import TupleRow

from ingest_pipeline.errors import ConfigurationError, StoreUnavailable

OWN_BACKEND = "SELECT pg_backend_pid()"
DIRECT, SESSION_POOLER = "direct", "through a pooler in session mode"
TRANSACTIONS = 3  # of one client in a row: a pooler that takes its backends in turn gives each another one
SECOND_SESSION_SECONDS = 10.0
REFUSED = (
    "INGEST_DATABASE_URL goes through a pooler in transaction mode, which loses locks and settings of sessions: "
    "connect to Postgres directly, or set the pooler to session mode (pgbouncer: pool_mode = session)"
)
NO_SECOND_SESSION = (
    f"Postgres: the pooler gave no second session within {SECOND_SESSION_SECONDS:.0f} s: allow 100 "
    "(pgbouncer: default_pool_size), or connect directly"
)

_lock = threading.Lock()
_accepted: set[str] = set()


def require_session(connection: psycopg.Connection[TupleRow], url: str, backend: int) -> None:
    """Refuse a connection whose transactions may get different backends.

    A direct connection costs nothing: the server announced the process id that it has. Poolers announce one of their
    own; then a second connection is opened, once for each URL in a process.

    Args:
        connection: just opened, without a transaction.
        url: where to open the second one.
        backend: what `pg_backend_pid()` said in the first transaction.

    Raises:
        ConfigurationError: it goes through a pooler in transaction or statement mode.
        StoreUnavailable: the pooler gives no second session.
    """
    if backend == connection.info.backend_pid:
        return
    with _lock:
        if url not in _accepted:
            session_kind(connection, url)
            _accepted.add(url)


def session_kind(connection: psycopg.Connection[TupleRow], url: str) -> str:
    """Return `DIRECT` or `SESSION_POOLER`.

    Raises:
        ConfigurationError, StoreUnavailable: as for `require_session`.
    """
    backends = {_backend(connection) for _ in range(TRANSACTIONS)}
    if backends == {connection.info.backend_pid}:
        return DIRECT
    # A pooler takes the backend that came back last, or the next one in turn: either the second client gets the
    # backend of the first, or the first gets another one each time.
    with psycopg.connect(url, autocommit=True, connect_timeout=int(SECOND_SESSION_SECONDS)) as second:
        others = {_backend_in_time(second)}
        backends.add(_backend(connection))
    if len(backends) > 1 or backends & others:
        raise ConfigurationError(REFUSED)
    return SESSION_POOLER


def _backend(connection: psycopg.Connection[TupleRow]) -> int:
    row = connection.execute(OWN_BACKEND).fetchone()
    assert row
    return int(row[0])


def _backend_in_time(connection: psycopg.Connection[TupleRow]) -> int:
    """Return the backend of a session; a pooler that has none left lets the client wait for minutes."""
    connection.pgconn.send_query(OWN_BACKEND.encode())
    readable, _, _ = select.select([connection.pgconn.socket], [], [], SECOND_SESSION_SECONDS)
    if not readable:
        raise StoreUnavailable(NO_SECOND_SESSION)
    results = []
    while result := connection.pgconn.get_result():
        results.append(result)
    value = results[0].get_value(0, 0)
    if value is None:
        raise StoreUnavailable(f"Postgres: {results[0].error_message.decode(errors='replace').strip()}")
    return int(value)
