"""What a program in Python calls: `ingest_pipeline.search(...)`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ingest_pipeline.search_models import SearchAnswer, SearchQuery, SearchScope
from ingest_pipeline.settings import Settings, read_settings
from ingest_pipeline.stages.query_models import QueryModels
from ingest_pipeline.stages.search import search
from ingest_pipeline.store.connection import database_url, store
from ingest_pipeline.store.migrate import migrate


def ask_for(
    text: str, *, top: int, context: int, model: str | None, settings: Settings | None, **scope: Any
) -> SearchAnswer:
    """Return the answer to a query; see `ingest_pipeline.search`."""
    settings = settings or read_settings()
    query = SearchQuery(text, top, SearchScope(**scope), context)
    with store(_ready_url(settings)) as connection:
        return search(connection, query, settings=settings, model=model, models=_models(settings))


@lru_cache(maxsize=2)  # a program asks one store, with one model
def _models(settings: Settings) -> QueryModels:
    return QueryModels(settings)


@lru_cache(maxsize=2)
def _ready_url(settings: Settings) -> str:
    url = database_url(settings)
    migrate(url)
    return url
