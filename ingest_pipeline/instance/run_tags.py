"""The tags that say of a batch's run what it may use and why it runs, for whoever filters runs in the UI."""

from __future__ import annotations

from ingest_pipeline.instance.names import BATCH_KIND_TAG, BUDGET_TAG, PREDICTED_PEAK_TAG
from ingest_pipeline.models import Batch
from ingest_pipeline.sizes import format_size
from ingest_pipeline.store import batches
from ingest_pipeline.store.connection import Connection


def batch_tags(connection: Connection, batch: Batch) -> dict[str, str]:
    """Return the tags of a batch's next run."""
    return {
        BUDGET_TAG: format_size(batch.memory_limit_bytes),
        PREDICTED_PEAK_TAG: format_size(batch.predicted_peak_bytes),
        BATCH_KIND_TAG: batches.batch_kind(connection, batch.key),
    }
