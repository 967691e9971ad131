"""`ingest run`: catalog, batches and index as ordinary Dagster runs, without daemon, webserver and code server."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dagster import AssetKey, DagsterInstance, DagsterRun, DagsterRunStatus, Definitions, JobDefinition, RunsFilter

from ingest_pipeline.embedding.choice import budget_of
from ingest_pipeline.instance.dagster_private import (
    IN_PROGRESS_RUN_STATUSES,
    PARTITION_NAME_TAG,
    RunLauncher,
    WorkerStatus,
)
from ingest_pipeline.instance.in_process import run_in_process
from ingest_pipeline.instance.names import (
    BATCH_JOB,
    BATCHES,
    CATALOG_JOB,
    INDEX_JOB,
    LAUNCHED_BY_TAG,
    THREADS_TAG,
    VECTOR_INDEX,
)
from ingest_pipeline.instance.origins import code_origin, remote_origin
from ingest_pipeline.instance.progress import Progress, ProgressMeter
from ingest_pipeline.instance.reconcile import (
    failure_message,
    has_ended,
    is_incomplete,
    latest_run,
    reconcile,
    reconcile_running,
)
from ingest_pipeline.instance.reconnect import is_loss_of_database
from ingest_pipeline.instance.run_ends import copy_ended
from ingest_pipeline.instance.run_tags import batch_tags
from ingest_pipeline.instance.supervisor import GRACE_SECONDS
from ingest_pipeline.memory.machine import run_slots, threads_of_run
from ingest_pipeline.models import Batch
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import counted
from ingest_pipeline.stages.fingerprint import fingerprint_of
from ingest_pipeline.stages.requeue import requeue_unfinished
from ingest_pipeline.stages.sealing import seal_some, seal_waiting
from ingest_pipeline.store import batches, reports
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.incidents import spent_budget
from ingest_pipeline.store.ledger import EVERY_FILE, WaitingScope, waiting_count

logger = logging.getLogger(__name__)
POLL_SECONDS = 0.5  # a few questions to Dagster's storage and the ledger, some milliseconds
REPORT_SECONDS = 2.0


@dataclass(slots=True)
class HeadlessResult:
    """The result of one `ingest run`."""

    since: Any
    runs: int = 0
    batches: list[str] = field(default_factory=list)
    stopped: str | None = None
    """Why it stopped before the end; None when every file is accounted for."""
    incomplete: bool = False
    """Whether it stopped by a limit that was asked for."""
    chosen: list[str] = field(default_factory=list)
    """If only some files are processed: their batches; no other is run."""


Report = Callable[[Progress], None]


class Headless:
    """Launches runs and waits for them, within the machine's memory."""

    def __init__(
        self,
        instance: DagsterInstance,
        connection: Connection,
        settings: Settings,
        *,
        definitions: Definitions,
        result: HeadlessResult,
    ) -> None:
        self._instance, self._connection, self._settings = instance, connection, settings
        self._definitions = definitions
        self._fingerprint = fingerprint_of(settings)
        self._budget = budget_of(settings)
        self._slots = run_slots(self._budget, settings)
        self._result = result
        self._mine: dict[str, tuple[Batch, DagsterRun]] = {}
        self._spent = False
        self._meter = ProgressMeter(connection, result.since)

    def run(self, report: Report) -> HeadlessResult:
        """Process all files of the sources until each is searchable, or failed with a reason.

        May be called again with the same result object after the database was lost.
        """
        self._begin()
        if not self._run_alone(CATALOG_JOB, "the catalog"):
            return self._result
        self._add_partitions()
        any_batch = self._drain(report)
        if any_batch or self._index_is_stale():
            self._run_alone(INDEX_JOB, "the vector index")
        return self._result

    def process(self, report: Report, *, max_files: int | None = None) -> HeadlessResult:
        """Process the files that wait, or so many of them; no source is listed, and no index is kept up.

        May be called again with the same result object: no further files are taken then.
        """
        self._begin()
        if max_files is None:
            self._plan_again()
        elif not self._result.chosen:
            sealed = seal_some(
                self._connection, settings=self._settings, fingerprint=self._fingerprint, max_files=max_files
            )
            self._result.chosen = list(sealed.batches)
        self._add_partitions()
        if max_files is None or self._result.chosen:
            self._drain(report)
        if max_files is not None and not self._result.stopped and (left := waiting_count(self._connection)):
            self._result.incomplete = True
            self._result.stopped = f"{counted(left, 'file')} still to do: --max-files {max_files}"
        return self._result

    def index(self, report: Report) -> HeadlessResult:
        """Bring the vector index into order."""
        self._begin()
        self._run_alone(INDEX_JOB, "the vector index")
        return self._result

    def _begin(self) -> None:
        self._result.stopped = None
        reconcile_running(self._instance, self._connection)
        batches.retry_failed_batches(self._connection)

    def stop(self) -> None:
        """Terminate our runs and wait until their processes have ended; give up if the database is lost."""
        try:
            self._stop()
        except Exception as error:
            if not is_loss_of_database(error):
                raise
            logger.warning("stopped without the database: %s", type(error).__name__)

    def _stop(self) -> None:
        launcher = self._instance.run_launcher
        ours = [run for _, run in self._mine.values()]
        for run in ours:
            launcher.terminate(run.run_id)
        deadline = time.monotonic() + GRACE_SECONDS + 10.0  # after the grace period the supervisors kill
        while any(_has_process(launcher, run) for run in ours) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        reconcile_running(self._instance, self._connection)

    def _run_alone(self, job: str, name: str) -> bool:
        """Execute one run in this process; return whether it succeeded, and if not, set `result.stopped`."""
        run = self._create_run(job, {})
        run_in_process(self._instance, run)
        run = self._reload(run)
        if run.status == DagsterRunStatus.SUCCESS:
            return True
        self._result.stopped = f"{name} failed: {failure_message(self._instance, run)}"
        return False

    def _drain(self, report: Report) -> bool:
        """Run every waiting batch, as many at once as fit; return whether there was any."""
        # The error budget is checked only after a run has ended, and once at the start for earlier incidents.
        last_report = 0.0
        while True:
            if self._reap() or not last_report:
                self._result.stopped = self._verdict() or self._result.stopped
            waiting = [] if self._spent else self._waiting()
            self._launch_waiting(waiting)
            if not self._mine and not waiting and not self._left_running():
                return bool(self._result.batches)
            if time.monotonic() - last_report > REPORT_SECONDS:
                last_report = time.monotonic()
                report(self._measured())
            time.sleep(POLL_SECONDS)

    def _measured(self) -> Progress:
        mine = list(self._mine)
        left = self._left_running()
        return self._meter.measure(self._result.batches, running=mine, left=left, waiting=self._waiting())

    def _reap(self) -> bool:
        """Reconcile every batch whose run has ended, ours and those of other launchers; return whether any had."""
        ended = [key for key, (_, run) in self._mine.items() if has_ended(self._instance, self._reload(run))]
        for key in ended:
            self._after(*self._mine.pop(key))
        others = reconcile_running(self._instance, self._connection)
        if others:
            self._plan_again()
        if others or ended:
            copy_ended(self._connection)  # also of runs that ended well
        return bool(others or ended)

    def _left_running(self) -> list[str]:
        """Return our batches on which a run from before the database was lost is still at work."""
        running = [batch.key for batch in batches.list_batches(self._connection, status="running")]
        return [key for key in running if key in self._result.batches and key not in self._mine]

    def _verdict(self) -> str | None:
        verdict = spent_budget(
            self._connection,
            max_errors=self._settings.max_errors,
            max_failed_share=self._settings.max_failed_share,
            since=self._result.since,
        )
        self._spent = self._spent or verdict is not None
        return verdict

    def _waiting(self) -> list[Batch]:
        chosen = self._result.chosen
        waiting = batches.list_batches(self._connection, status="waiting")
        return [batch for batch in waiting if batch.key not in self._mine and (not chosen or batch.key in chosen)]

    def _launch_waiting(self, waiting: list[Batch]) -> None:
        """Launch as many of these batches as fit, each with its share of the cores."""
        room = self._room() if waiting else 0
        threads = threads_of_run(self._budget, runs=min(self._slots, len(self._mine) + len(waiting)))
        for batch in waiting:
            if room <= 0:
                return
            if self._is_taken(batch):
                continue
            tags = {PARTITION_NAME_TAG: batch.key, THREADS_TAG: str(threads)} | batch_tags(self._connection, batch)
            self._mine[batch.key] = (batch, self._launch(BATCH_JOB, tags))
            self._result.batches += [batch.key] if batch.key not in self._result.batches else []
            room -= 1

    def _is_taken(self, batch: Batch) -> bool:
        """Return whether another launcher's run works on this batch; a run that is only queued is canceled instead."""
        run = latest_run(self._instance, batch.key)
        if run is None or run.is_finished or has_ended(self._instance, run):
            return False
        if run.status not in (DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED):
            return True
        self._instance.report_run_canceled(run, "taken over by `ingest run`")
        return False

    def _after(self, batch: Batch, run: DagsterRun) -> None:
        """Reconcile a batch whose run has ended, and plan again the file to which a kill was attributed."""
        now = batches.list_batches(self._connection, batch=batch.key)[0]
        if now.status == "done":
            self._plan_unfinished()
            return
        if now.run_id != run.run_id:  # the run ended before it recorded its beginning
            batches.begin_batch(self._connection, batch.key, run.run_id)
        status = reconcile(self._instance, self._connection, now, run)
        message = batches.message(self._connection, batch.key)
        if is_incomplete(message):
            self._spent = self._result.incomplete = True
            self._result.stopped = message
        self._plan_unfinished()
        if status == "failed":
            self._result.stopped = f"batch {batch.key} is given up until the next `ingest run`: {message}"
        self._plan_again()

    def _plan_unfinished(self) -> None:
        """Seal the files of which a run has not asked about every section, or not read every text."""
        if requeue_unfinished(self._connection, self._settings):
            self._plan_again()

    def _plan_again(self) -> None:
        """Seal the files that left a batch, because a kill was attributed to them."""
        chosen = self._result.chosen
        scope = WaitingScope(of_batches=chosen) if chosen else EVERY_FILE
        sealed = seal_waiting(self._connection, settings=self._settings, fingerprint=self._fingerprint, scope=scope)
        if chosen:
            chosen += sealed.batches
        self._add_partitions()

    def _add_partitions(self) -> None:
        keys = [batch.key for batch in batches.list_batches(self._connection, status="waiting")]
        if keys:
            self._instance.add_dynamic_partitions(BATCHES, keys)

    def _room(self) -> int:
        return self._slots - len(self._in_progress())

    def _in_progress(self) -> list[DagsterRun]:
        runs = self._instance.get_runs(RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES))
        # A killed `ingest run` leaves its catalog run in progress, and no daemon may be there to notice.
        return [run for run in runs if not has_ended(self._instance, run)]

    def _launch(self, job: str, tags: dict[str, str]) -> DagsterRun:
        run = self._create_run(job, tags)
        # Our launcher needs no workspace: it starts the run by its code origin.
        return self._instance.launch_run(run.run_id, workspace=None)  # type: ignore[arg-type]

    def _create_run(self, job: str, tags: dict[str, str]) -> DagsterRun:
        definition: JobDefinition = self._definitions.resolve_job_def(job)
        self._result.runs += 1
        return self._instance.create_run_for_job(
            definition,
            tags={LAUNCHED_BY_TAG: "ingest run", **tags},
            asset_selection=None,
            remote_job_origin=remote_origin(job),
            job_code_origin=code_origin(job),
        )

    def _reload(self, run: DagsterRun) -> DagsterRun:
        return self._instance.get_run_by_id(run.run_id) or run

    def _index_is_stale(self) -> bool:
        # Also after an `ingest run` that was interrupted between its last batch and the index.
        event = self._instance.get_latest_materialization_event(AssetKey(VECTOR_INDEX))
        changed = reports.last_change(self._connection)
        return changed is not None and (event is None or event.timestamp < changed.timestamp())


def _has_process(launcher: RunLauncher[DagsterInstance], run: DagsterRun) -> bool:
    return launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
