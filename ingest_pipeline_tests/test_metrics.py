"""The metrics of Prometheus: what they count, in both formats, and what they cost."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ingest_pipeline.errors import NoText
from ingest_pipeline.models import Usage
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.metrics import metrics_text
from ingest_pipeline.store import batches, files, ledger
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.embedding_models import model_id
from ingest_pipeline.store.incidents import record_incident
from ingest_pipeline.store.ledger import AttemptCost
from ingest_pipeline.store.usage import add_usage
from ingest_pipeline_tests.command import Command
from ingest_pipeline_tests.conftest import CARD
from ingest_pipeline_tests.documents import add_file, files_of, seal, write

GIB = 1024**3
FILES = 100_000


def values(connection: Connection, settings: Settings) -> dict[str, float]:
    """Every sample by its name and labels, as a scraper reads them."""
    text = metrics_text(connection, settings).decode()
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_an_empty_store_has_metrics(connection: Connection, settings: Settings) -> None:
    """Every status is there with 0, so that a graph begins at once; the budgets are those of the settings."""
    found = values(connection, replace(settings, run_memory=GIB, machine_memory=4 * GIB))
    assert found["ingest_files indexed"] == found["ingest_batches waiting"] == found["ingest_chunks"] == 0
    assert found["ingest_memory_budget_bytes run"] == GIB
    assert found["ingest_memory_budget_bytes machine"] == 4 * GIB
    assert "ingest_last_peak_bytes measured" not in found


def test_work_is_counted(connection: Connection, settings: Settings) -> None:
    """Files, chunks, queue, peaks, seconds, kills and failures as the ledger has them."""
    model_id(connection, CARD)
    for path in ("a.txt", "b.txt"):
        add_file(connection, path, version=path)
    key = seal(connection)
    known = files_of(connection, key)
    batches.begin_batch(connection, key, "run1")
    ledger.open_attempt(connection, known["a.txt"], batch=key, run_id="run1", stage="chunks")
    ledger.close_attempt(connection, known["a.txt"], run_id="run1", cost=AttemptCost(pages=3, parse_seconds=2.5))
    write(connection, known["a.txt"], ["one", "two"], CARD)
    files.refuse_file(connection, known["b.txt"].file_id, NoText("b.txt: no text"), fingerprint="f")
    batches.record_peak(connection, key, 700)
    batches.finish_batch(connection, key)
    add_file(connection, "c.txt", version="c")
    seal(connection)
    found = values(connection, settings)
    assert (found["ingest_files processed"], found["ingest_files failed"], found["ingest_files synced"]) == (1, 1, 1)
    assert (found["ingest_failed_files NoText"], found["ingest_chunks"], found["ingest_pages"]) == (1, 2, 1)
    assert (found["ingest_batches waiting"], found["ingest_queue_predicted_seconds"]) == (1, 1.0)
    assert (found["ingest_last_peak_bytes measured"], found["ingest_last_peak_bytes predicted"]) == (700, 1000)
    assert found["ingest_highest_peak_bytes measured"] == 700
    assert abs(found["ingest_last_batch_ended_timestamp_seconds"] - time.time()) < 60
    assert (found["ingest_pages_parsed_total"], found["ingest_seconds_total chunks"]) == (3, 2.5)


def test_kills_and_calls_are_counted(connection: Connection, settings: Settings) -> None:
    """A kill of a run, an error of infrastructure, calls of a server and their tokens."""
    add_file(connection, "a.txt", version="a")
    key = seal(connection)
    batches.begin_batch(connection, key, "run1")
    ledger.open_attempt(connection, files_of(connection, key)["a.txt"], batch=key, run_id="run1", stage="chunks")
    batches.reconcile_batch(connection, key, "run1", killed=True, canceled=False, message="killed")
    record_incident(connection, batch=key, run_id="run1", message="StoreUnavailable: gone")
    add_usage(connection, Usage(5, 2, 70, 8), run_id="run1", file_id=1, stage="embeddings", model="m")
    found = values(connection, settings)
    assert (found["ingest_kills_total"], found["ingest_attempts_total"]) == (1, 1)
    assert found["ingest_incidents_total StoreUnavailable"] == 1
    calls = {result: found[f"ingest_api_calls_total m {result} embeddings"] for result in ("ok", "failed")}
    assert calls == {"ok": 3, "failed": 2}
    tokens = {kind: found[f"ingest_api_tokens_total {kind} m embeddings"] for kind in ("prompt", "completion")}
    assert tokens == {"prompt": 70, "completion": 8}


def test_the_command_prints_metrics(
    connection: Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ingest metrics` prints the text format; `--json` the same numbers, one object for each."""
    add_file(connection, "a.txt")
    command = Command(settings, monkeypatch, capsys)
    text = command("metrics")
    assert '# TYPE ingest_files gauge\ningest_files{status="synced"} 1.0\n' in text
    rows = command.json("metrics")
    assert {"metric": "ingest_files", "labels": {"status": "synced"}, "value": 1.0} in rows
    assert len(rows) == sum(not line.startswith("#") for line in text.splitlines())


def test_many_files_cost_little(connection: Connection, settings: Settings) -> None:
    """Of 100,000 files every statement reads each table once: no count of chunks, no loop over files."""
    connection.execute(
        "INSERT INTO generations (version, fingerprint, complete, pages, chunks) "
        "SELECT n::text, 'f', true, 3, 10 FROM generate_series(1, %s) n",
        (FILES,),
    )
    connection.execute(
        "INSERT INTO files (source, path, size_bytes, version, media_type, status, generation_id) "
        "SELECT '/s', version, 1, version, 'text/plain', 'indexed', generation_id FROM generations"
    )
    connection.execute("ANALYZE")
    metrics_text(connection, settings)
    began = time.process_time()
    spent = min(_seconds(connection, settings) for _ in range(5))
    assert values(connection, settings)["ingest_chunks"] == 10 * FILES
    assert (spent < 1.0, time.process_time() - began < 1.0) == (True, True)  # 40 ms on an idle machine


def _seconds(connection: Connection, settings: Settings) -> float:
    began = time.monotonic()
    metrics_text(connection, settings)
    return time.monotonic() - began
