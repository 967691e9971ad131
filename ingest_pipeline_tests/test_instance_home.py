"""Dagster's instance: its home, its storage and its queue follow the settings."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from dagster import DagsterRunStatus

from ingest_pipeline.definitions import defs
from ingest_pipeline.errors import BadSetting, ConfigurationError, StoreUnavailable
from ingest_pipeline.instance import home
from ingest_pipeline.instance.coordinator import MemoryBudgetRunCoordinator
from ingest_pipeline.instance.home import PROJECT, find_config, open_instance, prepare_dagster_home
from ingest_pipeline.instance.launcher import BudgetedRunLauncher
from ingest_pipeline.instance.logs import PlainComputeLogManager
from ingest_pipeline.instance.storage import IngestStorage
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import connected
from ingest_pipeline.store.locks import making_tables

OURS = "run_launcher:\n  module: ingest_pipeline.instance.launcher\n"
TABLES = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_name IN ('runs', 'event_logs')"


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings are in the environment; DAGSTER_HOME is put back afterwards."""
    monkeypatch.setenv("DAGSTER_HOME", "/before")
    for name, value in settings.environ().items():
        monkeypatch.setenv(name, value)


def test_dagster_home_lies_in_the_home(settings: Settings) -> None:
    """The project's dagster.yaml is copied there, and DAGSTER_HOME points at it."""
    prepared = prepare_dagster_home(settings)
    assert prepared == settings.home / "dagster"
    assert os.environ["DAGSTER_HOME"] == str(prepared)
    assert (prepared / "dagster.yaml").read_text() == (PROJECT / "dagster.yaml").read_text()
    assert [path.name for path in prepared.iterdir()] == ["dagster.yaml"]


def test_changed_config_is_copied_again(settings: Settings) -> None:
    """A home of an older version gets the new file; one that is equal is not touched."""
    target = prepare_dagster_home(settings) / "dagster.yaml"
    target.write_text("old: true\n")
    prepare_dagster_home(settings)
    assert "ingest_pipeline.instance" in target.read_text()
    os.utime(target, (1, 1))
    prepare_dagster_home(settings)
    assert target.stat().st_mtime == 1


def test_config_of_this_folder_is_in_effect(tmp_path: Path) -> None:
    """The nearest dagster.yaml that names this package wins, from this folder upwards."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "dagster.yaml").write_text(OURS)
    assert find_config(tmp_path / "a" / "b") == tmp_path / "dagster.yaml"
    (tmp_path / "a" / "dagster.yaml").write_text(OURS)
    assert find_config(tmp_path / "a" / "b") == tmp_path / "a" / "dagster.yaml"


def test_config_of_others_is_passed_over(tmp_path: Path) -> None:
    """A dagster.yaml of another project is not ours, and a folder of that name is no file."""
    (tmp_path / "a" / "dagster.yaml").mkdir(parents=True)
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    assert find_config(tmp_path / "a") == PROJECT / "dagster.yaml"


def test_without_a_config_it_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed without its project: the message names the folder where it looked."""
    monkeypatch.setattr(home, "PROJECT", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=f"no dagster.yaml of ingest_pipeline in {tmp_path} or above"):
        find_config()


def test_instance_is_the_configured_one(settings: Settings) -> None:
    """What dagster.yaml names is what opens: storage, launcher, coordinator, logs; and it stores runs."""
    with open_instance(settings) as instance:
        assert isinstance(instance.run_launcher, BudgetedRunLauncher)
        assert isinstance(instance.run_coordinator, MemoryBudgetRunCoordinator)
        assert isinstance(instance.compute_log_manager, PlainComputeLogManager)
        run = instance.create_run_for_job(defs.resolve_job_def("ingest_catalog"))
        assert instance.get_run_by_id(run.run_id) is not None
        assert run.status == DagsterRunStatus.NOT_STARTED
    with open_instance(settings) as again:
        assert [found.run_id for found in again.get_runs()] == [run.run_id]


def test_logs_lie_in_the_home(settings: Settings) -> None:
    """What runs print goes under INGEST_HOME, whatever DAGSTER_HOME says; there is nothing to configure."""
    manager = PlainComputeLogManager.from_config_value(None, {})
    path = manager.get_captured_local_path(["run", "compute_logs", "step"], "out")
    assert Path(path).is_relative_to(settings.home / "dagster" / "storage")
    assert PlainComputeLogManager.config_type() == {}


def dispose(storage: IngestStorage) -> None:
    """Close the connections of all three parts."""
    storage.run_storage.dispose()
    storage.event_log_storage.dispose()
    storage.schedule_storage.dispose()


