"""Dagster's history: what goes of old runs, and that partitions, failures and checks are shown as before."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from ingest_pipeline.defs.resources import IngestResource
from ingest_pipeline.defs.retention import retention_job, retention_schedule
from ingest_pipeline.instance.home import open_instance
from ingest_pipeline.instance.reconcile import failure_message
from ingest_pipeline.models import FileCost, PlannedBatch
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.retention import prune_history
from ingest_pipeline.store import batches, event_log
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.command import Command

PARTITIONS = dg.DynamicPartitionsDefinition(name="batches")
FAILING: set[str] = set()
"""Partitions that fail now."""


@dg.asset(partitions_def=PARTITIONS, check_specs=[dg.AssetCheckSpec("whole", asset="parsed")])
def parsed(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """An asset as ours are: a number, a table, a check."""
    if context.partition_key in FAILING:
        raise ValueError("no such luck")
    table = dg.MetadataValue.md("| file |\n|---|\n" + "| a |\n" * 100)
    return dg.MaterializeResult(metadata={"files": 7, "table": table}, check_results=[dg.AssetCheckResult(passed=True)])


@pytest.fixture
def instance(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The instance that dagster.yaml describes, with its tables in the store's database."""
    for name, text in settings.environ().items():
        monkeypatch.setenv(name, text)
    FAILING.clear()
    with open_instance(settings) as opened:
        yield opened


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`ingest` in this process."""
    return Command(settings, monkeypatch, capsys)


@pytest.fixture
def all_are_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run is among the newest."""
    monkeypatch.setattr(event_log.prune_runs, "__kwdefaults__", {"full_runs": 0, "dry_run": False})


def run(instance: dg.DagsterInstance, key: str) -> str:
    """Materialize a partition; the run's id."""
    instance.add_dynamic_partitions("batches", [key])
    return dg.materialize([parsed], instance=instance, partition_key=key, raise_on_error=False).run_id


def status(instance: dg.DagsterInstance) -> tuple[set[str], set[str]]:
    """Partitions that the UI shows as materialized and as failed, without its cache."""
    instance.event_log_storage.update_asset_cached_status_data(parsed.key, _no_cache())
    cached = get_and_update_asset_status_cache_value(instance, parsed.key, PARTITIONS)
    assert cached is not None
    asked = (instance, parsed.key, PARTITIONS)
    done, failed = cached.get_materialized_subset(*asked), cached.get_failed_subset(*asked)
    return set(done.expensively_compute_partition_keys()), set(failed.expensively_compute_partition_keys())


def _no_cache() -> object:
    from dagster._core.storage.partition_status_cache import AssetStatusCacheValue

    return AssetStatusCacheValue(latest_storage_id=0, partitions_def_id="other")


def prune(connection: Connection, **options: object) -> list[event_log.PrunedRuns]:
    """Prune every finished run, however new."""
    return list(event_log.prune_runs(connection, days=30, full_runs=0, **options))  # type: ignore[arg-type]


def event_types(connection: Connection, run_id: str) -> list[str | None]:
    """What the event log has of a run."""
    rows = connection.execute(
        "SELECT dagster_event_type FROM dagster.event_logs WHERE run_id = %s ORDER BY 1", (run_id,)
    )
    return [kind for (kind,) in rows]


def test_partitions_keep_their_status(instance: dg.DagsterInstance, connection: Connection) -> None:
    """Materialized partitions stay green and failed ones red, and no run disappears."""
    FAILING.add("b")
    runs = [run(instance, key) for key in "abc"]
    before = status(instance)
    assert before == ({"a", "c"}, {"b"})
    [piece] = prune(connection)
    assert (piece.runs, piece.rows > 30) == (3, True)
    assert status(instance) == before
    assert {each.run_id for each in instance.get_runs()} == set(runs)


