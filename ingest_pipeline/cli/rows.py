"""Output for programs (`--json`). Names, order and types are a contract."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ingest_pipeline.models import FileCost, Plan

if TYPE_CHECKING:
    from ingest_pipeline.memory.record import MemoryRecord
    from ingest_pipeline.stages.account import Account
    from ingest_pipeline.stages.costs import MemoryReport
    from ingest_pipeline.stages.model_list import ListedModel
    from ingest_pipeline.stages.on_demand import EmbeddedText
    from ingest_pipeline.stages.uploads import Added


def print_rows(rows: Iterable[dict[str, Any]]) -> None:
    """Print one JSON object on each line."""
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))


def account_row(account: Account) -> dict[str, Any]:
    """Return the result of `ingest run`."""
    return account.counts | {
        "files_parsed": account.work["parsed"],
        "pages_parsed": account.work["pages"],
        "chunks_embedded": account.work["embedded"],
        "runs": account.runs,
        "batches_run": account.batches,
        "failed": account.failures,
        "seconds": round(account.seconds, 2),
        "peak_memory_bytes": account.peak_memory_bytes,
        "stopped": account.stopped,
        "usage": account.usage,
    }


def plan_row(plan: Plan) -> dict[str, Any]:
    """Return the batches that the next run would make."""
    batches = [
        {
            "files": [_cost_row(cost) for cost in batch.costs],
            "predicted_peak_bytes": batch.predicted_peak_bytes,
            "predicted_seconds": batch.predicted_seconds,
        }
        for batch in plan.batches
    ]
    return {"batches": batches, "refused": [_cost_row(cost) for cost in plan.refused]}


def _cost_row(cost: FileCost) -> dict[str, Any]:
    row = asdict(cost)
    return {name: row[name] for name in ("name", "predicted_peak_bytes", "predicted_seconds", "alone", "why")}


def memory_row(report: MemoryReport) -> dict[str, Any]:
    """Return the errors of memory predictions; `promised` in a key means the predicted peak."""
    from ingest_pipeline.planning.predict import summarize

    errors: dict[str, Sequence[float]] = {
        "files_as_planned": [outcome.error for outcome in report.files],
        "expected_left_out": [outcome.expected_error for outcome in report.left_out],
        "promised_left_out": [outcome.error for outcome in report.left_out],
        "runs": [run.error for run in report.runs],
    }
    row: dict[str, Any] = {name: asdict(summarize(values)) for name, values in errors.items()}
    return row | {"model": report.model.version, "runs_over_budget": report.runs_over_budget}


def memory_record_row(record: MemoryRecord) -> dict[str, Any]:
    """Return one stage of a run, with its degradation steps as `[second, step, bytes]`."""
    return {
        "run_id": record.run_id,
        "batch": record.batch,
        "stage": record.stage,
        "began_at": round(record.began_at, 3),
        "seconds": round(record.seconds, 3),
        "limit_bytes": record.limit_bytes,
        "peak_bytes": record.peak_bytes,
        "points": len(record.used_kib),
        "steps": [[step.second, step.step, step.used_bytes] for step in record.steps],
    }


def embedded_row(embedded: EmbeddedText) -> dict[str, Any]:
    """Return one text with its vector."""
    return asdict(embedded)


def model_row(listed: ListedModel) -> dict[str, Any]:
    """Return one model of the store."""
    return asdict(listed.model) | {"is_default": listed.is_default}


def added_row(added: Added) -> dict[str, Any]:
    """Return the result of one upload."""
    return asdict(added)
