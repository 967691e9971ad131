"""Copies into the store what runs of this machine left in its files: how they ended, and their memory over time.

A run writes locally first, because Postgres may be what it loses. Whoever reconciles a run, or notices that one has
ended, copies for all of its machine, so that another machine need not be there to ask.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from dagster import AssetKey, AssetObservation, DagsterEvent, DagsterEventType, DagsterInstance, MetadataValue

from ingest_pipeline.instance.dagster_private import AssetObservationData
from ingest_pipeline.instance.host import host_name
from ingest_pipeline.instance.names import MEMORY_OVER_TIME
from ingest_pipeline.instance.run_record import VANISHED, RunRecord, runs_folder
from ingest_pipeline.memory.record import MEMORY_SUFFIX, MemoryRecord, read_records
from ingest_pipeline.stages.memory_picture import memory_markdown
from ingest_pipeline.store import memory_records, run_ends
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.run_ends import RunEnd

MIB = 1024**2
QUIET_SECONDS = 60.0
"""A run without a record of its process, as a test or `dagster job execute` makes one, writes once a second."""


def copy_ended(connection: Connection) -> int:
    """Store what ended runs of this machine left, where the store lacks it; return how many ends were new."""
    folder = runs_folder()
    if not folder.is_dir():
        return 0
    known = [path.stem for path in folder.glob("*.json")]
    new = sum(copy_end(connection, RunRecord.of(run_id)) for run_id in run_ends.without_end(connection, known))
    for path in folder.glob(f"*{MEMORY_SUFFIX}"):
        _copy_memory(connection, path)
    if new:
        memory_records.prune_records(connection)
        run_ends.prune_ends(connection)
    return new


def copy_end(connection: Connection, record: RunRecord) -> bool:
    """Store how one run ended, if its process has ended and this is not known already; return whether so."""
    end = _end_of(record)
    return end is not None and run_ends.store_end(connection, end)


def ended_by_itself(connection: Connection, run_id: str) -> bool:
    """Return whether a run's process ended by itself: by its record, or where that is elsewhere, by the store."""
    record = RunRecord.of(run_id)
    if record.read():
        return record.ended_by_itself
    end = run_ends.end_of_run(connection, run_id)
    return end is not None and end.by_itself


def show_memory(instance: DagsterInstance, connection: Connection) -> list[MemoryRecord]:
    """Show the memory of stages that did not end well in Dagster, each once; return their records.

    A stage that ends well has the picture in its materialization. For the others an observation of the asset is added
    to the events of their run.
    """
    records = memory_records.take_not_shown(connection)
    for record in records:
        observation = AssetObservation(
            AssetKey(record.stage),
            description=f"the memory of {record.stage} until its run ended",
            partition=record.batch,
            metadata={
                MEMORY_OVER_TIME: MetadataValue.md(memory_markdown(connection, record)),
                "measured_peak_mib": round(record.peak_bytes / MIB, 1),
            },
        )
        _report(instance, record.run_id, observation)
    return records


def _report(instance: DagsterInstance, run_id: str, observation: AssetObservation) -> None:
    run = instance.get_run_by_id(run_id)
    if run is None:  # deleted from the history
        instance.report_runless_asset_event(observation)
        return
    event = DagsterEvent(
        event_type_value=DagsterEventType.ASSET_OBSERVATION.value,
        job_name=run.job_name,
        event_specific_data=AssetObservationData(observation),
        message=observation.description,
    )
    instance.report_dagster_event(event, run_id=run_id)


def _end_of(record: RunRecord) -> RunEnd | None:
    """Return how a run ended; None if its process is alive, or never was."""
    if record.is_alive:
        return None
    written = record.final()
    if "code" not in written and not record.has_vanished:
        return None
    return RunEnd(
        run_id=record.path.stem,
        batch=written.get("batch"),
        host=written.get("host") or host_name(),
        exit_code=written.get("code"),
        cause=written.get("cause") or VANISHED,
        ended_at=written.get("ended") or time.time(),
        **{name: written.get(name) for name in ("oom_kills", "group_peak_bytes", "limit_bytes", "cpu_seconds")},
    )


def _copy_memory(connection: Connection, path: Path) -> None:
    """Store the stages of an ended run that it did not store itself, and delete the file."""
    record = RunRecord.of(path.stem)
    if record.is_alive or not (record.read() or _is_quiet(path)):
        return
    for stage in read_records(path):
        memory_records.store_record(connection, stage, shown=False)
    path.unlink(missing_ok=True)


def _is_quiet(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # another process has just copied it
        return time.time() - path.stat().st_mtime >= QUIET_SECONDS
    return False
