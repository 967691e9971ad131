"""Models that embed queries and passages, loaded once for as long as somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from threading import Lock
from typing import TYPE_CHECKING

from ingest_pipeline.chunking import Encode, load_encoder
from ingest_pipeline.embedding.base import Embedder
from ingest_pipeline.embedding.choice import card_of, tokenizer_of
from ingest_pipeline.embedding.load import load_query_embedder, passages_beside
from ingest_pipeline.errors import IngestError
from ingest_pipeline.models import ModelCard
from ingest_pipeline.settings import Settings

if TYPE_CHECKING:
    import numpy as np

PASSAGES_AT_A_TIME = 2
"""As fast as 8 on two cores, with 40 MiB less: a service has 300."""


class QueryModels:
    """The models of one process: each is loaded when it is first asked, and used by one thread at a time.

    Args:
        settings: the model that is asked unless another is named.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = Lock()
        self._card: ModelCard | None = None
        self._loaded: dict[str, Embedder] = {}
        self._passages: Embedder | None = None
        self._counting = Lock()
        self._encode: Encode | None = None

    @property
    def card(self) -> ModelCard:
        """The card of the model of the settings.

        Raises:
            BadSetting, ServiceUnavailable: the model cannot be used.
        """
        if self._card is None:
            self._card = card_of(self.settings)  # of a model in a folder it reads all the weights
        return self._card

    def vector(self, text: str, stored: ModelCard | None = None) -> np.ndarray:
        """Return the vector of a query, of shape (dimension,), by the model of the settings or by a stored one.

        Raises:
            BadSetting, ModelMismatch: the model cannot be used.
            ServiceUnavailable: its server cannot be used.
            IngestError: what is loaded under the stored model's name is another model.
        """
        with self._lock:
            vector: np.ndarray = self._embedder(stored).embed([text])[0]
        return vector

    def passages(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        """Yield the vector of each text as a chunk's, of shape (dimension,), by the model of the settings.

        A few texts hold the model at a time: queries come between them.

        Raises:
            BadSetting, ModelMismatch: the model cannot be used.
            InputRejected, CallFailed, ServiceUnavailable: its server cannot be used, or refuses a text.
        """
        for start in range(0, len(texts), PASSAGES_AT_A_TIME):
            with self._lock:
                if self._passages is None:
                    self._passages = passages_beside(self._embedder(None), self.settings, self.card)
                vectors = self._passages.embed(texts[start : start + PASSAGES_AT_A_TIME])
            yield from vectors

    def tokens(self, text: str) -> int:
        """Return how many tokens a text has for the model of the settings, without special ones.

        Raises:
            BadSetting: the model has no tokenizer that can be used.
        """
        with self._counting:
            if self._encode is None:
                self._encode = load_encoder(tokenizer_of(self.settings))
        return len(self._encode(text))

    def _embedder(self, stored: ModelCard | None) -> Embedder:
        key = stored.identity if stored else ""
        if key not in self._loaded:
            under, card = self._settings_for(stored) if stored else (self.settings, self.card)
            self._loaded[key] = load_query_embedder(under, card)
        return self._loaded[key]

    def _settings_for(self, stored: ModelCard) -> tuple[Settings, ModelCard]:
        """Return settings that load a stored model, and its card.

        Dimensions and prefixes of the settings are the present model's: whether the stored one has them too is found
        out by its identity.
        """
        settings = self.settings
        own = settings.query_model if stored.name == settings.model else ""
        named = replace(settings, model=stored.name, embedder=stored.embedder, query_model=own)
        for dimensions, prefix in product((0, stored.dimension), {settings.passage_prefix: 1, "": 1}):
            queries = settings.query_prefix if prefix else ""
            under = replace(named, dimensions=dimensions, passage_prefix=prefix, query_prefix=queries)
            card = card_of(under)
            if card.identity == stored.identity:
                return under, card
        raise IngestError(f"the model {stored.name} is another one now")
