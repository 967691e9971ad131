"""A question becomes the places that answer it."""

from __future__ import annotations

from ingest_pipeline.embedding.choice import card_of
from ingest_pipeline.embedding.load import load_embedder
from ingest_pipeline.models import SearchHit
from ingest_pipeline.settings import Settings
from ingest_pipeline.store import search as store_search
from ingest_pipeline.store.connection import Connection


def search(connection: Connection, *, settings: Settings, query: str, top: int) -> list[SearchHit]:
    """Return the chunks that answer a query best, loading the model to embed it.

    Raises:
        BadSetting, ModelMismatch: the model cannot be used.
        StoreUnavailable: Postgres went away.
    """
    card = card_of(settings)
    vector = load_embedder(settings, card).embed([query])[0]
    return store_search.search(connection, card, vector, query=query, top=top)
