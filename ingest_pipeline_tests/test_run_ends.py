"""What runs left on their machine is copied into the store; two homes that share one Postgres are two machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from ingest_pipeline.instance import launcher as launcher_module
from ingest_pipeline.instance import run_ends as module
from ingest_pipeline.instance.dagster_private import WorkerStatus
from ingest_pipeline.instance.host import host_name, is_here
from ingest_pipeline.instance.launcher import SILENT_SECONDS, BudgetedRunLauncher
from ingest_pipeline.instance.names import HOST_TAG, MEMORY_OVER_TIME
from ingest_pipeline.instance.reconcile import has_ended, reconcile, reconcile_running
from ingest_pipeline.instance.run_ends import copy_ended, ended_by_itself, show_memory
from ingest_pipeline.instance.run_record import RunRecord
from ingest_pipeline.memory.process import identity_of
from ingest_pipeline.memory.record import memory_file, read_records
from ingest_pipeline.memory.recorder import Position, Recorder
from ingest_pipeline.settings import Settings
from ingest_pipeline.store import batches, ledger, memory_records, run_ends
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.documents import add_file, count, files_of, seal
from ingest_pipeline_tests.launching import make_run, reloaded

MIB = 1024**2
ENDED = round(time.time()) - 60.0
GONE = {"pid": 77, "started": 1}
KILLED = GONE | {"code": -9, "cause": "SIGKILL: killed from outside", "ended": ENDED, "cpu_seconds": 12.5}
Machine = Callable[[str], None]


@pytest.fixture(autouse=True)
def machine(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Goes to a machine with a home of its own; the test begins on machine `a`."""
    for name, value in settings.environ().items():
        monkeypatch.setenv(name, value)

    def go(name: str) -> None:
        home = tmp_path / f"home-{name}"
        (home / "runs").mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("INGEST_HOME", str(home))

    go("a")
    return go


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        launcher = BudgetedRunLauncher()
        launcher.register_instance(made)
        made._run_launcher = launcher
        yield made


def wrote(run_id: str, **entries: Any) -> RunRecord:
    """A run of this machine, of which the record says so."""
    record = RunRecord.of(run_id)
    record.write({"host": host_name()} | entries)
    return record


def recorded(run_id: str, batch: str = "b", *stages: str, file_id: int = 1) -> Path:
    """The memory that a run of this machine wrote down."""
    path = memory_file(RunRecord.of(run_id).path.parents[1], run_id)
    for stage in stages or ("chunks",):
        recorder = Recorder(path, stage=stage, batch=batch, limit_bytes=600 * MIB, position=Position(file_id, 3))
        recorder.note(123 * MIB, [])
        recorder.close()
    return path


def begun(connection: Connection, instance: dg.DagsterInstance, paths: tuple[str, ...] = ("a.txt", "b.txt")) -> Any:
    """A batch and its run, which has begun on its first file, on this machine."""
    for path in paths:
        add_file(connection, path, version=path)
    key = seal(connection)
    run = make_run(instance, key)
    instance.add_run_tags(run.run_id, {HOST_TAG: host_name()})
    batches.begin_batch(connection, key, run.run_id)
    file = next(iter(files_of(connection, key).values()))
    ledger.open_attempt(connection, file, batch=key, run_id=run.run_id, stage="chunks")
    return key, reloaded(instance, run)


def health(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[WorkerStatus, str]:
    result = instance.run_launcher.check_run_worker_health(run)
    return result.status, str(result.msg)


def observations(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.AssetObservation]:
    events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION)
    return [event.dagster_event.asset_observation_data.asset_observation for event in events if event.dagster_event]


def test_each_home_is_a_machine(machine: Machine) -> None:
    """A machine keeps its name; that of another home on the same host is another one."""
    name = host_name()
    assert (host_name(), is_here(name)) == (name, True)
    machine("b")
    assert not is_here(name)
    assert host_name().partition("/")[0] == name.partition("/")[0]


def test_ends_are_copied_once(connection: Connection) -> None:
    """Cause, exit code, kills, peak, limit, CPU seconds, host and time of every ended run that the store lacks."""
    wrote("killed", **KILLED, batch="b1", oom_kills=2, group_peak_bytes=5 * MIB, limit_bytes=600 * MIB)
    wrote("good", **GONE, code=0, cause="exit code 0", ended=ENDED)
    assert (copy_ended(connection), copy_ended(connection)) == (2, 0)
    assert run_ends.end_of_run(connection, "killed") == run_ends.RunEnd(
        run_id="killed", batch="b1", host=host_name(), exit_code=-9, cause="SIGKILL: killed from outside",
        ended_at=ENDED, oom_kills=2, group_peak_bytes=5 * MIB, limit_bytes=600 * MIB, cpu_seconds=12.5,
    )  # fmt: skip
    [good] = connection.execute("SELECT cause, batch, oom_kills FROM run_ends WHERE exit_code = 0").fetchall()
    assert good == ("exit code 0", None, None)
    assert [end.run_id for end in run_ends.ends_of_batch(connection, "b1")] == ["killed"]


