"""How did the runs end? Asked of Dagster and of the processes, answered in the ledger."""

from __future__ import annotations

import logging
import time

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from ingest_pipeline.instance.dagster_private import PARTITION_NAME_TAG, WorkerStatus
from ingest_pipeline.instance.run_record import RunRecord
from ingest_pipeline.models import Batch
from ingest_pipeline.store import batches
from ingest_pipeline.store.connection import Connection

logger = logging.getLogger(__name__)
START_SECONDS = 60.0  # between STARTING and a process that can be asked; 0.3 s on an idle machine


def reconcile_running(instance: DagsterInstance, connection: Connection) -> list[str]:
    """Settle each batch that the ledger calls running and whose run has ended; return their keys."""
    reconciled = []
    for batch in batches.list_batches(connection, status="running"):
        run = instance.get_run_by_id(batch.run_id or "")
        if run is None or has_ended(instance, run):
            reconcile(instance, connection, batch, run)
            reconciled.append(batch.key)
    return reconciled


def reconcile_never_begun(instance: DagsterInstance, connection: Connection, batch: Batch) -> bool:
    """Settle a waiting batch whose latest run died before it could even say that it began; return whether so."""
    run = latest_run(instance, batch.key)
    if run is None or run.run_id == batch.run_id or not has_ended(instance, run):
        return False
    batches.begin_batch(connection, batch.key, run.run_id)
    reconcile(instance, connection, batch, run)
    return True


def reconcile(instance: DagsterInstance, connection: Connection, batch: Batch, run: DagsterRun | None) -> str:
    """Settle one batch by how its run ended; return the batch's new status."""
    run = instance.get_run_by_id(run.run_id) if run else None
    canceled = run is not None and run.status == DagsterRunStatus.CANCELED
    killed = run is not None and run.status == DagsterRunStatus.FAILURE and not _could_speak(instance, run)
    message = (
        "canceled; materialize the catalog or this partition to go on" if canceled else failure_message(instance, run)
    )
    run_id = run.run_id if run else batch.run_id or ""
    status = batches.reconcile_batch(connection, batch.key, run_id, killed=killed, canceled=canceled, message=message)
    logger.info("batch %s: run %s ended, killed=%s, batch is %s", batch.key, run_id, killed, status)
    return status


def latest_run(instance: DagsterInstance, batch: str) -> DagsterRun | None:
    """Return the newest run of a batch, however it was launched."""
    runs = instance.get_runs(filters=RunsFilter(tags={PARTITION_NAME_TAG: batch}), limit=1)
    return runs[0] if runs else None


def was_canceled_after(instance: DagsterInstance, run: DagsterRun, moment: float) -> bool:
    """Return whether somebody canceled a run after a moment in seconds since 1970."""
    record = instance.get_run_record_by_id(run.run_id)
    if run.status != DagsterRunStatus.CANCELED or record is None:
        return False
    return (record.end_time or record.update_timestamp.timestamp()) > moment


def has_ended(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Return whether a run is over, noticing a dead process also where no daemon watches."""
    if run.is_finished:
        return True
    if run.status not in (DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.CANCELING):
        return False
    health = instance.run_launcher.check_run_worker_health(run)
    if health.status == WorkerStatus.RUNNING or _is_just_starting(instance, run):
        return False
    again = instance.get_run_by_id(run.run_id)
    if again is not None and again.status == DagsterRunStatus.CANCELING:
        instance.report_run_canceled(again, f"Run worker is gone: {health.msg}")  # killed when it did not stop in time
    elif again is not None and not again.is_finished:
        instance.report_run_failed(again, f"Run worker is gone: {health.msg}")
    return True


def _is_just_starting(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Return whether somebody may be about to start the run's process: STARTING is written before it exists."""
    record = instance.get_run_record_by_id(run.run_id)
    if run.status != DagsterRunStatus.STARTING or record is None:
        return False
    return time.time() - record.update_timestamp.timestamp() < START_SECONDS


def _could_speak(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Return whether the run's process lived to report its own failure, or to exit: then nobody killed it.

    A run that loses its database cannot report anything; that is not the fault of the file that it was at.
    """
    return RunRecord.of(run.run_id).ended_by_itself or bool(
        instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE)
    )


def failure_message(instance: DagsterInstance, run: DagsterRun | None) -> str:
    """Return in one line why a run did not finish."""
    if run is None:
        return "its run is not in Dagster's history"
    events = instance.all_logs(run.run_id, of_type={DagsterEventType.RUN_FAILURE, DagsterEventType.STEP_FAILURE})
    for event in events:
        if event.dagster_event and event.dagster_event.is_step_failure:
            error = event.dagster_event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            return error.message.strip() if error else "a step failed"
    return events[-1].user_message or events[-1].message if events else "the run ended without finishing the batch"
