"""Loads the embedder of an engine; its module and libraries are imported when it is loaded.

torch and OpenVINO give the same vectors (cosine 0.999999 over 128 texts, docs/findings.md, H2), so a vector does not
remember its engine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from ingest_pipeline.embedding.base import Embedder
from ingest_pipeline.embedding.model import card_of, identity_under, model_folder, weights_sha256
from ingest_pipeline.engines import ENGINES
from ingest_pipeline.errors import ModelMismatch
from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.models import ModelCard
from ingest_pipeline.settings import Settings

Prepare = Callable[[Callable[[], Path], ModelCard, Path], None]
"""Makes, under a home folder, what an engine needs of a model; the function returns the model's verified folder."""


class EngineModule(Protocol):
    """What the module of an engine offers; one that has to convert models offers `prepare`, too."""

    def load(self, folder: Path, card: ModelCard, home: Path) -> Embedder:
        """Return the model of a verified folder, loaded into this process."""


if TYPE_CHECKING:  # the table of engines holds names: here the types are compared
    from ingest_pipeline.embedding import openvino, torch

    _MODULES: tuple[EngineModule, ...] = (torch, openvino)
    _PREPARE: tuple[Prepare, ...] = (openvino.prepare,)


def load_embedder(name: str, card: ModelCard, *, engine: str, home: Path) -> Embedder:
    """Load a model into this process.

    Args:
        name: as in `INGEST_MODEL`.
        card: the expected model; the weights are hashed and compared before they are loaded.
        engine: which library computes.
        home: where exported models are cached (`INGEST_HOME`).

    Raises:
        ModelMismatch: the weights on disk are different.
        BadSetting: OpenVINO does not support this model.
    """
    return _module(engine).load(verified_folder(name, card, engine), card, home)


def prepare_engine(settings: Settings) -> None:
    """Export the model if the engine of these settings needs it; outside of runs, whose limit is too small for it.

    Raises:
        BadSetting, ModelExportFailed: the model cannot be exported.
    """
    engine = RunBudget.of(settings).engine
    prepare: Prepare | None = getattr(_module(engine), "prepare", None)
    if prepare is not None:
        card = card_of(settings)
        prepare(partial(verified_folder, settings.model, card, engine), card, settings.home)


def verified_folder(name: str, card: ModelCard, engine: str) -> Path:
    """Return a model's folder after comparing its weights with the card.

    Raises:
        ModelMismatch: the weights are different.
    """
    folder = model_folder(name)
    actual = identity_under(engine, weights_sha256(folder))
    if actual != card.identity:
        raise ModelMismatch(name, actual, card.identity)
    return folder


def _module(engine: str) -> EngineModule:
    return cast(EngineModule, import_module(ENGINES[engine].module))
