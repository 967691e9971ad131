"""What went wrong, grouped by reason."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.rows import class_row

from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.queries import query

GROUPS = {
    "file": "failed_files",
    "gap": "gapped_files",
    "section": "failed_sections",
    "batch": "given_up_batches",
    "incident": "incidents",
}
"""Of what something is wrong -> the statement in `failures.sql`."""


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """All failures of one kind for one reason."""

    reason: str
    count: int
    example: str
    message: str | None


def failure_groups(connection: Connection, kind: str) -> list[FailureGroup]:
    """Return the groups of one kind, most frequent first."""
    with connection.cursor(row_factory=class_row(FailureGroup)) as cursor:
        return cursor.execute(query("failures", GROUPS[kind])).fetchall()
