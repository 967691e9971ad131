"""The launcher: a process for each run under its batch's limit, asked to stop, and asked how it ended."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from ingest_pipeline.instance import launcher as module
from ingest_pipeline.instance.dagster_private import LaunchRunContext, WorkerStatus
from ingest_pipeline.instance.launcher import BudgetedRunLauncher
from ingest_pipeline.instance.run_record import RunRecord
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.documents import add_file, seal
from ingest_pipeline_tests.launching import make_run, reloaded

MIB = 1024**2
SHOW = "import json, os, sys; print(json.dumps({name: os.environ[name] for name in ('OMP_NUM_THREADS',)}))"
SLEEP = "import time; time.sleep(60)"


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.environ().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


class Launched:
    """A launcher whose runs are a script of the test, under a real supervisor."""

    def __init__(self, instance: dg.DagsterInstance, patch: pytest.MonkeyPatch) -> None:
        self.instance, self._patch, self._runs = instance, patch, list[RunRecord]()
        self.launcher = BudgetedRunLauncher()
        self.launcher.register_instance(instance)

    def __call__(self, run: dg.DagsterRun, script: str = SHOW) -> RunRecord:
        self._patch.setattr(self.launcher, "_command", lambda run: [sys.executable, "-c", script])
        context: Any = LaunchRunContext(dagster_run=run, workspace=None)
        self.launcher.launch_run(context)
        self._runs.append(RunRecord.of(run.run_id))
        return self._runs[-1]

    def end(self) -> None:
        for record in self._runs:
            if record.stop():
                wait_for_end(record)


@pytest.fixture
def launched(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Iterator[Launched]:
    made = Launched(instance, monkeypatch)
    yield made
    made.end()


def wait_for_end(record: RunRecord) -> dict[str, Any]:
    deadline = time.monotonic() + 15
    while "code" not in (facts := record.read()):
        assert time.monotonic() < deadline, facts
        time.sleep(0.02)
    return facts


def engine_events(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    logs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    return [str(event.dagster_event.message) for event in logs if event.dagster_event]


def test_a_run_has_a_process_and_a_record(launched: Launched, instance: dg.DagsterInstance) -> None:
    """Launching returns once the process is there; its pid, limit and threads are in Dagster's history."""
    run = make_run(instance)
    record = launched(run, SLEEP)
    assert record.is_alive
    pid = record.read()["pid"]
    [event] = engine_events(instance, run)
    assert event.startswith(f"Started process {pid} with 1.0 GiB of memory and ")


def test_limit_is_the_batchs(launched: Launched, instance: dg.DagsterInstance, connection: Connection) -> None:
    """A batch's run has the limit that the batch was sealed with, whatever the setting is now."""
    add_file(connection, "a.txt")
    key = seal(connection)
    connection.execute("UPDATE batches SET memory_limit_bytes = %s", (800 * MIB,))
    facts = wait_for_end(launched(make_run(instance, key)))
    assert (facts["limit_bytes"], facts["code"]) == (800 * MIB, 0)


