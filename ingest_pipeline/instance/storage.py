"""Dagster's storage in the same Postgres database as the ledger, configured by the same settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_postgres import DagsterPostgresStorage
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Engine

from ingest_pipeline.instance.dagster_private import ConfigurableClassData
from ingest_pipeline.settings import read_settings
from ingest_pipeline.store.connection import DAGSTER_OPTIONS, DAGSTER_SCHEMA, dagster_url, database_url
from ingest_pipeline.store.locks import making_tables
from ingest_pipeline.store.migrate import migrate

MORE_CONNECTIONS = 20
"""Opened for a moment when several threads of a process ask at once: Dagster's own number for its webserver."""


class IngestStorage(DagsterPostgresStorage):
    """Dagster's Postgres storage at `INGEST_DATABASE_URL` or the embedded server, in the schema `dagster`.

    The URL is configured in one place, and not in dagster.yaml a second time. The driver is psycopg2 by name, because
    with a bare URL SQLAlchemy uses psycopg 3, with which every event fails (docs/dagster.md, T1).

    Dagster opens a connection for each of the 112 calls of a run, 2 ms each and a new process of the server; here a
    process keeps one open and tests it before each use (docs/dagster.md, M7).
    """

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        if not event.contains(Engine, "do_connect", connect_to_schema):
            event.listen(
                Engine, "do_connect", connect_to_schema
            )  # of all engines: Dagster makes several in its own way
        super().__init__(postgres_url, should_autocreate_tables=True, inst_data=inst_data)
        engine = create_engine(
            postgres_url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=MORE_CONNECTIONS, pool_pre_ping=True
        )
        for part in (self._run_storage, self._event_log_storage, self._schedule_storage):
            part._engine = engine

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return an empty schema: everything is configured by the `INGEST_*` settings."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> IngestStorage:
        """Return the storage in the database of the settings; create missing schemas.

        Raises:
            BadSetting, StoreUnavailable: the database cannot be used.
        """
        url = database_url(read_settings())
        migrate(url)  # the schema `dagster` must exist before Dagster creates its tables
        with making_tables(url):  # two first `ingest run` at once would both create them
            return cls(dagster_url(url), inst_data=inst_data)


def connect_to_schema(dialect: Any, record: object, arguments: list[Any], options: dict[str, Any]) -> Any:
    """Open a connection of Dagster's to its schema; None for other databases, which SQLAlchemy opens as usual.

    The schema is set by a statement: a pooler in session mode refuses or ignores `options` at the start of a session,
    and Dagster's tables would be made in `public`.
    """
    if options.get("options") != DAGSTER_OPTIONS:
        return None
    connection = dialect.connect(*arguments, **{name: value for name, value in options.items() if name != "options"})
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('search_path', %s, false)", (DAGSTER_SCHEMA,))
    connection.commit()
    return connection
