"""Cleanup and reset with what only Dagster knows: which runs have ended, and which partitions there are."""

from __future__ import annotations

from dagster import DagsterInstance, RunsFilter

from ingest_pipeline.instance.dagster_private import IN_PROGRESS_RUN_STATUSES, PARTITION_NAME_TAG, WorkerStatus
from ingest_pipeline.instance.names import BATCHES
from ingest_pipeline.instance.reconcile import reconcile_running
from ingest_pipeline.models import Batch
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages import cleanup
from ingest_pipeline.stages.reset import reset_files
from ingest_pipeline.store import batches
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.damage import Damage
from ingest_pipeline.store.reset import ResetFile, ResetSelection


def find_damage(instance: DagsterInstance, connection: Connection, settings: Settings) -> list[Damage]:
    """Return what is wrong in the store, under INGEST_HOME and in Dagster's records; changes nothing."""
    return [
        *_of_runs(
            [batch.key for batch in batches.list_batches(connection, status="running") if _is_over(instance, batch)]
        ),
        *cleanup.find_damage(connection, settings),
        *_of_partitions(_missing_partitions(instance, connection), _unknown_partitions(instance, connection)),
    ]


def repair_damage(instance: DagsterInstance, connection: Connection, settings: Settings) -> list[Damage]:
    """Repair what is wrong; return what was repaired."""
    ended = reconcile_running(instance, connection)
    repaired = cleanup.repair_damage(connection, settings)
    missing, unknown = _missing_partitions(instance, connection), _unknown_partitions(instance, connection)
    if missing:
        instance.add_dynamic_partitions(BATCHES, missing)
    for key in unknown:
        instance.delete_dynamic_partition(BATCHES, key)
    return [*_of_runs(ended), *repaired, *_of_partitions(missing, unknown)]


def reset(
    instance: DagsterInstance, connection: Connection, selection: ResetSelection, *, dry_run: bool = False
) -> list[ResetFile]:
    """Reset files; before stuck ones are selected, runs that have ended are reconciled.

    With `dry_run` nothing is changed, and files of runs whose end was not noticed yet are not among the stuck ones.
    """
    if selection.stuck and not dry_run:
        reconcile_running(instance, connection)
    return reset_files(connection, selection, dry_run=dry_run)


def _is_over(instance: DagsterInstance, batch: Batch) -> bool:
    """Return whether a batch's run has ended; unlike `has_ended` it reports nothing to Dagster."""
    run = instance.get_run_by_id(batch.run_id or "")
    if run is None or run.is_finished:
        return True
    if run.status not in IN_PROGRESS_RUN_STATUSES:
        return False
    return instance.run_launcher.check_run_worker_health(run).status != WorkerStatus.RUNNING


def _missing_partitions(instance: DagsterInstance, connection: Connection) -> list[str]:
    """Return the batches that wait and are no partition."""
    waiting = batches.list_batches(connection, status="waiting")
    known = {*instance.get_dynamic_partitions(BATCHES)}  # read last: who seals a batch adds its partition then
    return [batch.key for batch in waiting if batch.key not in known]


def _unknown_partitions(instance: DagsterInstance, connection: Connection) -> list[str]:
    """Return the partitions that are no batch, and that no run is at work on."""
    partitions = instance.get_dynamic_partitions(BATCHES)  # read first: a batch is there before its partition
    known = {batch.key for batch in batches.list_batches(connection)}
    runs = instance.get_runs(RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES))
    used = {run.tags.get(PARTITION_NAME_TAG) for run in runs}
    return [key for key in partitions if key not in known and key not in used]


def _of_runs(ended: list[str]) -> list[Damage]:
    text, repair = "batches count as running, and their runs have ended", "the runs are reconciled"
    return [Damage("ended_runs", "leftover", len(ended), f"batch {min(ended)}", text, repair)] if ended else []


def _of_partitions(missing: list[str], unknown: list[str]) -> list[Damage]:
    kinds = (
        ("partitions_missing", missing, "batches wait, and are no partition in Dagster", "the partitions are added"),
        (
            "partitions_unknown",
            unknown,
            "partitions in Dagster are no batch of the ledger",
            "they are deleted in Dagster",
        ),
    )
    return [
        Damage(kind, "damage", len(keys), f"partition {min(keys)}", text, repair)
        for kind, keys, text, repair in kinds
        if keys
    ]
