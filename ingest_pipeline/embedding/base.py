"""The interfaces of an embedder. A new one is a module beside `torch.py`, and a row in `engines.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ingest_pipeline.models import Usage

if TYPE_CHECKING:
    import numpy as np


class Embedder(Protocol):
    """A loaded model, or a server that has one."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return one unit-norm vector per text, in input order, as float32 of shape (len(texts), dimension).

        Raises:
            InputRejected, CallFailed, ServiceUnavailable: of a server (see `remote.calls.Caller`).
        """


class ServerEmbedder(Embedder, Protocol):
    """A server; it may be called from several threads."""

    def take_usage(self) -> Usage:
        """Return what the calls cost since this was last asked."""


class Prefixed:
    """An embedder that reads a text before each text: `query:` or `passage:` for models of the E5 family."""

    def __init__(self, embedder: Embedder, prefix: str) -> None:
        self.embedder, self._prefix = embedder, prefix

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of the texts with their prefix."""
        return self.embedder.embed([f"{self._prefix} {text}" for text in texts])
