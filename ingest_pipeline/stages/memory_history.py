"""The memory of runs over time, from the store and from this machine's files: also of runs at work and killed ones."""

from __future__ import annotations

from pathlib import Path

from ingest_pipeline.memory.record import MEMORY_SUFFIX, MemoryRecord, memory_file, read_records
from ingest_pipeline.settings import Settings
from ingest_pipeline.store import file_details, memory_records
from ingest_pipeline.store.connection import Connection

MOST_RUNS, MOST_STAGES = 3, 6
"""Of one file's picture: the last ones."""


def memory_of_run(connection: Connection, settings: Settings, run_id: str) -> list[MemoryRecord]:
    """Return the records of a run's stages, in their order."""
    if "/" in run_id:
        return []
    stored = memory_records.records_of_run(connection, run_id)
    return _with_local(stored, read_records(memory_file(settings.home, run_id)))


def memory_of_batch(connection: Connection, settings: Settings, batch: str) -> list[MemoryRecord]:
    """Return the records of each run of a batch, the oldest first."""
    stored = memory_records.records_of_batch(connection, batch)
    local = [record for path in local_files(settings.home) for record in read_records(path) if record.batch == batch]
    return _with_local(stored, local)


def memory_of_file(connection: Connection, settings: Settings, file_id: int) -> list[MemoryRecord]:
    """Return the records of the last stages in which a file was at work, the oldest first.

    A file that was through between two measurements is in none: then they are those of its last run.
    """
    attempts = file_details.attempts(connection, file_id, limit=MOST_RUNS)
    runs = list(dict.fromkeys(attempt["run_id"] for attempt in attempts))
    local = [record for run_id in runs for record in memory_of_run(connection, settings, run_id)]
    known = {(record.run_id, record.stage) for record in local}
    older = [one for one in memory_records.records_of_file(connection, file_id) if (one.run_id, one.stage) not in known]
    own = [record for record in [*older, *local] if file_id in record.file_ids]
    chosen = own or [record for record in local if record.run_id == runs[0]]
    return sorted(chosen, key=lambda record: record.began_at)[-MOST_STAGES:]


def local_files(home: Path) -> list[Path]:
    """Return the files that runs of this machine wrote down their memory in."""
    return sorted((home / "runs").glob(f"*{MEMORY_SUFFIX}"))


def _with_local(stored: list[MemoryRecord], local: list[MemoryRecord]) -> list[MemoryRecord]:
    known = {(record.run_id, record.stage) for record in stored}
    more = [record for record in local if (record.run_id, record.stage) not in known]
    return sorted([*stored, *more], key=lambda record: record.began_at)
