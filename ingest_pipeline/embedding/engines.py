"""The engines that compute: sentence-transformers where memory allows, OpenVINO where it is short.

Both give the same vectors (cosine 0.999999 over 128 texts, 2026-11), so a vector does not remember its engine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ingest_pipeline.embedding.model import model_card, model_folder, weights_sha256
from ingest_pipeline.errors import ModelMismatch
from ingest_pipeline.memory.budget import Engine, RunBudget
from ingest_pipeline.models import ModelCard
from ingest_pipeline.settings import Settings

if TYPE_CHECKING:
    import numpy as np


PADDED_TO = 32
"""Tokens: texts are padded to a multiple of it for OpenVINO."""


class Embedder(Protocol):
    """A loaded model."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return one unit-norm vector per text, in input order, as float32 of shape (len(texts), dimension)."""


def load_embedder(name: str, card: ModelCard, *, engine: Engine, home: Path) -> Embedder:
    """Load a model into this process.

    Args:
        name: as in `INGEST_MODEL`.
        card: what the model must be; its weights are hashed and compared before they are loaded.
        engine: who computes.
        home: where exported models are cached (`INGEST_HOME`).

    Raises:
        ModelMismatch: the weights on disk are others.
        BadSetting: the lean engine cannot serve this model.
    """
    folder = verified_folder(name, card)
    if engine == "torch":
        return TorchEmbedder(folder, card)
    from ingest_pipeline.embedding.export import exported_model

    return LeanEmbedder(folder, exported_model(folder, card, home=home), card)


def prepare_engine(settings: Settings) -> None:
    """Make what the engine of these settings needs before a run uses it: a run's limit has no room for it.

    Raises:
        BadSetting, ModelExportFailed: the lean engine's model cannot be made.
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


class TorchEmbedder:
    """sentence-transformers in this process: every model that it knows, about 600 MiB."""

    def __init__(self, folder: Path, card: ModelCard) -> None:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # a bar for 103 tensors that load in 10 ms
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


class LeanEmbedder:
    """The exported model under OpenVINO: the same vectors in half of the memory.

    It compiles and keeps code for each shape that it meets: 96 shapes cost 50 MiB, and 370 MiB of address space. So
    texts go through it in few shapes: rows in powers of two, lengths in steps of 32; then it stays flat (2026-11).

    Computes in fp32 on every processor: left to itself, OpenVINO takes bf16 where there is hardware for it, and the
    same text would have other vectors on another machine.
    """

    def __init__(self, folder: Path, exported: Path, card: ModelCard) -> None:
        import openvino
        from tokenizers import Tokenizer

        from ingest_pipeline.embedding.export import pooling_of

        self.card = card
        self._pooling = pooling_of(folder)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        special = self._tokenizer.num_special_tokens_to_add(False)
        self._tokenizer.enable_truncation(card.max_tokens + special)
        self._tokenizer.no_padding()
        core = openvino.Core()
        # One stream: a second one keeps activations of its own.
        hints = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": _threads()}
        self._request: Any = core.compile_model(str(exported), "CPU", hints).create_infer_request()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return one unit-norm vector per text, in input order, as float32 of shape (len(texts), dimension)."""
        import numpy as np

        vectors = np.zeros((len(texts), self.card.dimension), dtype=np.float32)
        done = 0
        while done < len(texts):
            rows = 1 << (len(texts) - done).bit_length() - 1
            vectors[done : done + rows] = self._infer(texts[done : done + rows])
            done += rows
        return vectors

    def _infer(self, texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        tokens = [self._tokenizer.encode(text).ids for text in texts]
        longest = max(map(len, tokens))
        ids = np.zeros((len(texts), -(-longest // PADDED_TO) * PADDED_TO), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, found in enumerate(tokens):
            ids[row, : len(found)] = found
            mask[row, : len(found)] = 1
        hidden = np.asarray(self._request.infer({0: ids, 1: mask})[0], dtype=np.float32)
        return pooled(hidden, mask, self._pooling)


def pooled(hidden: np.ndarray, mask: np.ndarray, pooling: str) -> np.ndarray:
    """Return unit-norm text vectors from token vectors, in fp32 (in bf16, pooling cost cosine 0.996)."""
    import numpy as np

    if pooling == "cls":
        vectors = hidden[:, 0]
    else:
        weights = mask[..., None].astype(np.float32)
        vectors = (hidden * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    found: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return found.astype(np.float32)


def _threads() -> int:
    # The supervisor gives a run its share of the cores through OMP's variable, which OpenVINO does not read.
    return int(os.environ.get("OMP_NUM_THREADS") or 0)
