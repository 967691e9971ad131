"""Composition: the `dg.Definitions` that webserver, daemon and run processes load."""

from __future__ import annotations

import dagster as dg

from ingest_pipeline.defs import assets, automation
from ingest_pipeline.defs.resources import IngestResource

defs = dg.Definitions(
    assets=[assets.catalog, assets.raw_files, assets.chunks, assets.embeddings, assets.vector_index],
    jobs=[automation.catalog_job, automation.batch_job, automation.index_job],
    schedules=[automation.catalog_schedule],
    sensors=[automation.waiting_batches, automation.failed_runs],
    resources={"ingest": IngestResource()},
    # One process for a run: one thing to budget, to watch and to kill. Also for runs of the implicit job,
    # which a backfill in the UI uses and where a job's own executor does not apply.
    executor=dg.in_process_executor,
)
