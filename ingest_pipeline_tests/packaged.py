"""Documents that the packaged model has made searchable, without Dagster: for tests of whoever answers questions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingest_pipeline.embedding.choice import card_of
from ingest_pipeline.embedding.load import load_embedder
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.run import BatchRun
from ingest_pipeline.store import embedding_models
from ingest_pipeline.store.connection import Connection, store
from ingest_pipeline.store.server import EmbeddedServer
from ingest_pipeline_tests.conftest import fresh_database
from ingest_pipeline_tests.pipeline import Pipeline


class Packaged(Pipeline):
    """The stages with the packaged model."""

    def __init__(self, connection: Connection, settings: Settings, sandbox: Sandbox) -> None:
        super().__init__(connection, settings, sandbox)
        self.card = card_of(settings)
        self.model = embedding_models.model_id(connection, self.card)
        self.embedder = load_embedder(settings, self.card)  # type: ignore[assignment]

    def run(self, key: str, **changes: Any) -> BatchRun:
        return replace(super().run(key, **changes), card=self.card)


@contextmanager
def library(server: EmbeddedServer, template: str, *, home: Path, documents: Path) -> Iterator[Settings]:
    """Settings of a database in which the documents of a folder are searchable."""
    with fresh_database(server, template) as url:
        settings = replace(Settings(), sources=(str(documents),), home=home, database_url=url)
        ample = replace(settings, run_memory=8 * 2**30, machine_memory=16 * 2**30)
        with store(url) as connection, Sandbox(memory_limit_bytes=512 * 1024**2) as sandbox:
            Packaged(connection, ample, sandbox).ingest()
        yield settings
