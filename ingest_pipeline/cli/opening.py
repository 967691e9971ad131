"""Opens the store for a command."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ingest_pipeline.settings import Settings

if TYPE_CHECKING:
    from ingest_pipeline.store.connection import Connection


def opened_store(settings: Settings) -> AbstractContextManager[Connection]:
    """Return a connection to the store, whose schema is up to date."""
    from ingest_pipeline.store.connection import database_url, store
    from ingest_pipeline.store.migrate import migrate

    url = database_url(settings)
    migrate(url)  # any command may be the first one after an upgrade
    return store(url)
