"""The OpenVINO engine: the vectors of torch, faster, with half of the memory; for models with mean or CLS pooling."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest_pipeline.embedding.export import exported_model, failure_path, pooling_of
from ingest_pipeline.embedding.model import ModelFiles
from ingest_pipeline.embedding.precision import precision_of
from ingest_pipeline.errors import BadSetting
from ingest_pipeline.models import ModelCard
from ingest_pipeline.settings import Settings

if TYPE_CHECKING:
    import numpy as np

PADDED_TO = 16
"""Texts are padded to a multiple of so many tokens: 4 % of padding, and few shapes (docs/findings.md, H4)."""
KEPT_SHAPES = 16
"""Shapes of input for which OpenVINO and oneDNN each keep compiled code. Without a limit 211 shapes take 57 MB more,
and 420 MB of address space, which a run's limit counts; compiling again costs 6 % when every micro-batch has another
shape, and 1 % on documents (docs/findings.md, H4)."""


class OpenVinoEmbedder:
    """An exported model, computed by OpenVINO."""

    def __init__(self, folder: Path, exported: Path, card: ModelCard, precision: str) -> None:
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT_SHAPES))  # read when oneDNN is first used
        import openvino
        from tokenizers import Tokenizer

        self.card = card
        self._pooling = pooling_of(folder)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._longest = card.max_tokens + self._tokenizer.num_special_tokens_to_add(False)
        self._tokenizer.enable_truncation(self._longest)
        self._tokenizer.no_padding()
        hints = {
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": 1,  # each further one keeps activations of its own
            "INFERENCE_NUM_THREADS": _threads(),
            # By default each process pins its threads to the first cores, and two runs share one (H8).
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": KEPT_SHAPES,
        }
        self._request: Any = openvino.Core().compile_model(str(exported), "CPU", hints).create_infer_request()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return one unit-norm vector per text, in input order, as float32 of shape (len(texts), dimension)."""
        import numpy as np

        if not texts:
            return np.zeros((0, self.card.dimension), dtype=np.float32)
        tokens = [self._tokenizer.encode(text).ids for text in texts]
        longest = min(self._longest, -(-max(map(len, tokens)) // PADDED_TO) * PADDED_TO)
        ids = np.zeros((len(texts), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, token_ids in enumerate(tokens):
            ids[row, : len(token_ids)] = token_ids
            mask[row, : len(token_ids)] = 1
        hidden = np.asarray(self._request.infer({0: ids, 1: mask})[0], dtype=np.float32)
        return pooled(hidden, mask, self._pooling)


def pooled(hidden: np.ndarray, mask: np.ndarray, pooling: str) -> np.ndarray:
    """Return unit-norm text vectors from token vectors, in fp32 (in bf16 the cosine is 0.996, docs/findings.md, H2)."""
    import numpy as np

    if pooling == "cls":
        vectors = hidden[:, 0]
    else:
        weights = mask[..., None].astype(np.float32)
        vectors = (hidden * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit.astype(np.float32)


def _threads() -> int:
    # The supervisor sets the run's share of the cores in this variable, which OpenVINO itself does not read.
    return int(os.environ.get("OMP_NUM_THREADS") or 0)


def takes(model: ModelFiles, home: Path) -> bool:
    """Return whether OpenVINO can compute a model: by its layers, and by whether its export has failed before."""
    try:
        pooling_of(model.folder)
    except BadSetting:
        return False
    return not failure_path(model.card, home=home).exists()


def prepare(model: ModelFiles, home: Path) -> None:
    """Export the model if that has not been done yet.

    Raises:
        BadSetting, ModelExportFailed: the model cannot be exported.
    """
    exported_model(model, home=home)


def load(model: ModelFiles, settings: Settings) -> OpenVinoEmbedder:
    """Return the model, loaded from its exported form; it is exported first if need be."""
    exported = exported_model(model, home=settings.home)
    return OpenVinoEmbedder(model.folder, exported, model.card, precision_of(settings.precision))
