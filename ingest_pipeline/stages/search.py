"""A question becomes the places that answer it, and a statement of what was searched."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import zip_longest

from ingest_pipeline.errors import IngestError
from ingest_pipeline.search_models import SearchAnswer, SearchHit, SearchQuery
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.query_models import QueryModels
from ingest_pipeline.store import coverage, embedding_models
from ingest_pipeline.store import search as store_search
from ingest_pipeline.store.connection import Connection

logger = logging.getLogger(__name__)
ModelHits = tuple[str, list[SearchHit]]
"""The name of a model, and what its vectors and the query's words found."""


def search(
    connection: Connection,
    query: SearchQuery,
    *,
    settings: Settings,
    model: str | None = None,
    models: QueryModels | None = None,
) -> SearchAnswer:
    """Return the texts that answer a query best, and what was searched.

    Files that the model cannot answer for yet are searched under the model that readers see them by. Scores of two
    models cannot be compared: the hits of both take turns.

    Args:
        connection: to the store.
        query: what is looked for, and where.
        settings: the model.
        model: the name of another model of the store; then only what that one can answer for is searched.
        models: those that are loaded already, by a process that answers more than one query.

    Raises:
        ConfigurationError: there is no such model.
        BadSetting, ModelMismatch: the model cannot be used.
        ServiceUnavailable: its server cannot be used.
        StoreUnavailable: Postgres went away.
    """
    models = models or QueryModels(settings)
    answers, notes = _answers(connection, query, models, model)
    hits = tuple(_in_turns([found for _, found in answers])[: query.top])
    covered = coverage.coverage(connection, query, model=_number(connection, model))
    return SearchAnswer(hits, covered, tuple(name for name, _ in answers), tuple(notes))


def _answers(
    connection: Connection, query: SearchQuery, models: QueryModels, model: str | None
) -> tuple[list[ModelHits], list[str]]:
    notes: list[str] = []
    if model is not None:
        number, stored = embedding_models.model_named(connection, model)
        own = None if stored.identity == models.card.identity else stored
        return [(stored.name, store_search.search(connection, number, models.vector(query.text, own), query))], notes
    card, answers = models.card, []
    known = embedding_models.known_model_id(connection, card)
    if known is not None:
        answers.append((card.name, store_search.search(connection, known, models.vector(query.text), query)))
    answers += _of_other_models(connection, known, models, query, notes)
    return answers, notes


def _of_other_models(
    connection: Connection, model: int | None, models: QueryModels, query: SearchQuery, notes: list[str]
) -> Iterator[ModelHits]:
    """Yield the hits in files that readers see under another model only; one that cannot be loaded is passed over."""
    for number, stored in embedding_models.shown_under_others(connection, model):
        try:
            vector = models.vector(query.text, stored)
        except IngestError as error:
            logger.warning("files that are searchable only under %s are left out: %s", stored.name, error)
            notes.append(f"files that are searchable only under {stored.name} are left out: {error}")
            continue
        yield stored.name, store_search.search(connection, number, vector, query, only_shown=True)


def _number(connection: Connection, model: str | None) -> int | None:
    return None if model is None else embedding_models.model_named(connection, model)[0]


def _in_turns(answers: list[list[SearchHit]]) -> list[SearchHit]:
    return [hit for turn in zip_longest(*answers) for hit in turn if hit is not None]