def test_what_has_not_ended_stays(connection: Connection) -> None:
    """A run that is at work, one that is about to start, and a file that no supervisor wrote are no ends."""
    me = identity_of(os.getpid())
    assert me is not None
    wrote("alive", pid=me.pid, started=me.started)
    wrote("starting", batch="b1")
    wrote("ending", **GONE, supervisor=me.pid, supervisor_started=me.started)
    RunRecord.of("foreign").path.write_text("[1]")
    path = recorded("alive")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ingest_pipeline.instance.run_record.SUPERVISOR_SECONDS", 0.1)
        assert copy_ended(connection) == 0
    assert path.exists()


def test_a_power_cut_is_an_end(connection: Connection) -> None:
    """A run whose supervisor is gone too, without a word, vanished: that is when it is noticed."""
    wrote("run", **GONE, supervisor=78, supervisor_started=1)
    copy_ended(connection)
    end = run_ends.end_of_run(connection, "run")
    assert end is not None
    assert (end.exit_code, end.by_itself) == (None, False)
    assert end.cause.startswith("vanished together with its supervisor: power cut")
    assert abs(end.ended_at - time.time()) < 60


@pytest.mark.parametrize(("code", "by_itself"), [(0, True), (1, True), (-9, False), (None, False)])
def test_the_store_answers_elsewhere(
    connection: Connection, machine: Machine, code: int | None, by_itself: bool
) -> None:
    """Whether a run ended by itself is known on the other machine as on its own."""
    wrote("run", **(GONE if code is None else GONE | {"code": code, "cause": "c"}))
    assert ended_by_itself(connection, "run") is by_itself
    copy_ended(connection)
    machine("b")
    assert ended_by_itself(connection, "run") is by_itself
    assert ended_by_itself(connection, "unknown") is False


def test_alive_elsewhere_is_not_dead(instance: dg.DagsterInstance, connection: Connection, machine: Machine) -> None:
    """A run that is at work on one machine is not taken for dead by another, which has no record of it."""
    me = identity_of(os.getpid())
    assert me is not None
    _, run = begun(connection, instance)
    wrote(run.run_id, pid=me.pid, started=me.started)
    there = host_name()
    machine("b")
    assert health(instance, run) == (WorkerStatus.RUNNING, f"its process is on {there}")
    assert not has_ended(instance, run)
    assert reconcile_running(instance, connection) == []
    assert reloaded(instance, run).status == DagsterRunStatus.STARTED


def test_never_started_is_failed(instance: dg.DagsterInstance, connection: Connection, machine: Machine) -> None:
    """A run of this machine, or one that no machine launched, of which nothing was written never started."""
    run = make_run(instance)
    assert health(instance, run) == (WorkerStatus.FAILED, "no process was ever started for this run")
    _, mine = begun(connection, instance)
    assert health(instance, mine) == (WorkerStatus.FAILED, "no process was ever started for this run")