def test_an_old_success_keeps_one_row(instance: dg.DagsterInstance, connection: Connection) -> None:
    """Of an asset's old run its materialization is left, without tables; the newest keeps its metadata."""
    old, new = run(instance, "a"), run(instance, "b")
    prune(connection)
    assert event_types(connection, old) == ["ASSET_MATERIALIZATION"]
    [event] = instance.all_logs(old)
    materialization = event.asset_materialization
    assert materialization is not None
    assert (materialization.partition, materialization.metadata) == ("a", {})
    latest = instance.get_latest_materialization_event(parsed.key)
    assert latest is not None and latest.asset_materialization is not None
    assert (latest.run_id, latest.asset_materialization.metadata["files"].value) == (new, 7)


def test_a_failure_stays_readable(instance: dg.DagsterInstance, connection: Connection) -> None:
    """Why the last run of a partition failed is known until a later run has mended it."""
    FAILING.add("a")
    failed = run(instance, "a")
    prune(connection)
    assert "no such luck" in failure_message(instance, instance.get_run_by_id(failed))
    FAILING.clear()
    run(instance, "a")
    prune(connection)
    assert event_types(connection, failed) == ["PIPELINE_FAILURE"]
    assert status(instance) == ({"a"}, set())


def test_checks_show_their_last_result(instance: dg.DagsterInstance, connection: Connection) -> None:
    """The newest execution of a check stays, older ones go."""
    runs = [run(instance, key) for key in "ab"]
    prune(connection)
    executions = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(parsed.key, "whole"), limit=10
    )
    assert [(each.run_id, each.status.value) for each in executions] == [(runs[1], "SUCCEEDED")]


def test_a_second_time_finds_nothing(instance: dg.DagsterInstance, connection: Connection) -> None:
    """What is pruned is not looked at again."""
    FAILING.add("b")
    run(instance, "a"), run(instance, "b")
    assert prune(connection) != []
    assert prune(connection) == []


def test_a_dry_run_deletes_nothing(instance: dg.DagsterInstance, connection: Connection) -> None:
    """It counts what the next call deletes."""
    run_id = run(instance, "a")
    before = event_types(connection, run_id)
    counted = prune(connection, dry_run=True)
    assert event_types(connection, run_id) == before
    assert prune(connection) == counted


def test_new_runs_keep_everything(instance: dg.DagsterInstance, connection: Connection) -> None:
    """A run is old by its age, or because enough others are newer."""
    runs = [run(instance, key) for key in "abc"]
    whole = event_types(connection, runs[0])
    older = "UPDATE dagster.runs SET update_timestamp = now() - interval '31 days' WHERE run_id = %s"
    connection.execute(older, runs[:1])
    assert [piece.run_ids for piece in event_log.prune_runs(connection, days=32, full_runs=3)] == []
    assert [piece.run_ids for piece in event_log.prune_runs(connection, days=30, full_runs=3)] == [(runs[0],)]
    assert [piece.run_ids for piece in event_log.prune_runs(connection, days=30, full_runs=1)] == [(runs[1],)]
    assert event_types(connection, runs[2]) == whole


def test_what_reconciling_reads_stays(instance: dg.DagsterInstance, connection: Connection) -> None:
    """A run whose batch the ledger still calls running is left alone, however old it is."""
    run_id = run(instance, "a")
    whole = event_types(connection, run_id)
    planned = PlannedBatch((FileCost(1, "a", "v", 1, 1.0),), 1, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "INSERT_FILES", "SELECT %s, %s, %s")
        key = batches.seal_batch(connection, planned, memory_limit_bytes=1)
    batches.begin_batch(connection, key, run_id)
    assert prune(connection) == []
    assert event_types(connection, run_id) == whole


def test_old_states_of_assets_go(instance: dg.DagsterInstance, connection: Connection) -> None:
    """Of what belongs to no run the newest is kept."""
    connection.execute(
        "INSERT INTO dagster.event_logs (run_id, event, dagster_event_type, asset_key, timestamp) "
        "SELECT '', '{}', 'FRESHNESS_STATE_CHANGE', '[\"catalog\"]', now() - make_interval(days => n) "
        "FROM generate_series(60, 40, -1) n"
    )
    assert event_log.prune_states(connection, days=30) == 20
    assert event_log.prune_states(connection, days=30) == 0


