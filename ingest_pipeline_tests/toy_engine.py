"""Hashed words, an engine with vectors of its own: what a new engine has to offer. One module, one row of `ENGINES`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ingest_pipeline.embedding.model import ModelFiles
from ingest_pipeline.engines import MIB, Engine, Footprint
from ingest_pipeline.settings import Settings

ROW = Engine(
    "ingest_pipeline_tests.toy_engine",
    f32=Footprint(floor_bytes=200 * MIB, minimum_bytes=384 * MIB, max_batch_tokens=4096),
    own_vectors="hashed words 1",
)


def prepare(model: ModelFiles, home: Path) -> None:
    """Note that this model was prepared, as an engine would that has to convert it."""
    (home / "prepared").write_text(f"{model.verified().name} {model.card.name}")


def load(model: ModelFiles, settings: Settings) -> ToyEmbedder:
    """Return an embedder; it computes nothing with the weights."""
    model.verified()
    return ToyEmbedder(model.card.dimension)


class ToyEmbedder:
    """Counts words by their hash."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return one unit-norm vector per text, as float32 of shape (len(texts), dimension)."""
        vectors = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in text.lower().split() or [""]:
                vector[int(hashlib.sha256(word.encode()).hexdigest(), 16) % self._dimension] += 1
            vector /= np.linalg.norm(vector)
        return vectors
