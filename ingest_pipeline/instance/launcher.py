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
from ingest_pipeline.instance.host import host_name, is_here
from ingest_pipeline.instance.names import HOST_TAG, THREADS_TAG
from ingest_pipeline.instance.run_ends import copy_end
from ingest_pipeline.instance.run_record import NEVER_STARTED, RunRecord, remove_old_records
from ingest_pipeline.instance.run_tags import tag_if_untagged
from ingest_pipeline.memory.machine import run_slots, threads_of_run
from ingest_pipeline.settings import read_settings
from ingest_pipeline.sizes import format_size
from ingest_pipeline.store import batches, run_ends
from ingest_pipeline.store.connection import connected, database_url

logger = logging.getLogger(__name__)
START_SECONDS = 15.0  # until the supervisor has written the pid; below 0.1 s on an idle machine
SILENT_SECONDS = 14400.0 + 300.0
"""A run of another machine that has not ended by then is lost: dagster.yaml allows none to take over four hours."""
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
        run, settings, host = context.dagster_run, read_settings(), host_name()
        # First: another machine that looks after a run without a record of its own must know that it is not its.
        self._instance.add_run_tags(run.run_id, {HOST_TAG: host})
        limit_bytes = _memory_limit_bytes(run)
        if run.tags.get(PARTITION_NAME_TAG):  # only runs of a batch embed
            prepare_engine(replace(settings, run_memory=limit_bytes))
            tag_if_untagged(self._instance, run)
        budget = budget_of(settings)
        threads = int(run.tags.get(THREADS_TAG) or threads_of_run(budget, runs=run_slots(budget, settings)))
        record = RunRecord.of(run.run_id)
        record.path.parent.mkdir(parents=True, exist_ok=True)
        remove_old_records(record.path.parent)
        record.write({"host": host, "batch": run.tags.get(PARTITION_NAME_TAG)})  # the supervisor adds what it knows
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
        """Return whether the run's process is alive, and if not, how it ended; its end is stored before it is said."""
        record = RunRecord.of(run.run_id)
        if record.is_alive:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if record.read() or not self.has_instance:
            cause = record.exit_cause()
            self._store_end(record)
            return CheckRunHealthResult(WorkerStatus.FAILED, cause)
        return self._health_elsewhere(run)

    def _store_end(self, record: RunRecord) -> None:
        """Store how a run ended, before Dagster is told: another machine may reconcile it at once."""
        if self.has_instance:
            with connected(database_url(read_settings())) as connection:
                copy_end(connection, record)

    def _health_elsewhere(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return the health of a run of which this machine has no record.

        Only the machine on which its process is can tell whether it is alive. Until that one has said how it ended, it
        counts as alive, but not for longer than any run may take: the machine may be gone for good.
        """
        with connected(database_url(read_settings())) as connection:
            end = run_ends.end_of_run(connection, run.run_id)
        host = run.tags.get(HOST_TAG, "")
        if end is not None:
            return CheckRunHealthResult(WorkerStatus.FAILED, f"its process on {end.host} ended: {end.cause}")
        if not host or is_here(host):
            return CheckRunHealthResult(WorkerStatus.FAILED, NEVER_STARTED)
        if self._seconds_since_start(run) < SILENT_SECONDS:
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"its process is on {host}")
        return CheckRunHealthResult(WorkerStatus.FAILED, f"{host} has said nothing of it for {SILENT_SECONDS:.0f} s")

    def _seconds_since_start(self, run: DagsterRun) -> float:
        record = self._instance.get_run_record_by_id(run.run_id)
        if record is None:
            return SILENT_SECONDS
        return time.time() - (record.start_time or record.create_timestamp.timestamp())

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
