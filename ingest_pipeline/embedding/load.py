"""Which embedder computes: a table from the engine's name; its libraries are imported when it is loaded.

Both engines give the same vectors (cosine 0.999999 over 128 texts, 2026-11), so a vector does not remember its engine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ingest_pipeline.embedding.base import Embedder
from ingest_pipeline.embedding.model import model_card, model_folder, weights_sha256
from ingest_pipeline.errors import ModelMismatch
from ingest_pipeline.memory.budget import Engine, RunBudget
from ingest_pipeline.models import ModelCard
from ingest_pipeline.settings import Settings


def load_embedder(name: str, card: ModelCard, *, engine: Engine, home: Path) -> Embedder:
    """Load a model into this process.

    Args:
        name: as in `INGEST_MODEL`.
        card: what the model must be; its weights are hashed and compared before they are loaded.
        engine: who computes.
        home: where exported models are cached (`INGEST_HOME`).

    Raises:
        ModelMismatch: the weights on disk are others.
        BadSetting: OpenVINO cannot serve this model.
    """
    return LOADERS[engine](verified_folder(name, card), card, home)


def _load_torch(folder: Path, card: ModelCard, home: Path) -> Embedder:
    from ingest_pipeline.embedding.torch import TorchEmbedder

    return TorchEmbedder(folder, card)


def _load_openvino(folder: Path, card: ModelCard, home: Path) -> Embedder:
    from ingest_pipeline.embedding.export import exported_model
    from ingest_pipeline.embedding.openvino import OpenVinoEmbedder

    return OpenVinoEmbedder(folder, exported_model(folder, card, home=home), card)


LOADERS: dict[Engine, Callable[[Path, ModelCard, Path], Embedder]] = {
    "torch": _load_torch,
    "openvino": _load_openvino,
}


def prepare_engine(settings: Settings) -> None:
    """Make what the engine of these settings needs before a run uses it: a run's limit has no room for it.

    Raises:
        BadSetting, ModelExportFailed: the OpenVINO model cannot be made.
    """
    if RunBudget.of(settings).engine == "openvino":
        from ingest_pipeline.embedding.export import export_path, exported_model

        name, home = settings.model, settings.home
        card = model_card(name)
        if not export_path(card, home=home).is_file():  # each launch asks: the 90 MB of weights are not hashed for it
            exported_model(verified_folder(name, card), card, home=home)


def verified_folder(name: str, card: ModelCard) -> Path:
    """Return a model's folder, its weights being those of the card.

    Raises:
        ModelMismatch: they are others.
    """
    folder = model_folder(name)
    found = weights_sha256(folder)
    if found != card.identity:
        raise ModelMismatch(name, found, card.identity)
    return folder
