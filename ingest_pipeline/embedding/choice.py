"""Chooses the engine for a model, and with it the model's card and the budget of a run."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Protocol, cast

from ingest_pipeline.embedding.base import Embedder
from ingest_pipeline.embedding.model import ModelFiles, identity_under, model_card, model_folder
from ingest_pipeline.embedding.precision import precision_of
from ingest_pipeline.engines import AUTO, ENGINES
from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.models import ModelCard
from ingest_pipeline.settings import Settings


class EngineModule(Protocol):
    """What the module of an engine offers; `takes` and `prepare` may be missing."""

    def load(self, model: ModelFiles, settings: Settings) -> Embedder:
        """Return the model, loaded into this process."""


def engine_of(settings: Settings) -> str:
    """Return the engine that was asked for; for `auto` the first that can compute the model.

    Raises:
        BadSetting: there is no such model.
    """
    if settings.engine != AUTO:
        return settings.engine
    return next(name for name in ENGINES if _takes(name, settings))


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
    """
    return files_under(settings, engine_of(settings)).card


def files_under(settings: Settings, engine: str) -> ModelFiles:
    """Return the files of the model of these settings, and its card as an engine computes it.

    Raises:
        BadSetting: there is no such model.
    """
    card = model_card(settings.model)
    card = replace(card, identity=identity_under(engine, card.identity))
    return ModelFiles(model_folder(settings.model), card, engine)


def module_of(engine: str) -> EngineModule:
    """Return the module of an engine; this does not load its libraries."""
    return cast(EngineModule, import_module(ENGINES[engine].module))


def _takes(engine: str, settings: Settings) -> bool:
    takes = getattr(module_of(engine), "takes", None)
    return takes is None or bool(takes(files_under(settings, engine), settings.home))
