"""The tags that say of a batch's run what it may use and why it runs, for whoever filters runs in the UI."""

from __future__ import annotations

from dagster import DagsterInstance, DagsterRun

from ingest_pipeline.instance.dagster_private import PARTITION_NAME_TAG
from ingest_pipeline.instance.names import BATCH_KIND_TAG, BUDGET_TAG, PREDICTED_PEAK_TAG
from ingest_pipeline.models import Batch
from ingest_pipeline.settings import read_settings
from ingest_pipeline.sizes import format_size
from ingest_pipeline.store import batches
from ingest_pipeline.store.connection import Connection, connected, database_url


def tag_if_untagged(instance: DagsterInstance, run: DagsterRun) -> None:
    """Set the tags of a run that was launched by hand; sensor and `ingest run` set them themselves."""
    if BATCH_KIND_TAG in run.tags:
        return
    with connected(database_url(read_settings())) as connection:
        for batch in batches.list_batches(connection, batch=run.tags[PARTITION_NAME_TAG]):
            instance.add_run_tags(run.run_id, batch_tags(connection, batch))


def batch_tags(connection: Connection, batch: Batch) -> dict[str, str]:
    """Return the tags of a batch's next run."""
    return {
        BUDGET_TAG: format_size(batch.memory_limit_bytes),
        PREDICTED_PEAK_TAG: format_size(batch.predicted_peak_bytes),
        BATCH_KIND_TAG: batches.batch_kind(connection, batch.key),
    }
