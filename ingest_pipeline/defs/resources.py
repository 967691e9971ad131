"""The `ingest` resource: the settings of runs as fields, and the objects that assets open with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from ingest_pipeline.chunking import Encode, load_encoder
from ingest_pipeline.embedding.base import Embedder
from ingest_pipeline.embedding.choice import card_of, tokenizer_of
from ingest_pipeline.embedding.load import load_embedder
from ingest_pipeline.models import ModelCard
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings, info_of, read_settings, variable
from ingest_pipeline.stages.fingerprint import fingerprint_of
from ingest_pipeline.stages.run import BatchRun, open_batch
from ingest_pipeline.store.connection import Connection, database_url, store

FIELDS = {
    setting.name: (
        str,
        Field(default="", description=f"{variable(setting.name)}: {info_of(setting).help} Empty: from the variable."),
    )
    for setting in fields(Settings)
    if not info_of(setting).of_instance
}
# mypy cannot know the fields, which come from the table of settings.
SettingFields: Any = create_model("SettingFields", __base__=dg.ConfigurableResource, **FIELDS)  # type: ignore[call-overload]


class IngestResource(SettingFields):
    """The settings of a run: each field is the text of an `INGEST_*` setting; an empty one is read from its variable.

    Settings of the instance (`INGEST_HOME`, `INGEST_DATABASE_URL`, memory, model, schedule, port) are not fields:
    launcher, queue and storage have no resource and must read the same values, so all read them from the environment.

    Keep the logic of assets out of this module.
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

    @contextmanager
    def batch(self, context: dg.AssetExecutionContext) -> Iterator[BatchRun]:
        """Open the batch of the partition that is materialized, with what a run needs to process it."""
        with self.store() as connection:
            yield open_batch(connection, self.settings(), batch=context.partition_key, run_id=context.run.run_id)

    def fingerprint(self) -> str:
        """Return the fingerprint of the present settings."""
        return fingerprint_of(self.settings())

    def card(self) -> ModelCard:
        """Return the card of the present model."""
        return card_of(self.settings())

    def encoder(self) -> Encode:
        """Return what counts the model's tokens, as a function for the chunker."""
        return load_encoder(tokenizer_of(self.settings()))

    def sandbox(self, run: BatchRun) -> Sandbox:
        """Return a sandbox with the memory that the run's budget leaves for parsing."""
        return Sandbox(
            memory_limit_bytes=run.budget.parser_bytes,
            page_seconds=run.settings.page_seconds,
            file_seconds=run.settings.file_seconds,
        )

    def embedder(self, run: BatchRun) -> Embedder:
        """Load the model and return its embedder."""
        return load_embedder(run.settings, run.card)
