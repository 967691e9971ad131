"""The vector index in order, how well it finds, and the ledger against the tables."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ingest_pipeline.embedding.choice import card_of
from ingest_pipeline.memory.machine import usable_cores
from ingest_pipeline.settings import Settings
from ingest_pipeline.store import damage, embedding_models, entities, generations, recall, reports, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.recall import Recall


@dataclass(frozen=True, slots=True)
class IndexWork:
    """What keeping the index in order did, and what it found."""

    generations_dropped: int
    vectors_dropped: int
    entity_texts_dropped: int
    not_unit_norm: int
    counts: dict[str, Any]
    inconsistencies: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def rebuild_index(connection: Connection, settings: Settings) -> bool:
    """Build the index of the model anew while searches go on; return False if it has none yet."""
    number = embedding_models.known_model_id(connection, card_of(settings))
    return number is not None and vectors.rebuild_index(connection, number)


def measure_recall(connection: Connection, settings: Settings) -> Recall:
    """Return how many of the nearest vectors the index finds that an exact search finds, over a sample."""
    card = card_of(settings)
    number = embedding_models.known_model_id(connection, card)
    if number is None:
        return Recall(card.name)
    return recall.measure(connection, number, card.name, dimension=card.dimension)


def refresh_index(connection: Connection, settings: Settings) -> IndexWork:
    """Delete what is unused, make the model's index if it is missing, vacuum, and compare ledger and tables.

    What killed runs left at a provider is deleted, too: no run may come that would do so.
    """
    began, card = time.monotonic(), card_of(settings)
    dropped = (
        generations.drop_unused_generations(connection),
        vectors.drop_unused_vectors(connection),
        entities.drop_unused_entities(connection),
    )
    damage.close_open_attempts(connection)
    number = embedding_models.model_id(connection, card)
    vectors.ensure_index(connection, number, card.dimension, workers=usable_cores() - 1)
    vectors.vacuum(connection)
    if settings.extract:
        from ingest_pipeline.stages.extracts import sweep_remote  # 15 ms, which others need not wait

        sweep_remote(connection, settings)
    return IndexWork(
        generations_dropped=dropped[0],
        vectors_dropped=dropped[1],
        entity_texts_dropped=dropped[2],
        not_unit_norm=vectors.not_unit_norm(connection, number),
        counts=reports.status_counts(connection),
        inconsistencies=reports.inconsistencies(connection),
        seconds=time.monotonic() - began,
    )
