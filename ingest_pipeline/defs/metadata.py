"""Metadata of the assets for the UI: numbers that it plots, small tables, results of checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import dagster as dg

from ingest_pipeline.engines import LOCAL
from ingest_pipeline.instance.names import MEMORY_OVER_TIME
from ingest_pipeline.markdown import escaped
from ingest_pipeline.memory.process import peak_memory_bytes
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import ScanCounts, Usage
from ingest_pipeline.sizes import format_size
from ingest_pipeline.stages.index import IndexWork
from ingest_pipeline.stages.memory_picture import memory_markdown
from ingest_pipeline.stages.run import BatchRun, FileOutcome
from ingest_pipeline.stages.sealing import Sealed
from ingest_pipeline.store import batches, entities, extracts, reports, usage, vectors

if TYPE_CHECKING:  # imported by the runs that use them
    from ingest_pipeline.extraction.spec import ExtractSpec
    from ingest_pipeline.stages.entities import EntityWork
    from ingest_pipeline.stages.extracts import ExtractOutcome

MIB = 1024**2
TABLE_ROWS = 100  # the default size of a batch: an event of 12 kB, and events are kept for ever (docs/dagster.md, H1)
TOP_ENTITIES = 5
REPAIR = "`ingest cleanup` says what is wrong, `ingest cleanup --auto-fix` repairs it; then `ingest run`"
Metadata = dict[str, Any]


def of_catalog(counts: ScanCounts, sealed: Sealed) -> Metadata:
    """Return the counts of a scan and of the batches that were sealed."""
    return {
        "files": counts.listed,
        "new": counts.new,
        "changed": counts.changed,
        "renamed": counts.renamed,
        "deleted": counts.deleted,
        "refused": counts.refused + sealed.refused,
        "hashed_mib": round(counts.hashed_bytes / MIB, 1),
        "batches_sealed": len(sealed.batches),
        "files_planned": sealed.files,
        "predicted_seconds": round(sealed.predicted_seconds, 1),
        "cost_model": sealed.cost_model,
    }


def of_raw_files(run: BatchRun, outcomes: Sequence[FileOutcome]) -> Metadata:
    """Return counts and predicted costs of the batch's files."""
    batch = batches.list_batches(run.connection, batch=run.batch)[0]
    size = sum(outcome.file.size_bytes for outcome in outcomes)
    return {
        "files": len(outcomes),
        "bytes": size,
        "files_changed_or_gone": sum(outcome.reason is not None for outcome in outcomes),
        "predicted_peak_mib": round(batch.predicted_peak_bytes / MIB, 1),
        "predicted_seconds": round(batch.predicted_seconds, 1),
        "memory_limit_mib": round(batch.memory_limit_bytes / MIB, 1),
        "batch_files": _table(run),
    }


def of_chunks(run: BatchRun, outcomes: Sequence[FileOutcome], watch: TreeWatch) -> Metadata:
    """Return results and costs of parsing."""
    batch = batches.list_batches(run.connection, batch=run.batch)[0]
    largest = max((outcome.peak_memory_bytes for outcome in outcomes), default=0)
    seconds = sum(outcome.seconds for outcome in outcomes)
    chunks = sum(outcome.chunks for outcome in outcomes)
    return {
        "files": len(outcomes),
        "bytes": sum(outcome.file.size_bytes for outcome in outcomes),
        "pages": sum(outcome.pages for outcome in outcomes),
        "chunks": chunks,
        "failed": sum(not outcome.done for outcome in outcomes),
        **_reasons(outcomes),
        "parse_seconds": round(seconds, 2),
        "chunks_per_second": _per_second(chunks, seconds),
        "parser_peak_mib": round(largest / MIB, 1),
        "predicted_peak_mib": round(batch.predicted_peak_bytes / MIB, 1),
        **_of_watch(run, watch),
        "memory_limit_mib": round(batch.memory_limit_bytes / MIB, 1),
        "batch_files": _table(run),
    }


