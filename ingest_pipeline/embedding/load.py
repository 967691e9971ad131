"""Loads the embedder of an engine; its module and libraries are imported when it is loaded.

torch and OpenVINO give the same vectors (docs/findings.md, H2), in fp32 or bf16 (H3), so a vector remembers neither its
engine nor its precision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ingest_pipeline.embedding.base import Embedder, Prefixed
from ingest_pipeline.embedding.choice import (
    EngineModule,
    ServerModule,
    card_of,
    engine_of,
    files_under,
    module_of,
    server_module,
)
from ingest_pipeline.embedding.model import ModelFiles, model_folder
from ingest_pipeline.embedding.precision import precision_of
from ingest_pipeline.engines import ENGINES
from ingest_pipeline.errors import ModelExportFailed
from ingest_pipeline.models import ModelCard
from ingest_pipeline.settings import Settings

logger = logging.getLogger(__name__)
Prepare = Callable[[ModelFiles, Path], None]
"""Makes, under a home folder, what an engine needs of a model."""
Takes = Callable[[ModelFiles, Path], bool]
"""Returns whether an engine can compute a model; what was learned of it is under the home folder."""

if TYPE_CHECKING:  # the table of engines holds names: here the types are compared
    from ingest_pipeline.embedding import openai_api, openvino, torch

    _MODULES: tuple[EngineModule, ...] = (torch, openvino)
    _SERVERS: tuple[ServerModule, ...] = (openai_api,)
    _PREPARE: tuple[Prepare, ...] = (openvino.prepare,)
    _TAKES: tuple[Takes, ...] = (openvino.takes,)


def load_embedder(settings: Settings, card: ModelCard) -> Embedder:
    """Load the model of these settings into this process; it embeds chunks.

    Args:
        settings: the model, who computes, in which precision, and where exported models are cached.
        card: the expected model; its weights are compared before they are loaded or exported.

    Raises:
        ModelMismatch: the weights on disk are different.
        BadSetting: the engine does not support this model, or the processor not the precision.
    """
    engine = engine_of(settings)
    if ENGINES[engine].server:
        return server_module(engine).connect(settings, card)
    return _prefixed(_loaded(settings, card), settings.passage_prefix)


def load_query_embedder(settings: Settings, card: ModelCard) -> Embedder:
    """Load the model of these settings, or connect to its server; it embeds queries.

    Raises:
        ModelMismatch, BadSetting: as for `load_embedder`.
    """
    engine = engine_of(settings)
    if ENGINES[engine].server:
        return server_module(engine).connect(settings, card, queries=True)
    return _prefixed(_loaded(settings, card), settings.query_prefix)


def passages_beside(queries: Embedder, settings: Settings, card: ModelCard) -> Embedder:
    """Return what embeds chunks beside a loaded embedder of queries: by the same weights, which are not loaded again.

    Raises:
        BadSetting: the client library or the key of a server is missing.
    """
    engine = engine_of(settings)
    if ENGINES[engine].server:
        return server_module(engine).connect(settings, card)
    weights = queries.embedder if isinstance(queries, Prefixed) else queries
    return _prefixed(weights, settings.passage_prefix)


def _loaded(settings: Settings, card: ModelCard) -> Embedder:
    engine = engine_of(settings)
    files = ModelFiles(model_folder(settings.model), card, engine, settings.passage_prefix)
    return module_of(engine).load(files, settings)


def _prefixed(embedder: Embedder, prefix: str) -> Embedder:
    return Prefixed(embedder, prefix) if prefix else embedder


def prepare_engine(settings: Settings) -> None:
    """Export the model if the engine of these settings needs it; outside of runs, whose limit is too small for it.

    Raises:
        BadSetting, ModelExportFailed: the model cannot be exported, and no other engine may compute it.
    """
    precision_of(settings.precision)  # one that the processor lacks is refused here, before a run is started
    engine = engine_of(settings)
    if ENGINES[engine].server:
        server_module(engine).connect(settings, card_of(settings))  # a missing key is found here
        return
    prepare: Prepare | None = getattr(module_of(engine), "prepare", None)
    if prepare is None:
        return
    try:
        prepare(files_under(settings, engine), settings.home)
    except ModelExportFailed as error:
        if engine_of(settings) == engine:
            raise
        logger.warning("%s; %s computes the vectors", error, engine_of(settings))
        prepare_engine(settings)
