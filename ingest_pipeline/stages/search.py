"""A question becomes the places that answer it, and a statement of what was searched."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import zip_longest

from ingest_pipeline.errors import IngestError
from ingest_pipeline.models import ModelCard
from ingest_pipeline.search_models import SearchAnswer, SearchHit, SearchQuery
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.query_models import QueryModels, QueryVector
from ingest_pipeline.store import coverage, embedding_models
from ingest_pipeline.store import search as store_search
from ingest_pipeline.store.connection import Connection

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A model that is asked."""

    number: int
    name: str
    stored: ModelCard | None
    """None: it is the model of the settings."""
    only_shown: bool
    """Only files that readers see under it: the other model cannot answer for them."""


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
    notes: list[str] = []
    answers: list[list[SearchHit]] = []
    asked = _asked_models(connection, models, model)
    for one in asked:
        vector = _vector(models, one, query.text, notes)
        if vector is not None:
            answers.append(
                store_search.search(
                    connection, one.number, vector.vector, query, only_shown=one.only_shown, vector_weight=vector.weight
                )
            )
    covered = coverage.coverage(connection, query, model=asked[0].number if model is not None else None)
    names = tuple(one.name for one in asked)
    return SearchAnswer(tuple(_in_turns(answers)[: query.top]), covered, names, tuple(notes))


def _asked_models(connection: Connection, models: QueryModels, model: str | None) -> list[_Asked]:
    if model is not None:
        number, stored = embedding_models.model_named(connection, model)
        return [_Asked(number, stored.name, None if stored.identity == models.card.identity else stored, False)]
    known = embedding_models.known_model_id(connection, models.card)
    asked = [] if known is None else [_Asked(known, models.card.name, None, False)]
    others = embedding_models.shown_under_others(connection, known)
    return asked + [_Asked(number, stored.name, stored, True) for number, stored in others]


def _vector(models: QueryModels, asked: _Asked, text: str, notes: list[str]) -> QueryVector | None:
    """Return the query's vector; None if a model cannot be loaded under which readers see some files: it is noted."""
    try:
        vector = models.vector(text, asked.stored)
    except IngestError as error:
        if not asked.only_shown:
            raise
        logger.warning("files that are searchable only under %s are left out: %s", asked.name, error)
        notes.append(f"files that are searchable only under {asked.name} are left out: {error}")
        return None
    if not vector.is_read:
        notes.append(f"{asked.name} does not know the words of this query: texts with the same words come first")
    return vector


def _in_turns(answers: list[list[SearchHit]]) -> list[SearchHit]:
    return [hit for turn in zip_longest(*answers) for hit in turn if hit is not None]
