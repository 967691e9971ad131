"""Builds the `dg.Definitions` that the code server, `ingest run` and run processes load."""

from __future__ import annotations

import dagster as dg

from ingest_pipeline.defs import assets, automation, maintenance, repair, retention
from ingest_pipeline.defs.resources import IngestResource

defs = dg.Definitions(
    assets=[
        assets.catalog,
        assets.raw_files,
        assets.chunks,
        assets.embeddings,
        assets.extracts,
        assets.entities,
        assets.vector_index,
    ],
    jobs=[
        automation.catalog_job,
        automation.batch_job,
        automation.index_job,
        repair.cleanup_job,
        repair.reset_job,
        maintenance.backup_job,
        retention.retention_job,
    ],
    schedules=[automation.catalog_schedule, retention.retention_schedule],
    sensors=[automation.waiting_batches, automation.failed_runs],
    resources={"ingest": IngestResource()},
    # One process for each run, with one memory limit. Set here and not on the jobs, because a backfill in the UI uses
    # the implicit asset job, to which a job's executor does not apply (docs/dagster.md, T5 and E1).
    executor=dg.in_process_executor,
)