def test_limit_without_a_batch(
    launched: Launched, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog's run, and one of a partition that nobody sealed, have the budget of a run."""
    monkeypatch.setenv("INGEST_RUN_MEMORY", "900MiB")
    assert launched(make_run(instance)).read()["limit_bytes"] == 900 * MIB
    assert launched(make_run(instance, "made-by-hand")).read()["limit_bytes"] == 900 * MIB


def test_threads_are_the_tags(
    launched: Launched, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tag says how many threads; without it a run has its share of the cores."""
    monkeypatch.setattr("ingest_pipeline.memory.machine.usable_cores", lambda: 8)
    monkeypatch.setattr(module, "run_slots", lambda budget, settings: 3)
    run = make_run(instance)
    instance.add_run_tags(run.run_id, {"ingest/threads": "5"})
    for given, threads in ((reloaded(instance, run), "5"), (make_run(instance), "4")):
        record = launched(given)
        wait_for_end(record)
        assert json.loads(record.log.read_text()) == {"OMP_NUM_THREADS": threads}


def test_the_engine_is_ready_first(
    launched: Launched, instance: dg.DagsterInstance, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a batch's process starts its model is exported if need be; the catalog needs no model."""
    prepared: list[int] = []
    monkeypatch.setattr(module, "prepare_engine", lambda settings: prepared.append(settings.run_memory))
    add_file(connection, "a.txt")
    launched(make_run(instance))
    assert prepared == []
    launched(make_run(instance, seal(connection)))
    assert prepared == [2**30]


def test_old_records_go_with_a_launch(launched: Launched, instance: dg.DagsterInstance, settings: Settings) -> None:
    """Records of weeks ago are removed when a run is launched."""
    old = settings.home / "runs" / "old.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    os.utime(old, (1, 1))
    record = launched(make_run(instance))
    assert record.path.exists()
    assert not old.exists()


def test_output_outside_steps_is_kept(launched: Launched, instance: dg.DagsterInstance) -> None:
    """What the process prints is in its log; the UI shows the last twenty lines, bytes that are no text replaced."""
    run = make_run(instance)
    assert launched.launcher.get_run_worker_debug_info(run) is None
    script = "import sys; [print('line', n) for n in range(30)]; sys.stdout.flush(); sys.stdout.buffer.write(b'\\xff')"
    record = launched(run, script)
    wait_for_end(record)
    shown = str(launched.launcher.get_run_worker_debug_info(run)).splitlines()
    assert shown == [*(f"line {number}" for number in range(11, 30)), "\ufffd"]
    record.log.write_text("")
    assert launched.launcher.get_run_worker_debug_info(run) is None


def test_ctrl_c_is_not_for_runs(launched: Launched, instance: dg.DagsterInstance) -> None:
    """A run is in another session than its launcher: the terminal's Ctrl-C does not reach it."""
    facts = launched(make_run(instance), SLEEP).read()
    assert os.getsid(facts["pid"]) == os.getsid(facts["supervisor"]) == facts["supervisor"]
    assert os.getsid(facts["pid"]) != os.getsid(0)


def test_health_of_a_run(launched: Launched, instance: dg.DagsterInstance) -> None:
    """Running while its process lives; failed, with the cause, when it is gone."""
    run = make_run(instance)
    record = launched(run, SLEEP)
    launcher = launched.launcher
    assert launcher.supports_check_run_worker_health
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
    assert launcher.terminate(run.run_id)
    wait_for_end(record)
    health = launcher.check_run_worker_health(run)
    assert health.status == WorkerStatus.FAILED
    assert str(health.msg).endswith("ended: SIGTERM")


def test_terminating_is_canceling(launched: Launched, instance: dg.DagsterInstance) -> None:
    """A run that is asked to stop is canceling in Dagster until its process is gone."""
    run = make_run(instance)
    record = launched(run, SLEEP)
    assert launched.launcher.terminate(run.run_id)
    assert reloaded(instance, run).status == DagsterRunStatus.CANCELING
    assert wait_for_end(record)["cause"] == "SIGTERM"


def test_nothing_to_terminate(launched: Launched, instance: dg.DagsterInstance) -> None:
    """A run that is unknown or finished, or that has no process, was not terminated."""
    assert not launched.launcher.terminate("00000000-0000-0000-0000-000000000000")
    finished = make_run(instance, status=DagsterRunStatus.SUCCESS)
    assert not launched.launcher.terminate(finished.run_id)
    assert reloaded(instance, finished).status == DagsterRunStatus.SUCCESS
    assert not launched.launcher.terminate(make_run(instance).run_id)


@pytest.mark.parametrize("seconds", [15.0, 0.0])
def test_a_supervisor_that_does_not_start(
    launched: Launched, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """A supervisor that ends at once, or is not there in time, is an error that names the log."""
    monkeypatch.setattr(module, "START_SECONDS", seconds)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    run = make_run(instance)
    with pytest.raises(RuntimeError, match=f"did not start; see .*{run.run_id}.log"):
        launched(run)


def test_command_of_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Dagster's own command for one run, with the run's id, and an exit code that says whether it failed."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        launcher = BudgetedRunLauncher.from_config_value(None, {})  # type: ignore[arg-type]
        launcher.register_instance(instance)
        run = make_run(instance)
        *command, arguments = launcher._command(run)
    assert command == [sys.executable, "-m", "ingest_pipeline.instance.run_process", "api", "execute_run"]
    told = json.loads(arguments)
    assert told["pipeline_run_id"] == run.run_id
    assert told["set_exit_code_on_failure"] is True


def test_launcher_takes_no_configuration() -> None:
    """The settings say it all."""
    launcher = BudgetedRunLauncher()
    assert launcher.inst_data is None
    assert launcher.config_type() == {}


def test_a_run_by_hand_gets_its_tags(launched: Launched, instance: dg.DagsterInstance, connection: Connection) -> None:
    """What is materialized in the UI is tagged when it is launched; tags that are there stay."""
    add_file(connection, "a.txt")
    key = seal(connection)
    by_hand, tagged = make_run(instance, key), make_run(instance, key)
    instance.add_run_tags(tagged.run_id, {"ingest/batch_kind": "requeue"})
    for run in (by_hand, reloaded(instance, tagged)):
        launched(run)
    tags = [reloaded(instance, run).tags for run in (by_hand, tagged)]
    assert [each["ingest/batch_kind"] for each in tags] == ["first", "requeue"]
    assert tags[0]["ingest/budget"] == "1.0 GiB"
