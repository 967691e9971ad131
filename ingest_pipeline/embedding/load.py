"""Selects the embedder for an engine; its libraries are imported when it is loaded.

Both engines give the same vectors (cosine 0.999999 over 128 texts, docs/findings.md, H2), so the engine is not stored
with a vector.
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
        card: the expected model; the weights are hashed and compared before they are loaded.
        engine: which library computes.
        home: where exported models are cached (`INGEST_HOME`).

    Raises:
        ModelMismatch: the weights on disk are different.
        BadSetting: OpenVINO does not support this model.
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
    """Export the model if the engine of these settings needs it; outside of runs, whose limit is too small for it.

    Raises:
        BadSetting, ModelExportFailed: the model cannot be exported.
    """
    if RunBudget.of(settings).engine == "openvino":
        from ingest_pipeline.embedding.export import export_path, exported_model

        name, home = settings.model, settings.home
        card = model_card(name)
        # Checked first, because every launch comes here, and hashing 90 MB of weights takes time.
        if not export_path(card, home=home).is_file():
            exported_model(verified_folder(name, card), card, home=home)


def verified_folder(name: str, card: ModelCard) -> Path:
    """Return a model's folder after comparing its weights with the card.

    Raises:
        ModelMismatch: the weights are different.
    """
    folder = model_folder(name)
    actual = weights_sha256(folder)
    if actual != card.identity:
        raise ModelMismatch(name, actual, card.identity)
    return folder
