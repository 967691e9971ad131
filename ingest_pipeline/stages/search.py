"""A question becomes the places that answer it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import product, zip_longest

from ingest_pipeline.embedding.choice import card_of
from ingest_pipeline.embedding.load import load_query_embedder
from ingest_pipeline.errors import IngestError
from ingest_pipeline.models import ModelCard, SearchHit, SearchQuery
from ingest_pipeline.settings import Settings
from ingest_pipeline.store import embedding_models
from ingest_pipeline.store import search as store_search
from ingest_pipeline.store.connection import Connection

logger = logging.getLogger(__name__)


def search(
    connection: Connection, query: SearchQuery, *, settings: Settings, model: str | None = None
) -> list[SearchHit]:
    """Return the chunks that answer a query best, loading the model to embed it.

    Files that the model cannot answer for yet are searched under the model that readers see them by. Scores of two
    models cannot be compared: the hits of both take turns.

    Args:
        connection: to the store.
        query: what is looked for.
        settings: the model.
        model: the name of another model of the store; then only what that one can answer for is searched.

    Raises:
        ConfigurationError: there is no such model.
        BadSetting, ModelMismatch: the model cannot be used.
        ServiceUnavailable: its server cannot be used.
        StoreUnavailable: Postgres went away.
    """
    if model is not None:
        other, stored = embedding_models.model_named(connection, model)
        under, card = _settings_for(settings, stored)
        return _hits(connection, other, card, under, query)
    card = card_of(settings)
    number = embedding_models.known_model_id(connection, card)
    answers = [] if number is None else [_hits(connection, number, card, settings, query)]
    answers += _of_other_models(connection, number, settings, query)
    return _in_turns(answers)[: query.top]


def _hits(
    connection: Connection, model: int, card: ModelCard, settings: Settings, query: SearchQuery
) -> list[SearchHit]:
    vector = load_query_embedder(settings, card).embed([query.text])[0]
    return store_search.search(connection, model, vector, query)


def _of_other_models(
    connection: Connection, model: int | None, settings: Settings, query: SearchQuery
) -> Iterator[list[SearchHit]]:
    """Yield the hits in files that readers see under another model only; one that cannot be loaded is passed over."""
    for number, stored in embedding_models.shown_under_others(connection, model):
        try:
            under, card = _settings_for(settings, stored)
            vector = load_query_embedder(under, card).embed([query.text])[0]
        except IngestError as error:
            logger.warning("files that are searchable only under %s are left out: %s", stored.name, error)
            continue
        yield store_search.search(connection, number, vector, query, only_shown=True)


def _settings_for(settings: Settings, stored: ModelCard) -> tuple[Settings, ModelCard]:
    """Return settings that load a stored model, and its card.

    Dimensions and prefixes of the settings are the present model's: whether the stored one has them too is found out
    by its identity.

    Raises:
        IngestError: what is loaded under its name is another model.
    """
    own = settings.query_model if stored.name == settings.model else ""
    named = replace(settings, model=stored.name, embedder=stored.embedder, query_model=own)
    for dimensions, prefix in product((0, stored.dimension), {settings.passage_prefix: 1, "": 1}):
        queries = settings.query_prefix if prefix else ""
        under = replace(named, dimensions=dimensions, passage_prefix=prefix, query_prefix=queries)
        card = card_of(under)
        if card.identity == stored.identity:
            return under, card
    raise IngestError(f"the model {stored.name} is another one now")


def _in_turns(answers: list[list[SearchHit]]) -> list[SearchHit]:
    return [hit for turn in zip_longest(*answers) for hit in turn if hit is not None]
