"""Dagster's own tables in the same Postgres as ours, found through the same settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_postgres import DagsterPostgresStorage

from ingest_pipeline.instance.dagster_private import ConfigurableClassData
from ingest_pipeline.settings import read_settings
from ingest_pipeline.store.connection import dagster_url, database_url
from ingest_pipeline.store.migrate import migrate


class IngestStorage(DagsterPostgresStorage):
    """Dagster's Postgres storage at `INGEST_DATABASE_URL` or the embedded server, in the schema `dagster`.

    One place for the URL, so that no user has to write it into dagster.yaml a second time; psycopg2 by name,
    because a bare URL picks psycopg 3 and breaks every event (docs/dagster.md, T1).
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """No configuration: the `INGEST_*` settings say it all."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> IngestStorage:
        """Connect to the database of the settings; its schemas are made when they are missing.

        Raises:
            BadSetting, StoreUnavailable: in one clear line.
        """
        url = database_url(read_settings())
        migrate(url)
        return cls(postgres_url=dagster_url(url), should_autocreate_tables=True, inst_data=inst_data)
