"""What the database server says of itself, for a diagnosis: nothing is created, migrated or locked."""

from __future__ import annotations

import time
from dataclasses import dataclass

from psycopg.rows import dict_row

from ingest_pipeline.errors import IngestError
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection, scalar, unchecked
from ingest_pipeline.store.migrate import APPLIED, OLDEST_PGVECTOR, migrations
from ingest_pipeline.store.pooler import session_kind
from ingest_pipeline.store.server import EmbeddedServer

# What is asked must not take long on a busy server.
LIMIT = "SET statement_timeout = '5s'"
SERVER = """
SELECT current_setting('server_version') AS version,
       pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean AS read_only,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector,
       (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS pgvector_available,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       -- The least of what the server, the role and the database allow; -1 means no limit.
       least(current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
             (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
             (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())) AS connections,
       (SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND usename <> current_user) AS connections_of_others
"""
CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"
HAS_TABLE = "SELECT to_regclass('ingest.migrations') IS NOT NULL"
# The newest change of a file, against the server's own clock.
NEWEST = "SELECT extract(epoch FROM max(updated_at) - clock_timestamp())::float8 FROM ingest.files"


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """A database server that answers."""

    version: str
    read_only: bool
    """A standby, or a database in which transactions are read-only."""
    pgvector: str | None
    """The version of the extension in this database."""
    pgvector_available: str | None
    """The version that could be created."""
    may_create: bool
    """Whether the role may create schemas and extensions."""
    connections: int
    """That the role may open."""
    connections_of_others: int
    clock_ahead_seconds: float
    """The server's clock against this machine's."""
    newest_ahead_seconds: float | None
    """The newest row of the ledger against the server's clock; None where there is none."""
    applied: tuple[str, ...]
    """Names of the migrations that the database has."""
    session: str
    """How its sessions are reached."""
    session_error: IngestError | None
    """Why they cannot be used."""

    @property
    def missing(self) -> list[str]:
        """Migrations of this program that the database has not."""
        return [name for name, _ in migrations() if name not in self.applied]

    @property
    def unknown(self) -> list[str]:
        """Migrations of the database that this program does not know: it belongs to a newer one."""
        known = {name for name, _ in migrations()}
        return [name for name in self.applied if name not in known]


def url_without_start(settings: Settings) -> str | None:
    """Return the URL of the database; None if the embedded server is not running."""
    if settings.database_url:
        return settings.database_url
    server = EmbeddedServer(settings.home)
    return server.url if server.has_socket and server.answers() else None


def why_not_startable(settings: Settings) -> str | None:
    """Return why the embedded server cannot be started; None if nothing speaks against it."""
    return EmbeddedServer(settings.home).obstacle()


def is_old_pgvector(version: str) -> bool:
    """Return whether a version of pgvector is too old."""
    return tuple(int(part) for part in version.split(".")[:2]) < OLDEST_PGVECTOR


def server_health(url: str) -> ServerHealth:
    """Ask the server.

    Raises:
        StoreUnavailable: Postgres cannot be reached.
        BadSetting: the URL cannot be read.
    """
    with unchecked(url) as (connection, _):
        connection.execute(LIMIT)
        with connection.cursor(row_factory=dict_row) as cursor:
            server = cursor.execute(SERVER).fetchone() or {}
        names = connection.execute(APPLIED) if scalar(connection, HAS_TABLE) else ()
        applied = tuple(sorted(name for (name,) in names))
        session, session_error = _session(connection, url)
        return ServerHealth(
            **server,
            clock_ahead_seconds=_clock_ahead_seconds(connection),
            newest_ahead_seconds=scalar(connection, NEWEST) if applied else None,
            applied=applied,
            session=session,
            session_error=session_error,
        )


def _session(connection: Connection, url: str) -> tuple[str, IngestError | None]:
    try:
        return session_kind(connection, url), None
    except IngestError as error:
        return "", error


def _clock_ahead_seconds(connection: Connection) -> float:
    before = time.time()
    theirs = float(scalar(connection, CLOCK))
    return theirs - (before + time.time()) / 2


def answers(url: str) -> bool:
    """Return whether the database takes a connection and answers; a pool may be busy without being cut off."""
    try:
        with unchecked(url) as (connection, _):
            return scalar(connection, "SELECT 1") == 1
    except IngestError:
        return False
