"""The stages one after another, without Dagster and with a fake model, for tests."""

from __future__ import annotations

from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import RawFile, ScanCounts
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.catalog import Sealed, scan_sources, seal_waiting
from ingest_pipeline.stages.chunks import BatchRun, FileOutcome, check_files, chunk_files
from ingest_pipeline.stages.embeddings import embed_files
from ingest_pipeline.store import batches, ledger, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder, WordEncoder
from ingest_pipeline_tests.documents import FINGERPRINT


class Pipeline:
    """The stages one after another, as a run would call them."""

    def __init__(self, connection: Connection, settings: Settings, sandbox: Sandbox) -> None:
        self.connection, self.settings, self.sandbox = connection, settings, sandbox
        self.embedder, self.watch = FakeEmbedder(), TreeWatch()
        self.model = vectors.model_id(connection, CARD)
        self.runs = 0

    def scan(self) -> ScanCounts:
        return scan_sources(self.connection, self.settings.sources, settings=self.settings, fingerprint=FINGERPRINT)

    def seal(self) -> Sealed:
        return seal_waiting(self.connection, settings=self.settings, fingerprint=FINGERPRINT)

    def run(self, key: str) -> BatchRun:
        self.runs += 1
        return BatchRun(key, f"run{self.runs}", self.settings, CARD, self.model, FINGERPRINT)

    def chunk(self, run: BatchRun) -> list[FileOutcome]:
        batches.begin_batch(self.connection, run.batch, run.run_id)
        checked = list(check_files(self.connection, self.files(run), run))
        assert len(checked) == len(self.files(run))
        return list(
            chunk_files(
                self.connection, self.files(run), run,
                encode=WordEncoder(), sandbox=self.sandbox, degradation=self.watch.degradation,
            )
        )  # fmt: skip

    def embed(self, run: BatchRun) -> list[FileOutcome]:
        return list(
            embed_files(
                self.connection, self.files(run), run, load_embedder=lambda: self.embedder,  # type: ignore[arg-type,return-value]
                max_batch_tokens=512, watch=self.watch,
            )
        )  # fmt: skip

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
