"""What files did cost, and the models that were made of it."""

from __future__ import annotations

from typing import Any

from psycopg.rows import class_row, dict_row

from ingest_pipeline.models import CostModel, CostRate, Observation
from ingest_pipeline.store.connection import Connection, scalar

# The peak of a file with a gap may be the limit at which its parser was stopped, and says nothing of what it needed.
OBSERVATIONS = """
SELECT name, media_type, size_bytes, peak_bytes, seconds FROM (
    SELECT f.source || '/' || f.path AS name, f.media_type, f.size_bytes, max(a.parse_peak_bytes) AS peak_bytes,
           CASE WHEN sum(a.chunks_embedded) > 0 THEN sum(a.parse_seconds + a.embed_seconds) ELSE 0 END AS seconds,
           row_number() OVER (PARTITION BY f.media_type ORDER BY max(a.attempt_id) DESC) AS age
    FROM files f JOIN attempts a ON a.file_id = f.file_id AND a.version = f.version
    WHERE f.status = 'indexed' AND f.gaps = '[]' GROUP BY f.file_id HAVING max(a.parse_peak_bytes) > 0
) measured WHERE age <= %s ORDER BY media_type, name
"""
LATEST = """
SELECT version, media_type, base_bytes, bytes_per_byte, factor, seconds_per_mib, seen_bytes, observations
FROM cost_models WHERE version = (SELECT max(version) FROM cost_models) ORDER BY media_type
"""
SAVE = """
INSERT INTO cost_models (version, media_type, base_bytes, bytes_per_byte, factor, seconds_per_mib, seen_bytes,
                         observations)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
PREDICTED_FILES = """
SELECT source || '/' || path AS name, media_type, predicted_peak_bytes, measured_peak_bytes FROM files
WHERE status = 'indexed' AND gaps = '[]' AND predicted_peak_bytes > 0 AND measured_peak_bytes > 0
ORDER BY media_type, source, path
"""
PREDICTED_RUNS = """
SELECT batch AS name, predicted_peak_bytes, measured_peak_bytes, memory_limit_bytes FROM batches
WHERE measured_peak_bytes > 0 ORDER BY batch
"""
# The time of all runs of batches that are done, by the time in which at least one was at work.
RUNS_AT_ONCE = """
WITH spans AS (
    SELECT started_at, ended_at FROM batches WHERE status = 'done' AND ended_at > started_at
    ORDER BY ended_at DESC LIMIT 1000
), ordered AS (
    SELECT started_at, ended_at, max(ended_at) OVER (
        ORDER BY started_at, ended_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS covered_to
    FROM spans
)
SELECT extract(epoch FROM sum(ended_at - started_at))
     / nullif(extract(epoch FROM sum(greatest(ended_at - greatest(started_at, covered_to), interval '0'))), 0)
FROM ordered
"""


def observations(connection: Connection, *, newest: int) -> list[Observation]:
    """Return what the newest files of each type did cost, in an order that does not change."""
    with connection.cursor(row_factory=class_row(Observation)) as cursor:
        return cursor.execute(OBSERVATIONS, (newest,)).fetchall()


def latest_model(connection: Connection) -> CostModel:
    """Return the model in use; version 0, without rates, before there is a history."""
    rows = connection.execute(LATEST).fetchall()
    rates = {media_type: CostRate(*numbers) for _, media_type, *numbers in rows}
    return CostModel(rows[0][0] if rows else 0, rates)


def save_model(connection: Connection, model: CostModel) -> None:
    """Keep a model's rates under its version."""
    rows = [
        (
            model.version, media_type, rate.base_bytes, rate.bytes_per_byte, rate.factor, rate.seconds_per_mib,
            rate.seen_bytes, rate.observations,
        )
        for media_type, rate in model.rates.items()
    ]  # fmt: skip
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(SAVE, rows)


def predicted_files(connection: Connection) -> list[dict[str, Any]]:
    """Return prediction and measurement of every indexed file."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(PREDICTED_FILES).fetchall()


def predicted_runs(connection: Connection) -> list[dict[str, Any]]:
    """Return prediction, measurement and limit of every batch that was run."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(PREDICTED_RUNS).fetchall()


def runs_at_once(connection: Connection) -> float:
    """Return how many runs were at work at once on average while costs were measured; 1 if nothing was."""
    return float(scalar(connection, RUNS_AT_ONCE) or 1.0)