def of_embeddings(run: BatchRun, outcomes: Sequence[FileOutcome], watch: TreeWatch) -> Metadata:
    """Return results and costs of embedding, the totals of the batch, and predicted and measured peaks."""
    batch = batches.list_batches(run.connection, batch=run.batch)[0]
    totals = reports.batch_totals(run.connection, run.batch)
    failures = reports.failures_by_reason(run.connection, batch=run.batch)
    seconds = sum(outcome.seconds for outcome in outcomes)
    embedded = sum(outcome.chunks for outcome in outcomes)
    return {
        "files": totals["files"],
        "files_indexed": totals["indexed"],
        "bytes": totals["bytes"],
        "pages": totals["pages"],
        "chunks": totals["chunks"],
        "chunks_embedded": embedded,
        "failed": sum(failures.values()),
        "failed_by_reason": failures,
        "embed_seconds": round(seconds, 2),
        "chunks_per_second": _per_second(embedded, seconds),
        "predicted_peak_mib": round(batch.predicted_peak_bytes / MIB, 1),
        **_of_watch(run, watch),
        "memory_limit_mib": round(batch.memory_limit_bytes / MIB, 1),
        "model": run.card.name,
        **_of_embedder(run),
        "batch_files": _table(run),
    }


def _per_second(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if count and seconds else 0.0


def _of_embedder(run: BatchRun) -> Metadata:
    """Return what a server's calls cost, and the chunks without a vector; {} if a model of this machine embeds all."""
    states = {f"chunks_{state}": count for state, count in reports.chunks_by_state(run.connection, run.batch).items()}
    if run.card.embedder == LOCAL:
        return states
    used = usage.usage_of_run(run.connection, run.run_id, stage="embeddings")
    return states | _of_usage(run.card.embedder, run.card.name, used)


def of_extracts(run: BatchRun, spec: ExtractSpec, outcomes: Sequence[ExtractOutcome], watch: TreeWatch) -> Metadata:
    """Return what was asked and answered, and what it cost; keys of calls and tokens as dagster-openai names them."""
    used = usage.usage_of_run(run.connection, run.run_id, stage="extracts")
    asked = sum((outcome.asked for outcome in outcomes), Counter[str]())
    return {
        "enabled": True,
        "prompt": spec.name,
        "prompt_version": spec.prompt_version,
        "model": spec.model_key,
        "files": len(outcomes),
        "sections": sum(outcome.parts for outcome in outcomes),
        "answered": asked["done"],
        "failed": asked["failed"],
        "sections_by_status": extracts.counts_by_status(run.connection, spec.name, batch=run.batch),
        "sections_failed_by_reason": extracts.failures_by_reason(run.connection, spec.name, batch=run.batch),
        **_reasons(outcomes),
        "seconds": round(sum(outcome.seconds for outcome in outcomes), 2),
        **_of_usage(spec.provider, spec.model, used),
        **_of_watch(run, watch),
    }


def _of_usage(provider: str, model: str, used: Usage) -> Metadata:
    """Return calls and tokens of a run, as dagster-openai names them."""
    name = f"{provider}.{model}"
    return {
        f"{name}.calls": used.calls,
        f"{name}.failed_calls": used.failed_calls,
        f"{name}.prompt_tokens": used.prompt_tokens,
        f"{name}.completion_tokens": used.completion_tokens,
        f"{name}.total_tokens": used.tokens,
    }


def of_entities(run: BatchRun, work: EntityWork, watch: TreeWatch) -> Metadata:
    """Return what the run read and found, and what is known of the whole batch."""
    counts = entities.text_counts(run.connection, work.model, run.batch)
    labels = entities.label_counts(run.connection, work.model, run.batch)
    return {
        "enabled": True,
        "model": work.model,
        "workers": work.workers,
        "texts": counts.texts,
        "texts_read": work.texts,
        "texts_skipped": counts.skipped,
        "texts_waiting": counts.waiting,
        "entities": sum(labels.values()),
        "entities_by_label": labels,
        "seconds": round(work.seconds, 2),
        **_of_watch(run, watch),
        "memory_limit_mib": round(run.settings.run_memory / MIB, 1),
        "top_entities": _entity_table(run, work.model),
    }


def _of_watch(run: BatchRun, watch: TreeWatch) -> Metadata:
    """Return the measured peak of the run's processes in this step, its picture, and the degradation steps taken."""
    steps = [str(taken) for taken in watch.degradation.steps_taken]
    # Keys of metadata are a contract: `memory_ladder` keeps its name.
    peak = {"measured_peak_mib": round(watch.peak_bytes / MIB, 1)} | ({"memory_ladder": steps} if steps else {})
    return peak | _picture(run, watch)


def _picture(run: BatchRun, watch: TreeWatch) -> Metadata:
    """Return the memory of this step over time as a picture; {} if it could not be recorded."""
    record = watch.recorder.record() if watch.recorder else None
    return {MEMORY_OVER_TIME: dg.MetadataValue.md(memory_markdown(run.connection, record))} if record else {}


def of_index(work: IndexWork) -> Metadata:
    """Return results of the index's maintenance, and the counts of the whole store.

    The peak is of this process since it began; within `ingest run` that is the command.
    """
    return {
        "chunks": work.counts["chunks"],
        "embeddings": work.counts["embeddings"],
        **{f"files_{status}": count for status, count in work.counts["files"].items()},
        "generations_dropped": work.generations_dropped,
        "vectors_dropped": work.vectors_dropped,
        "entity_texts_dropped": work.entity_texts_dropped,
        "problems": sum(_problems(work).values()),
        "measured_peak_mib": round(peak_memory_bytes() / MIB, 1),
        "seconds": round(work.seconds, 2),
    }


def embedding_checks(run: BatchRun, unfinished: int) -> list[dg.AssetCheckResult]:
    """Return the check results of one batch."""
    without = reports.chunks_without_vector(run.connection, run.batch)
    unnormalized = vectors.not_unit_norm(run.connection, run.model_id, batch=run.batch)
    return [
        _check(
            "every_file_accounted_for", unfinished, "files neither indexed nor failed",
            "materialize this partition again, or `ingest reset --stuck` and `ingest run`",
        ),
        _check("every_chunk_has_its_vector", without, "chunks without a vector", REPAIR),
        _check("vectors_are_unit_norm", unnormalized, "vectors whose length is not 1", REPAIR),
    ]  # fmt: skip


def index_checks(work: IndexWork) -> list[dg.AssetCheckResult]:
    """Return the check results of the whole store."""
    problems = _problems(work)
    named = ", ".join(f"{count} × {problem}" for problem, count in problems.items())
    return [
        dg.AssetCheckResult(
            check_name="ledger_and_tables_agree",
            passed=not problems,
            metadata={"problems": problems} | ({"repair": REPAIR} if problems else {}),
            description=f"{named}; {REPAIR}" if problems else "they agree",
        )
    ]


def _problems(work: IndexWork) -> dict[str, int]:
    unnormalized = {"vectors whose length is not 1": work.not_unit_norm} if work.not_unit_norm else {}
    return work.inconsistencies | unnormalized


def _check(name: str, count: int, description: str, repair: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
        passed=count == 0,
        metadata={"count": count} | ({"repair": repair} if count else {}),
        description=f"{count} {description}" + (f"; {repair}" if count else ""),
    )


def _reasons(outcomes: Sequence[FileOutcome] | Sequence[ExtractOutcome]) -> Metadata:
    reasons = Counter(outcome.reason for outcome in outcomes if outcome.reason)
    return {"failed_by_reason": dict(reasons)} if reasons else {}


def _table(run: BatchRun) -> dg.MetadataValue:
    """Return a Markdown table of the batch's files; names are escaped, and no content of a file appears."""
    lines = [
        "| file | status | bytes | pages | chunks | predicted | parsing | embedding | seconds | reason |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    rows = list(reports.files(run.connection, batch=run.batch))
    lines += [_row(row) for row in rows[:TABLE_ROWS]]
    if len(rows) > TABLE_ROWS:
        lines.append(f"| … {len(rows) - TABLE_ROWS} more: `ingest files` | | | | | | | | | |")
    return dg.MetadataValue.md("\n".join(lines))


def _entity_table(run: BatchRun, model: str) -> dg.MetadataValue:
    """Return a Markdown table of the names that each document has most often."""
    found = entities.top_entities(run.connection, model, run.batch, each=TOP_ENTITIES, documents=TABLE_ROWS)
    lines = ["| file | entities |", "|---|---|"]
    for (_, path), counts in groupby(found, key=lambda one: (one.source, one.path)):
        names = ", ".join(f"{escaped(one.name)} ({one.label}, {one.count})" for one in counts)
        lines.append(f"| {escaped(path)} | {names} |")
    return dg.MetadataValue.md("\n".join(lines))


def _row(row: Metadata) -> str:
    cells = [
        escaped(row["path"]), row["status"], f"{row['bytes']:,}", row["pages"], row["chunks"],
        _size(row["predicted_peak_bytes"]), _size(row["measured_peak_bytes"]), _size(row["embed_peak_bytes"]),
        None if row["seconds"] is None else round(row["seconds"], 1), row["error"],
    ]  # fmt: skip
    return "| " + " | ".join("" if cell is None else str(cell) for cell in cells) + " |"


def _size(size_bytes: int | None) -> str | None:
    return None if size_bytes is None else format_size(size_bytes)
