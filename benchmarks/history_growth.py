"""Copy the runs of an instance many times, and show what retention leaves of Dagster's history.

Run `ingest run` on some documents first; nothing else may be connected to the database meanwhile:

    INGEST_HOME=… python benchmarks/history_growth.py --runs 5000 --nights 3

Each copy is a run on a partition of its own, with its events, tags and checks. It works on a copy of the database,
which is dropped at the end.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from ingest_pipeline.settings import read_settings
from ingest_pipeline.store import event_log
from ingest_pipeline.store.connection import connected, database_url

NAME, COPIES = "history_growth", 25
TEMPLATES = """
CREATE TABLE public.copied_runs AS SELECT * FROM runs WHERE partition IS NOT NULL AND status = 'SUCCESS' LIMIT 25;
CREATE TABLE public.copied_tags AS SELECT * FROM run_tags WHERE run_id IN (SELECT run_id FROM public.copied_runs);
CREATE TABLE public.copied_events AS SELECT * FROM event_logs WHERE run_id IN (SELECT run_id FROM public.copied_runs);
CREATE TABLE public.copied_checks AS SELECT * FROM asset_check_executions
    WHERE run_id IN (SELECT run_id FROM public.copied_runs);
CREATE TABLE public.copy (old text, new text, key text, new_key text)
"""
COPY = """
TRUNCATE public.copy;
INSERT INTO public.copy
    SELECT run_id, gen_random_uuid()::text, partition, left(md5(random()::text), 24) FROM copied_runs;
INSERT INTO runs (run_id, snapshot_id, pipeline_name, status, run_body, partition, start_time, end_time)
    SELECT new, snapshot_id, pipeline_name, status, replace(replace(run_body, old, new), key, new_key), new_key,
           start_time, end_time FROM copied_runs JOIN public.copy ON run_id = old;
INSERT INTO run_tags (run_id, key, value) SELECT new, t.key, replace(value, copy.key, new_key)
    FROM copied_tags t JOIN public.copy ON run_id = old;
INSERT INTO dynamic_partitions (partitions_def_name, partition) SELECT 'batches', new_key FROM public.copy;
WITH events AS (
    INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
    SELECT new, replace(replace(event, old, new), key, new_key), dagster_event_type, timestamp, step_key, asset_key,
           replace(partition, key, new_key)
    FROM copied_events JOIN public.copy ON run_id = old ORDER BY new, id
    RETURNING id, asset_key, dagster_event_type, timestamp)
INSERT INTO asset_event_tags (event_id, asset_key, key, value, event_timestamp)
    SELECT id, asset_key, 'dagster/data_version', md5(id::text) || md5(asset_key), timestamp
    FROM events WHERE dagster_event_type = 'ASSET_MATERIALIZATION';
INSERT INTO asset_check_executions (asset_key, check_name, run_id, execution_status, evaluation_event)
    SELECT asset_key, check_name, new, execution_status, replace(evaluation_event, old, new)
    FROM copied_checks JOIN public.copy ON run_id = old
"""


@contextmanager
def copied_database(url: str) -> Iterator[str]:
    """A copy of the database, for as long as it is needed."""
    source = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(url, dbname="postgres", autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        admin.execute(f'CREATE DATABASE {NAME} TEMPLATE "{source}"')
        try:
            yield psycopg.conninfo.make_conninfo(url, dbname=NAME)
        finally:
            admin.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def night(connection: Any, runs: int, **options: Any) -> None:
    """Copy so many runs, then prune."""
    for _ in range(runs // COPIES):
        connection.execute(COPY)
    before, began, rows = event_log.history_size(connection), time.monotonic(), 0
    for piece in event_log.prune_runs(connection, days=30):
        rows += piece.rows
    seconds = time.monotonic() - began
    event_log.reclaim(connection, deleted_rows=rows, **options)
    after = event_log.history_size(connection)
    print(
        f"{after.runs:,} runs: {before.total_bytes / 1e6:,.0f} MB, {before.total_bytes / before.runs / 1e3:.1f} kB each"
        f" -> {after.total_bytes / 1e6:,.0f} MB, {after.total_bytes / after.runs / 1e3:.1f} kB each;"
        f" {rows:,} rows in {seconds:.1f} s",
        flush=True,
    )


def main() -> None:
    """Copy and prune night by night; compact at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="copies between two prunings")
    parser.add_argument("--nights", type=int, default=3)
    options = parser.parse_args()
    with copied_database(database_url(read_settings())) as url, connected(url) as connection:
        connection.execute("SET search_path = dagster, ingest, public")
        connection.execute(TEMPLATES)
        for number in range(options.nights):
            night(connection, options.runs, compact=number == options.nights - 1)


if __name__ == "__main__":
    main()
