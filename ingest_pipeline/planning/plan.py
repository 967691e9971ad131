"""Packs files into batches by their predicted costs. Pure: the plan does not depend on the order of the files."""

from __future__ import annotations

from collections.abc import Iterable

from ingest_pipeline.models import FileCost, Plan, PlannedBatch


def plan_batches(
    costs: Iterable[FileCost],
    *,
    file_budget_bytes: int,
    max_files: int,
    target_seconds: float,
    overhead_bytes: int = 0,
    floor_bytes: int = 0,
) -> Plan:
    """Return the plan: every file is in exactly one batch, or refused because it alone exceeds the budget.

    The files of a batch are processed one after another, so its peak is that of its largest file:
    `max(floor_bytes, overhead_bytes + largest file)`. Seconds are summed. A batch is closed when the next file would
    exceed `max_files` or `target_seconds`; a file longer than the target gets a batch of its own.

    Args:
        costs: the waiting files, in any order.
        file_budget_bytes: the highest predicted peak of a parser that is accepted.
        max_files: files in one batch at most.
        target_seconds: predicted duration of a batch.
        overhead_bytes: memory of the run process while a file is parsed.
        floor_bytes: memory of a run even for the smallest file (the model).
    """
    # A fixed order, so that the same files give the same plan, and the plan the same hash in a batch's key.
    ordered = sorted(costs, key=lambda cost: (cost.name, cost.version, cost.file_id))
    refused = tuple(cost for cost in ordered if cost.predicted_peak_bytes > file_budget_bytes)
    fitting = [cost for cost in ordered if cost.predicted_peak_bytes <= file_budget_bytes]
    groups = [[cost] for cost in fitting if cost.alone]  # a further kill then has one cause
    groups += _fill([cost for cost in fitting if not cost.alone], max_files, target_seconds)
    batches = tuple(_sealed(group, overhead_bytes, floor_bytes) for group in groups)
    return Plan(batches=batches, refused=refused)


def _fill(costs: list[FileCost], max_files: int, target_seconds: float) -> list[list[FileCost]]:
    groups: list[list[FileCost]] = []
    seconds = 0.0
    for cost in costs:
        over = seconds + cost.predicted_seconds > target_seconds
        if not groups or over or len(groups[-1]) >= max_files:
            groups.append([])
            seconds = 0.0
        groups[-1].append(cost)
        seconds += cost.predicted_seconds
    return groups


def _sealed(group: list[FileCost], overhead_bytes: int, floor_bytes: int) -> PlannedBatch:
    largest = max(cost.predicted_peak_bytes for cost in group)
    return PlannedBatch(
        costs=tuple(group),
        predicted_peak_bytes=max(floor_bytes, overhead_bytes + largest),
        predicted_seconds=sum(cost.predicted_seconds for cost in group),
    )
