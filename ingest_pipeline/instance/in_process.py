"""Executes a run in this process, for `ingest run`: catalog and index need neither a memory limit nor a start-up.

The run has the same events, logs and record as one that was launched, so the UI shows it, and daemon and launcher can
tell whether it is still at work.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRun

from ingest_pipeline.instance.dagster_private import (
    DagsterExecutionInterruptedError,
    ErrorSource,
    RunFailureReason,
    core_execute_run,
    recon_job_from_origin,
    redirect_to_file,
)
from ingest_pipeline.instance.host import host_name
from ingest_pipeline.instance.names import HOST_TAG
from ingest_pipeline.instance.run_record import RunRecord
from ingest_pipeline.memory.process import identity_of


def run_in_process(instance: DagsterInstance, run: DagsterRun) -> None:
    """Execute a run; how it ended is in the instance.

    Raises:
        KeyboardInterrupt: this process was asked to stop; the run is recorded as canceled.
    """
    assert run.job_code_origin is not None, f"run {run.run_id} has no code origin"
    job, record = recon_job_from_origin(run.job_code_origin), RunRecord.of(run.run_id)
    instance.add_run_tags(run.run_id, {HOST_TAG: host_name()})
    with _interrupts_kept(), _recorded(record), _captured(record):
        for event in core_execute_run(job, run, instance, inject_env_vars=False):
            if _is_interrupted_step(event):  # otherwise Dagster records a failure: nobody in its UI asked it to stop
                instance.report_run_canceling(run)
            if _is_interrupted_run(event):
                raise KeyboardInterrupt


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end if SIGINT or SIGTERM came meanwhile: Dagster forgets one between two steps."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    except DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:  # each byte is the number of a signal
            received = pipe.read() or b""
    if {signal.SIGINT, signal.SIGTERM} & {*received}:
        raise KeyboardInterrupt


def _is_interrupted_step(event: DagsterEvent) -> bool:
    return event.is_step_failure and event.step_failure_data.error_source is ErrorSource.INTERRUPT


def _is_interrupted_run(event: DagsterEvent) -> bool:
    if event.event_type == DagsterEventType.PIPELINE_FAILURE:
        return event.job_failure_data.failure_reason is RunFailureReason.UNEXPECTED_TERMINATION
    return event.event_type == DagsterEventType.PIPELINE_CANCELED


@contextmanager
def _recorded(record: RunRecord) -> Iterator[None]:
    pid = os.getpid()
    process = identity_of(pid)
    begun = {"host": host_name(), "pid": pid, "started": process.started if process else None}
    record.write(begun)
    code = 1
    try:
        yield
        code = 0
    finally:
        record.write({**begun, "code": code, "cause": f"exit code {code}", "ended": time.time()})


@contextmanager
def _captured(record: RunRecord) -> Iterator[None]:
    """Send what is printed to the run's log: Dagster prints every event, and the terminal is for the progress."""
    with redirect_to_file(sys.stdout, str(record.log)), redirect_to_file(sys.stderr, str(record.log)):
        yield
