"""Runs that `ingest run` executes itself: the same record, events and log as runs with a process of their own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from ingest_pipeline.definitions import defs
from ingest_pipeline.defs import assets
from ingest_pipeline.errors import StoreUnavailable
from ingest_pipeline.instance.in_process import run_in_process
from ingest_pipeline.instance.origins import code_origin, remote_origin
from ingest_pipeline.instance.reconcile import failure_message
from ingest_pipeline.instance.run_record import RunRecord
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture
def instance(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    for name, text in settings.environ().items():
        monkeypatch.setenv(name, text)
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run of the catalog that nobody has started."""
    name = "ingest_catalog"
    return instance.create_run_for_job(
        defs.resolve_job_def(name), remote_job_origin=remote_origin(name), job_code_origin=code_origin(name)
    )


def status_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> DagsterRunStatus:
    current = instance.get_run_by_id(run.run_id)
    assert current is not None
    return current.status


@contextmanager
def stoppable(number: signal.Signals) -> Iterator[None]:
    """A signal raises KeyboardInterrupt here, as in `ingest run`."""
    before = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def test_a_run_here(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    source: Path,
    connection: Connection,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It materializes its asset; its record has an end, its log the events, and the terminal shows none of them."""
    (source / "a.md").write_text("# One\n\nA paragraph.\n")
    run_in_process(instance, run)
    assert status_of(instance, run) == DagsterRunStatus.SUCCESS
    assert instance.get_latest_materialization_event(dg.AssetKey("catalog")) is not None
    assert connection.execute("SELECT path, status FROM files").fetchall() == [("a.md", "synced")]
    record = RunRecord.of(run.run_id)
    assert (record.read()["code"], record.is_alive) == (0, False)
    assert "RUN_SUCCESS" in record.log.read_text()
    assert capfd.readouterr() == ("", "")


def test_it_is_at_work_until_it_ends(
    instance: dg.DagsterInstance, run: dg.DagsterRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile its record names this process, so that a daemon leaves the run alone; it is nobody's orphan."""
    seen: list[tuple[bool, bool]] = []

    def look(*_: object, **__: object) -> None:
        record = RunRecord.of(run.run_id)
        seen.append((record.is_alive, record.is_orphan))

    monkeypatch.setattr(assets, "reset_incidents", look)
    run_in_process(instance, run)
    assert seen == [(True, False)]


def test_an_error_is_the_runs(
    instance: dg.DagsterInstance, run: dg.DagsterRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that fails is in the instance with its reason; nothing is raised here."""

    def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("Postgres: the server closed the connection")

    monkeypatch.setattr(assets, "scan_sources", fail)
    run_in_process(instance, run)
    assert status_of(instance, run) == DagsterRunStatus.FAILURE
    assert "the server closed the connection" in failure_message(instance, run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_between_steps_is_kept(
    instance: dg.DagsterInstance, run: dg.DagsterRun, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """A signal while Dagster writes down the end of the run stops the caller, too."""
    real = dg.DagsterInstance.handle_new_event

    def interrupted(self: dg.DagsterInstance, event: Any, **more: Any) -> Any:
        if event.dagster_event and event.dagster_event.event_type_value == "PIPELINE_SUCCESS":
            os.kill(os.getpid(), number)
        return real(self, event, **more)

    monkeypatch.setattr(dg.DagsterInstance, "handle_new_event", interrupted)
    with stoppable(number), pytest.raises(KeyboardInterrupt):
        run_in_process(instance, run)
    assert status_of(instance, run) == DagsterRunStatus.SUCCESS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels(
    instance: dg.DagsterInstance, run: dg.DagsterRun, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Ctrl-C, and a container's or Dagster's request to stop, reach the caller, and the run is not left in progress."""

    def interrupt(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr(assets, "scan_sources", interrupt)
    with stoppable(number), pytest.raises(KeyboardInterrupt):
        run_in_process(instance, run)
    assert status_of(instance, run) == DagsterRunStatus.CANCELED
    assert RunRecord.of(run.run_id).read()["code"] == 1