def test_indexes_are_built_anew(
    instance: dg.DagsterInstance, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After many deleted rows; what a killed rebuilding left behind is dropped first."""
    run(instance, "a")
    connection.execute("CREATE INDEX idx_step_key_ccnew ON dagster.event_logs (step_key)")
    connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'dagster.idx_step_key_ccnew'::regclass"
    )
    before = _indexes(connection)
    event_log.reclaim(connection, deleted_rows=event_log.REINDEX_ROWS - 1)
    assert before.keys() - _indexes(connection).keys() == {"idx_step_key_ccnew"}
    assert _indexes(connection).items() <= before.items()
    event_log.reclaim(connection, deleted_rows=event_log.REINDEX_ROWS)
    assert not _indexes(connection).items() & before.items()


def _indexes(connection: Connection) -> dict[str, int]:
    """The files of the event log's indexes, by name."""
    rows = connection.execute(
        "SELECT c.relname, c.relfilenode::bigint FROM pg_index JOIN pg_class c ON c.oid = indexrelid "
        "WHERE indrelid = 'dagster.event_logs'::regclass"
    )
    return dict(rows.fetchall())


@pytest.mark.usefixtures("all_are_old")
def test_logs_of_old_runs_go(instance: dg.DagsterInstance, connection: Connection, settings: Settings) -> None:
    """The output of a pruned run goes; that of a failure which is still shown stays, and what is no run's."""
    FAILING.add("b")
    done, failed = run(instance, "a"), run(instance, "b")
    storage, records = settings.home / "dagster" / "storage", settings.home / "runs"
    paths = [_made(storage / name / "compute_logs" / "x.err") for name in (done, failed, "not-a-run")]
    paths += [_made(records / f"{name}.{ending}") for name in (done, failed) for ending in ("json", "log")]
    work = prune_history(connection, settings)
    assert [path.exists() for path in paths] == [False, True, True, False, False, True, True]
    assert (work.runs, work.logs_deleted) == (2, 3)
    assert work.bytes_per_run > 0


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("words")
    return path


@pytest.mark.usefixtures("all_are_old")
def test_the_command_says_what_it_did(instance: dg.DagsterInstance, command: Command) -> None:
    """`ingest retention` for programs and for people, first without deleting."""
    connection_rows = {"runs", "rows_deleted", "logs_deleted", "bytes_before", "bytes_after", "runs_in_history"}
    run(instance, "a")
    [dry] = command.json("retention", "--dry-run", "--days", "7")
    assert (dry["runs"], dry["dry_run"], connection_rows - dry.keys()) == (1, True, set())
    assert command("retention", "--compact").startswith(f"deleted {dry['rows_deleted']} rows of 1 old run, and ")
    assert command.json("retention")[0]["rows_deleted"] == 0


def test_nothing_before_the_first_run(command: Command) -> None:
    """Where Dagster has no tables yet there is nothing to prune."""
    first, history = command("retention").splitlines()
    assert first == "deleted 0 rows of 0 old runs, and 0 logs"
    assert history.endswith(" for 0 runs")


def test_the_job_prunes_every_night(instance: dg.DagsterInstance) -> None:
    """The job reports what it did, and its schedule is on."""
    run(instance, "a")
    result = retention_job.execute_in_process(instance=instance, resources={"ingest": IngestResource()})
    [event] = [each for each in result.all_events if each.is_successful_output]
    metadata = event.step_output_data.metadata
    assert metadata["runs"].value == 0
    assert metadata["bytes_per_run"].value > 0
    assert retention_schedule.default_status == dg.DefaultScheduleStatus.RUNNING


def test_many_days(instance: dg.DagsterInstance, command: Command) -> None:
    """More days than PostgreSQL counts back keep everything."""
    run(instance, "a")
    for days in ("3000000", str(2**31 - 1)):
        [row] = command.json("retention", "--days", days)
        assert (row["runs"], row["runs_in_history"]) == (0, 1)
