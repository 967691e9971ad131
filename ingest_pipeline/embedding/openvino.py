"""The OpenVINO engine: the same vectors as torch with half of the memory, for models with mean or CLS pooling."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest_pipeline.models import ModelCard

if TYPE_CHECKING:
    import numpy as np

PADDED_TO = 32
"""Texts are padded to a multiple of so many tokens, so that few shapes are compiled."""


class OpenVinoEmbedder:
    """An exported model, computed by OpenVINO.

    OpenVINO compiles and keeps code for each input shape: 96 shapes take 50 MiB, and 370 MiB of address space. So there
    are few shapes: rows in powers of two, lengths in multiples of 32; then memory does not grow (docs/findings.md, H4).

    Computes in fp32 on every processor: by default OpenVINO uses bf16 where the hardware supports it, and the same text
    would have different vectors on different machines (H3).
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
        # One stream: each further one keeps activations of its own.
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


def prepare(verified_folder: Callable[[], Path], card: ModelCard, home: Path) -> None:
    """Export the model if that has not been done yet.

    Raises:
        BadSetting, ModelExportFailed: the model cannot be exported.
    """
    from ingest_pipeline.embedding.export import export_path, exported_model

    # Checked first, because every launch comes here, and hashing 90 MB of weights takes time.
    if not export_path(card, home=home).is_file():
        exported_model(verified_folder(), card, home=home)


def load(folder: Path, card: ModelCard, home: Path) -> OpenVinoEmbedder:
    """Return the model of a folder, loaded from its exported form; it is exported first if need be."""
    from ingest_pipeline.embedding.export import exported_model

    return OpenVinoEmbedder(folder, exported_model(folder, card, home=home), card)
