"""What went wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ingest_pipeline.stages.remedies import remedy_for
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.failures import GROUPS, failure_groups


@dataclass(frozen=True, slots=True)
class Failure:
    """All failures of one kind for one reason."""

    kind: str
    """`file`, `gap`, `section`, `batch` or `incident`."""
    reason: str
    count: int
    example: str
    message: str
    advice: str
    command: str
    """Does what is advised, or tries again after it was done."""


def failures(connection: Connection) -> Iterator[Failure]:
    """Yield each reason for which files, pages, sections, batches or runs failed, most frequent first."""
    for kind in GROUPS:
        for group in failure_groups(connection, kind):
            remedy = remedy_for(group.reason)
            command = (
                f"ingest reset --reason {group.reason}" if kind == "gap" and " " not in group.reason else remedy.command
            )
            yield Failure(kind, group.reason, group.count, group.example, group.message or "", remedy.advice, command)
