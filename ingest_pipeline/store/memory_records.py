"""The memory of runs over time, one row for each stage of a run; kept for 90 days."""

from __future__ import annotations

import json
from dataclasses import asdict, astuple
from typing import Any

from psycopg.rows import dict_row, kwargs_row

from ingest_pipeline.memory.record import MemoryRecord, StepMark
from ingest_pipeline.store.connection import Connection, repeatable

KEEP_DAYS = 90
"""Of the rows: 3 kB each, up to four for a run."""

INSERT = """
INSERT INTO memory_records (run_id, stage, batch, began_at, limit_bytes, seconds_per_point, used_kib, file_ids, pages,
                            steps, shown)
VALUES (%(run_id)s, %(stage)s, %(batch)s, to_timestamp(%(began_at)s), %(limit_bytes)s, %(seconds_per_point)s,
        %(used_kib)s, %(file_ids)s, %(pages)s, %(steps)s, %(shown)s)
ON CONFLICT DO NOTHING
"""
COLUMNS = """
SELECT run_id, stage, batch, extract(epoch FROM began_at)::float AS began_at, limit_bytes, seconds_per_point, used_kib,
       file_ids, pages, steps
FROM memory_records
"""
OF_RUN = COLUMNS + "WHERE run_id = %(of)s ORDER BY memory_records.began_at"
OF_BATCH = COLUMNS + "WHERE batch = %(of)s ORDER BY memory_records.began_at"
# Of the attempts on the file: a run may have had it in each of its stages.
FILES_RUNS = "WHERE run_id IN (SELECT run_id FROM attempts WHERE file_id = %(of)s) AND %(of)s::bigint = ANY (file_ids)"
OF_FILE = f"{COLUMNS} {FILES_RUNS} ORDER BY memory_records.began_at"
# Claimed and read in one statement: two processes may reconcile at the same time.
TAKE_NOT_SHOWN = """
UPDATE memory_records SET shown = true WHERE NOT shown
RETURNING run_id, stage, batch, extract(epoch FROM began_at)::float AS began_at, limit_bytes, seconds_per_point,
          used_kib, file_ids, pages, steps
"""
PRUNE = "DELETE FROM memory_records WHERE began_at < now() - make_interval(days => %s)"
# All pages of a file with which the stage was through; of another one the record itself says how far it came.
FILES = """
SELECT f.file_id, f.path,
       CASE WHEN a.outcome = 'done' OR a.stage <> %(stage)s THEN coalesce(f.pages, 0) ELSE 0 END AS pages
FROM files f LEFT JOIN attempts a ON a.file_id = f.file_id AND a.run_id = %(run_id)s
WHERE f.file_id = ANY (%(file_ids)s)
"""


def store_record(connection: Connection, record: MemoryRecord, *, shown: bool) -> bool:
    """Store the record of a stage, if it is not stored already; return whether it was not.

    Args:
        connection: to the store.
        record: what the run's recorder wrote.
        shown: whether an event in Dagster shows it.
    """
    steps = json.dumps([astuple(step) for step in record.steps])
    with repeatable(connection):
        return connection.execute(INSERT, asdict(record) | {"steps": steps, "shown": shown}).rowcount > 0


def records_of_run(connection: Connection, run_id: str) -> list[MemoryRecord]:
    """Return the records of a run's stages, in their order."""
    return _records(connection, OF_RUN, {"of": run_id})


def records_of_batch(connection: Connection, batch: str) -> list[MemoryRecord]:
    """Return the records of all runs of a batch, the oldest first."""
    return _records(connection, OF_BATCH, {"of": batch})


def records_of_file(connection: Connection, file_id: int) -> list[MemoryRecord]:
    """Return the records of the stages in which a file was at work, the oldest first."""
    return _records(connection, OF_FILE, {"of": file_id})


def take_not_shown(connection: Connection) -> list[MemoryRecord]:
    """Return the records that no event in Dagster shows, and note that one does; each is returned once."""
    return _records(connection, TAKE_NOT_SHOWN, {})


def files_of_record(connection: Connection, record: MemoryRecord) -> dict[int, tuple[str, int]]:
    """Return path and pages of the files in a record, by their ids; 0 pages: the stage was not through with it."""
    wanted = {"stage": record.stage, "run_id": record.run_id, "file_ids": sorted({*record.file_ids})}
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(FILES, wanted).fetchall()
    return {row["file_id"]: (row["path"], row["pages"]) for row in rows}


def prune_records(connection: Connection, *, days: int = KEEP_DAYS) -> int:
    """Delete the records of stages that began longer ago; return how many."""
    return connection.execute(PRUNE, (days,)).rowcount


def _records(connection: Connection, statement: str, wanted: dict[str, Any]) -> list[MemoryRecord]:
    with connection.cursor(row_factory=kwargs_row(_of_row)) as cursor:
        return cursor.execute(statement.encode(), wanted).fetchall()


def _of_row(steps: list[list[Any]], **columns: Any) -> MemoryRecord:
    return MemoryRecord(**columns, steps=[StepMark(*step) for step in steps])
