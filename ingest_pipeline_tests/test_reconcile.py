"""How a run ended decides what becomes of its batch and of the file that was open."""

from __future__ import annotations

import time
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from ingest_pipeline.errors import StoreUnavailable
from ingest_pipeline.instance import reconcile as module
from ingest_pipeline.instance.reconcile import (
    failure_message,
    has_ended,
    latest_run,
    reconcile,
    reconcile_never_begun,
    reconcile_running,
    was_stopped_after,
)
from ingest_pipeline.models import Batch
from ingest_pipeline.settings import Settings
from ingest_pipeline.store import batches, ledger
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.documents import add_file, count, files_of, seal
from ingest_pipeline_tests.launching import ScriptedLauncher, make_run, reloaded, scripted_instance, write_code

STARTED, FAILURE, CANCELING = DagsterRunStatus.STARTED, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELING
OUTCOMES = "SELECT outcome FROM attempts ORDER BY attempt_id"


@pytest.fixture(autouse=True)
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_HOME", str(settings.home))


@pytest.fixture
def made() -> Iterator[tuple[dg.DagsterInstance, ScriptedLauncher]]:
    with scripted_instance() as both:
        yield both


@pytest.fixture
def instance(made: tuple[dg.DagsterInstance, ScriptedLauncher]) -> dg.DagsterInstance:
    return made[0]


@pytest.fixture
def launcher(made: tuple[dg.DagsterInstance, ScriptedLauncher]) -> ScriptedLauncher:
    return made[1]


def batch_at(connection: Connection, key: str) -> Batch:
    [batch] = batches.list_batches(connection, batch=key)
    return batch


def begun(connection: Connection, instance: dg.DagsterInstance, *paths: str) -> tuple[str, dg.DagsterRun]:
    """A batch of two files, or of these, whose run has begun on its first file."""
    for path in paths or ("a.txt", "b.txt"):
        add_file(connection, path, version=path)
    key = seal(connection)
    run = make_run(instance, key)
    batches.begin_batch(connection, key, run.run_id)
    file = next(iter(files_of(connection, key).values()))
    ledger.open_attempt(connection, file, batch=key, run_id=run.run_id, stage="chunks")
    return key, run


