"""The stages one after another, without Dagster and with a fake model, for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import RawFile, ScanCounts
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.chunks import check_files, chunk_files
from ingest_pipeline.stages.embeddings import embed_files
from ingest_pipeline.stages.run import BatchRun, FileOutcome, open_batch
from ingest_pipeline.stages.scan import scan_sources
from ingest_pipeline.stages.sealing import Sealed, seal_waiting
from ingest_pipeline.store import batches, embedding_models, ledger
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder, WordEncoder
from ingest_pipeline_tests.documents import FINGERPRINT


class Pipeline:
    """The stages one after another, as a run would call them."""

    def __init__(self, connection: Connection, settings: Settings, sandbox: Sandbox) -> None:
        self.connection, self.settings, self.sandbox = connection, settings, sandbox
        self.embedder, self.watch = FakeEmbedder(), TreeWatch()
        self.model = embedding_models.model_id(connection, CARD)
        self.runs = 0

    def scan(self) -> ScanCounts:
        return scan_sources(self.connection, settings=self.settings, fingerprint=FINGERPRINT, model=self.model)

    def seal(self) -> Sealed:
        return seal_waiting(self.connection, settings=self.settings, fingerprint=FINGERPRINT)

    def run(self, key: str, **changes: Any) -> BatchRun:
        self.runs += 1
        run = open_batch(self.connection, self.settings, batch=key, run_id=f"run{self.runs}")
        return replace(run, card=CARD, model_id=self.model, fingerprint=FINGERPRINT, **changes)

    def chunk(self, run: BatchRun) -> list[FileOutcome]:
        checked = list(check_files(run))
        assert len(checked) == len(self.files(run))
        degradation = self.watch.degradation
        return list(chunk_files(run, encode=WordEncoder(), sandbox=self.sandbox, degradation=degradation))

    def chunked(self) -> BatchRun:
        """Scan, seal one batch, parse its files; return the run that is at work on it."""
        self.scan()
        [key] = self.seal().batches
        run = self.run(key)
        self.chunk(run)
        return run

    def embed(self, run: BatchRun) -> list[FileOutcome]:
        return list(embed_files(run, load_embedder=lambda: self.embedder, watch=self.watch))

    def files(self, run: BatchRun) -> list[RawFile]:
        return ledger.batch_files(self.connection, run.batch)

    def ingest(self) -> tuple[int, int]:
        """Everything; returns files parsed and chunks embedded."""
        self.scan()
        parsed = embedded = 0
        for key in self.seal().batches:
            run = self.run(key)
            parsed += sum(outcome.chunks > 0 for outcome in self.chunk(run))
            embedded += sum(outcome.chunks for outcome in self.embed(run))
            batches.finish_batch(self.connection, key)
        return parsed, embedded
