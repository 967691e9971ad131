"""What the command prints for programs: names and order of keys are a contract, and so are the types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.cli import rows
from ingest_pipeline.errors import NoText
from ingest_pipeline.models import CostModel, FileCost, Gap, Plan, PlannedBatch
from ingest_pipeline.planning.predict import Outcome
from ingest_pipeline.search_models import SearchHit
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.account import Account
from ingest_pipeline.stages.answer_rows import hit_row
from ingest_pipeline.stages.costs import MemoryReport, RunOutcome
from ingest_pipeline.stages.uploads import Added
from ingest_pipeline.store import files as store_files
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.command import Command
from ingest_pipeline_tests.documents import add_file, files_of, seal

FILE_KEYS = [
    "source", "path", "version", "media_type", "bytes", "pages", "status", "attempts", "error", "message", "retryable",
    "gaps", "chunks", "predicted_peak_bytes", "measured_peak_bytes", "seconds", "batch", "embed_peak_bytes",
]  # fmt: skip
ACCOUNT_KEYS = [
    "files", "chunks", "embeddings", "batches", "files_parsed", "pages_parsed", "chunks_embedded", "runs",
    "batches_run", "failed", "seconds", "peak_memory_bytes", "stopped", "usage",
]  # fmt: skip
COST_KEYS = ["name", "predicted_peak_bytes", "predicted_seconds", "alone", "why"]
SUMMARY_KEYS = ["count", "p50", "p95", "too_low"]


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(settings, monkeypatch, capsys)


def test_rows_are_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """One object on each line; a line break in a value does not break the line, other scripts stay readable."""
    rows.print_rows([{"path": "歌\n.md", "bytes": 1}, {"path": "\x1b", "bytes": None}])
    assert capsys.readouterr().out == '{"path": "歌\\n.md", "bytes": 1}\n{"path": "\\u001b", "bytes": null}\n'


def test_no_rows_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty list is no line at all."""
    rows.print_rows([])
    assert capsys.readouterr().out == ""


def test_account_keys_and_values() -> None:
    """The counts of the ledger first, then what this run did; seconds have two digits."""
    counts = {"files": {"indexed": 2}, "chunks": 9, "embeddings": 8, "batches": {"done": 1}}
    account = Account(
        counts=counts, work={"parsed": 2, "pages": 5, "embedded": 8}, work_by_type=[], failures={"NoText": 1},
        peak_memory_bytes=None, runs=3, batches=["b1"], seconds=1.23456, stopped="why",
        usage=[],
    )  # fmt: skip
    row = rows.account_row(account)
    assert list(row) == ACCOUNT_KEYS
    assert list(row.values()) == [
        {"indexed": 2}, 9, 8, {"done": 1}, 2, 5, 8, 3, ["b1"], {"NoText": 1}, 1.23, None, "why", [],
    ]  # fmt: skip


def test_hit_keys_and_values() -> None:
    """Score, place, text, and the names of the place; pages are a pair."""
    hit = SearchHit(0.123456789, "/d", "a.pdf", 3, 4, "text", heading="H", page_label="iii", section="A › H")
    assert list(hit_row(hit).items())[:8] == [
        ("score", 0.123457), ("source", "/d"), ("path", "a.pdf"), ("pages", [3, 4]), ("text", "text"),
        ("page_label", "iii"), ("section", "A › H"), ("heading", "H"),
    ]  # fmt: skip


def test_plan_keys_and_values() -> None:
    """Batches with their files and refused files, each with the same five keys."""
    cost = FileCost(7, "/d/a.txt", "v", 1000, 1.5, alone=True, why="because")
    row = rows.plan_row(Plan((PlannedBatch((cost,), 2000, 3.0),), (cost,)))
    shown = {
        "name": "/d/a.txt",
        "predicted_peak_bytes": 1000,
        "predicted_seconds": 1.5,
        "alone": True,
        "why": "because",
    }
    assert row == {
        "batches": [{"files": [shown], "predicted_peak_bytes": 2000, "predicted_seconds": 3.0}],
        "refused": [shown],
    }
    assert list(row["refused"][0]) == COST_KEYS


def test_memory_keys_and_values() -> None:
    """Four summaries of errors, the version of the cost model, and the runs over their budget."""
    outcome = Outcome("a", "text/plain", 150, 100, expected_bytes=90)
    row = rows.memory_row(MemoryReport(CostModel(3, {}), [outcome], [outcome], [RunOutcome("b", 80, 100, 90)]))
    assert list(row) == [
        "files_as_planned", "expected_left_out", "promised_left_out", "runs", "model", "runs_over_budget",
    ]  # fmt: skip
    assert all(list(row[name]) == SUMMARY_KEYS for name in list(row)[:4])
    assert row["files_as_planned"] == {"count": 1, "p50": 0.5, "p95": 0.5, "too_low": 0}
    assert row["expected_left_out"] == {"count": 1, "p50": 0.1, "p95": 0.1, "too_low": 1}
    assert row["runs"]["too_low"] == 1
    assert (row["model"], row["runs_over_budget"]) == (3, 1)


def test_added_keys_and_values() -> None:
    """Source, name, size, and the error of a refused upload."""
    assert list(rows.added_row(Added("/d", "a.txt", 5)).items()) == [
        ("source", "/d"), ("name", "a.txt"), ("size_bytes", 5), ("error", None),
    ]  # fmt: skip


