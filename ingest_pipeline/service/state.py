"""What all requests share: settings, connections that read, loaded models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request

from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.query_models import QueryModels
from ingest_pipeline.store.connection import Connection, database_url, store
from ingest_pipeline.store.migrate import migrate
from ingest_pipeline.store.pool import ReadPool
from ingest_pipeline.store.reader import prepare_reader

READERS = 4
"""Connections that read at once: two cores compute the answers of no more."""
STATEMENT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Service:
    """The state of one service process."""

    settings: Settings
    pool: ReadPool
    models: QueryModels
    url: str

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a connection that may write, for one request."""
        with store(self.url) as connection:
            yield connection


@contextmanager
def opened_service(settings: Settings) -> Iterator[Service]:
    """Start the embedded server if need be, bring the schema up to date, and connect; at the end close all.

    Raises:
        StoreUnavailable: Postgres cannot be reached.
        ConfigurationError: it cannot be used.
    """
    url = database_url(settings)
    migrate(url)
    pool = ReadPool(url, size=READERS, statement_seconds=STATEMENT_SECONDS, role=prepare_reader(url))
    pool.open()
    try:
        yield Service(settings, pool, QueryModels(settings), url)
    finally:
        pool.close()


def service_of(request: Request) -> Service:
    """Return the state of the service that a request came to."""
    service: Service = request.app.state.service
    return service
