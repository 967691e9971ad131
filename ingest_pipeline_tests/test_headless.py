"""`ingest run` without daemon: which runs it launches, which it leaves to others, when it stops, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from ingest_pipeline.definitions import defs
from ingest_pipeline.errors import StoreUnavailable
from ingest_pipeline.instance import headless as module
from ingest_pipeline.instance.headless import Headless, HeadlessResult
from ingest_pipeline.instance.progress import Progress, ProgressMeter
from ingest_pipeline.models import ListedFile
from ingest_pipeline.settings import Settings
from ingest_pipeline.store import batches, ledger, reports
from ingest_pipeline.store import files as store_files
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.incidents import record_incident
from ingest_pipeline_tests.documents import add_file, files_of, seal, status_of
from ingest_pipeline_tests.launching import (
    Script,
    ScriptedLauncher,
    make_run,
    reloaded,
    scripted_instance,
    write_code,
)

MIB = 1024**2
QUEUED, STARTED, CANCELED = DagsterRunStatus.QUEUED, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELED


class World:
    """An instance in memory, a ledger, and an `ingest run` over both."""

    def __init__(self, connection: Connection, settings: Settings, stack: ExitStack, script: Script | None) -> None:
        self.connection = connection
        self.settings = replace(settings, machine_memory=8 * 1024**3, max_runs=2)
        self.instance, self.launcher = stack.enter_context(scripted_instance(script or self.work))
        self.result = HeadlessResult(since=reports.now(connection))
        self.shown: list[Progress] = []
        self.ends: dict[str, Callable[[dg.DagsterRun, str], None]] = {}
        """What becomes of a batch's run where it is not indexed, by the batch's key; `*` for any."""

    def headless(self, **changes: Any) -> Headless:
        settings = replace(self.settings, **changes)
        return Headless(self.instance, self.connection, settings, definitions=defs, result=self.result)

    def run(self, **changes: Any) -> HeadlessResult:
        return self.headless(**changes).run(self.shown.append)

    def jobs(self) -> list[str]:
        return [run.job_name for run in self.launcher.launched]

    def batch_runs(self) -> list[str]:
        return [run.tags["dagster/partition"] for run in self.launcher.launched if run.job_name == "ingest_batch"]

    def add(self, *paths: str) -> str:
        """Files that wait in one batch."""
        for path in paths:
            add_file(self.connection, path, version=path)
        return seal(self.connection)

    def work(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
        """Do what a run does: catalog and index do nothing, a batch is indexed."""
        key = run.tags.get("dagster/partition", "")
        if key and (end := self.ends.get(key) or self.ends.get("*")):
            end(run, key)
            return
        if key:
            batches.begin_batch(self.connection, key, run.run_id)
            self.connection.execute("UPDATE files SET status = 'indexed', updated_at = now() WHERE batch = %s", (key,))
            batches.finish_batch(self.connection, key)
        self.succeed(run)

    def succeed(self, run: dg.DagsterRun) -> None:
        event = dg.DagsterEvent(event_type_value="PIPELINE_SUCCESS", job_name=run.job_name)
        self.instance.report_dagster_event(event, run_id=run.run_id)

    def kill_at_a_file(self, run: dg.DagsterRun, key: str) -> None:
        """Killed while the batch's first file was open."""
        batches.begin_batch(self.connection, key, run.run_id)
        file = next(iter(files_of(self.connection, key).values()))
        ledger.open_attempt(self.connection, file, batch=key, run_id=run.run_id, stage="chunks")
        self.instance.report_run_failed(run, "killed")

    def kill_before_it_began(self, run: dg.DagsterRun, key: str) -> None:
        """Killed before the ledger knew of it."""
        self.instance.report_run_failed(run, "Run worker is gone: SIGKILL")

    def lose_the_disk(self, run: dg.DagsterRun, key: str) -> None:
        """Ended with a code of its own, for no file's reason."""
        batches.begin_batch(self.connection, key, run.run_id)
        write_code(run, 1)
        self.instance.report_run_failed(run, "OSError: no space left on device")


