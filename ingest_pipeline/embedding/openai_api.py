"""Vectors of a server that speaks the OpenAI protocol: one call for some texts, each answer checked.

Servers answer out of order, with too few vectors, with NaN, or with a page of HTML (docs/findings.md, L).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest_pipeline.embedding.model import tokenizer_sha256
from ingest_pipeline.errors import BadSetting, CallError, CallFailed, ServiceUnavailable
from ingest_pipeline.models import ModelCard, Usage
from ingest_pipeline.remote.calls import Caller, CallLimits
from ingest_pipeline.remote.openai_client import OpenAiAccess, named_failures, openai_client
from ingest_pipeline.settings import Settings

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class KnownModel:
    """What OpenAI says of a model (2026-11)."""

    dimension: int
    tokens: int = 8191


KNOWN = {
    "text-embedding-3-small": KnownModel(1536),
    "text-embedding-3-large": KnownModel(3072),
    "text-embedding-ada-002": KnownModel(1536),
}
CHUNK_TOKENS = 512
"""Of a chunk unless the setting says otherwise: what every model in use takes. Longer passages are found less well."""
PREFIX_TOKENS = 16
"""Left free in a model of 512 tokens for special tokens and a prefix."""
BYTES_ARE_TOKENS = "bytes/2"
MAX_DIMENSION = 4000  # of halfvec in an HNSW index (pgvector 0.8)
MAX_NORM_ERROR = 1e-3
PROBE = "probe"
PROBE_SECONDS = 10.0


def card(settings: Settings) -> ModelCard:
    """Return the card of the model on the server; its dimension is asked for once, if it is not known.

    Raises:
        BadSetting: the client library or the key is missing.
        ServiceUnavailable: the server was asked, and cannot be used.
    """
    known = KNOWN.get(settings.model)
    dimension = settings.dimensions or (known.dimension if known else _asked_dimension(settings))
    if dimension > MAX_DIMENSION:
        raise BadSetting("INGEST_DIMENSIONS", str(dimension), f"at most {MAX_DIMENSION}, what an index can hold")
    takes = settings.model_tokens or (known.tokens if known else CHUNK_TOKENS - PREFIX_TOKENS)
    name = settings.model if not settings.passage_prefix else f"{settings.model} {settings.passage_prefix}"
    identity = hashlib.sha256(f"openai {name} {dimension}".encode()).hexdigest()
    return ModelCard(
        name=settings.model,
        identity=identity,
        dimension=dimension,
        max_tokens=min(takes, settings.chunk_tokens or CHUNK_TOKENS),
        tokenizer=tokenizer_sha256(settings.tokenizer) if settings.tokenizer else BYTES_ARE_TOKENS,
        limit_tokens=takes,
        embedder="openai",
    )


def probe(settings: Settings) -> int:
    """Return of how many dimensions the server's vectors are; one text is sent, once, and nothing is kept.

    Raises:
        BadSetting: the client library or the key is missing.
        CallError, ServiceUnavailable: the server cannot be used.
    """
    client = openai_client(OpenAiAccess(settings.embedder_url, min(settings.embedder_call_seconds, PROBE_SECONDS)))
    shortened = settings.dimensions if settings.dimensions != _own_dimension(settings.model) else 0
    caller = Caller("the embedder", CallLimits(max_errors=1))
    return int(OpenAiEmbedder(client, caller, Request(settings.model, shortened=shortened)).embed([PROBE]).shape[1])


def connect(settings: Settings, card: ModelCard, *, queries: bool = False) -> OpenAiEmbedder:
    """Return an embedder of chunks, or of queries, for a model on the server."""
    name = (settings.query_model if queries else "") or settings.model
    prefix = settings.query_prefix if queries else settings.passage_prefix
    limits = CallLimits(
        calls_per_minute=settings.embedder_calls_per_minute,
        tokens_per_minute=settings.embedder_tokens_per_minute,
        pause_seconds=settings.embedder_pause_seconds,
        max_errors=settings.max_errors,
    )
    access = OpenAiAccess(settings.embedder_url, settings.embedder_call_seconds)
    shortened = settings.dimensions if settings.dimensions != _own_dimension(settings.model) else 0
    request = Request(name, card.dimension, shortened, f"{prefix} " if prefix else "")
    return OpenAiEmbedder(openai_client(access), Caller("the embedder", limits), request)


@dataclass(frozen=True, slots=True)
class Request:
    """What is the same in each call."""

    model: str
    dimension: int = 0
    """Of the vectors that are expected; 0: any."""
    shortened: int = 0
    """To so many dimensions; 0: not."""
    prefix: str = ""
    """Of each text."""


class OpenAiEmbedder:
    """Embeds texts by calls of `/embeddings`."""

    def __init__(self, client: Any, caller: Caller, request: Request) -> None:
        self._client, self._caller, self._request = client, caller, request
        self._lock = threading.Lock()
        self._calls = self._tokens = 0

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return one unit-norm vector per text, in input order, as float32 of shape (len(texts), dimension)."""
        import numpy as np

        if not texts:
            return np.zeros((0, self._request.dimension), dtype=np.float32)
        texts = [self._request.prefix + text for text in texts]
        estimate = sum(len(text.encode("utf-8", "replace")) for text in texts) // 4 + 1
        vectors: np.ndarray = self._caller.call(lambda: self._ask(texts), tokens=estimate)
        return vectors

    def take_usage(self) -> Usage:
        """Return what the calls cost since this was last asked."""
        failed = self._caller.take_failed_calls()
        with self._lock:
            usage = Usage(calls=self._calls + failed, failed_calls=failed, prompt_tokens=self._tokens)
            self._calls = self._tokens = 0
        return usage

    def _ask(self, texts: Sequence[str]) -> np.ndarray:
        request = self._request
        more = {"dimensions": request.shortened} if request.shortened else {}
        with named_failures():
            # As floats: a server of one's own may not know base64, and what it sends instead is not noticed.
            answer = self._client.embeddings.create(
                model=request.model, input=list(texts), encoding_format="float", **more
            )
            rows = sorted(((item.index, item.embedding) for item in answer.data), key=lambda row: row[0])
            tokens = int(getattr(answer.usage, "prompt_tokens", 0) or 0) if answer.usage else 0
        vectors = checked_vectors(rows, texts=len(texts), dimension=request.dimension)
        with self._lock:
            self._calls, self._tokens = self._calls + 1, self._tokens + tokens
        return vectors


