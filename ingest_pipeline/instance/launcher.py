"""Launches each run as a process with the memory limit of its batch, under a supervisor.

Dagster's default launcher has no limit per run and no health check: after a power failure a run stays STARTED and keeps
its place in the queue (docs/dagster.md, T3 and M2; dagster #4319).
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ingest_pipeline.embedding.choice import budget_of
from ingest_pipeline.embedding.load import prepare_engine
from ingest_pipeline.instance.dagster_private import (
    PARTITION_NAME_TAG,
    CheckRunHealthResult,
    ConfigurableClass,
    ConfigurableClassData,
    DagsterRun,
    ExecuteRunArgs,
    LaunchRunContext,
    RunLauncher,
    WorkerStatus,
    serialize_value,
)
from ingest_pipeline.instance.names import THREADS_TAG
from ingest_pipeline.instance.run_record import RunRecord, remove_old_records
from ingest_pipeline.instance.run_tags import tag_if_untagged
from ingest_pipeline.memory.machine import run_slots, threads_of_run
from ingest_pipeline.settings import read_settings
from ingest_pipeline.sizes import format_size
from ingest_pipeline.store import batches
from ingest_pipeline.store.connection import connected, database_url

logger = logging.getLogger(__name__)
START_SECONDS = 15.0  # until the supervisor has written the pid; below 0.1 s on an idle machine
DEBUG_LINES = 20
RUN_PROCESS = "ingest_pipeline.instance.run_process"


class BudgetedRunLauncher(RunLauncher, ConfigurableClass):
    """Starts each run in a process with its batch's memory limit, and reports how it ended."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """The configuration in dagster.yaml."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return an empty schema: everything is configured by the `INGEST_*` settings."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> BudgetedRunLauncher:
        """Return the launcher."""
        return cls(inst_data=inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run's process; return as soon as it exists."""
        run, settings = context.dagster_run, read_settings()
        limit_bytes = _memory_limit_bytes(run)
        if run.tags.get(PARTITION_NAME_TAG):  # only runs of a batch embed
            prepare_engine(replace(settings, run_memory=limit_bytes))
            tag_if_untagged(self._instance, run)
        budget = budget_of(settings)
        threads = int(run.tags.get(THREADS_TAG) or threads_of_run(budget, runs=run_slots(budget, settings)))
        record = RunRecord.of(run.run_id)
        record.path.parent.mkdir(parents=True, exist_ok=True)
        remove_old_records(record.path.parent)
        supervisor = [sys.executable, "-m", "ingest_pipeline.instance.supervisor"]
        limits = [str(record.path), str(limit_bytes), str(threads), "--"]
        with record.log.open("ab") as log:
            process = subprocess.Popen(
                [*supervisor, *limits, *self._command(run)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the launcher's terminal must not reach the run
            )
        pid = _await_pid(record, process)
        self._instance.report_engine_event(
            f"Started process {pid} with {format_size(limit_bytes)} of memory and {threads} threads.",
            run,
        )

    def terminate(self, run_id: str) -> bool:
        """Ask a run's process to stop; after 30 s its supervisor kills it. Return whether it was running."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        return RunRecord.of(run_id).stop()

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Always True; Dagster's run monitoring then calls `check_run_worker_health`."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return whether the run's process is alive, and if not, how it ended."""
        record = RunRecord.of(run.run_id)
        if record.is_alive:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, record.exit_cause())

    def get_run_worker_debug_info(self, run: DagsterRun, include_container_logs: bool | None = True) -> str | None:
        """Return the last lines that the process wrote outside of a step."""
        with contextlib.suppress(OSError):
            lines = RunRecord.of(run.run_id).log.read_text(errors="replace").splitlines()
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
        return [sys.executable, "-m", RUN_PROCESS, "api", "execute_run", serialize_value(arguments)]


def _memory_limit_bytes(run: DagsterRun) -> int:
    """Return the limit with which the run's batch was sealed, or the run budget if there is no batch."""
    settings, key = read_settings(), run.tags.get(PARTITION_NAME_TAG)
    if key:
        with connected(database_url(settings)) as connection:
            for batch in batches.list_batches(connection, batch=key):
                return batch.memory_limit_bytes
    return settings.run_memory


def _await_pid(record: RunRecord, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if pid := record.read().get("pid"):
            return int(pid)
        if process.poll() is not None:
            break
        time.sleep(0.01)
    raise RuntimeError(f"the run's supervisor did not start; see {record.log}")
