"""Vectors when somebody asks for them: of a text, of one file's chunks, of all that wait."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest_pipeline.chunking import text_hash
from ingest_pipeline.embedding.base import Embedder
from ingest_pipeline.embedding.choice import card_of
from ingest_pipeline.embedding.load import load_embedder, load_query_embedder
from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import ModelCard, RawFile
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.embeddings import WINDOW_CHUNKS, maker_for, store_made
from ingest_pipeline.stages.run import run_without_batch
from ingest_pipeline.store import embedding_models, files, generations, usage, vectors
from ingest_pipeline.store.connection import Connection

if TYPE_CHECKING:
    import numpy as np

NO_FILE = RawFile(0, "", "", "", 0, "", "")
"""The work is on chunks of any file."""
TEXTS_AT_A_TIME = 8


@dataclass(frozen=True, slots=True)
class EmbeddedText:
    """A text and its vector."""

    text: str
    vector: list[float]
    known: bool
    """Whether the vector was in the store."""


def embed_texts(
    connection: Connection, texts: Sequence[str], *, settings: Settings, queries: bool = False
) -> list[EmbeddedText]:
    """Return the vectors of some texts: from the store where a chunk has the same text, else computed now.

    Args:
        connection: to the store.
        texts: in any number; those that the store does not know are embedded together.
        settings: the model.
        queries: embed them as queries, for models that make a difference.

    Raises:
        BadSetting, ModelMismatch, ServiceUnavailable: the model cannot be used.
    """
    card = card_of(settings)
    known = {} if queries else known_vectors(connection, texts, card)
    unknown = list(dict.fromkeys(text for text in texts if text not in known))
    made: dict[str, list[float]] = {}
    if unknown:
        embedder = (load_query_embedder if queries else load_embedder)(settings, card)
        made = {text: [float(number) for number in vector] for text, vector in _embedded(embedder, unknown)}
    return [EmbeddedText(text, known.get(text) or made[text], text in known) for text in texts]


def request_vectors(connection: Connection, *, settings: Settings, path: str | None = None) -> int:
    """Let deferred chunks wait for their vectors; return how many texts.

    Args:
        connection: to the store.
        settings: the model.
        path: of a file, or the end of it; None: of all files.

    Raises:
        ConfigurationError: no file that readers see has this path.
    """
    model = embedding_models.model_id(connection, card_of(settings))
    if path is None:
        return vectors.request_deferred(connection, model)
    shown = generations.shown_at(connection, path)
    if not shown:
        raise ConfigurationError(f"{path}: no searchable file has this path; `ingest files` lists them")
    return sum(vectors.request_deferred(connection, model, number) for number in shown)


def embed_waiting(connection: Connection, *, settings: Settings) -> tuple[int, int]:
    """Make the vectors of all chunks that readers see and that wait; each micro-batch is committed.

    Returns:
        How many texts were embedded, and how many the embedder rejected.

    Raises:
        BadSetting, ModelMismatch, ServiceUnavailable: the model cannot be used.
        RunOutOfMemory: the process came to `INGEST_RUN_MEMORY`.
    """
    run, made, rejected = run_without_batch(connection, settings), 0, 0
    run_id = f"command-{uuid.uuid4()}"
    with TreeWatch(Degradation(limit_bytes=settings.run_memory)) as watch:
        maker = maker_for(run, lambda: load_embedder(settings, run.card), watch)
        for number in generations.shown_waiting(connection, run.model_id):
            while chunks := vectors.pending_chunks(connection, run.model_id, [number], limit=WINDOW_CHUNKS):
                for piece in maker.made(NO_FILE, chunks):
                    store_made(run, piece)
                    usage.add_usage(
                        connection,
                        maker.take_usage(),
                        run_id=run_id,
                        file_id=0,
                        stage="embeddings",
                        model=run.card.name,
                    )
                    made, rejected = made + len(piece.vectors), rejected + len(piece.rejected)
            generations.note_model(connection, number, run.model_id)
    files.show_under_model(connection, run.model_id)
    return made, rejected


def known_vectors(connection: Connection, texts: Sequence[str], card: ModelCard) -> dict[str, list[float]]:
    """Return the vectors, by text, of those texts that are a chunk's under this model."""
    model = embedding_models.known_model_id(connection, card)
    if model is None:
        return {}
    found = ((text, vectors.known_vector(connection, model, text_hash(text))) for text in texts)
    return {text: vector for text, vector in found if vector is not None}


def _embedded(embedder: Embedder, texts: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    for start in range(0, len(texts), TEXTS_AT_A_TIME):
        some = texts[start : start + TEXTS_AT_A_TIME]
        yield from zip(some, embedder.embed(some), strict=True)
