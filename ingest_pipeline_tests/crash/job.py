"""A whole ingestion on `stages/`, in the order and with the connections of `ingest run`, without Dagster."""

from __future__ import annotations

import os
from itertools import count

import psutil

from ingest_pipeline.chunking import Encode
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.chunks import check_files, chunk_files
from ingest_pipeline.stages.embeddings import embed_files
from ingest_pipeline.stages.fingerprint import fingerprint_of
from ingest_pipeline.stages.index import refresh_index
from ingest_pipeline.stages.run import open_batch
from ingest_pipeline.stages.scan import scan_sources
from ingest_pipeline.stages.sealing import seal_waiting
from ingest_pipeline.store import batches, embedding_models
from ingest_pipeline.store.connection import Connection, store
from ingest_pipeline_tests.toy_engine import ToyEmbedder

PARSER_BYTES = 2 * 1024**3
"""RLIMIT_DATA of a forked parser: it has the memory of the process that it was forked from."""


def is_at_work(run_id: str | None) -> bool:
    """Whether the process of a run is there, as its launcher would find out."""
    return bool(run_id) and psutil.pid_exists(int(str(run_id).split()[1]))


class Job:
    """One `ingest run`: catalog, every batch, index."""

    def __init__(self, url: str, settings: Settings, encode: Encode) -> None:
        self.url, self.settings, self.encode = url, settings, encode
        self.fingerprint = fingerprint_of(settings)
        self._run_ids = (f"run {os.getpid()} {number}" for number in count(1))

    def run(self) -> None:
        """Process all files of the sources until each is searchable, or failed with a reason."""
        with store(self.url) as connection:
            self._reconcile(connection)
            batches.retry_failed_batches(connection)
        self._catalog()
        with store(self.url) as connection:
            while waiting := batches.list_batches(connection, status="waiting"):
                for batch in waiting:
                    self._run_batch(batch.key, next(self._run_ids))
                if self._reconcile(connection):  # a session that outlived its process may have begun one
                    self._seal(connection)
            refresh_index(connection, self.settings)

    def _catalog(self) -> None:
        from ingest_pipeline.embedding.choice import card_of

        with store(self.url) as connection:
            model = embedding_models.model_id(connection, card_of(self.settings))
            scan_sources(connection, settings=self.settings, fingerprint=self.fingerprint, model=model)
            self._seal(connection)

    def _seal(self, connection: Connection) -> None:
        seal_waiting(connection, settings=self.settings, fingerprint=self.fingerprint)

    def _reconcile(self, connection: Connection) -> bool:
        """Reconcile the batches of runs whose process is gone."""
        running = batches.list_batches(connection, status="running")
        ended = [batch for batch in running if not is_at_work(batch.run_id)]
        for batch in ended:
            how = {"killed": True, "canceled": False, "message": "Run worker is gone"}
            batches.reconcile_batch(connection, batch.key, batch.run_id or "", **how)
        return bool(ended)

    def _run_batch(self, key: str, run_id: str) -> None:
        """Take a batch through its assets; each opens a connection and the batch, as in Dagster."""
        with store(self.url) as connection:
            list(check_files(open_batch(connection, self.settings, batch=key, run_id=run_id)))
        with store(self.url) as connection, Sandbox(memory_limit_bytes=PARSER_BYTES) as sandbox:
            run = open_batch(connection, self.settings, batch=key, run_id=run_id)
            with run.watched("chunks") as watch:
                list(chunk_files(run, encode=self.encode, sandbox=sandbox, degradation=watch.degradation))
        with store(self.url) as connection:
            run = open_batch(connection, self.settings, batch=key, run_id=run_id)
            with run.watched("embeddings") as watch:
                dimension = run.card.dimension
                list(embed_files(run, load_embedder=lambda: ToyEmbedder(dimension), watch=watch))
                run.finish()