def test_empty_ledger_has_no_files(command: Command) -> None:
    """`files --json` of a new database prints nothing."""
    assert command("files", "--json") == ""


def test_empty_status_counts_zero(command: Command) -> None:
    """Every status of files and batches is there, at 0."""
    [row] = command.json("status")
    assert list(row) == [
        "files", "chunks", "embeddings", "batches", "model", "run_budget_bytes", "machine_budget_bytes",
    ]  # fmt: skip
    assert row["files"] == {
        "synced": 0, "processing": 0, "processed": 0, "indexed": 0, "failed": 0, "deleted": 0,
    }  # fmt: skip
    assert row["batches"] == {"waiting": 0, "running": 0, "done": 0, "failed": 0}
    assert (row["chunks"], row["embeddings"], row["model"]) == (0, 0, "all-MiniLM-L6-v2")
    assert row["machine_budget_bytes"] > 0


def test_status_shows_the_budgets(command: Command) -> None:
    """The budgets of a run and of the machine are those of the settings, in bytes."""
    command.patch.setenv("INGEST_RUN_MEMORY", "512MiB")
    command.patch.setenv("INGEST_MACHINE_MEMORY", "2GiB")
    [row] = command.json("status")
    assert (row["run_budget_bytes"], row["machine_budget_bytes"]) == (512 * 1024**2, 2 * 1024**3)


def test_waiting_file_has_every_key(command: Command, connection: Connection) -> None:
    """A file that was only catalogued has all keys; what nobody knows yet is null."""
    add_file(connection, "歌 \x1b.txt", "v1")
    [row] = command.json("files")
    assert list(row) == FILE_KEYS
    assert list(row.values()) == [
        "/documents", "歌 \x1b.txt", "v1", "text/plain", 100, None, "synced", 0, None, None, None, [], 0, None, None,
        None, None, None,
    ]  # fmt: skip


def test_failed_file_names_its_reason(command: Command, connection: Connection) -> None:
    """Error, message and whether another try may help."""
    add_file(connection, "a.txt")
    key = seal(connection)
    [file] = files_of(connection, key).values()
    store_files.refuse_file(connection, file.file_id, NoText("a.txt: nothing in it"), fingerprint="f")
    [row] = command.json("files", "--status", "failed")
    assert (row["error"], row["message"], row["retryable"]) == ("NoText", "a.txt: nothing in it", False)
    assert (row["batch"], row["predicted_peak_bytes"]) == (key, 1000)


def test_gaps_are_objects(command: Command, connection: Connection) -> None:
    """Each gap has its first page, its last page and a reason."""
    add_file(connection, "a.txt")
    [file] = files_of(connection, seal(connection)).values()
    store_files.mark_processed(connection, file, generation_id=1, pages=9, gaps=[Gap(2, 4, "ParserCrashed")])
    [row] = command.json("files")
    assert row["gaps"] == [{"page_from": 2, "page_to": 4, "reason": "ParserCrashed"}]
    assert (row["pages"], row["status"]) == (9, "processed")


def test_files_are_ordered(command: Command, connection: Connection) -> None:
    """By source, then by path, over more rows than one page of the query holds."""
    for number in range(520):
        add_file(connection, f"{number:03}.txt", source="/b")
    add_file(connection, "z.txt", source="/a")
    names = [(row["source"], row["path"]) for row in command.json("files")]
    assert names[0] == ("/a", "z.txt")
    assert names[1:] == [("/b", f"{number:03}.txt") for number in range(520)]


def test_empty_plan_is_one_object(command: Command) -> None:
    """Nothing in the source: two empty lists."""
    assert command.json("plan") == [{"batches": [], "refused": []}]


def test_plan_of_new_files(command: Command, source: Path) -> None:
    """Files that no catalog has seen are predicted from their listing."""
    (source / "a.txt").write_text("words")
    [row] = command.json("plan")
    [batch] = row["batches"]
    [cost] = batch["files"]
    assert list(batch) == ["files", "predicted_peak_bytes", "predicted_seconds"]
    assert list(cost) == COST_KEYS
    assert (cost["name"], cost["predicted_peak_bytes"], cost["alone"]) == (f"{source}/a.txt", 26 * 1024**2 + 2, False)
    assert "shipped rates" in cost["why"]


def test_empty_memory_is_zero(command: Command) -> None:
    """Without a history every count is 0 and the cost model is the shipped one."""
    none = {"count": 0, "p50": 0.0, "p95": 0.0, "too_low": 0}
    [row] = command.json("memory")
    assert row == {
        "files_as_planned": none, "expected_left_out": none, "promised_left_out": none, "runs": none, "model": 0,
        "runs_over_budget": 0,
    }  # fmt: skip


def test_added_row_of_a_refusal(command: Command, tmp_path: Path) -> None:
    """A refused upload is a row like any other, with its error; exit code 1 says that there was one."""
    (tmp_path / "a.txt").write_text("words")
    ended = command.ended("add", str(tmp_path / "a.txt"), str(tmp_path / "none.txt"), "--json")
    found: list[dict[str, Any]] = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 1
    assert [(row["name"], row["size_bytes"]) for row in found] == [("a.txt", 5), ("none.txt", 0)]
    assert found[0]["error"] is None
    assert "cannot be read" in found[1]["error"]
    assert ended.err == ""