def test_storage_has_a_schema_of_its_own(settings: Settings) -> None:
    """Dagster's tables are made in the schema `dagster` of our database, none in another schema."""
    storage = IngestStorage.from_config_value(None, {})
    assert storage.run_storage.get_runs() == []
    dispose(storage)
    with connected(settings.database_url) as connection:
        found = connection.execute(TABLES).fetchall()
    assert sorted(found) == [("dagster", "event_logs"), ("dagster", "runs")]


def test_storage_migrates_a_new_database(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts first makes our schema too."""
    monkeypatch.setenv("INGEST_DATABASE_URL", empty_url)
    dispose(IngestStorage.from_config_value(None, {}))
    with connected(empty_url) as connection:
        assert connection.execute("SELECT count(*) FROM ingest.files").fetchone() == (0,)


def test_storage_is_made_alone(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two first `ingest run` at once one waits until the other has made Dagster's tables."""
    monkeypatch.setenv("INGEST_DATABASE_URL", empty_url)
    with ThreadPoolExecutor(1) as thread:
        with making_tables(empty_url):
            second = thread.submit(IngestStorage.from_config_value, None, {})
            with pytest.raises(TimeoutError):
                second.result(timeout=3)
        storage = second.result(timeout=60)
    assert storage.run_storage.get_runs() == []
    dispose(storage)


def test_storage_takes_no_configuration() -> None:
    """The URL is in one place: the settings."""
    assert IngestStorage.config_type() == {}


def test_storage_without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is not there, or a URL that is none, is our error and not SQLAlchemy's."""
    monkeypatch.setenv("INGEST_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable, match="is it running"):
        IngestStorage.from_config_value(None, {})
    monkeypatch.setenv("INGEST_DATABASE_URL", "mysql://host/db")
    with pytest.raises(BadSetting, match="INGEST_DATABASE_URL"):
        IngestStorage.from_config_value(None, {})


def slots(configured: int) -> int:
    """The queue's limit, with this limit in dagster.yaml."""
    return MemoryBudgetRunCoordinator(max_concurrent_runs=configured).get_run_queue_config().max_concurrent_runs


@pytest.mark.parametrize(
    ("machine", "run", "most", "configured", "expected"),
    [
        ("4GiB", "1GiB", "10", -1, 3),
        ("4GiB", "1GiB", "2", -1, 2),
        ("4GiB", "1GiB", "10", 1, 1),
        ("4GiB", "1GiB", "10", 7, 3),
        ("1GiB", "1GiB", "10", -1, 1),
        ("12GiB", "512MiB", "50", -1, 22),
        ("4GiB", "1GiB", "10", 0, 0),
    ],
)
def test_queue_holds_what_memory_holds(
    monkeypatch: pytest.MonkeyPatch, machine: str, run: str, most: str, configured: int, expected: int
) -> None:
    """(machine - reserve) / run, at most INGEST_MAX_RUNS and at most what dagster.yaml says, at least one."""
    for name, value in (("MACHINE_MEMORY", machine), ("RUN_MEMORY", run), ("MAX_RUNS", most)):
        monkeypatch.setenv(f"INGEST_{name}", value)
    assert slots(configured) == expected


def test_queue_follows_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is computed at each look, and only the limit of runs differs from Dagster's configuration."""
    coordinator = MemoryBudgetRunCoordinator(max_concurrent_runs=-1, dequeue_interval_seconds=2)
    monkeypatch.setenv("INGEST_MAX_RUNS", "10")
    monkeypatch.setenv("INGEST_MACHINE_MEMORY", "4GiB")
    assert coordinator.get_run_queue_config().max_concurrent_runs == 3
    monkeypatch.setenv("INGEST_MACHINE_MEMORY", "6GiB")
    assert coordinator.get_run_queue_config().max_concurrent_runs == 5
    assert coordinator.dequeue_interval_seconds == 2


def test_queue_without_room_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that the machine cannot hold is a setting that cannot be used."""
    monkeypatch.setenv("INGEST_MACHINE_MEMORY", "1GiB")
    monkeypatch.setenv("INGEST_RUN_MEMORY", "2GiB")
    with pytest.raises(BadSetting, match="INGEST_RUN_MEMORY"):
        slots(-1)


def test_a_runs_log_says_how_far_it_is() -> None:
    """Dagster takes lines such as `[embeddings] Progress: 10/38` into a run's log of loggers that it is told of."""
    logs = yaml.safe_load(find_config().read_text())["python_logs"]
    assert logs == {"managed_python_loggers": ["ingest_pipeline"], "python_log_level": "INFO"}
