"""The torch engine: sentence-transformers, for every model that it supports; a run peaks at about 600 MiB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ingest_pipeline.embedding.model import ModelFiles
from ingest_pipeline.models import ModelCard
from ingest_pipeline.settings import Settings

if TYPE_CHECKING:
    import numpy as np


class TorchEmbedder:
    """A sentence-transformers model in this process."""

    def __init__(self, folder: Path, card: ModelCard) -> None:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # loading takes 10 ms
        self.card = card
        self._model = SentenceTransformer(str(folder), local_files_only=True)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return one unit-norm vector per text, in input order, as float32 of shape (len(texts), dimension)."""
        vectors: np.ndarray = self._model.encode(
            list(texts),
            batch_size=max(1, len(texts)),
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return vectors.reshape(len(texts), self.card.dimension)


def load(model: ModelFiles, settings: Settings) -> TorchEmbedder:
    """Return the model, loaded."""
    return TorchEmbedder(model.verified(), model.card)