def kills(connection: Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT path, kills FROM files ORDER BY path").fetchall())


def ended(instance: dg.DagsterInstance, connection: Connection, key: str, run: dg.DagsterRun | None) -> str:
    return reconcile(instance, connection, batch_at(connection, key), run)


def raising(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run whose only step raised one of our errors because of another."""

    @dg.op
    def step() -> None:
        try:
            raise OSError("no route to host")
        except OSError as error:
            raise StoreUnavailable("Postgres: gone; is it running?\nsecond line") from error

    @dg.job
    def job() -> None:
        step()

    result = job.execute_in_process(instance=instance, raise_on_error=False)
    return result.dagster_run


def test_kill_is_attributed_to_the_open_file(instance: dg.DagsterInstance, connection: Connection) -> None:
    """A run that could report nothing was killed: its open file leaves the batch, its sibling waits, no incident."""
    key, run = begun(connection, instance)
    instance.report_run_failed(run, "killed")
    assert ended(instance, connection, key, run) == "waiting"
    assert kills(connection) == {"a.txt": 1, "b.txt": 0}
    assert list(files_of(connection, key)) == ["b.txt"]
    assert connection.execute(OUTCOMES).fetchall() == [("killed",)]
    assert (batch_at(connection, key).failures, count(connection, "incidents")) == (0, 0)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_own_exit_is_no_kill(instance: dg.DagsterInstance, connection: Connection, code: int) -> None:
    """A process that exited lost its database, not its life: nobody's file, an incident, and the batch waits."""
    key, run = begun(connection, instance)
    write_code(run, code)
    instance.report_run_failed(run, "ingest_pipeline.errors.StoreUnavailable: Postgres: gone")
    assert ended(instance, connection, key, run) == "waiting"
    assert kills(connection) == {"a.txt": 0, "b.txt": 0}
    assert connection.execute(OUTCOMES).fetchall() == [("interrupted",)]
    assert connection.execute("SELECT cause FROM incidents").fetchall() == [("StoreUnavailable",)]
    assert batch_at(connection, key).failures == 1


def test_signal_in_the_record_is_a_kill(instance: dg.DagsterInstance, connection: Connection) -> None:
    """A record with a signal agrees with a run that could report nothing."""
    key, run = begun(connection, instance)
    write_code(run, -9)
    instance.report_run_failed(run, "killed")
    ended(instance, connection, key, run)
    assert kills(connection) == {"a.txt": 1, "b.txt": 0}


def test_a_step_failure_is_no_kill(instance: dg.DagsterInstance, connection: Connection) -> None:
    """A run that reported its own failure was not killed; the message is that of the first cause."""
    run = raising(instance)
    for path in ("a.txt", "b.txt"):
        add_file(connection, path)
    key = seal(connection)
    batches.begin_batch(connection, key, run.run_id)
    file = files_of(connection, key)["a.txt"]
    ledger.open_attempt(connection, file, batch=key, run_id=run.run_id, stage="chunks")
    assert ended(instance, connection, key, run) == "waiting"
    assert kills(connection) == {"a.txt": 0, "b.txt": 0}
    assert batches.message(connection, key) == "StoreUnavailable: Postgres: gone; is it running?"


def test_cancellation_is_no_failure(instance: dg.DagsterInstance, connection: Connection) -> None:
    """Somebody stopped the run: the batch waits as before, nothing is counted."""
    key, run = begun(connection, instance)
    instance.report_run_canceled(run)
    assert ended(instance, connection, key, run) == "waiting"
    assert kills(connection) == {"a.txt": 0, "b.txt": 0}
    assert (batch_at(connection, key).failures, count(connection, "incidents")) == (0, 0)
    assert batches.message(connection, key) == "canceled; materialize the catalog or this partition to go on"


def test_a_vanished_run_is_a_failure(instance: dg.DagsterInstance, connection: Connection) -> None:
    """A run that Dagster does not know any more: the batch waits again, and the message says why."""
    key, _ = begun(connection, instance)
    connection.execute("UPDATE batches SET run_id = 'nobody'")
    assert ended(instance, connection, key, None) == "waiting"
    assert batches.message(connection, key) == "its run is not in Dagster's history"
    assert batch_at(connection, key).failures == 1


def test_success_with_files_left(instance: dg.DagsterInstance, connection: Connection) -> None:
    """A run that succeeded without finishing its batch has failed it, for no file's reason."""
    key, run = begun(connection, instance)
    instance.report_dagster_event(
        dg.DagsterEvent(event_type_value="PIPELINE_SUCCESS", job_name=run.job_name), run_id=run.run_id
    )
    assert ended(instance, connection, key, run) == "waiting"
    assert batches.message(connection, key) == "the run ended without finishing the batch"
    assert batch_at(connection, key).failures == 1


def test_third_failure_fails_the_batch(instance: dg.DagsterInstance, connection: Connection) -> None:
    """Three runs without a file to attribute them to: the batch stays failed until somebody asks again."""
    key, run = begun(connection, instance)
    found = []
    for _ in range(3):
        write_code(run, 1)
        instance.report_run_failed(run, "no disk")
        found.append(ended(instance, connection, key, run))
        run = make_run(instance, key)
        if len(found) < 3:
            batches.begin_batch(connection, key, run.run_id)
    assert found == ["waiting", "waiting", "failed"]
    assert batches.retry_failed_batches(connection) == 1
    assert (batch_at(connection, key).status, batch_at(connection, key).failures) == ("waiting", 0)


def test_third_kill_fails_the_file(instance: dg.DagsterInstance, connection: Connection) -> None:
    """After three kills the file is failed; a batch of that file alone is done each time."""
    add_file(connection, "a.txt")
    for number in (1, 2, 3):
        key = seal(connection, alone=True)
        run = make_run(instance, key)
        batches.begin_batch(connection, key, run.run_id)
        ledger.open_attempt(
            connection, files_of(connection, key)["a.txt"], batch=key, run_id=run.run_id, stage="chunks"
        )
        instance.report_run_failed(run, "killed")
        assert ended(instance, connection, key, run) == "done"
        assert kills(connection) == {"a.txt": number}
    assert connection.execute("SELECT status, error, batch FROM files").fetchone() == (
        "failed",
        "KilledRepeatedly",
        None,
    )


def test_kill_between_two_files(instance: dg.DagsterInstance, connection: Connection) -> None:
    """A kill while no file is open is attributed to none: a failure of the batch."""
    for path in ("a.txt", "b.txt"):
        add_file(connection, path)
    key = seal(connection)
    run = make_run(instance, key)
    batches.begin_batch(connection, key, run.run_id)
    instance.report_run_failed(run, "killed")
    assert ended(instance, connection, key, run) == "waiting"
    assert kills(connection) == {"a.txt": 0, "b.txt": 0}
    assert batch_at(connection, key).failures == 1


def test_another_run_has_taken_over(instance: dg.DagsterInstance, connection: Connection) -> None:
    """The end of an old run changes nothing of a batch that a new run has begun."""
    key, old = begun(connection, instance)
    new = make_run(instance, key)
    batches.begin_batch(connection, key, new.run_id)
    instance.report_run_failed(old, "killed")
    assert ended(instance, connection, key, old) == "running"
    assert kills(connection) == {"a.txt": 0, "b.txt": 0}
    assert batch_at(connection, key).run_id == new.run_id


def test_a_second_look_changes_nothing(instance: dg.DagsterInstance, connection: Connection) -> None:
    """Daemon and command may both notice an end: it is counted once."""
    key, run = begun(connection, instance)
    instance.report_run_failed(run, "killed")
    before = batch_at(connection, key)
    assert reconcile(instance, connection, before, run) == "waiting"
    assert reconcile(instance, connection, before, run) == "waiting"
    assert kills(connection) == {"a.txt": 1, "b.txt": 0}


def test_only_ended_runs_are_reconciled(
    instance: dg.DagsterInstance, launcher: ScriptedLauncher, connection: Connection
) -> None:
    """Of a living run, one that was killed and one that vanished, the last two are reconciled, by key."""
    alive, living = begun(connection, instance, "a.txt")
    launcher.alive.add(living.run_id)
    dead, _ = begun(connection, instance, "b.txt")
    lost, _ = begun(connection, instance, "c.txt")
    connection.execute("UPDATE batches SET run_id = 'nobody' WHERE batch = %s", (lost,))
    assert reconcile_running(instance, connection) == [dead, lost]
    assert [batch_at(connection, key).status for key in (alive, dead, lost)] == ["running", "done", "waiting"]
    assert kills(connection) == {"a.txt": 0, "b.txt": 1, "c.txt": 0}
    assert reconcile_running(instance, connection) == []


def test_a_run_that_never_began(instance: dg.DagsterInstance, connection: Connection) -> None:
    """A run that ended before it took up its batch counts as a failure of it; so the batch cannot wait for ever."""
    add_file(connection, "a.txt")
    key = seal(connection)
    assert not reconcile_never_begun(instance, connection, batch_at(connection, key))
    run = make_run(instance, key)
    instance.report_run_failed(run, "killed")
    assert reconcile_never_begun(instance, connection, batch_at(connection, key))
    assert (batch_at(connection, key).failures, batch_at(connection, key).runs) == (1, 1)
    assert not reconcile_never_begun(instance, connection, batch_at(connection, key))


def test_a_run_on_its_way_is_left_alone(instance: dg.DagsterInstance, connection: Connection) -> None:
    """A queued run has not ended: its batch waits for it."""
    add_file(connection, "a.txt")
    key = seal(connection)
    make_run(instance, key, status=DagsterRunStatus.QUEUED)
    assert not reconcile_never_begun(instance, connection, batch_at(connection, key))
    assert batch_at(connection, key).runs == 0


def test_latest_run_is_the_newest(instance: dg.DagsterInstance) -> None:
    """By batch, whatever became of the older ones."""
    assert latest_run(instance, "b1") is None
    make_run(instance, "b1", status=FAILURE)
    newest = make_run(instance, "b1")
    make_run(instance, "b2")
    found = latest_run(instance, "b1")
    assert found is not None
    assert found.run_id == newest.run_id


@pytest.mark.parametrize("status", [DagsterRunStatus.SUCCESS, FAILURE, DagsterRunStatus.CANCELED])
def test_a_finished_run_has_ended(instance: dg.DagsterInstance, status: DagsterRunStatus) -> None:
    """Nothing is asked of its process."""
    assert has_ended(instance, make_run(instance, status=status))


@pytest.mark.parametrize("status", [DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED])
def test_a_waiting_run_has_not_ended(instance: dg.DagsterInstance, status: DagsterRunStatus) -> None:
    """It has no process yet, which is no end."""
    run = make_run(instance, status=status)
    assert not has_ended(instance, run)
    assert reloaded(instance, run).status == status


def test_a_living_run_has_not_ended(instance: dg.DagsterInstance, launcher: ScriptedLauncher) -> None:
    """Its process answers."""
    run = make_run(instance)
    launcher.alive.add(run.run_id)
    assert not has_ended(instance, run)
    assert reloaded(instance, run).status == STARTED


def test_a_dead_run_is_reported(instance: dg.DagsterInstance) -> None:
    """A started run without a process has failed, with the cause in Dagster's history."""
    run = make_run(instance)
    assert has_ended(instance, run)
    assert reloaded(instance, run).status == FAILURE
    assert failure_message(instance, run) == "Run worker is gone: process 77 ended: SIGKILL"


def test_a_dead_canceling_run_is_canceled(instance: dg.DagsterInstance) -> None:
    """One that was killed because it did not stop in time was canceled all the same."""
    run = make_run(instance, status=CANCELING)
    assert has_ended(instance, run)
    assert reloaded(instance, run).status == DagsterRunStatus.CANCELED


def test_an_end_that_came_meanwhile(instance: dg.DagsterInstance) -> None:
    """A run that reported its end between two looks keeps it."""
    run = make_run(instance)
    instance.report_run_canceled(run)
    assert has_ended(instance, run)
    assert reloaded(instance, run).status == DagsterRunStatus.CANCELED


def test_a_starting_run_gets_a_minute(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    """STARTING is written before the process exists: no end yet, and an end when no process ever came."""
    run = make_run(instance, status=DagsterRunStatus.STARTING)
    assert not has_ended(instance, run)
    monkeypatch.setattr(module, "START_SECONDS", -1.0)
    assert has_ended(instance, run)
    assert reloaded(instance, run).status == FAILURE


def test_a_clock_set_back_ends_a_start(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without a process whose start lies in the future, because the clock was set back, is not waited for."""
    run = make_run(instance, status=DagsterRunStatus.STARTING)
    hour_ago = time.time() - 3600
    monkeypatch.setattr(module.time, "time", lambda: hour_ago)
    assert has_ended(instance, run)


def test_canceled_after_a_moment(instance: dg.DagsterInstance, connection: Connection) -> None:
    """Only a cancellation, and only one after the moment."""
    run = make_run(instance)
    assert not was_stopped_after(instance, connection, run, 0.0)
    before = time.time() - 1
    instance.report_run_canceled(run)
    run = reloaded(instance, run)
    assert was_stopped_after(instance, connection, run, before)
    assert not was_stopped_after(instance, connection, run, time.time() + 60)
    instance.delete_run(run.run_id)
    assert not was_stopped_after(instance, connection, run, before)


def test_messages_in_one_line(instance: dg.DagsterInstance) -> None:
    """The first line of our own error in a failed step, the message of a failed run, or a sentence for neither."""
    assert failure_message(instance, None) == "its run is not in Dagster's history"
    assert failure_message(instance, make_run(instance)) == "the run ended without finishing the batch"
    assert failure_message(instance, raising(instance)) == "StoreUnavailable: Postgres: gone; is it running?"
    run = make_run(instance)
    instance.report_run_failed(run, "no process was ever started for this run")
    assert failure_message(instance, run) == "no process was ever started for this run"
