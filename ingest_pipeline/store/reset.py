"""Selects the files that an operator wants to be tried again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from psycopg.rows import class_row

from ingest_pipeline.models import FileStatus
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.queries import query

Action = Literal["read again", "try again", "release", "parse again", "none"]


@dataclass(frozen=True, slots=True)
class ResetSelection:
    """What is to be reset; each part adds files."""

    failed: bool = False
    stuck: bool = False
    reason: str | None = None
    """Of failed files, or of gaps in indexed ones."""
    paths: Sequence[str] = ()
    """Of files or folders, with or without their source."""


@dataclass(frozen=True, slots=True)
class ResetFile:
    """A selected file, and what a reset does to it."""

    file_id: int
    source: str
    path: str
    status: FileStatus
    error: str | None
    action: Action


def select_files(connection: Connection, selection: ResetSelection) -> list[ResetFile]:
    """Return the selected files, by source and path."""
    with connection.cursor(row_factory=class_row(ResetFile)) as cursor:
        wanted = asdict(selection) | {"paths": [path.rstrip("/") for path in selection.paths if path.strip("/ ")]}
        return cursor.execute(query("reset", "select_files"), wanted).fetchall()


def forget_rejections(connection: Connection, file_ids: Sequence[int]) -> None:
    """Let the embedder be asked again for texts of these files that it rejected."""
    connection.execute(query("reset", "forget_rejections"), {"file_ids": list(file_ids)})
