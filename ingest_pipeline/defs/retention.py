"""The job `retention`: keeps Dagster's history small, every night."""

import dagster as dg

from ingest_pipeline.defs.resources import IngestResource
from ingest_pipeline.instance.names import RETENTION_JOB
from ingest_pipeline.stages.retention import prune_history

MIB = 1024**2


@dg.op(description="Deletes what nobody reads of runs older than INGEST_RETENTION_DAYS; no run disappears.")
def prune_event_log(context: dg.OpExecutionContext, ingest: IngestResource) -> None:
    """Prune the event log and the logs of old runs."""
    with ingest.store() as connection:
        work = prune_history(connection, ingest.settings())
    context.add_output_metadata(
        {
            "runs": work.runs,
            "rows_deleted": work.rows_deleted,
            "logs_deleted": work.logs_deleted,
            "history_mib": round(work.bytes_after / MIB, 1),
            "bytes_per_run": work.bytes_per_run,
            "seconds": round(work.seconds, 2),
        }
    )


@dg.job(name=RETENTION_JOB, description="Dagster's history is kept small: rows that nobody reads, old logs.")
def retention_job() -> None:
    """Prune the event log."""
    prune_event_log()


retention_schedule = dg.ScheduleDefinition(
    name="retention_schedule",
    job=retention_job,
    cron_schedule="40 3 * * *",
    # On by default: every run adds 60 kB and more, which nobody notices until the disk is full.
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Prunes Dagster's history every night; INGEST_RETENTION_DAYS.",
)