@pytest.fixture
def world(connection: Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name, value in settings.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.001)
    with ExitStack() as stack:
        world = World(connection, settings, stack, None)
        monkeypatch.setattr(module, "run_in_process", lambda instance, run: world.launcher.execute(run))
        yield world


def test_nothing_to_do_is_one_run(world: World) -> None:
    """An empty source: the catalog alone, no index, nothing reported."""
    result = world.run()
    assert world.jobs() == ["ingest_catalog"]
    assert (result.runs, result.batches, result.stopped, world.shown) == (1, [], None, [])


def test_batches_then_the_index(world: World) -> None:
    """Catalog, each batch in the order of its key, and at the end the index, once."""
    keys = [world.add("a.txt"), world.add("b.txt"), world.add("c.txt")]
    result = world.run()
    assert world.jobs() == ["ingest_catalog", *["ingest_batch"] * 3, "ingest_index"]
    assert world.batch_runs() == result.batches == keys
    assert (result.runs, result.stopped) == (5, None)
    assert {batch.status for batch in batches.list_batches(world.connection)} == {"done"}


def test_runs_carry_their_tags(world: World) -> None:
    """Partition, who launched it, and threads: its share of the cores; the partition is one that Dagster knows."""
    key = world.add("a.txt")
    world.run(max_runs=1)
    catalog, batch, _ = world.launcher.launched
    assert catalog.tags["ingest/launched_by"] == batch.tags["ingest/launched_by"] == "ingest run"
    assert batch.tags["dagster/partition"] == key
    assert int(batch.tags["ingest/threads"]) >= 1
    assert "dagster/partition" not in catalog.tags
    assert world.instance.get_dynamic_partitions("batches") == [key]


