"""The ledger's history becomes predictions, and predictions are held against what came."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ingest_pipeline.models import CostModel
from ingest_pipeline.planning import predict as predicting
from ingest_pipeline.planning.predict import Outcome
from ingest_pipeline.store import costs
from ingest_pipeline.store.connection import Connection

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """A run's budget, what it was predicted to peak at, and what it did."""

    batch: str
    predicted_bytes: int
    measured_bytes: int
    limit_bytes: int

    @property
    def error(self) -> float:
        """Of the prediction, as a share of what was measured."""
        return (self.predicted_bytes - self.measured_bytes) / self.measured_bytes


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Predicted against measured, for files and for runs."""

    model: CostModel
    files: list[Outcome]
    """As they were predicted before they were parsed."""
    left_out: list[Outcome]
    """As the history predicts each file without itself."""
    runs: list[RunOutcome]

    @property
    def runs_over_budget(self) -> int:
        """How many runs passed their limit."""
        return sum(run.measured_bytes > run.limit_bytes for run in self.runs)


def refit(connection: Connection) -> CostModel:
    """Return the cost model of the ledger's history as it is now; kept under a new version if it says something new."""
    before, model = costs.latest_model(connection), current_model(connection)
    if model.version != before.version:
        costs.save_model(connection, model)
        logger.info("cost model %d: %d types of file", model.version, len(model.rates))
    return model


def current_model(connection: Connection) -> CostModel:
    """Return the cost model of the ledger's history as it is now, with which the next run plans; writes nothing."""
    history = costs.observations(connection, newest=predicting.MAX_OBSERVATIONS)
    return predicting.fit(history, before=costs.latest_model(connection))


def memory_report(connection: Connection) -> MemoryReport:
    """Return predictions beside measurements; changes nothing."""
    history = costs.observations(connection, newest=predicting.MAX_OBSERVATIONS)
    files = [
        Outcome(row["name"], row["media_type"], row["predicted_peak_bytes"], row["measured_peak_bytes"])
        for row in costs.predicted_files(connection)
    ]
    runs = [
        RunOutcome(row["name"], row["predicted_peak_bytes"], row["measured_peak_bytes"], row["memory_limit_bytes"])
        for row in costs.predicted_runs(connection)
    ]
    return MemoryReport(costs.latest_model(connection), files, predicting.leave_one_out(history), runs)
