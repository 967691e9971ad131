"""The settings and what is opened from them, as one Dagster resource."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import dagster as dg
from pydantic import Field

from ingest_pipeline.chunking import Encode, load_encoder
from ingest_pipeline.embedding.batching import run_batch_tokens
from ingest_pipeline.embedding.engines import Embedder, load_embedder
from ingest_pipeline.embedding.model import model_card, model_folder
from ingest_pipeline.memory.budget import Engine, engine_for, parse_budget_bytes
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings, read_settings, variable
from ingest_pipeline.stages.access import reads_servers
from ingest_pipeline.stages.chunks import BatchRun
from ingest_pipeline.stages.fingerprint import fingerprint_of
from ingest_pipeline.store import batches, vectors
from ingest_pipeline.store.connection import Connection, database_url, store


def _setting(description: str) -> str:
    return Field(default="", description=f"{description} Empty: from the environment.")


class IngestResource(dg.ConfigurableResource):
    """Every `INGEST_*` setting as a field; a field that is empty is read from its variable."""

    sources: str = _setting("INGEST_SOURCES: folders, buckets or lists, with commas between them.")
    home: str = _setting("INGEST_HOME: where the embedded Postgres and records of runs live.")
    database_url: str = _setting("INGEST_DATABASE_URL: your own Postgres; keep passwords in the environment.")
    run_memory: str = _setting("INGEST_RUN_MEMORY: what one run may use at its peak, such as 1GiB.")
    machine_memory: str = _setting("INGEST_MACHINE_MEMORY: what everything together may use.")
    max_runs: str = _setting("INGEST_MAX_RUNS: runs at once at most.")
    max_file_size: str = _setting("INGEST_MAX_FILE_SIZE: larger files are refused.")
    max_pages: str = _setting("INGEST_MAX_PAGES: longer documents are refused.")
    batch_files: str = _setting("INGEST_BATCH_FILES: files in one batch at most.")
    batch_minutes: str = _setting("INGEST_BATCH_MINUTES: predicted length of a batch.")
    page_seconds: str = _setting("INGEST_PAGE_SECONDS: the longest that one page may take.")
    file_seconds: str = _setting("INGEST_FILE_SECONDS: the longest that parsing one file may take.")
    model: str = _setting("INGEST_MODEL: a model's name or folder.")
    engine: str = _setting("INGEST_ENGINE: auto, torch or openvino.")
    pdf_passwords: str = _setting("INGEST_PDF_PASSWORDS: tried on encrypted PDFs; keep them in the environment.")
    record_text: str = _setting("INGEST_RECORD_TEXT: how a record becomes text, such as {title}. {abstract}.")
    record_id: str = _setting("INGEST_RECORD_ID: the field that names a record.")
    s3_endpoint: str = _setting("INGEST_S3_ENDPOINT: of an S3 server that is not Amazon's.")
    allow_gaps: str = _setting("INGEST_ALLOW_GAPS: whether a file with unreadable pages may be indexed.")
    max_errors: str = _setting("INGEST_MAX_ERRORS: errors of one cause in a row before everything stops.")
    max_failed_share: str = _setting("INGEST_MAX_FAILED_SHARE: share of failed documents at which everything stops.")
    schedule: str = _setting("INGEST_SCHEDULE: cron line of the catalog schedule.")
    ui_port: str = _setting("INGEST_UI_PORT: port of `ingest ui`.")

    def settings(self) -> Settings:
        """Return the settings: a field where it is set, else the environment.

        Raises:
            BadSetting: a value that cannot be used.
        """
        fields = {variable(name): str(getattr(self, name)) for name in type(self).model_fields}
        return read_settings({**os.environ, **{name: text for name, text in fields.items() if text}})

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
            fingerprint=fingerprint_of(card, settings),
            failures=failures,
        )

    def fingerprint(self) -> str:
        """Return the fingerprint under which files are indexed now."""
        settings = self.settings()
        return fingerprint_of(model_card(settings.model), settings)

    def encoder(self) -> Encode:
        """Return the model's tokenizer as the chunker wants it."""
        return load_encoder(model_folder(self.settings().model) / "tokenizer.json")

    def sandbox(self, run: BatchRun) -> Sandbox:
        """Return a sandbox that keeps within what the run's budget leaves for parsing."""
        return Sandbox(
            memory_limit_bytes=parse_budget_bytes(run.settings.run_memory, servers=reads_servers(run.settings)),
            page_seconds=run.settings.page_seconds,
            file_seconds=run.settings.file_seconds,
        )

    def watch(self, run: BatchRun) -> TreeWatch:
        """Return a watch over the run's processes that goes down the degradation before the budget is spent."""
        return TreeWatch(Degradation(limit_bytes=run.settings.run_memory))

    def embedder(self, run: BatchRun) -> Embedder:
        """Load the model."""
        return load_embedder(run.settings.model, run.card, engine=_engine(run), home=run.settings.home)

    def max_batch_tokens(self, run: BatchRun) -> int:
        """Return how many padded tokens a micro-batch may hold within the run's budget."""
        return run_batch_tokens(run.settings.run_memory, dimension=run.card.dimension, engine=_engine(run))


def _engine(run: BatchRun) -> Engine:
    return engine_for(run.settings.run_memory, run.settings.engine)