def test_threads_divide_the_cores(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch two runs at once have half of eight cores each; a run that is alone has all of them."""
    monkeypatch.setattr("ingest_pipeline.memory.machine.usable_cores", lambda: 8)
    for path in ("a.txt", "b.txt", "c.txt"):
        world.add(path)
    world.run(engine="torch")
    threads = [run.tags["ingest/threads"] for run in world.launcher.launched if run.job_name == "ingest_batch"]
    assert threads == ["4", "4", "8"]


def test_runs_are_named_as_the_ui_names_them(world: World) -> None:
    """The origin of a run is the code location of `dagster dev`, so the UI shows it among its own."""
    world.run()
    [run] = world.launcher.launched
    origin = run.remote_job_origin
    assert origin is not None
    assert origin.job_name == "ingest_catalog"
    assert origin.repository_origin.repository_name == "__repository__"
    assert origin.repository_origin.code_location_origin.location_name == "ingest_pipeline.definitions"
    assert run.job_code_origin is not None
    assert run.job_code_origin.job_name == "ingest_catalog"


def test_a_failed_catalog_ends_it(world: World) -> None:
    """Where the sources cannot be listed nothing else is launched, and the reason is returned."""
    world.launcher.script = lambda instance, run: instance.report_run_failed(run, "bucket: no such bucket")  # type: ignore[assignment]
    world.add("a.txt")
    result = world.run()
    assert result.stopped == "the catalog failed: bucket: no such bucket"
    assert (world.jobs(), result.batches) == (["ingest_catalog"], [])


def test_a_failed_index_is_said(world: World) -> None:
    """The files are indexed all the same; why the index failed is returned."""

    def script(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
        world.work(instance, run) if run.job_name != "ingest_index" else instance.report_run_failed(run, "disk full")

    world.launcher.script = script
    world.add("a.txt")
    assert world.run().stopped == "the vector index failed: disk full"
    assert status_of(world.connection, "a.txt") == ("indexed", None)


def test_killed_file_goes_alone(world: World) -> None:
    """A run that is killed: its open file gets a batch of its own, the sibling stays, and all end indexed."""
    key = world.add("a.txt", "b.txt")

    def once(run: dg.DagsterRun, batch: str) -> None:
        del world.ends[key]
        world.kill_at_a_file(run, batch)

    world.ends[key] = once
    result = world.run()
    assert len(result.batches) == 2
    assert world.batch_runs().count(key) == 2
    assert [status_of(world.connection, path) for path in ("a.txt", "b.txt")] == [("indexed", None)] * 2
    assert world.connection.execute("SELECT kills FROM files ORDER BY path").fetchall() == [(1,), (0,)]
    assert result.stopped is None
    assert set(world.instance.get_dynamic_partitions("batches")) == set(result.batches)


def test_three_kills_end_a_file(world: World) -> None:
    """A file that kills each of its runs is failed after three, and the run goes on to its end."""
    world.add("a.txt")
    world.ends["*"] = world.kill_at_a_file
    result = world.run()
    assert status_of(world.connection, "a.txt") == ("failed", "KilledRepeatedly")
    assert (len(world.batch_runs()), result.stopped) == (3, None)


def test_runs_that_never_begin(world: World) -> None:
    """Three runs that are killed before they take up the batch: given up, with the reason; no file has a kill."""
    key = world.add("a.txt")
    world.ends[key] = world.kill_before_it_began
    result = world.run()
    assert world.batch_runs() == [key] * 3
    assert result.batches == [key]
    assert result.stopped == f"batch {key} is given up until the next `ingest run`: Run worker is gone: SIGKILL"
    assert world.connection.execute("SELECT status, kills FROM files").fetchone() == ("synced", 0)


def test_a_new_run_tries_failed_batches(world: World) -> None:
    """What was given up waits again at the next `ingest run`."""
    key = world.add("a.txt")
    world.ends[key] = world.kill_before_it_began
    world.run()
    world.ends.clear()
    result = world.run()
    assert result.stopped is None
    assert status_of(world.connection, "a.txt") == ("indexed", None)


def test_a_spent_budget_stops_everything(world: World) -> None:
    """Errors of one cause in a row: what waits is not launched any more, and the verdict is returned."""
    for path in ("a.txt", "b.txt", "c.txt", "d.txt"):
        world.add(path)
    world.ends["*"] = world.lose_the_disk
    result = world.run(max_errors=2)
    assert result.stopped is not None
    assert result.stopped.startswith("2 runs in a row ended with OSError (INGEST_MAX_ERRORS=2)")
    assert len(world.batch_runs()) == 2
    assert "waiting" in {batch.status for batch in batches.list_batches(world.connection)}


def test_a_spent_budget_at_the_start(world: World) -> None:
    """Errors that nobody reset end a run before its first batch."""
    world.add("a.txt")
    for _ in range(3):
        record_incident(world.connection, batch="b", run_id="r", message="OSError: no space left")
    result = world.run(max_errors=3)
    assert result.stopped is not None
    assert "3 runs in a row" in result.stopped
    assert world.jobs() == ["ingest_catalog"]


def test_too_many_failed_documents(world: World) -> None:
    """A share of failed documents over the limit stops the run; exactly the limit does not."""
    for number in range(20):
        add_file(world.connection, f"{number:02}.txt", version=str(number))
    key = seal(world.connection)
    world.add("more.txt")

    def half_failed(run: dg.DagsterRun, batch: str) -> None:
        del world.ends[key]
        world.work(world.instance, run)
        world.connection.execute("UPDATE files SET status = 'failed' WHERE path < '10' AND batch = %s", (key,))

    world.ends[key] = half_failed
    result = world.run(max_failed_share=0.45, max_runs=1)
    assert result.stopped == "10 of 20 documents failed (INGEST_MAX_FAILED_SHARE=0.45): `ingest files`"
    assert world.batch_runs() == [key]
    assert world.headless(max_failed_share=0.5)._verdict() is None


def test_no_more_runs_than_fit(world: World) -> None:
    """Runs of a daemon take their room: with both slots taken nothing is launched, with one free one is."""
    keys = [world.add("a.txt"), world.add("b.txt")]
    others = [make_run(world.instance), make_run(world.instance)]
    world.launcher.alive |= {run.run_id for run in others}
    headless = world.headless()
    headless._launch_waiting(headless._waiting())
    assert world.batch_runs() == []
    world.instance.report_run_canceled(others[0])
    world.launcher.script = None
    headless._launch_waiting(headless._waiting())
    assert world.batch_runs() == keys[:1]


def test_dead_runs_take_no_room(world: World) -> None:
    """A catalog run that a killed `ingest run` left in progress keeps nobody from starting, and is ended."""
    keys = [world.add("a.txt"), world.add("b.txt")]
    left = [make_run(world.instance), make_run(world.instance)]
    headless = world.headless()
    headless._launch_waiting(headless._waiting())
    assert world.batch_runs() == keys
    assert {reloaded(world.instance, run).status for run in left} == {DagsterRunStatus.FAILURE}


def test_a_batch_is_launched_once(world: World) -> None:
    """A batch whose run is on its way is not waiting for another."""
    world.launcher.script = None
    keys = [world.add("a.txt"), world.add("b.txt")]
    headless = world.headless()
    headless._launch_waiting(headless._waiting()[:1])
    assert [batch.key for batch in headless._waiting()] == keys[1:]


def belongs_to_others(world: World, status: DagsterRunStatus, *, alive: bool = False) -> tuple[bool, dg.DagsterRun]:
    key = world.add("a.txt")
    run = make_run(world.instance, key, status=status)
    world.launcher.alive |= {run.run_id} if alive else set()
    [batch] = batches.list_batches(world.connection, batch=key)
    return world.headless()._is_taken(batch), reloaded(world.instance, run)


@pytest.mark.parametrize("status", [QUEUED, DagsterRunStatus.NOT_STARTED])
def test_queued_runs_are_taken_over(world: World, status: DagsterRunStatus) -> None:
    """A daemon's run that merely stands in the queue is canceled, and the batch is ours."""
    others, run = belongs_to_others(world, status)
    assert (others, run.status) == (False, CANCELED)


def test_living_runs_are_left_alone(world: World) -> None:
    """A daemon's run at the batch keeps it."""
    others, run = belongs_to_others(world, STARTED, alive=True)
    assert (others, run.status) == (True, STARTED)


def test_dead_runs_keep_nothing(world: World) -> None:
    """A run whose process is gone is reported as failed, and the batch is ours."""
    others, run = belongs_to_others(world, STARTED)
    assert (others, run.status) == (False, DagsterRunStatus.FAILURE)


def test_a_finished_run_keeps_nothing(world: World) -> None:
    """A batch that waits again after a run belongs to nobody."""
    assert not belongs_to_others(world, CANCELED)[0]


def test_others_batches_are_waited_for(world: World) -> None:
    """A batch at which a daemon's run is stays with it; the run ends when that one is done."""
    ours, theirs = world.add("a.txt"), world.add("b.txt")
    run = make_run(world.instance, theirs)
    world.launcher.alive.add(run.run_id)
    looks: list[int] = []

    def show(progress: Progress) -> None:
        looks.append(progress.waiting)
        world.ends.clear()
        world.work(world.instance, run)

    world.headless().run(show)
    assert world.batch_runs() == [ours]
    assert status_of(world.connection, "b.txt") == ("indexed", None)


def test_dead_launchers_batches_are_taken(world: World) -> None:
    """A batch of an `ingest run` that was killed with everything: reconciled at the start and run again."""
    key = world.add("a.txt", "b.txt")
    run = make_run(world.instance, key)
    batches.begin_batch(world.connection, key, run.run_id)
    ledger.open_attempt(
        world.connection, files_of(world.connection, key)["a.txt"], batch=key, run_id=run.run_id, stage="chunks"
    )
    result = world.run()
    assert result.stopped is None
    assert reloaded(world.instance, run).status == DagsterRunStatus.FAILURE
    assert {batch.status for batch in batches.list_batches(world.connection)} == {"done"}
    assert status_of(world.connection, "b.txt") == ("indexed", None)


def test_others_killed_file_is_sealed_again(world: World) -> None:
    """Another launcher's run is killed while ours waits: its open file goes alone into a new batch, and is indexed."""
    key = world.add("a.txt")
    run = make_run(world.instance, key)
    world.launcher.alive.add(run.run_id)
    batches.begin_batch(world.connection, key, run.run_id)
    file = files_of(world.connection, key)["a.txt"]
    ledger.open_attempt(world.connection, file, batch=key, run_id=run.run_id, stage="chunks")
    world.add("b.txt")
    world.headless().run(lambda progress: world.launcher.alive.discard(run.run_id))
    assert status_of(world.connection, "a.txt") == ("indexed", None)
    assert len(batches.list_batches(world.connection)) == 3


def test_stop_ends_our_runs_alone(world: World) -> None:
    """Our runs are asked to stop and waited for; a daemon's is not; no file has a kill."""
    world.launcher.script = lambda instance, run: world.launcher.alive.add(run.run_id)
    key = world.add("a.txt")
    daemons = make_run(world.instance)
    world.launcher.alive.add(daemons.run_id)
    headless = world.headless()
    headless._launch_waiting(headless._waiting())
    [batch_run] = world.launcher.launched
    batches.begin_batch(world.connection, key, batch_run.run_id)
    world.instance.report_run_canceling(batch_run)
    headless.stop()
    assert world.launcher.terminated == [batch_run.run_id]
    assert world.launcher.alive == {daemons.run_id}
    assert [batch.status for batch in batches.list_batches(world.connection)] == ["waiting"]
    assert world.connection.execute("SELECT kills FROM files").fetchone() == (0,)


def test_stop_does_not_wait_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose process never ends is left to its supervisor after the time to stop."""
    monkeypatch.setattr(module, "GRACE_SECONDS", -9.9)
    monkeypatch.setattr(ScriptedLauncher, "terminate", lambda self, run_id: True)
    world.launcher.script = lambda instance, run: world.launcher.alive.add(run.run_id)
    world.add("a.txt")
    headless = world.headless()
    headless._launch_waiting(headless._waiting())
    headless.stop()
    assert len(world.launcher.alive) == 1


@pytest.mark.parametrize("error", [StoreUnavailable("Postgres: gone"), ValueError("a bug")])
def test_stop_without_the_database(world: World, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A database that is gone does not keep anybody from stopping; a bug is not swallowed."""

    def lost(self: ScriptedLauncher, run_id: str) -> bool:
        raise error

    monkeypatch.setattr(ScriptedLauncher, "terminate", lost)
    world.launcher.script = lambda instance, run: world.launcher.alive.add(run.run_id)
    world.add("a.txt")
    headless = world.headless()
    headless._launch_waiting(headless._waiting())
    if isinstance(error, StoreUnavailable):
        headless.stop()
        assert len(world.launcher.alive) == 1
    else:
        with pytest.raises(ValueError, match="a bug"):
            headless.stop()


def indexed_file(world: World, path: str) -> None:
    world.add(path)
    world.connection.execute("UPDATE files SET status = 'indexed', updated_at = now() WHERE path = %s", (path,))


def materialize_index(world: World) -> None:
    @dg.asset(name="vector_index")
    def index() -> None: ...

    dg.materialize([index], instance=world.instance)


def test_an_empty_store_needs_no_index(world: World) -> None:
    """Without a file that readers see there is nothing to put in order."""
    assert not world.headless()._index_is_stale()
    add_file(world.connection, "a.txt")
    assert not world.headless()._index_is_stale()


def test_index_follows_what_readers_see(world: World) -> None:
    """Stale until it was materialized after the last change; a deletion makes it stale again."""
    indexed_file(world, "a.txt")
    assert world.headless()._index_is_stale()
    materialize_index(world)
    assert not world.headless()._index_is_stale()
    store_files.delete_unseen(world.connection, "/documents", 99)
    assert world.headless()._index_is_stale()


def test_a_stale_index_is_refreshed(world: World) -> None:
    """A run whose last `ingest run` was stopped before the index makes up for it, without a batch."""
    indexed_file(world, "a.txt")
    world.connection.execute("UPDATE batches SET status = 'done'")
    result = world.run()
    assert world.jobs() == ["ingest_catalog", "ingest_index"]
    assert (result.batches, result.stopped) == ([], None)


def test_progress_counts_what_is_done(world: World) -> None:
    """Files and work of this run's batches and of those that wait, and how many of each."""
    done, waiting = world.add("a.txt", "b.txt"), world.add("c.txt")
    world.connection.execute("UPDATE files SET status = 'indexed' WHERE path = 'a.txt'")
    world.result.batches = [done]
    batches.begin_batch(world.connection, done, "run1")
    found = world.headless()._measured()
    assert (found.files_done, found.files) == (1, 3)
    assert found.work.waiting_predicted_seconds > 0
    assert (found.work.parsed_tokens, found.eta_seconds) == (0, None)
    assert (found.running, found.waiting, found.embedded) == (0, 1, 0)
    assert 0 <= found.seconds < 60
    assert [batch.key for batch in world.headless()._waiting()] == [waiting]


def test_runs_from_before_a_loss_are_waited_for(world: World) -> None:
    """A run that outlives the loss of the database is not forgotten: its batch is taken up when it has ended."""
    key = world.add("a.txt")
    left = make_run(world.instance, key)
    world.launcher.alive.add(left.run_id)
    batches.begin_batch(world.connection, key, left.run_id)
    write_code(left, 1)
    world.result.batches = [key]
    looks = 0

    def show(progress: Progress) -> None:
        nonlocal looks
        looks += 1
        world.launcher.alive.clear()  # at the first look it is still at work

    result = world.headless().run(show)
    assert looks >= 1
    assert (world.batch_runs(), result.stopped) == ([key], None)
    assert status_of(world.connection, "a.txt")[0] == "indexed"


def test_finished_batches_are_counted_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look counts the files of batches at work; a finished batch is counted once, and again when it is retried."""
    done, running, fresh = world.add("a.txt", "b.txt"), world.add("c.txt"), world.add("d.txt", "e.txt")
    world.connection.execute("UPDATE files SET status = 'indexed' WHERE batch = %s", (done,))
    batches.begin_batch(world.connection, done, "run1")
    batches.finish_batch(world.connection, done)
    asked: list[list[str]] = []
    real = reports.progress
    monkeypatch.setattr(reports, "progress", lambda connection, keys: asked.append(keys) or real(connection, keys))
    meter = ProgressMeter(world.connection, world.result.since)
    waiting = batches.list_batches(world.connection, batch=fresh)
    looks = [meter.measure([done, running], running=[running], waiting=waiting) for _ in range(3)]
    assert asked == [[running], [done], [running], [running]]
    assert {(look.files_done, look.files) for look in looks} == {(2, 5)}
    assert {look.work.waiting_predicted_seconds > 0 for look in looks} == {True}
    asked.clear()
    meter.measure([done, running], running=[done], waiting=[])
    meter.measure([done, running], running=[], waiting=[])
    assert asked == [[done], [running], [done]]


def test_the_same_result_goes_on(world: World) -> None:
    """Begun again after the database went away, runs and batches add up and an old reason to stop is gone."""
    world.result.stopped, world.result.runs, world.result.batches = "the database went away", 3, ["earlier"]
    key = world.add("a.txt")
    result = world.run()
    assert (result.stopped, result.runs, result.batches) == (None, 6, ["earlier", key])


def test_outdated_files_wait_for_the_catalog(world: World) -> None:
    """What the catalog seals while it runs is run too."""

    def script(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
        if run.job_name == "ingest_catalog":
            file = ListedFile("new.txt", 10, "1")
            store_files.record_versions(
                world.connection, store_files.ScannedFile("/documents", file, 1, version="n", media_type="text/plain")
            )
            seal(world.connection)
        world.work(instance, run)

    world.launcher.script = script
    assert len(world.run().batches) == 1
    assert status_of(world.connection, "new.txt") == ("indexed", None)