def checked_vectors(rows: Sequence[tuple[int, Sequence[float]]], *, texts: int, dimension: int) -> np.ndarray:
    """Return the vectors of an answer, normalized.

    Args:
        rows: index and vector, by index.
        texts: how many were sent.
        dimension: of a vector; 0: any.

    Raises:
        CallFailed: one is missing, of another dimension, zero, or has a number that is not finite.
    """
    import numpy as np

    if [index for index, _ in rows] != list(range(texts)):
        raise CallFailed(f"the answer has {len(rows)} vectors for {texts} texts, or indexes that are not theirs")
    if wrong := next((len(vector) for _, vector in rows if dimension and len(vector) != dimension), None):
        raise CallFailed(f"the answer has vectors of {wrong} dimensions, not {dimension}: INGEST_DIMENSIONS")
    vectors = np.array([vector for _, vector in rows], dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms < MAX_NORM_ERROR).any():
        raise CallFailed("the answer has a vector that is zero or not finite")
    return vectors / norms


def _own_dimension(model: str) -> int:
    return KNOWN[model].dimension if model in KNOWN else 0


def _asked_dimension(settings: Settings) -> int:
    """Return the dimension of a model's vectors: asked for once, then read from a file under `INGEST_HOME`."""
    key = hashlib.sha256(f"{settings.embedder_url} {settings.model}".encode()).hexdigest()[:16]
    path: Path = settings.home / "models" / f"{key}.dimension"
    if path.is_file():
        return int(path.read_text())
    limits = CallLimits(max_errors=settings.max_errors)
    client = openai_client(OpenAiAccess(settings.embedder_url, settings.embedder_call_seconds))
    embedder = OpenAiEmbedder(client, Caller("the embedder", limits), Request(settings.model))
    try:
        dimension = embedder.embed([PROBE]).shape[1]
    except CallError as error:
        raise ServiceUnavailable(f"the dimension of {settings.model} is not known: {error}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(str(dimension))
    temporary.replace(path)
    return int(dimension)
