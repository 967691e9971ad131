"""Chooses the engine for a model, and with it the model's card and the budget of a run."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from ingest_pipeline.embedding.base import Embedder, ServerEmbedder
from ingest_pipeline.embedding.model import ModelFiles, card_under, model_card, model_folder, tokenizer_file
from ingest_pipeline.embedding.precision import precision_of
from ingest_pipeline.engines import AUTO, ENGINES, LOCAL, ON_THIS_MACHINE
from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.models import ModelCard
from ingest_pipeline.settings import Settings


class EngineModule(Protocol):
    """What the module of an engine on this machine offers; `takes` and `prepare` may be missing."""

    def load(self, model: ModelFiles, settings: Settings) -> Embedder:
        """Return the model, loaded into this process."""


class ServerModule(Protocol):
    """What the module of a server's protocol offers."""

    def card(self, settings: Settings) -> ModelCard:
        """Return the card of the model on the server."""

    def probe(self, settings: Settings) -> int:
        """Return of how many dimensions the server's vectors are; it is asked once."""

    def connect(self, settings: Settings, card: ModelCard, *, queries: bool = False) -> ServerEmbedder:
        """Return an embedder of chunks, or of queries, that calls the server."""


def engine_of(settings: Settings) -> str:
    """Return the server's protocol or the engine that was asked for; for `auto` the first that can compute the model.

    Raises:
        BadSetting: there is no such model.
    """
    if settings.embedder != LOCAL:
        return settings.embedder
    if settings.engine != AUTO:
        return settings.engine
    return next(name for name in ON_THIS_MACHINE if _takes(name, settings))


def budget_of(settings: Settings) -> RunBudget:
    """Return the budget of a run under these settings.

    Raises:
        BadSetting: there is no such model, or the processor does not have the precision.
    """
    return RunBudget.of(settings, engine_of(settings), precision_of(settings.precision))


def card_of(settings: Settings) -> ModelCard:
    """Return the card of the model of these settings, as their engine computes it.

    Raises:
        BadSetting: there is no such model.
        ServiceUnavailable: the dimension of a server's model is not known, and the server cannot be used.
    """
    engine = engine_of(settings)
    if ENGINES[engine].server:
        return server_module(engine).card(settings)
    return files_under(settings, engine).card


def tokenizer_of(settings: Settings) -> Path | None:
    """Return the file of the tokenizer that counts tokens for the model; None where they are estimated.

    Raises:
        BadSetting: there is no such tokenizer.
    """
    if settings.embedder == LOCAL:
        return model_folder(settings.model) / "tokenizer.json"
    return tokenizer_file(settings.tokenizer) if settings.tokenizer else None


def files_under(settings: Settings, engine: str) -> ModelFiles:
    """Return the files of the model of these settings, and its card as an engine computes it.

    Raises:
        BadSetting: there is no such model.
    """
    card = card_under(model_card(settings.model), engine, settings.passage_prefix)
    if settings.chunk_tokens:
        smaller = min(card.max_tokens, settings.chunk_tokens)
        card = replace(card, max_tokens=smaller, limit_tokens=card.max_tokens)
    return ModelFiles(model_folder(settings.model), card, engine, settings.passage_prefix)


def module_of(engine: str) -> EngineModule:
    """Return the module of an engine; this does not load its libraries."""
    return cast(EngineModule, import_module(ENGINES[engine].module))


def server_module(engine: str) -> ServerModule:
    """Return the module of a server's protocol; this does not load its client."""
    return cast(ServerModule, import_module(ENGINES[engine].module))


def _takes(engine: str, settings: Settings) -> bool:
    takes = getattr(module_of(engine), "takes", None)
    return takes is None or bool(takes(files_under(settings, engine), settings.home))
