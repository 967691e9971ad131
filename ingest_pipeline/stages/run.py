"""What a run holds while it works on its batch, and the bracket around the work on each file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ingest_pipeline.embedding.choice import budget_of, card_of
from ingest_pipeline.entities.model import entity_model
from ingest_pipeline.errors import FileError, RunOutOfMemory
from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.log_lines import at_file, log_memory, working_on
from ingest_pipeline.memory.record import memory_file
from ingest_pipeline.memory.recorder import Position, Recorder
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import ModelCard, RawFile
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.fingerprint import fingerprint_of, generation_fingerprint, refusal_fingerprint
from ingest_pipeline.store import batches, embedding_models, files, generations, ledger, memory_records
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.generations import Generation
from ingest_pipeline.store.ledger import AttemptCost

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BatchRun:
    """One run on one batch: opened once for each asset, known to everything below it."""

    connection: Connection
    batch: str
    run_id: str
    settings: Settings
    """`run_memory` is what the batch was sealed with."""
    card: ModelCard
    model_id: int
    fingerprint: str
    status_before: str = "waiting"
    """Of the batch, before this run took it up."""
    runs: int = 1
    """How many runs have begun on the batch, this one included."""
    failures: int = 0
    """Runs of this batch that ended without finishing it: this one takes smaller micro-batches."""
    position: Position = field(default_factory=Position)
    """At which file and page the run is at work, for the record of its memory."""

    @property
    def budget(self) -> RunBudget:
        """How the run's memory is divided."""
        return budget_of(self.settings)

    def files(self) -> list[RawFile]:
        """Return the files that the batch answers for, as the ledger knows them now."""
        return ledger.batch_files(self.connection, self.batch)

    @contextmanager
    def watched(self, stage: str) -> Iterator[TreeWatch]:
        """Watch over the run's processes: degrade before the budget is spent, record peak and course of the memory."""
        ended_well = False
        with TreeWatch(Degradation(limit_bytes=self.settings.run_memory), self._recorder(stage)) as watch:
            try:
                yield watch
                ended_well = True
            finally:
                if not self.connection.broken:
                    batches.record_peak(self.connection, self.batch, watch.peak_bytes)
                    self._store_record(watch, shown=ended_well)

    def _recorder(self, stage: str) -> Recorder:
        return Recorder(
            memory_file(self.settings.home, self.run_id),
            stage=stage,
            batch=self.batch,
            limit_bytes=self.settings.run_memory,
            position=self.position,
        )

    def _store_record(self, watch: TreeWatch, *, shown: bool) -> None:
        if watch.recorder and (record := watch.recorder.record()):
            memory_records.store_record(self.connection, record, shown=shown)

    @contextmanager
    def claimed(self, file: RawFile) -> Iterator[Generation]:
        """Hold the generation of a file's bytes for this process; another that wants the same bytes waits."""
        fingerprint = generation_fingerprint(self.fingerprint, file.media_type)
        claim = generations.claimed_generation(self.connection, file, fingerprint=fingerprint, card=self.card)
        with claim as generation:
            yield generation

    def finish(self) -> int:
        """Note that the batch is done if every file is accounted for; return how many are not."""
        unfinished = batches.unfinished_files(self.connection, self.batch)
        if not unfinished:
            batches.finish_batch(self.connection, self.batch, run_id=self.run_id)
        return unfinished


def open_batch(connection: Connection, settings: Settings, *, batch: str, run_id: str) -> BatchRun:
    """Take up a batch: note in the ledger that this run works on it, and return what the run knows.

    Raises:
        LookupError: there is no such batch.
        BadSetting: a model cannot be used.
    """
    working_on(run=run_id, batch=batch)
    entity_model(settings)  # a missing one stops the run before its first file
    status_before = batches.begin_batch(connection, batch, run_id)
    [sealed] = batches.list_batches(connection, batch=batch)
    settings, card = replace(settings, run_memory=sealed.memory_limit_bytes), card_of(settings)
    return BatchRun(
        connection=connection,
        batch=batch,
        run_id=run_id,
        settings=settings,
        card=card,
        model_id=embedding_models.model_id(connection, card),
        fingerprint=fingerprint_of(settings),
        status_before=status_before,
        runs=sealed.runs,
        failures=sealed.failures,
    )


def run_without_batch(connection: Connection, settings: Settings) -> BatchRun:
    """Return what a command knows that makes vectors outside of a batch.

    Raises:
        BadSetting: the model cannot be used.
    """
    card = card_of(settings)
    return BatchRun(
        connection=connection,
        batch="",
        run_id="",
        settings=settings,
        card=card,
        model_id=embedding_models.model_id(connection, card),
        fingerprint=fingerprint_of(settings),
    )


@dataclass(slots=True)
class Attempt:
    """The work on one file in one stage; what it cost is filled in while it goes on."""

    cost: AttemptCost = field(default_factory=AttemptCost)


@contextmanager
def attempt(run: BatchRun, file: RawFile, stage: str) -> Iterator[Attempt]:
    """Bracket the work on one file: written before it begins, closed with its cost when the file is done or failed.

    An error that is no file's leaves the attempt open: if the run was killed, this is how the ledger knows at which
    file. Only a run that stops by itself for memory closes it, for then it was not killed.
    """
    ledger.open_attempt(run.connection, file, batch=run.batch, run_id=run.run_id, stage=stage)
    work = Attempt()
    run.position.move(file.file_id)
    with at_file(file.file_id):
        try:
            yield work
        except (FileError, RunOutOfMemory) as error:
            ledger.close_attempt(run.connection, file, run_id=run.run_id, cost=work.cost, error=error)
            raise
        finally:
            run.position.move(0)
            log_memory(f"{stage} of file {file.file_id}", limit_bytes=run.settings.run_memory)
    ledger.close_attempt(run.connection, file, run_id=run.run_id, cost=work.cost)


def record_failure(run: BatchRun, file: RawFile, error: FileError) -> None:
    """Note that a file failed; under which fingerprint, so that another one is a reason to try it again."""
    logger.warning("file %d failed: %s", file.file_id, error.reason)
    if error.retryable:
        files.forget_revision(run.connection, file)
    fingerprint = refusal_fingerprint(error, run.fingerprint, run.settings)
    files.refuse_file(run.connection, file.file_id, error, fingerprint=fingerprint, version=file.version)


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What happened to one file in one stage."""

    file: RawFile
    done: bool
    reason: str | None = None
    pages: int = 0
    chunks: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0
