"""Logs as JSON, and lines about memory: one object on each line, ids and numbers only."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.memory import log_lines
from ingest_pipeline.memory.log_lines import JsonLines, at_file, log_in, log_memory, log_memory_of_run, working_on
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.pipeline import Pipeline

KEYS = ["time", "level", "logger", "message", "run", "batch", "file_id", "memory_bytes", "error"]
GIB = 1024**3
JOB = """
import dagster as dg, logging
from ingest_pipeline.memory.log_lines import log_in
log_in("json")
logging.getLogger("ingest_pipeline.x").warning("before a run")
@dg.op
def work(context):
    context.log.info("within %s", "a step")
    raise ValueError("a secret")
@dg.job(tags={"dagster/partition": "batch1"})
def whole(): work()
whole.execute_in_process(raise_on_error=False, run_id="11111111-2222-3333-4444-555555555555")
"""


def line_of(**more: Any) -> dict[str, Any]:
    """The object of a record with these attributes."""
    record = logging.LogRecord(
        "ingest_pipeline.x", logging.INFO, "x.py", 1, "%d of %d", (1, 2), more.pop("exc_info", None)
    )
    for name, value in more.items():
        setattr(record, name, value)
    return dict(json.loads(JsonLines().format(record)))


@pytest.fixture(autouse=True)
def no_work() -> None:
    """No other test's run is named."""
    working_on(run="", batch="")


def test_lines_have_the_same_keys() -> None:
    """What is not known is null; the time is of UTC, the memory of this process."""
    line = line_of()
    assert list(line) == KEYS
    assert (line["level"], line["logger"], line["message"]) == ("INFO", "ingest_pipeline.x", "1 of 2")
    assert (line["run"], line["batch"], line["file_id"], line["error"]) == (None, None, None, None)
    assert line["time"].endswith("+00:00")
    assert line["memory_bytes"] > 10 * 1024**2


def test_lines_name_run_and_file() -> None:
    """A line within the work on a file has its id; the lines behind it have none."""
    working_on(run="run1", batch="batch1")
    with at_file(7):
        line = line_of()
        assert (line["run"], line["batch"], line["file_id"]) == ("run1", "batch1", 7)
    assert line_of()["file_id"] is None


def test_errors_by_type_alone() -> None:
    """The message of an error may have a name or a text in it."""
    try:
        raise ValueError("a secret")
    except ValueError:
        line = line_of(exc_info=sys.exc_info())
    assert line["error"] == "ValueError"
    assert "secret" not in json.dumps(line)


def test_lines_of_dagster_are_json() -> None:
    """Dagster's console logger writes such lines, too, and what is logged outside of a run."""
    ended = subprocess.run([sys.executable, "-c", JOB], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert all(list(line) == KEYS for line in lines)
    first, *others = lines
    assert (first["message"], first["run"]) == ("before a run", None)
    assert {(line["run"], line["batch"]) for line in others} == {("11111111-2222-3333-4444-555555555555", "batch1")}
    assert "within a step" in {line["message"] for line in others}
    assert "ValueError" in {line["error"] for line in others}
    assert "secret" not in ended.stderr


def test_text_changes_nothing() -> None:
    """The default format leaves Python's logging as it is."""
    before = logging.getLoggerClass()
    log_in("text")
    assert logging.getLoggerClass() is before


def test_memory_in_words(caplog: pytest.LogCaptureFixture) -> None:
    """`[MEMORY] operation: n MB`, and a warning near the limit."""
    caplog.set_level(logging.INFO)
    log_memory("parsing", limit_bytes=64 * GIB)
    log_memory("parsing", limit_bytes=10 * 1024**2)
    log_memory("parsing", limit_bytes=0, level=logging.DEBUG)
    plain, near = caplog.records
    assert re.fullmatch(r"\[MEMORY\] parsing: \d+ MB", plain.getMessage())
    assert re.fullmatch(r"\[MEMORY\] parsing: \d+ MB, near the limit of 10 MB", near.getMessage())
    assert (plain.levelname, near.levelname) == ("INFO", "WARNING")


def test_memory_stays_out_of_the_event_log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a run's process the lines about memory go to the standard error and no further."""
    own = logging.Logger("memory", logging.INFO)
    monkeypatch.setattr(log_lines, "logger", own)
    log_memory_of_run("json")
    log_memory("parsing", limit_bytes=0)
    assert not own.propagate
    assert json.loads(capsys.readouterr().err)["message"].startswith("[MEMORY] parsing: ")


def test_memory_by_file_and_stage(
    connection: Connection, settings: Settings, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A line for each file in each stage, every tenth micro-batch at DEBUG, and no name of a file."""
    caplog.set_level(logging.DEBUG, logger="ingest_pipeline.memory.log_lines")
    (source / "secret.txt").write_text("\n\n".join(f"word{number} " * 30 for number in range(25)))
    ample = replace(settings, run_memory=8 * GIB, machine_memory=16 * GIB, embed_batch=1)
    with Sandbox(memory_limit_bytes=GIB) as sandbox:
        Pipeline(connection, ample, sandbox).ingest()
    lines = [(record.levelname, re.sub(r": \d+ MB", "", record.getMessage())) for record in caplog.records]
    shown = [line for line in lines if "[MEMORY]" in line[1]]
    row = connection.execute("SELECT file_id FROM files").fetchone()
    assert row is not None
    assert shown == [
        ("INFO", f"[MEMORY] chunks of file {row[0]}"),
        ("DEBUG", f"[MEMORY] embeddings of file {row[0]}, micro-batch 10"),
        ("DEBUG", f"[MEMORY] embeddings of file {row[0]}, micro-batch 20"),
        ("INFO", f"[MEMORY] embeddings of file {row[0]}"),
    ]
    assert "secret" not in caplog.text
