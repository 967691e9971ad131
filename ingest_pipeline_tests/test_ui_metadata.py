"""What Dagster's UI shows beside the assets: numbers to plot, tags of runs, repairs of failed checks, freshness."""

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from ingest_pipeline.definitions import defs
from ingest_pipeline.defs import assets, metadata
from ingest_pipeline.defs.automation import waiting_batches
from ingest_pipeline.defs.freshness import freshness_of
from ingest_pipeline.defs.resources import IngestResource
from ingest_pipeline.instance.run_tags import batch_tags
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.index import IndexWork
from ingest_pipeline.stages.run import open_batch
from ingest_pipeline.store import batches, ledger
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.documents import add_file, files_of, seal

PEAKS = {"predicted_peak_mib", "measured_peak_mib", "memory_limit_mib"}
NUMBERS = {
    "chunks": {*PEAKS, "chunks_per_second", "parse_seconds", "failed"},
    "embeddings": {*PEAKS, "chunks_per_second", "embed_seconds", "failed"},
    "vector_index": {"measured_peak_mib", "seconds", "problems", "files_failed", "chunks"},
}


@pytest.fixture
def ingest(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> IngestResource:
    """The resource with the test's settings."""
    for name, text in settings.environ().items():
        monkeypatch.setenv(name, text)
    return IngestResource()


@pytest.mark.usefixtures("ample_memory")
def test_numbers_are_plotted(ingest: IngestResource, source: Path) -> None:
    """Each asset reports its peaks, speed, seconds and failures as plain numbers, which Dagster plots."""
    (source / "a.txt").write_text("Some words about steam.")
    everything = [assets.catalog, assets.raw_files, assets.chunks, assets.embeddings, assets.vector_index]
    with dg.DagsterInstance.ephemeral() as instance:
        given = {"instance": instance, "resources": {"ingest": ingest}}
        dg.materialize(everything, selection=[assets.catalog], **given)  # type: ignore[arg-type]
        [key] = instance.get_dynamic_partitions("batches")
        batch = dg.materialize(everything, selection=everything[1:4], partition_key=key, **given)  # type: ignore[arg-type]
        index = dg.materialize(everything, selection=[assets.vector_index], **given)  # type: ignore[arg-type]
    for name, result in (("chunks", batch), ("embeddings", batch), ("vector_index", index)):
        [materialization] = result.asset_materializations_for_node(name)
        numbers = {
            label
            for label, entry in materialization.metadata.items()
            if isinstance(entry, dg.IntMetadataValue | dg.FloatMetadataValue) and entry.value is not None
        }
        assert NUMBERS[name] - numbers == set(), name


def test_kinds_of_batches(connection: Connection) -> None:
    """A batch is new, tried again, alone after a kill, or holds a version that another batch had."""
    add_file(connection, "a.txt", version="a")
    first = seal(connection)
    assert batches.batch_kind(connection, first) == "first"
    batches.begin_batch(connection, first, "run1")
    ledger.open_attempt(connection, files_of(connection, first)["a.txt"], batch=first, run_id="run1", stage="chunks")
    batches.reconcile_batch(connection, first, "run1", killed=True, canceled=False, message="killed")
    alone = seal(connection)
    assert batches.batch_kind(connection, alone) == "alone"
    batches.begin_batch(connection, alone, "run2")
    assert batches.batch_kind(connection, alone) == "retry"
    connection.execute("UPDATE files SET status = 'synced', batch = NULL, kills = 0")
    assert batches.batch_kind(connection, seal(connection)) == "requeue"


def test_tags_of_a_batchs_run(ingest: IngestResource, connection: Connection) -> None:
    """The sensor's request has budget, prediction and kind as tags, as `ingest run` sets them."""
    add_file(connection, "a.txt", version="a")
    key = seal(connection)
    [batch] = batches.list_batches(connection, batch=key)
    tags = batch_tags(connection, batch)
    assert set(tags) == {"ingest/budget", "ingest/predicted_peak", "ingest/batch_kind"}
    assert tags["ingest/batch_kind"] == "first"
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, resources={"ingest": ingest}, definitions=defs)
        [request] = list(waiting_batches(context))  # type: ignore[call-overload]
    assert tags.items() <= request.tags.items()


def test_failed_checks_name_a_repair(connection: Connection, ingest: IngestResource) -> None:
    """The description of a failed check says which command repairs; one that passed says none."""
    add_file(connection, "a.txt", version="a")
    run = open_batch(connection, ingest.settings(), batch=seal(connection), run_id="run1")
    failed, *passed = metadata.embedding_checks(run, unfinished=2)
    wrong, repair = str(failed.description).split("; ")
    assert wrong == "2 files neither indexed nor failed"
    assert repair == "materialize this partition again, or `ingest reset --stuck` and `ingest run`"
    assert all("ingest" not in str(check.description) and "repair" not in check.metadata for check in passed)
    work = IndexWork(0, 0, 0, 3, counts={}, inconsistencies={"indexed without chunks shown": 1})
    [check] = metadata.index_checks(work)
    assert not check.passed
    assert "1 × indexed without chunks shown, 3 × vectors whose length is not 1; " in str(check.description)
    assert "`ingest cleanup --auto-fix`" in str(check.description)


@pytest.mark.parametrize(
    ("schedule", "warn_days", "fail_days"),
    [("*/5 * * * *", 1, 2), ("0 3 * * *", 2, 4), ("0 3 * * 1-5", 6, 12), ("0 3 * * 0", 14, 28)],
)
def test_the_catalog_grows_old(schedule: str, warn_days: int, fail_days: int) -> None:
    """The catalog is overdue after some missed ticks of its schedule, and never within its first day."""
    policy = freshness_of(schedule)
    assert policy == dg.FreshnessPolicy.time_window(
        warn_window=timedelta(days=warn_days), fail_window=timedelta(days=fail_days)
    )
    assert assets.catalog.specs_by_key[assets.catalog.key].freshness_policy is not None
