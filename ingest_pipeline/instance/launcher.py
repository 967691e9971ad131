"""One process for each run, under the batch's limit, with a witness.

Imports two private modules of Dagster, the same that dagster-docker and dagster-k8s use; pyproject pins the
minor version for it. What Dagster's own launcher lacks: a limit per run, and a health check, without which a
power cut leaves a run STARTED for ever in a slot of the queue (DAGSTER.md, trap 3; dagster #4319).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClass, ConfigurableClassData, serialize_value

from ingest_pipeline.instance.coordinator import slots_of
from ingest_pipeline.instance.supervisor import process_started
from ingest_pipeline.embedding.engines import prepare_engine
from ingest_pipeline.memory.budget import engine_for
from ingest_pipeline.memory.machine import usable_cores
from ingest_pipeline.settings import format_size, read_settings
from ingest_pipeline.store import batches
from ingest_pipeline.store.connection import connected, database_url

logger = logging.getLogger(__name__)
THREADS_TAG = "ingest/threads"
"""How many threads a run computes with; without the tag, its share of the cores when every slot is taken."""
KEEP_RECORDS_SECONDS = 14 * 86400
START_SECONDS = 15.0
WITNESS_SECONDS = 5.0  # 50 ms on an idle machine
DEBUG_LINES = 20


class BudgetedRunLauncher(RunLauncher, ConfigurableClass):
    """Starts each run as a process of its own under its batch's memory limit, and can tell how it died."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """What dagster.yaml said."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """No configuration: the `INGEST_*` settings say it all."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> BudgetedRunLauncher:
        """Return the launcher."""
        return cls(inst_data=inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run's process; returns as soon as it is there."""
        run, settings = context.dagster_run, read_settings()
        limit_bytes = _memory_limit_bytes(run)
        if run.tags.get(PARTITION_NAME_TAG):
            engine = engine_for(limit_bytes, settings.engine)
            prepare_engine(settings.model, engine=engine, home=settings.home)
        threads = int(run.tags.get(THREADS_TAG) or max(1, usable_cores() // slots_of(settings)))
        record = _record_path(run.run_id)
        record.parent.mkdir(parents=True, exist_ok=True)
        _forget_old_records(record.parent)
        supervisor = [sys.executable, "-m", "ingest_pipeline.instance.supervisor"]
        limits = [str(record), str(limit_bytes), str(threads), "--"]
        with record.with_suffix(".log").open("ab") as log:
            process = subprocess.Popen(
                [*supervisor, *limits, *self._command(run)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal of whoever launched is not for the run
            )
        facts = _await_record(record, process)
        self._instance.report_engine_event(
            f"Started process {facts.get('pid')} with {format_size(limit_bytes)} of memory and {threads} threads.",
            run,
        )

    def terminate(self, run_id: str) -> bool:
        """Ask a run's process to stop; after 30 s its supervisor kills it. False if it was not running."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        return stop_worker(_record_path(run_id))

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes: this is what the launcher is for."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return whether the run's process lives, and if not, what killed it."""
        record = _record_path(run.run_id)
        if is_alive(read_record(record)):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, exit_cause(_last_facts(record)))

    def get_run_worker_debug_info(self, run: DagsterRun, include_container_logs: bool | None = True) -> str | None:
        """Return the last lines that the process wrote outside of any step."""
        with contextlib.suppress(OSError):
            lines = _record_path(run.run_id).with_suffix(".log").read_text(errors="replace").splitlines()
            return "\n".join(lines[-DEBUG_LINES:]) or None
        return None

    def _command(self, run: DagsterRun) -> list[str]:
        assert run.job_code_origin is not None, f"run {run.run_id} has no code origin"
        arguments = ExecuteRunArgs(
            job_origin=run.job_code_origin,
            run_id=run.run_id,
            instance_ref=self._instance.get_ref(),
            set_exit_code_on_failure=True,
        )
        return [sys.executable, "-m", "dagster", "api", "execute_run", serialize_value(arguments)]


def _memory_limit_bytes(run: DagsterRun) -> int:
    """Return the limit that the run's batch was sealed with; the run budget where there is no batch."""
    settings, batch = read_settings(), run.tags.get(PARTITION_NAME_TAG)
    if batch:
        with connected(database_url(settings)) as connection:
            for found in batches.list_batches(connection, batch=batch):
                return found.memory_limit_bytes
    return settings.run_memory


def runs_folder() -> Path:
    """Return the folder where supervisors keep their records."""
    return read_settings().home / "runs"


def _record_path(run_id: str) -> Path:
    return runs_folder() / f"{run_id}.json"


def read_record(path: Path) -> dict[str, Any]:
    """Return what a run's supervisor wrote down; {} if nothing yet."""
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(path.read_text()))
    return {}


def is_alive(facts: Mapping[str, Any]) -> bool:
    """Return whether the process of a record lives: the same pid with the same start."""
    return "code" not in facts and _lives(facts.get("pid"), facts.get("started"))


def _lives(pid: int | None, started: int | None) -> bool:
    return bool(pid) and started is not None and process_started(int(pid or 0)) == started


def _last_facts(path: Path) -> dict[str, Any]:
    """Return a dead process's record, giving its witness the moment that it needs to write down the cause."""
    deadline = time.monotonic() + WITNESS_SECONDS
    while True:
        facts = read_record(path)
        waits = "code" not in facts and _lives(facts.get("supervisor"), facts.get("supervisor_started"))
        if not waits or time.monotonic() > deadline:
            return facts
        time.sleep(0.01)


def stop_worker(record: Path) -> bool:
    """Ask the process of a record to stop; return whether it was there."""
    facts = read_record(record)
    if not is_alive(facts):
        return False
    supervisor = _parent_of(int(facts["pid"]))
    with contextlib.suppress(ProcessLookupError):
        os.kill(supervisor or int(facts["pid"]), signal.SIGTERM)
        return True
    return False


def _parent_of(pid: int) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        return parent if parent > 1 else None
    return None


def ended_by_itself(run_id: str) -> bool:
    """Return whether a run's process ended with an exit code of its own: then nobody killed it."""
    return int(read_record(_record_path(run_id)).get("code", -1)) >= 0


def exit_cause(facts: Mapping[str, Any]) -> str:
    if not facts:
        return "no process was ever started for this run"
    if "cause" in facts:
        return f"process {facts.get('pid')} ended: {facts['cause']}"
    return f"process {facts.get('pid')} vanished together with its supervisor: power cut, or killed with all its family"


def _await_record(record: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if facts := read_record(record):
            return facts
        if process.poll() is not None:
            break
        time.sleep(0.01)
    raise RuntimeError(f"the run's supervisor did not start; see {record.with_suffix('.log')}")


def _forget_old_records(folder: Path) -> None:
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > KEEP_RECORDS_SECONDS:
                path.unlink()
