"""Models that embed queries, loaded once for as long as somebody asks."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import product
from threading import Lock
from typing import TYPE_CHECKING

from ingest_pipeline.embedding.base import Embedder
from ingest_pipeline.embedding.choice import card_of
from ingest_pipeline.embedding.load import load_query_embedder
from ingest_pipeline.errors import IngestError
from ingest_pipeline.models import ModelCard
from ingest_pipeline.settings import Settings

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)
LOADING, LOADED, UNAVAILABLE = "loading", "loaded", "unavailable"


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
        self.state = LOADING
        """What `prepare` has come to."""

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

    def prepare(self) -> None:
        """Load the model of the settings before somebody asks; one that cannot be loaded is a warning."""
        try:
            with self._lock:
                self._embedder(None)
            self.state = LOADED
        except IngestError as error:
            self.state = UNAVAILABLE
            logger.warning("the model cannot be loaded: %s", error)

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
