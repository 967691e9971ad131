"""Packs files into batches by their predicted costs. Pure, and a stream: one batch is in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ingest_pipeline.models import FileCost, Plan, PlannedBatch

MIN_BATCH_SECONDS = 10.0
"""Predicted work for which a batch of its own is worth it: its start takes 1.5 s, at the same time as another's."""

SLACK = 1.1
"""Factor on an equal share of the work: files are not divided, and the last ones should not be a batch of their own."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What the files of one batch may cost."""

    file_budget_bytes: int
    """The highest predicted peak of a parser that is accepted."""
    max_files: int
    target_seconds: float
    """Predicted duration of a batch."""
    overhead_bytes: int = 0
    """Memory of the run process while a file is parsed."""
    floor_bytes: int = 0
    """Memory of a run even for the smallest file (the model)."""


def plan_batches(costs: Iterable[FileCost], limits: BatchLimits) -> Plan:
    """Return the plan: every file is in exactly one batch, or refused because it alone exceeds the budget.

    The plan does not depend on the order of the files.
    """
    # A fixed order, so that the same files give the same plan, and the plan the same hash in a batch's key.
    packed = list(pack(sorted(costs, key=lambda cost: (cost.name, cost.version, cost.file_id)), limits))
    return Plan(
        batches=tuple(one for one in packed if isinstance(one, PlannedBatch)),
        refused=tuple(one for one in packed if isinstance(one, FileCost)),
    )


def pack(costs: Iterable[FileCost], limits: BatchLimits) -> Iterator[PlannedBatch | FileCost]:
    """Yield each batch as soon as it is full, and each file that no batch can hold.

    The files of a batch are processed one after another, so its peak is that of its largest file:
    `max(floor_bytes, overhead_bytes + largest file)`. Seconds are summed. A batch is closed when the next file would
    exceed `max_files` or `target_seconds`; a file longer than the target gets a batch of its own.

    Args:
        costs: the waiting files, by name.
        limits: of each batch.
    """
    group: list[FileCost] = []
    seconds = 0.0
    for cost in costs:
        if cost.predicted_peak_bytes > limits.file_budget_bytes:
            yield cost
            continue
        if cost.alone:  # a further kill then has one cause
            yield _batch([cost], limits)
            continue
        if group and (seconds + cost.predicted_seconds > limits.target_seconds or len(group) >= limits.max_files):
            yield _batch(group, limits)
            group, seconds = [], 0.0
        group.append(cost)
        seconds += cost.predicted_seconds
    if group:
        yield _batch(group, limits)


def target_seconds(total_seconds: float, *, runs: int, most_seconds: float) -> float:
    """Return how long a batch should take, so that all runs have work until the end.

    Args:
        total_seconds: the predicted work of all waiting files.
        runs: how many runs are at work at once.
        most_seconds: `INGEST_BATCH_MINUTES`, in seconds.
    """
    rounds = max(1, math.ceil(total_seconds / (runs * most_seconds)))
    return min(most_seconds, max(MIN_BATCH_SECONDS, SLACK * total_seconds / (runs * rounds)))


def _batch(group: list[FileCost], limits: BatchLimits) -> PlannedBatch:
    largest = max(cost.predicted_peak_bytes for cost in group)
    return PlannedBatch(
        costs=tuple(group),
        predicted_peak_bytes=max(limits.floor_bytes, limits.overhead_bytes + largest),
        predicted_seconds=sum(cost.predicted_seconds for cost in group),
    )
