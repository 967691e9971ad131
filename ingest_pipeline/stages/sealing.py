"""The files that wait are sealed into batches, and those that no batch can hold are refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ingest_pipeline.embedding.batching import activation_bytes, batch_tokens
from ingest_pipeline.embedding.choice import budget_of, card_of
from ingest_pipeline.errors import FileNeedsMoreMemory
from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.memory.machine import run_slots
from ingest_pipeline.models import CostModel, FileCost, ModelCard, Plan, PlannedBatch
from ingest_pipeline.planning import plan as planning
from ingest_pipeline.planning import predict as predicting
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import format_size
from ingest_pipeline.stages.costs import refit
from ingest_pipeline.store import batches, files, ledger
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.ledger import EVERY_FILE, WaitingScope

NO_BATCH = -1
"""A memory limit that no batch has."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What planning did: the keys of new batches, and how many files no batch can hold."""

    batches: tuple[str, ...]
    files: int
    refused: int
    predicted_seconds: float
    cost_model: int = 0
    """The edition of the model that the predictions were made with."""


def seal_waiting(
    connection: Connection, *, settings: Settings, fingerprint: str, scope: WaitingScope = EVERY_FILE
) -> Sealed:
    """Seal the waiting files into batches, and refuse those that no batch can hold."""
    with batches.sealing(connection):
        files.dissolve_waiting(connection, memory_limit_bytes=settings.run_memory)
        if settings.allow_gaps:
            files.requeue_with_gaps(connection)
        budget = budget_of(settings)
        files.requeue_affordable(connection, budget.parser_bytes)
        model = refit(connection)
        seal = _Seal(connection, budget, fingerprint, model)
        asking = asking_seconds(connection, settings)
        total = sum(
            predicting.seconds_of(model, kind, count, size) + count * asking.get(kind, 0.0)
            for kind, count, size in ledger.waiting_bytes(connection, scope)
        )
        costs = waiting_costs(connection, model, asking, scope)
        for planned in planning.pack(costs, batch_limits(budget, settings, total)):
            seal.add(planned)
    return seal.result()


def seal_some(connection: Connection, *, settings: Settings, fingerprint: str, max_files: int) -> Sealed:
    """Seal at most so many waiting files; those of sealed batches that no run is at work on are planned anew."""
    with batches.sealing(connection):
        files.dissolve_waiting(connection, memory_limit_bytes=NO_BATCH)
        return seal_waiting(
            connection, settings=settings, fingerprint=fingerprint, scope=WaitingScope(max_files=max_files)
        )


class _Seal:
    """Writes a plan down, batch by batch: what is planned is not kept."""

    def __init__(self, connection: Connection, budget: RunBudget, fingerprint: str, model: CostModel) -> None:
        self._connection, self._budget = connection, budget
        self._fingerprint, self._model = fingerprint, model
        self._keys: list[str] = []
        self._files = self._refused = 0
        self._seconds = 0.0

    def add(self, planned: PlannedBatch | FileCost) -> None:
        if isinstance(planned, FileCost):
            self._refuse(planned)
            return
        limit, model = self._budget.total_bytes, self._model.version
        key = batches.seal_batch(self._connection, planned, memory_limit_bytes=limit, cost_model=model)
        self._keys.append(key)
        self._files += len(planned.costs)
        self._seconds += planned.predicted_seconds

    def result(self) -> Sealed:
        return Sealed(tuple(self._keys), self._files, self._refused, self._seconds, self._model.version)

    def _refuse(self, cost: FileCost) -> None:
        error, peak = needs_more_memory(cost, self._budget), cost.predicted_peak_bytes
        files.refuse_file(
            self._connection, cost.file_id, error, fingerprint=self._fingerprint, predicted_peak_bytes=peak
        )
        self._refused += 1


def plan_of(costs: Iterable[FileCost], settings: Settings) -> Plan:
    """Return the batches that these files make under the settings."""
    costs = list(costs)
    total = sum(cost.predicted_seconds for cost in costs)
    return planning.plan_batches(costs, batch_limits(budget_of(settings), settings, total))


def batch_limits(budget: RunBudget, settings: Settings, total_seconds: float) -> planning.BatchLimits:
    """Return what a batch may cost under the settings while so many seconds of work wait."""
    most = settings.batch_minutes * 60
    return planning.BatchLimits(
        file_budget_bytes=budget.parser_bytes,
        max_files=settings.batch_files,
        target_seconds=planning.target_seconds(total_seconds, runs=run_slots(budget, settings), most_seconds=most),
        overhead_bytes=budget.parent_bytes,
        floor_bytes=embedding_peak_bytes(budget, card_of(settings)),
    )


def embedding_peak_bytes(budget: RunBudget, card: ModelCard) -> int:
    """Return what a run is predicted to peak at while it embeds: the loaded model and one micro-batch."""
    tokens = batch_tokens(budget, dimension=card.dimension)
    return budget.model_bytes + activation_bytes(budget, tokens, dimension=card.dimension)


def needs_more_memory(cost: FileCost, budget: RunBudget) -> FileNeedsMoreMemory:
    """Return the refusal of a file that no batch can hold: what it needs, what there is, what to raise."""
    needs = cost.predicted_peak_bytes + budget.parent_bytes
    has = format_size(budget.total_bytes)
    return FileNeedsMoreMemory(f"{cost.name}: needs {format_size(needs)}, a run has {has}; raise INGEST_RUN_MEMORY")


def asking_seconds(connection: Connection, settings: Settings) -> dict[str, float]:
    """Return how long an LLM will be asked about a file, by media type: as the files before; {} if it is not asked."""
    return ledger.extract_seconds(connection) if settings.extract else {}


def waiting_costs(
    connection: Connection, model: CostModel, asking: Mapping[str, float], scope: WaitingScope = EVERY_FILE
) -> Iterator[FileCost]:
    """Yield what each file that waits for a batch is predicted to cost, by name."""
    return (
        predicting.predict(
            model,
            file_id=file.file_id,
            name=f"{file.source}/{file.path}",
            version=file.version,
            media_type=file.media_type,
            size_bytes=file.size_bytes,
            alone=file.alone,
            asking_seconds=asking.get(file.media_type, 0.0),
        )
        for file in ledger.waiting_files(connection, scope)
    )