def test_a_lost_machine_is_given_up(
    instance: dg.DagsterInstance, connection: Connection, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is gone for good does not keep a batch for ever: only as long as a run may take."""
    _, run = begun(connection, instance)
    there, now = host_name(), time.time()
    machine("b")
    for seconds, status in ((SILENT_SECONDS - 60, WorkerStatus.RUNNING), (SILENT_SECONDS + 60, WorkerStatus.FAILED)):
        monkeypatch.setattr(launcher_module.time, "time", lambda seconds=seconds: now + seconds)
        assert health(instance, run)[0] == status
    assert health(instance, run)[1] == f"{there} has said nothing of it for 14700 s"


def test_a_kill_on_another_machine(instance: dg.DagsterInstance, connection: Connection, machine: Machine) -> None:
    """The machine of a killed run copies its end; the other one attributes the kill to the open file."""
    key, run = begun(connection, instance)
    wrote(run.run_id, **KILLED)
    there = host_name()
    copy_ended(connection)
    machine("b")
    assert health(instance, run) == (
        WorkerStatus.FAILED, f"its process on {there} ended: SIGKILL: killed from outside"
    )  # fmt: skip
    assert reconcile_running(instance, connection) == [key]
    assert connection.execute("SELECT path, kills FROM files ORDER BY path").fetchall() == [("a.txt", 1), ("b.txt", 0)]


def test_no_kill_on_another_machine(instance: dg.DagsterInstance, connection: Connection, machine: Machine) -> None:
    """A run that lost its database and exited is no kill either, whichever machine reconciles it."""
    key, run = begun(connection, instance)
    wrote(run.run_id, **GONE, code=1, cause="exit code 1")
    assert health(instance, run)[0] == WorkerStatus.FAILED  # asking is enough: the end is stored before it is told
    instance.report_run_failed(run, "Run worker is gone")
    machine("b")
    [batch] = batches.list_batches(connection, batch=key)
    reconcile(instance, connection, batch, run)
    assert connection.execute("SELECT sum(kills) FROM files").fetchone() == (0,)
    assert count(connection, "incidents") == 1


def test_a_killed_stage_is_shown(instance: dg.DagsterInstance, connection: Connection) -> None:
    """What a killed run wrote of its memory is stored, its picture added to the run's events once, the file deleted."""
    key, run = begun(connection, instance)
    wrote(run.run_id, **KILLED)
    path = recorded(run.run_id, key, "chunks", "embeddings")
    memory_records.store_record(connection, read_records(path)[0], shown=True)  # as a stage that ended well does
    instance.report_run_failed(run, "killed")
    [batch] = batches.list_batches(connection, batch=key)
    reconcile(instance, connection, batch, run)
    [observation] = observations(instance, run)
    assert (observation.asset_key, observation.partition) == (dg.AssetKey("embeddings"), key)
    assert observation.metadata["measured_peak_mib"].value == 123.0
    markdown = str(observation.metadata[MEMORY_OVER_TIME].value)
    assert markdown.startswith("![memory over time](data:image/svg+xml;base64,")
    assert markdown.splitlines()[-1] == "| file 1 | a.txt | p. 1-3 | 123.0 MiB |"
    assert [record.stage for record in memory_records.records_of_run(connection, run.run_id)] == [
        "chunks", "embeddings"
    ]  # fmt: skip
    assert not path.exists()
    assert show_memory(instance, connection) == []


def test_a_forgotten_run_is_shown(instance: dg.DagsterInstance, connection: Connection) -> None:
    """A run that was deleted from Dagster's history leaves its picture at the asset."""
    wrote("run", **KILLED)
    recorded("run")
    copy_ended(connection)
    assert len(show_memory(instance, connection)) == 1
    event = instance.fetch_observations(dg.AssetKey("chunks"), limit=1).records[0]
    assert event.partition_key == "b"


def test_unsupervised_runs_are_left_alone(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without a record of its process may be at work: its memory is copied after a minute without a line."""
    path = recorded("run")
    copy_ended(connection)
    assert path.exists()
    now = time.time()
    os.utime(path, (now - module.QUIET_SECONDS - 1,) * 2)
    copy_ended(connection)
    assert not path.exists()
    assert len(memory_records.records_of_run(connection, "run")) == 1


def test_no_folder_has_nothing_to_copy(connection: Connection, machine: Machine, tmp_path: Path) -> None:
    """A home in which nothing ran."""
    (tmp_path / "home-a" / "runs").rmdir()
    assert copy_ended(connection) == 0


def test_samples_are_rows(connection: Connection) -> None:
    """The samples of a run, stage and file can be asked for in SQL, and the records of a file are found by it."""
    add_file(connection, "a.txt")
    key = seal(connection)
    [file] = files_of(connection, key).values()
    ledger.open_attempt(connection, file, batch=key, run_id="run", stage="chunks")
    [record] = read_records(recorded("run", key, file_id=file.file_id))
    assert memory_records.store_record(connection, record, shown=True)
    assert not memory_records.store_record(connection, record, shown=True)
    rows = connection.execute("SELECT run_id, stage, file_id, page, second, used_bytes FROM memory_samples").fetchall()
    assert rows == [("run", "chunks", file.file_id, 3, 0.0, 123 * MIB)]
    assert memory_records.records_of_file(connection, file.file_id) == [record]
    assert memory_records.records_of_batch(connection, key) == [record]


def test_old_rows_are_pruned(connection: Connection) -> None:
    """Records of 90 days ago and ends of a year ago go with the next copy; younger ones stay."""
    for name, days in (("old", 91), ("young", 89)):
        [record] = read_records(recorded(name))
        memory_records.store_record(connection, record, shown=True)
        connection.execute(
            "UPDATE memory_records SET began_at = now() - make_interval(days => %s) WHERE run_id = %s", (days, name)
        )
        RunRecord.of(name).path.with_suffix(".memory").unlink()
    for name, days in (("older", 366), ("younger", 364)):
        wrote(name, **KILLED | {"ended": time.time() - days * 86400})
    copy_ended(connection)
    assert connection.execute("SELECT run_id FROM memory_records").fetchall() == [("young",)]
    assert connection.execute("SELECT run_id FROM run_ends").fetchall() == [("younger",)]


def test_a_supervisor_keeps_the_launchers_words(tmp_path: Path) -> None:
    """Host and batch, which the launcher wrote first, are in the record to the end."""
    record = RunRecord.of("run")
    record.write({"host": "h/1", "batch": "b1"})
    command = [sys.executable, "-m", "ingest_pipeline.instance.supervisor", str(record.path), str(2**30), "1", "--"]
    subprocess.run([*command, sys.executable, "-c", ""], check=True)
    written = json.loads(record.path.read_text())
    assert (written["host"], written["batch"], written["code"]) == ("h/1", "b1", 0)
