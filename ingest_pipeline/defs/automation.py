"""Automation: a schedule starts the catalog, a sensor the sealed batches and then the index, another reconciles."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from ingest_pipeline.defs.assets import (
    catalog,
    chunks,
    embeddings,
    entities,
    extracts,
    raw_files,
    vector_index,
)
from ingest_pipeline.defs.resources import IngestResource
from ingest_pipeline.instance.names import BATCH_JOB, BATCHES, CATALOG_JOB, INDEX_JOB
from ingest_pipeline.instance.reconcile import (
    latest_run,
    reconcile_never_begun,
    reconcile_running,
    was_stopped_after,
)
from ingest_pipeline.instance.run_ends import copy_ended
from ingest_pipeline.instance.run_tags import batch_tags
from ingest_pipeline.models import Batch
from ingest_pipeline.settings import Settings, read_settings
from ingest_pipeline.stages.requeue import requeue_unfinished
from ingest_pipeline.stages.sealing import seal_waiting
from ingest_pipeline.store import batches
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.incidents import spent_budget

MAX_QUEUED = 50
"""While so many runs are queued, no more are requested: the coordinator reads the whole queue at each pass, 0.27 ms for
each run (docs/dagster.md, L2)."""
REQUESTS_PER_TICK = 25
"""The daemon creates 7 runs a second (docs/dagster.md, L3): a tick stays far below its timeout of 60 s."""
TICK_SECONDS = 30

catalog_job = dg.define_asset_job(CATALOG_JOB, selection=[catalog], description="List every source, seal batches.")
batch_job = dg.define_asset_job(
    BATCH_JOB,
    selection=[raw_files, chunks, embeddings, extracts, entities],
    description="One batch through all its stages, in one process.",
)
index_job = dg.define_asset_job(INDEX_JOB, selection=[vector_index], description="The vector index in order.")

catalog_schedule = dg.ScheduleDefinition(
    name="catalog_schedule",
    job=catalog_job,
    cron_schedule=read_settings().schedule,
    # Off by default: listing a bucket costs money and load, so its owner must decide how often.
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Lists every source; INGEST_SCHEDULE. The sensor waiting_batches starts its batches.",
)


@dg.sensor(
    jobs=[batch_job, index_job],
    minimum_interval_seconds=TICK_SECONDS,
    # On by default: whoever materializes the catalog wants its batches to be processed.
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Requests a run for each sealed batch while the queue is short, then for the index.",
)
def waiting_batches(
    context: dg.SensorEvaluationContext, ingest: IngestResource
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request runs for sealed batches, and for the index when all are done."""
    with ingest.store() as connection:
        # First, because a batch whose run has ended unnoticed is not `waiting` yet.
        reconciled = _reconcile(context.instance, connection, ingest)
        if requeue_unfinished(connection, ingest.settings()):  # what runs left when their time was over
            seal_waiting(connection, settings=ingest.settings(), fingerprint=ingest.fingerprint())
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
            yield dg.SkipReason(
                f"{len(waiting)} batches wait, room for {room} in the queue, {len(reconciled)} reconciled"
            )


@dg.run_failure_sensor(
    name="failed_runs",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Attributes a killed run to the file that was open, and gives that file a batch of its own.",
)
def failed_runs(context: dg.RunFailureSensorContext, ingest: IngestResource) -> None:
    """Reconcile the batch of a failed run seconds after the failure; `waiting_batches` may take half a minute."""
    with ingest.store() as connection:
        _reconcile(context.instance, connection, ingest)


def _reconcile(instance: dg.DagsterInstance, connection: Connection, ingest: IngestResource) -> list[str]:
    """Reconcile the batches whose runs have ended; seal a new batch for a file that was open in a killed run."""
    reconciled = reconcile_running(instance, connection)
    copy_ended(connection)  # also of runs that ended well
    if reconciled:
        seal_waiting(connection, settings=ingest.settings(), fingerprint=ingest.fingerprint())
    return reconciled


def _catalog_time(instance: dg.DagsterInstance) -> float:
    """Return the time of the last materialization of the catalog, in seconds since 1970; 0 if there is none."""
    event = instance.get_latest_materialization_event(catalog.key)
    return event.timestamp if event else 0.0


def _verdict(instance: dg.DagsterInstance, connection: Connection, settings: Settings) -> str | None:
    """Return why no more runs are requested: the error budget is spent since the catalog was last materialized."""
    return spent_budget(
        connection,
        max_errors=settings.max_errors,
        max_failed_share=settings.max_failed_share,
        since=datetime.fromtimestamp(_catalog_time(instance), tz=UTC),
    )


def _requests(
    instance: dg.DagsterInstance, connection: Connection, waiting: list[Batch], room: int
) -> Iterator[dg.RunRequest]:
    catalog_time = _catalog_time(instance)
    for batch in waiting:
        if room <= 0:
            return
        run = latest_run(instance, batch.key)
        if run is not None and not run.is_finished:
            continue
        if run is not None and was_stopped_after(instance, connection, run, catalog_time):
            continue  # by the user or a limit of the user's: it must not start again before the next catalog
        if run is not None and reconcile_never_begun(instance, connection, batch):
            continue  # its next run is requested at the next tick, under a new key
        room -= 1
        # Dagster remembers run keys for ever: the number of runs makes a second try a new key (docs/dagster.md, L4).
        yield dg.RunRequest(
            run_key=f"{batch.key}:{batch.runs}", job_name=BATCH_JOB, partition_key=batch.key,
            tags=batch_tags(connection, batch),
        )  # fmt: skip


def _queued(instance: dg.DagsterInstance) -> int:
    return instance.get_runs_count(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED])
    )


def _index_request(instance: dg.DagsterInstance, connection: Connection) -> dg.RunRequest | None:
    """Return a run request for the index, once after the last batch has ended."""
    ended = batches.last_ended(connection)
    if ended is None or batches.list_batches(connection, status="running"):
        return None
    event = instance.get_latest_materialization_event(vector_index.key)
    if event is not None and event.timestamp >= ended.timestamp():
        return None
    return dg.RunRequest(run_key=f"vector_index:{ended.isoformat()}", job_name=INDEX_JOB)
