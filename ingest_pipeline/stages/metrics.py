"""The metrics of Prometheus: what the ledger knows, and the memory budgets.

All of them are read from Postgres at each call. Nothing is counted in a process, so a run that was killed loses none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ingest_pipeline.memory.machine import machine_budget_bytes
from ingest_pipeline.models import BATCH_STATUSES, FILE_STATUSES
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.metrics import metric_rows

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as PrometheusMetric

Sample = tuple[tuple[str, ...], float]
"""The values of the labels, and the number."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its samples; the name of one that only grows ends in `_total`."""

    name: str
    help: str
    samples: Sequence[Sample]
    labels: tuple[str, ...] = field(default=())

    @property
    def only_grows(self) -> bool:
        """Whether it is a counter."""
        return self.name.endswith("_total")


def metrics_text(connection: Connection, settings: Settings) -> bytes:
    """Return all metrics in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(list(all_metrics(connection, settings))))
    return bytes(generate_latest(registry))


class _Collected:
    """What `prometheus_client` asks for metrics."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[PrometheusMetric]:
        """Yield the metrics as the client knows them."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for metric in self._metrics:
            family = CounterMetricFamily if metric.only_grows else GaugeMetricFamily
            collected = family(metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.samples:
                collected.add_metric(labels, value)
            yield collected


def all_metrics(connection: Connection, settings: Settings) -> Iterator[Metric]:
    """Yield the metrics of the store and of the settings."""
    yield from _of_files(connection)
    yield from _of_batches(connection)
    yield from _of_memory(connection, settings)
    yield from _of_work(connection)
    yield from _of_servers(connection)


def _of_files(connection: Connection) -> Iterator[Metric]:
    files = dict.fromkeys(FILE_STATUSES, 0) | dict(metric_rows(connection, "files"))
    yield Metric("ingest_files", "Files by status.", _labelled(files), ("status",))
    yield Metric(
        "ingest_failed_files", "Failed files by reason.", _labelled(dict(metric_rows(connection, "failures"))),
        ("reason",),
    )  # fmt: skip
    [(chunks, pages)] = metric_rows(connection, "chunks")
    yield Metric("ingest_chunks", "Chunks of whole documents in the store.", [((), chunks)])
    yield Metric("ingest_pages", "Pages of whole documents in the store.", [((), pages)])
    states = {"rejected": 0, "deferred": 0} | dict(metric_rows(connection, "unembedded"))
    yield Metric(
        "ingest_texts_without_vector",
        "Texts that have no vector and wait for none, by state.",
        _labelled(states),
        ("state",),
    )
    [(embeddings,)] = metric_rows(connection, "embeddings")
    yield Metric("ingest_embeddings", "Vectors; above 100,000 an estimate.", [((), embeddings)])


def _of_batches(connection: Connection) -> Iterator[Metric]:
    rows = metric_rows(connection, "batches")
    counts = dict.fromkeys(BATCH_STATUSES, 0) | {status: count for status, count, _ in rows}
    yield Metric("ingest_batches", "Batches by status: `waiting` is the queue.", _labelled(counts), ("status",))
    waiting = sum(seconds for status, _, seconds in rows if status == "waiting")
    yield Metric("ingest_queue_predicted_seconds", "Predicted duration of the waiting batches.", [((), waiting)])


def _of_memory(connection: Connection, settings: Settings) -> Iterator[Metric]:
    budgets = {"run": settings.run_memory, "machine": machine_budget_bytes(settings.machine_memory)}
    yield Metric("ingest_memory_budget_bytes", "What a run and all together may use.", _labelled(budgets), ("of",))
    peaks = metric_rows(connection, "peaks")
    if not peaks:
        return
    predicted, measured, ended = peaks[0]
    latest = {"predicted": predicted, "measured": measured}
    yield Metric("ingest_last_peak_bytes", "Peak of the latest batch.", _labelled(latest), ("kind",))
    highest = {"predicted": max(row[0] for row in peaks), "measured": max(row[1] for row in peaks)}
    yield Metric("ingest_highest_peak_bytes", "Highest peak of the last 20 batches.", _labelled(highest), ("kind",))
    yield Metric("ingest_last_batch_ended_timestamp_seconds", "When the latest batch ended.", [((), ended)])


def _of_work(connection: Connection) -> Iterator[Metric]:
    [(attempts, kills, pages, embedded, parse, embed, extract)] = metric_rows(connection, "attempts")
    yield Metric("ingest_attempts_total", "Attempts at files.", [((), attempts)])
    yield Metric("ingest_kills_total", "Attempts during which the run was killed.", [((), kills)])
    yield Metric("ingest_pages_parsed_total", "Pages parsed.", [((), pages)])
    yield Metric("ingest_chunks_embedded_total", "Chunks embedded.", [((), embedded)])
    seconds = {"chunks": parse, "embeddings": embed, "extracts": extract}
    yield Metric("ingest_seconds_total", "Seconds of work on files by stage.", _labelled(seconds), ("stage",))
    incidents = dict(metric_rows(connection, "incidents"))
    yield Metric("ingest_incidents_total", "Runs that no file made fail, by cause.", _labelled(incidents), ("cause",))


def _of_servers(connection: Connection) -> Iterator[Metric]:
    rows = metric_rows(connection, "usage")
    calls = [((stage, model, "ok"), float(calls - failed)) for stage, model, calls, failed, _, _ in rows]
    calls += [((stage, model, "failed"), float(failed)) for stage, model, _, failed, _, _ in rows]
    yield Metric("ingest_api_calls_total", "Calls of servers.", calls, ("stage", "model", "result"))
    tokens = [((stage, model, "prompt"), float(prompt)) for stage, model, _, _, prompt, _ in rows]
    tokens += [((stage, model, "completion"), float(completion)) for stage, model, _, _, _, completion in rows]
    yield Metric("ingest_api_tokens_total", "Tokens of these calls.", tokens, ("stage", "model", "kind"))


def _labelled(numbers: Mapping[Any, float]) -> list[Sample]:
    return [((str(label),), float(number)) for label, number in numbers.items()]
