"""The interface of an embedder. A new one is a module beside `torch.py`, and a row in `engines.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


class Embedder(Protocol):
    """A loaded model."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return one unit-norm vector per text, in input order, as float32 of shape (len(texts), dimension)."""
