"""Finds out from Dagster and from the processes how runs ended, and updates the ledger."""

from __future__ import annotations

import logging
import time

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from ingest_pipeline.errors import TokenLimitReached
from ingest_pipeline.instance.dagster_private import PARTITION_NAME_TAG, SerializableErrorInfo, WorkerStatus
from ingest_pipeline.instance.run_ends import copy_ended, ended_by_itself, show_memory
from ingest_pipeline.models import Batch
from ingest_pipeline.store import batches
from ingest_pipeline.store.connection import Connection

OWN_ERRORS = "ingest_pipeline.errors."
logger = logging.getLogger(__name__)
START_SECONDS = 60.0  # from STARTING until the process has a record; 0.3 s on an idle machine


def reconcile_running(instance: DagsterInstance, connection: Connection) -> list[str]:
    """Reconcile each batch that is `running` in the ledger and whose run has ended; return their keys."""
    reconciled = []
    for batch in batches.list_batches(connection, status="running"):
        run = instance.get_run_by_id(batch.run_id or "")
        if run is None or has_ended(instance, run):
            reconcile(instance, connection, batch, run)
            reconciled.append(batch.key)
    return reconciled


def reconcile_never_begun(instance: DagsterInstance, connection: Connection, batch: Batch) -> bool:
    """Reconcile a waiting batch whose latest run ended before it recorded its beginning; return whether this is so."""
    run = latest_run(instance, batch.key)
    if run is None or run.run_id == batch.run_id or not has_ended(instance, run):
        return False
    batches.begin_batch(connection, batch.key, run.run_id)  # so that the failure counts, and is not repeated for ever
    reconcile(instance, connection, batch, run)
    return True


def reconcile(instance: DagsterInstance, connection: Connection, batch: Batch, run: DagsterRun | None) -> str:
    """Reconcile one batch by how its run ended; return the batch's new status."""
    copy_ended(connection)
    run = instance.get_run_by_id(run.run_id) if run else None
    canceled = run is not None and run.status == DagsterRunStatus.CANCELED
    killed = (
        run is not None and run.status == DagsterRunStatus.FAILURE and not _reported_its_end(instance, connection, run)
    )
    message = (
        "canceled; materialize the catalog or this partition to go on" if canceled else failure_message(instance, run)
    )
    run_id = run.run_id if run else batch.run_id or ""
    no_failure = canceled or is_incomplete(message)
    status = batches.reconcile_batch(connection, batch.key, run_id, killed=killed, canceled=no_failure, message=message)
    logger.info("batch %s: run %s ended, killed=%s, batch is %s", batch.key, run_id, killed, status)
    show_memory(instance, connection)
    return status


def latest_run(instance: DagsterInstance, batch: str) -> DagsterRun | None:
    """Return the latest run of a batch, however it was launched."""
    runs = instance.get_runs(filters=RunsFilter(tags={PARTITION_NAME_TAG: batch}), limit=1)
    return runs[0] if runs else None


def is_incomplete(message: str) -> bool:
    """Return whether a run ended by a limit that was asked for, as this message of its batch says."""
    return message.startswith(TokenLimitReached.__name__)


def was_stopped_after(instance: DagsterInstance, connection: Connection, run: DagsterRun, moment: float) -> bool:
    """Return whether a batch's run was canceled or came to a limit after a moment, given in seconds since 1970."""
    record = instance.get_run_record_by_id(run.run_id)
    batch = run.tags.get(PARTITION_NAME_TAG, "")
    stopped = run.status == DagsterRunStatus.CANCELED or is_incomplete(batches.message(connection, batch))
    if not stopped or record is None:
        return False
    return (record.end_time or record.update_timestamp.timestamp()) > moment


def has_ended(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Return whether a run has ended; if its process is gone, report that to Dagster, as the daemon would."""
    if run.is_finished:
        return True
    if run.status not in (DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.CANCELING):
        return False
    health = instance.run_launcher.check_run_worker_health(run)
    if health.status == WorkerStatus.RUNNING or _is_just_starting(instance, run):
        return False
    # Loaded again: the run may have reported its end between the first reading and the health check.
    current = instance.get_run_by_id(run.run_id)
    if current is not None and current.status == DagsterRunStatus.CANCELING:
        # The supervisor killed it, because it did not stop in time.
        instance.report_run_canceled(current, f"Run worker is gone: {health.msg}")
    elif current is not None and not current.is_finished:
        instance.report_run_failed(current, f"Run worker is gone: {health.msg}")
    return True


def _is_just_starting(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Return whether the run's process may be about to start: STARTING is written before the process exists."""
    record = instance.get_run_record_by_id(run.run_id)
    if run.status != DagsterRunStatus.STARTING or record is None:
        return False
    age_seconds = time.time() - record.update_timestamp.timestamp()
    return abs(age_seconds) < START_SECONDS  # a clock that was set back must not keep a run starting until it caught up


def _reported_its_end(instance: DagsterInstance, connection: Connection, run: DagsterRun) -> bool:
    """Return whether the run's process reported its own failure, or exited by itself: then it was not killed.

    A run that loses its database can report nothing, but exits by itself: no kill is attributed to the open file.
    """
    return ended_by_itself(connection, run.run_id) or bool(
        instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE)
    )


def failure_message(instance: DagsterInstance, run: DagsterRun | None) -> str:
    """Return one line that says why a run did not finish."""
    if run is None:
        return "its run is not in Dagster's history"
    events = instance.all_logs(run.run_id, of_type={DagsterEventType.RUN_FAILURE, DagsterEventType.STEP_FAILURE})
    for event in events:
        if event.dagster_event and event.dagster_event.is_step_failure:
            return _message_of(event.dagster_event.step_failure_data.error)
    return events[-1].user_message or events[-1].message if events else "the run ended without finishing the batch"


def _message_of(error: SerializableErrorInfo | None) -> str:
    """Return the first line of our own error, which Dagster's wraps; else of the innermost cause."""
    chain = []
    while error is not None:
        chain.append(error)
        error = error.cause
    own = [error for error in chain if error.message.startswith(OWN_ERRORS)]
    lines = [line for error in (own or chain[-1:]) for line in error.message.removeprefix(OWN_ERRORS).splitlines()]
    return next((line.strip() for line in lines if line.strip()), "a step failed")
