"""Who starts what: a schedule the catalog, a sensor the sealed batches, the same sensor the index at the end."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from ingest_pipeline.defs.assets import (
    catalog,
    chunks,
    embeddings,
    raw_files,
    vector_index,
)
from ingest_pipeline.defs.resources import IngestResource
from ingest_pipeline.instance.names import BATCH_JOB, BATCHES, CATALOG_JOB, INDEX_JOB
from ingest_pipeline.instance.reconcile import (
    latest_run,
    reconcile_never_begun,
    reconcile_running,
    was_canceled_after,
)
from ingest_pipeline.models import Batch
from ingest_pipeline.settings import Settings, read_settings
from ingest_pipeline.stages.catalog import seal_waiting
from ingest_pipeline.store import batches
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.incidents import spent_budget

MAX_QUEUED = 50
"""No more are requested while this many wait: the coordinator reads the whole queue at each pass, 0.27 ms a run."""
REQUESTS_PER_TICK = 25
"""7 runs a second is what the daemon creates (docs/dagster.md, L): a tick stays far under its 60 s."""
TICK_SECONDS = 30

catalog_job = dg.define_asset_job(CATALOG_JOB, selection=[catalog], description="List every source, seal batches.")
batch_job = dg.define_asset_job(
    BATCH_JOB,
    selection=[raw_files, chunks, embeddings],
    description="One batch through all three stages, in one process.",
)
index_job = dg.define_asset_job(INDEX_JOB, selection=[vector_index], description="The vector index in order.")

catalog_schedule = dg.ScheduleDefinition(
    name="catalog_schedule",
    job=catalog_job,
    cron_schedule=read_settings().schedule,
    # Off until somebody wants it: how often a bucket is listed is money and load that only its owner can weigh.
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Lists every source; INGEST_SCHEDULE. Its batches are drained by waiting_batches.",
)


@dg.sensor(
    jobs=[batch_job, index_job],
    minimum_interval_seconds=TICK_SECONDS,
    # On from the start: a sealed batch is work that somebody asked for by materializing the catalog.
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Requests a run for each sealed batch while the queue is short, then for the index.",
)
def waiting_batches(
    context: dg.SensorEvaluationContext, ingest: IngestResource
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request runs for sealed batches."""
    with ingest.store() as connection:
        settled = _reconcile(context.instance, connection, ingest)
        if verdict := _verdict(context.instance, connection, ingest.settings()):
            yield dg.SkipReason(f"stopped: {verdict}; materialize the catalog to go on")
            return
        room = MAX_QUEUED - _queued(context.instance)
        waiting = batches.list_batches(connection, status="waiting")
        context.instance.add_dynamic_partitions(BATCHES, [batch.key for batch in waiting])
        requests = list(_requests(context.instance, connection, waiting, min(room, REQUESTS_PER_TICK)))
        yield from requests
        if not waiting and (index := _index_request(context.instance, connection)):
            yield index
        elif not requests:
            yield dg.SkipReason(f"{len(waiting)} batches wait, room for {room} in the queue, {len(settled)} settled")


@dg.run_failure_sensor(
    name="failed_runs",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Charges the file at which a run was killed, and gives it a batch of its own.",
)
def failed_runs(context: dg.RunFailureSensorContext, ingest: IngestResource) -> None:
    """Settle what a failed run was at: seconds after the failure, where `waiting_batches` may take half a minute."""
    with ingest.store() as connection:
        _reconcile(context.instance, connection, ingest)


def _reconcile(instance: dg.DagsterInstance, connection: Connection, ingest: IngestResource) -> list[str]:
    """Settle the batches whose runs have ended; the file that a killed run was at gets a batch of its own."""
    settled = reconcile_running(instance, connection)
    if settled:
        seal_waiting(connection, settings=ingest.settings(), fingerprint=ingest.fingerprint())
    return settled


def _catalog_time(instance: dg.DagsterInstance) -> float:
    """Return when the catalog was last materialized, in seconds since 1970; 0 if never."""
    event = instance.get_latest_materialization_event(catalog.key)
    return event.timestamp if event else 0.0


def _verdict(instance: dg.DagsterInstance, connection: Connection, settings: Settings) -> str | None:
    """Return why no more runs are to be requested: an error budget is spent since the catalog was last asked for."""
    return spent_budget(
        connection,
        max_errors=settings.max_errors,
        max_failed_share=settings.max_failed_share,
        since=datetime.fromtimestamp(_catalog_time(instance), tz=UTC),
    )


def _requests(
    instance: dg.DagsterInstance, connection: Connection, waiting: list[Batch], room: int
) -> Iterator[dg.RunRequest]:
    asked_at = _catalog_time(instance)
    for batch in waiting:
        if room <= 0:
            return
        run = latest_run(instance, batch.key)
        if run is not None and not run.is_finished:
            continue
        if run is not None and was_canceled_after(instance, run, asked_at):
            continue  # who terminated it does not want it back in half a minute
        if run is not None and reconcile_never_begun(instance, connection, batch):
            continue  # its next run is requested at the next tick, under a new key
        room -= 1
        yield dg.RunRequest(run_key=f"{batch.key}:{batch.runs}", job_name=BATCH_JOB, partition_key=batch.key)


def _queued(instance: dg.DagsterInstance) -> int:
    return instance.get_runs_count(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED])
    )


def _index_request(instance: dg.DagsterInstance, connection: Connection) -> dg.RunRequest | None:
    """Return a request to put the index in order, once after the last of some batches is done."""
    ended = batches.last_ended(connection)
    if ended is None or batches.list_batches(connection, status="running"):
        return None
    event = instance.get_latest_materialization_event(vector_index.key)
    if event is not None and event.timestamp >= ended.timestamp():
        return None
    return dg.RunRequest(run_key=f"vector_index:{ended.isoformat()}", job_name=INDEX_JOB)
