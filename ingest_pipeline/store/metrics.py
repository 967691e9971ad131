"""Numbers for a monitor, read within some milliseconds."""

from __future__ import annotations

from typing import Any

from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.queries import query


def metric_rows(connection: Connection, name: str) -> list[tuple[Any, ...]]:
    """Return the rows of a statement of `metrics.sql`.

    Raises:
        KeyError: there is no such statement.
    """
    return connection.execute(query("metrics", name)).fetchall()
