"""Files that failed, are stuck, or have gaps are tried again because somebody asks for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ingest_pipeline.store import batches, files, generations
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.reset import Action, ResetFile, ResetSelection, forget_rejections, select_files


def reset_files(connection: Connection, selection: ResetSelection, *, dry_run: bool = False) -> list[ResetFile]:
    """Clear the failures of the selected files; return them with what was done, or would be.

    Failed files wait again, those that were never read are read by the next catalog run. Stuck files leave the batch
    that holds them, and batches that were given up wait again. Documents with gaps are parsed again, while readers see
    them as before. Attempts stay in the history.
    """
    selected = select_files(connection, selection)
    if not dry_run:
        with connection.transaction():
            if selection.stuck:
                batches.retry_failed_batches(connection)
            _apply(connection, selected)
    return selected


def _apply(connection: Connection, selected: Sequence[ResetFile]) -> None:
    by_action: dict[Action, list[int]] = defaultdict(list)
    for file in selected:
        by_action[file.action].append(file.file_id)
    forget_rejections(connection, by_action["try again"])
    files.reset_failed(connection, by_action["try again"])
    files.look_again(connection, by_action["read again"])
    files.release_stuck(connection, by_action["release"])
    generations.parse_again(connection, by_action["parse again"])
