"""Runs without processes: an instance in memory, and a launcher that does as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg

from ingest_pipeline.definitions import defs
from ingest_pipeline.instance.dagster_private import (
    PARTITION_NAME_TAG,
    CheckRunHealthResult,
    LaunchRunContext,
    RunLauncher,
    WorkerStatus,
)
from ingest_pipeline.instance.origins import code_origin, remote_origin
from ingest_pipeline.instance.run_record import RunRecord

Script = Callable[[dg.DagsterInstance, dg.DagsterRun], None]


class ScriptedLauncher(RunLauncher[dg.DagsterInstance]):
    """Hands each run to a script in this process; says of every run's process what the test wants."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script
        self.launched: list[dg.DagsterRun] = []
        self.terminated: list[str] = []
        self.alive: set[str] = set()
        super().__init__()

    def launch_run(self, context: LaunchRunContext) -> None:
        self.execute(context.dagster_run)

    def execute(self, run: dg.DagsterRun) -> None:
        """Do as the script says; `ingest run` executes some runs itself."""
        self.launched.append(run)
        if self.script:
            self.script(self._instance, run)

    def terminate(self, run_id: str) -> bool:
        self.terminated.append(run_id)
        self.alive.discard(run_id)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        if run.run_id in self.alive:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, "process 77 ended: SIGKILL")


@contextmanager
def scripted_instance(script: Script | None = None) -> Iterator[tuple[dg.DagsterInstance, ScriptedLauncher]]:
    """An instance in memory with a scripted launcher."""
    with dg.DagsterInstance.ephemeral() as instance:
        launcher = ScriptedLauncher(script)
        launcher.register_instance(instance)
        instance._run_launcher = launcher
        yield instance, launcher


def make_run(
    instance: dg.DagsterInstance, batch: str = "", *, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED
) -> dg.DagsterRun:
    """A run of a batch, or of the catalog, that nobody launched."""
    name = "ingest_batch" if batch else "ingest_catalog"
    return instance.create_run_for_job(
        defs.resolve_job_def(name),
        status=status,
        tags={PARTITION_NAME_TAG: batch} if batch else {},
        remote_job_origin=remote_origin(name),
        job_code_origin=code_origin(name),
    )


def reloaded(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    """The run as the instance knows it now."""
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def write_code(run: dg.DagsterRun, code: int) -> None:
    """The record of a run's process that ended with this code."""
    record = RunRecord.of(run.run_id)
    record.path.parent.mkdir(parents=True, exist_ok=True)
    record.path.write_text(f'{{"pid": 77, "started": 1, "code": {code}, "cause": "exit code {code}"}}')
