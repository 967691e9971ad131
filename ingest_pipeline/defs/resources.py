"""The `ingest` resource: the settings of runs as fields, and what assets open from them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from ingest_pipeline.chunking import Encode, load_encoder
from ingest_pipeline.embedding.batching import batch_tokens
from ingest_pipeline.embedding.engines import Embedder, load_embedder
from ingest_pipeline.embedding.model import model_card, model_folder
from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.memory.ladder import Ladder
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.parsing.sandbox import Sandbox
from ingest_pipeline.settings import Settings, info_of, read_settings, variable
from ingest_pipeline.stages.chunks import BatchRun
from ingest_pipeline.stages.recipe import recipe_of
from ingest_pipeline.store import batches, vectors
from ingest_pipeline.store.connection import Connection, database_url, store

FIELDS = {
    setting.name: (
        str,
        Field(default="", description=f"{variable(setting.name)}: {info_of(setting).help} Empty: from the variable."),
    )
    for setting in fields(Settings)
    if not info_of(setting).of_instance
}
# The fields come from the table of settings: mypy cannot know them.
SettingFields: Any = create_model("SettingFields", __base__=dg.ConfigurableResource, **FIELDS)  # type: ignore[call-overload]


class IngestResource(SettingFields):
    """What a run can be told: each field is the text of an `INGEST_*` setting; an empty one is read from its variable.

    Settings of the instance (`INGEST_HOME`, `INGEST_DATABASE_URL`, memory, model, schedule, port) are no fields:
    launcher, queue and storage have no resource, so these come from the environment for everybody.
    """

    def settings(self) -> Settings:
        """Return the settings: a field where it is set, else the environment.

        Raises:
            BadSetting: a value that cannot be used.
        """
        texts = {variable(name): str(getattr(self, name)) for name in FIELDS}
        return read_settings({**os.environ, **{name: text for name, text in texts.items() if text}})

    @contextmanager
    def store(self) -> Iterator[Connection]:
        """Open a connection to the store."""
        with store(database_url(self.settings())) as connection:
            yield connection

    def batch_run(self, connection: Connection, batch: str, run_id: str) -> BatchRun:
        """Return what every step of a batch's run knows; its memory is what the batch was sealed with."""
        settings, failures = self.settings(), 0
        for sealed in batches.list_batches(connection, batch=batch):
            settings, failures = replace(settings, run_memory=sealed.memory_limit_bytes), sealed.failures
        card = model_card(settings.model)
        return BatchRun(
            batch=batch,
            run_id=run_id,
            settings=settings,
            card=card,
            model_id=vectors.model_id(connection, card),
            recipe=recipe_of(card, settings),
            failures=failures,
        )

    def recipe(self) -> str:
        """Return the recipe under which files are indexed now."""
        settings = self.settings()
        return recipe_of(model_card(settings.model), settings)

    def encoder(self) -> Encode:
        """Return the model's tokenizer as the chunker wants it."""
        return load_encoder(model_folder(self.settings().model) / "tokenizer.json")

    def sandbox(self, run: BatchRun) -> Sandbox:
        """Return a sandbox that keeps within what the run's budget leaves for parsing."""
        return Sandbox(
            memory_limit_bytes=RunBudget.of(run.settings).parser_bytes,
            page_seconds=run.settings.page_seconds,
            file_seconds=run.settings.file_seconds,
        )

    def watch(self, run: BatchRun) -> TreeWatch:
        """Return a watch over the run's processes that goes down the ladder before the budget is spent."""
        return TreeWatch(Ladder(limit_bytes=run.settings.run_memory))

    def embedder(self, run: BatchRun) -> Embedder:
        """Load the model."""
        engine = RunBudget.of(run.settings).engine
        return load_embedder(run.settings.model, run.card, engine=engine, home=run.settings.home)

    def max_batch_tokens(self, run: BatchRun) -> int:
        """Return how many padded tokens a micro-batch may hold within the run's budget."""
        return batch_tokens(RunBudget.of(run.settings), dimension=run.card.dimension)
