"""How a run's process is watched, and what is said of its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingest_pipeline.instance import launcher
from ingest_pipeline.instance.dagster_private import CheckRunHealthResult, WorkerStatus
from ingest_pipeline.instance.logs import PlainComputeLogManager
from ingest_pipeline.memory.process import identity_of


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record of a run that is called `run`."""
    monkeypatch.setenv("INGEST_HOME", str(tmp_path))
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs" / "run.json"


def process_started(pid: int) -> int:
    process = identity_of(pid)
    return process.started if process else 1


def health() -> CheckRunHealthResult:
    run: Any = SimpleNamespace(run_id="run")
    return launcher.BudgetedRunLauncher().check_run_worker_health(run)


def facts_of_an_ended_process() -> dict[str, Any]:
    process = subprocess.Popen([sys.executable, "-c", ""])
    started = process_started(process.pid)
    process.wait()
    return {"pid": process.pid, "started": started}


def test_a_living_process_is_running(record: Path) -> None:
    """Same pid, same start."""
    record.write_text(json.dumps({"pid": os.getpid(), "started": process_started(os.getpid())}))
    assert health().status == WorkerStatus.RUNNING


def test_a_pid_that_is_used_again(record: Path) -> None:
    """Another process with the pid of the run is not the run: pid and start together are used once."""
    record.write_text(json.dumps({"pid": os.getpid(), "started": 1}))
    assert health().status == WorkerStatus.FAILED


def test_the_supervisor_has_time_to_write(record: Path) -> None:
    """A look between the end of a run and its record waits for the record, and does not call it a power cut."""
    writer = {"supervisor": os.getpid(), "supervisor_started": process_started(os.getpid())}
    facts = facts_of_an_ended_process() | writer
    record.write_text(json.dumps(facts))

    def write_cause() -> None:
        time.sleep(0.3)
        temporary = record.with_suffix(".tmp")
        temporary.write_text(json.dumps(facts | {"code": -9, "cause": "SIGKILL"}))
        temporary.replace(record)

    thread = threading.Thread(target=write_cause)
    thread.start()
    found = health()
    thread.join()
    assert found.status == WorkerStatus.FAILED
    assert "SIGKILL" in str(found.msg)


def test_without_a_supervisor_it_vanished(record: Path) -> None:
    """A run whose supervisor is gone too vanished: nobody is left to wait for."""
    ended = facts_of_an_ended_process()
    record.write_text(json.dumps(ended | {"supervisor": ended["pid"], "supervisor_started": ended["started"]}))
    began = time.monotonic()
    assert "power cut" in str(health().msg)
    assert time.monotonic() - began < 1


def test_output_needs_no_helper_processes(record: Path, tmp_path: Path) -> None:
    """What the process prints, and what its C libraries print, is in the files; no `tail` was started."""
    script = (
        "import os, sys, psutil\n"
        "from ingest_pipeline.instance.logs import PlainComputeLogManager\n"
        "manager = PlainComputeLogManager.from_config_value(None, {})\n"
        "with manager.capture_logs(['run', 'compute_logs', 'step']):\n"
        "    print('printed'); os.write(1, b'written\\n'); print('wrong', file=sys.stderr)\n"
        "    assert not psutil.Process().children()\n"
        "print('afterwards')\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    manager = PlainComputeLogManager.from_config_value(None, {})
    data = manager.get_log_data(["run", "compute_logs", "step"])
    assert sorted((data.stdout or b"").split()) == [b"printed", b"written"]
    assert data.stderr == b"wrong\n"
    assert manager.is_capture_complete(["run", "compute_logs", "step"])
    assert result.stdout == "afterwards\n"
