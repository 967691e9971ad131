"""The schema, brought up to date by numbered files, one transaction for each, one process at a time."""

from __future__ import annotations

from importlib import resources

import psycopg
from psycopg import sql

from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.store.connection import Connection, connected

LOCK = 7_261_001  # any number of our own; see pg_advisory_lock
CREATE_SCHEMAS = "CREATE SCHEMA IF NOT EXISTS ingest; CREATE SCHEMA IF NOT EXISTS dagster"
CREATE_EXTENSION = "CREATE EXTENSION IF NOT EXISTS vector"
PGVECTOR_VERSION = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
CREATE_TABLE = (
    "CREATE TABLE IF NOT EXISTS ingest.migrations (name text PRIMARY KEY, applied_at timestamptz DEFAULT now())"
)
APPLIED = "SELECT name FROM ingest.migrations"
RECORD = "INSERT INTO ingest.migrations (name) VALUES (%s)"
OLDEST_PGVECTOR = (0, 8)  # iterative scans


def migrate(url: str) -> list[str]:
    """Bring the schema up to date; return the names of the migrations that were applied.

    Raises:
        ConfigurationError: the server has no pgvector, or one older than 0.8.
        StoreUnavailable: Postgres cannot be reached.
    """
    with connected(url) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        try:
            return _apply_missing(connection)
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))


def migrations() -> list[tuple[str, str]]:
    """Return `(name, SQL)` of every migration in order."""
    folder = resources.files("ingest_pipeline.store") / "migrations"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda file: file.name)
    return [(file.name, file.read_text()) for file in files]


def _apply_missing(connection: Connection) -> list[str]:
    connection.execute(CREATE_SCHEMAS)
    require_pgvector(connection)
    connection.execute(CREATE_TABLE)
    applied = {name for (name,) in connection.execute(APPLIED)}
    missing = [(name, text) for name, text in migrations() if name not in applied]
    for name, text in missing:
        with connection.transaction():
            connection.execute(sql.SQL(text))
            connection.execute(RECORD, (name,))
    return [name for name, _ in missing]


def require_pgvector(connection: Connection) -> None:
    """Make sure that pgvector is there and new enough; create the extension if need be.

    Raises:
        ConfigurationError: it is neither.
    """
    try:
        connection.execute(CREATE_EXTENSION)
    except psycopg.Error as error:
        first_line = str(error).splitlines()[0]
        raise ConfigurationError(f"Postgres has no pgvector extension that we may create: {first_line}") from None
    row = connection.execute(PGVECTOR_VERSION).fetchone()
    version = str(row[0]) if row else "0"
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_PGVECTOR:
        raise ConfigurationError(f"Postgres has pgvector {version}; 0.8 or later is needed")
