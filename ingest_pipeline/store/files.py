"""The rows of `files`: every change of them is here, and `files.sql` has the statements.

| it becomes | by                       | from                                             |
|------------|--------------------------|--------------------------------------------------|
| synced     | `record_versions`        | any, or a file that was not known                |
|            | `requeue_outdated`       | indexed, failed                                  |
|            | `requeue_affordable`     | failed (FileNeedsMoreMemory)                     |
|            | `requeue_with_gaps`      | failed (UnreadablePages)                         |
|            | `requeue_without_vector` | indexed, with a chunk that waits                 |
|            | `reopen_failed`          | failed                                           |
|            | `requeue_without_extract`| indexed, with a section that waits for an answer |
|            | `requeue_without_entities`| indexed, with a text that was not read          |
|            | `requeue_unparsed`       | processed, under another fingerprint or limit    |
|            | `attribute_kills`        | processing, processed; failed at the third kill  |
|            | `dissolve_waiting`       | processing, processed                            |
|            | `release_batch`          | processing                                       |
|            | `release_stuck`          | processing, processed, without a batch at work   |
|            | `reset_failed`           | failed                                           |
|            | `requeue_indexed`        | indexed                                          |
|            | `withdraw_files`         | processed, indexed                               |
|            | `withdraw_generations`   | processed, indexed                               |
| processing | `begin_attempt`          | synced                                           |
| processed  | `mark_processed`         | synced, processing                               |
| indexed    | `publish`                | processed, complete, with no chunk that waits    |
|            | `adopt_known_versions`   | synced, its version searchable at another path   |
| failed     | `record_refusals`        | any, or a file that was not known                |
|            | `refuse_file`            | any                                              |
|            | `refuse_unread`          | synced, processing, processed, without a version |
| deleted    | `delete_unseen`          | any                                              |

No other transition exists: a function does nothing to a file in another status. A test walks this table. What readers
see is `generation_id`: it stays through all of this until `publish` or `delete_unseen`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import Cursor

from ingest_pipeline.errors import FileError, IngestError, KilledRepeatedly
from ingest_pipeline.models import FileCost, Gap, ListedFile, ModelCard, RawFile
from ingest_pipeline.store.connection import Connection, repeatable
from ingest_pipeline.store.queries import query

MAX_KILLS = 3
"""Runs that may be killed while a file is open before it fails."""
MAX_MESSAGE_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A listed file as one scan of its source knows it."""

    source: str
    file: ListedFile
    scan: int
    version: str = ""
    media_type: str = ""
    fingerprint: str | None = None
    """Under what it is refused, if another fingerprint is a reason to look again."""


def record_versions(connection: Connection, *scanned: ScannedFile) -> None:
    """Note new or changed files: they wait."""
    _run_many(connection, "record_version", map(_written, scanned))


def record_refusals(connection: Connection, *refused: tuple[ScannedFile, FileError]) -> None:
    """Note files that will not be parsed, and why."""
    _run_many(connection, "record_refusal", ({**_written(scanned), **_error(error)} for scanned, error in refused))


def mark_seen(connection: Connection, source: str, paths: Sequence[str], scan: int) -> None:
    """Note that these paths are there and as they were."""
    _run(connection, "mark_seen", source=source, paths=list(paths), scan=scan)


def record_touches(connection: Connection, *scanned: ScannedFile) -> None:
    """Note new revisions of files whose bytes are the same."""
    _run_many(connection, "record_touch", map(_written, scanned))


def forget_revision(connection: Connection, file: RawFile) -> None:
    """Make the next catalog run hash this file, whatever its revision is then."""
    _run(connection, "forget_revision", file_id=file.file_id)


def delete_unseen(connection: Connection, source: str, scan: int) -> int:
    """Mark the files that a finished scan did not see as deleted; return how many."""
    return _run(connection, "delete_unseen", source=source, scan=scan).rowcount


def adopt_known_versions(connection: Connection, fingerprint: str, *, model: int) -> int:
    """Make waiting files whose bytes are searchable already under the model indexed at once; return how many."""
    return _run(connection, "adopt_known_versions", fingerprint=fingerprint, model=model).rowcount


def show_under_model(connection: Connection, model: int) -> int:
    """Show readers files under a model that can answer for them already; return how many were shown under another."""
    return _run(connection, "show_under_model", model=model).rowcount


def forget_model(connection: Connection, model: int) -> None:
    """Note that no file is shown under a model that is deleted."""
    _run(connection, "forget_model", model=model)


def requeue_outdated(connection: Connection, fingerprints: Sequence[str]) -> int:
    """Put back in line what was indexed or failed under a fingerprint that is none of these; return how many."""
    return _run(connection, "requeue_outdated", fingerprints=list(fingerprints)).rowcount


def requeue_affordable(connection: Connection, file_budget_bytes: int) -> int:
    """Put back in line what was refused for memory and fits by now; return how many."""
    return _run(connection, "requeue_affordable", file_budget_bytes=file_budget_bytes).rowcount


def requeue_with_gaps(connection: Connection) -> int:
    """Put back in line what failed only because gaps were not allowed; return how many."""
    return _run(connection, "requeue_with_gaps").rowcount


def requeue_without_vector(connection: Connection, model: int) -> int:
    """Put back in line what is indexed with a chunk that waits under the model; return how many."""
    return _run(connection, "requeue_without_vector", model=model).rowcount


def requeue_without_extract(
    connection: Connection, *, prompt: str, plan_version: str, max_attempts: int, given_up: bool
) -> int:
    """Put back in line what is indexed and has sections that were not planned or answered; return how many.

    Files of a batch that is at work or waits stay there, and those of one that was given up unless `given_up`.
    """
    wanted = {"prompt": prompt, "plan_version": plan_version, "max_attempts": max_attempts, "held": _held(given_up)}
    return _run(connection, "requeue_without_extract", **wanted).rowcount


def requeue_without_entities(connection: Connection, model: str, *, given_up: bool) -> int:
    """Put back in line what is indexed and has a text that a model has not read; likewise; return how many."""
    return _run(connection, "requeue_without_entities", model=model, held=_held(given_up)).rowcount


def _held(given_up: bool) -> list[str]:
    return ["waiting", "running"] if given_up else ["waiting", "running", "failed"]


def requeue_unparsed(connection: Connection, batch: str, *, fingerprint: str, card: ModelCard) -> int:
    """Have files of a batch parsed again whose chunks are of another fingerprint or too long; return how many."""
    limits = {"tokenizer": card.tokenizer, "takes_tokens": card.takes_tokens}
    return _run(connection, "requeue_unparsed", batch=batch, fingerprint=fingerprint, **limits).rowcount


def reopen_failed(connection: Connection, batch: str) -> int:
    """Give the failed files of a batch another attempt: it was materialized by hand; return how many."""
    return _run(connection, "reopen_failed", batch=batch).rowcount


def assign_batch(connection: Connection, batch: str, costs: Sequence[FileCost]) -> None:
    """Give waiting files to the batch that is sealed with their versions."""
    columns: dict[str, list[Any]] = {
        "file_ids": [cost.file_id for cost in costs],
        "versions": [cost.version for cost in costs],
        "peaks": [cost.predicted_peak_bytes for cost in costs],
        "seconds": [cost.predicted_seconds for cost in costs],
    }
    _run(connection, "assign_batch", batch=batch, **columns)


def dissolve_waiting(connection: Connection, *, memory_limit_bytes: int) -> int:
    """Let go of the files of batches that wait under another budget; return how many."""
    return _run(connection, "dissolve_waiting", memory_limit_bytes=memory_limit_bytes).rowcount


def begin_attempt(connection: Connection, file: RawFile, *, batch: str, is_new: bool) -> None:
    """Note that a run of a batch works on a file, for the first time in this run or again."""
    _run(connection, "begin_attempt", file_id=file.file_id, batch=batch, is_new=is_new)


def add_cost(connection: Connection, file: RawFile, cost: dict[str, Any]) -> None:
    """Add what an attempt cost: `parse_peak_bytes`, `embed_peak_bytes`, `parse_seconds`, `embed_seconds`."""
    _run(connection, "add_cost", file_id=file.file_id, **cost)


def mark_processed(
    connection: Connection,
    file: RawFile,
    *,
    generation_id: int,
    pages: int,
    gaps: Iterable[Gap] = (),
    warnings: Sequence[str] = (),
) -> None:
    """Note that all chunks of a file are stored, in this generation."""
    recorded = {
        "generation": generation_id,
        "pages": pages,
        "gaps": json.dumps([asdict(gap) for gap in gaps]),
        "warnings": json.dumps(list(warnings)),
    }
    with repeatable(connection):
        _run(connection, "mark_processed", file_id=file.file_id, version=file.version, **recorded)


def publish(connection: Connection, file: RawFile, generation_id: int, *, fingerprint: str, model: int) -> bool:
    """Show readers a generation of a file; return False, with nothing done, if the file is not ready for it."""
    new = {"generation": generation_id, "fingerprint": fingerprint, "model": model}
    return bool(_run(connection, "publish", file_id=file.file_id, version=file.version, **new).rowcount)


def refuse_file(
    connection: Connection,
    file_id: int,
    error: IngestError,
    *,
    fingerprint: str | None,
    version: str | None = None,
    predicted_peak_bytes: int | None = None,
) -> None:
    """Fail a file, with a typed reason.

    Args:
        connection: to the store.
        file_id: of the file.
        error: the reason.
        fingerprint: under another one the file is tried again; None: never by itself.
        version: of the bytes that failed; a file that has others by now does not fail. None: whatever it has.
        predicted_peak_bytes: what it was predicted to need, where that is the reason.
    """
    known = {"file_id": file_id, "fingerprint": fingerprint, "version": version}
    _run(connection, "refuse_file", **known, predicted_peak_bytes=predicted_peak_bytes, **_error(error))


def attribute_kills(connection: Connection, file_ids: Sequence[int], batch: str) -> list[int]:
    """Attribute a run's kill to the files that were open: each waits for a batch of its own, or fails at last.

    Returns:
        The files to which it was attributed.
    """
    killed = _run(connection, "attribute_kill", file_ids=list(file_ids), batch=batch).fetchall()
    for file_id, kills, name in killed:
        if kills >= MAX_KILLS:
            error = KilledRepeatedly(
                f"{name}: {kills} runs were killed while it was open; it needs more memory or is a bomb"
            )
            refuse_file(connection, file_id, error, fingerprint=None)
    return [file_id for file_id, _, _ in killed]


def rename_source(connection: Connection, before: str, after: str) -> None:
    """Give a source another name; its files stay what they are."""
    _run(connection, "rename_source", before=before, after=after)


def release_batch(connection: Connection, batch: str) -> None:
    """Let what an ended run was processing wait again."""
    _run(connection, "release_batch", batch=batch)


def reset_failed(connection: Connection, file_ids: Sequence[int]) -> int:
    """Let failed files be tried again, if they were read and a parser is for them; return how many."""
    return _run(connection, "reset_failed", file_ids=list(file_ids)).rowcount


def look_again(connection: Connection, file_ids: Sequence[int]) -> int:
    """Let the next catalog run read failed files again, whatever their revision; return how many."""
    return _run(connection, "look_again", file_ids=list(file_ids)).rowcount


def release_stuck(connection: Connection, file_ids: Sequence[int]) -> int:
    """Let unfinished files of no batch at work wait for a new one; return how many."""
    return _run(connection, "release_stuck", file_ids=list(file_ids)).rowcount


def requeue_indexed(connection: Connection, file_ids: Sequence[int]) -> int:
    """Put indexed files back in line; readers see them as before; return how many."""
    return _run(connection, "requeue_indexed", file_ids=list(file_ids)).rowcount


def withdraw_files(connection: Connection, file_ids: Sequence[int]) -> int:
    """Show readers nothing of files until they are indexed again; return how many."""
    return _run(connection, "withdraw", file_ids=list(file_ids)).rowcount


def withdraw_and_read(connection: Connection, file_ids: Sequence[int]) -> int:
    """Likewise, for files whose version cannot be relied on either: the next catalog run reads them."""
    _run(connection, "forget_revisions", file_ids=list(file_ids))
    return withdraw_files(connection, file_ids)


def withdraw_generations(connection: Connection, generation_ids: Sequence[int]) -> int:
    """Show readers nothing of the files that rely on these generations, until they are indexed again; likewise."""
    return _run(connection, "withdraw_generations", generation_ids=list(generation_ids)).rowcount


def refuse_unread(connection: Connection, file_ids: Sequence[int]) -> int:
    """Fail waiting files whose bytes were never read: the next catalog run reads them; return how many."""
    return _run(connection, "refuse_unread", file_ids=list(file_ids)).rowcount


def explain_failure(connection: Connection, file_ids: Sequence[int]) -> int:
    """Give failed files that lack a reason one that is tried again; return how many."""
    return _run(connection, "explain_failure", file_ids=list(file_ids)).rowcount


def erase_files(connection: Connection, file_ids: Sequence[int]) -> int:
    """Delete rows to which nothing refers any more; return how many."""
    return _run(connection, "erase_file", file_ids=list(file_ids)).rowcount


def _run_many(connection: Connection, name: str, parameters: Iterable[dict[str, Any]]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(query("files", name), parameters)


def _run(connection: Connection, name: str, **parameters: Any) -> Cursor[Any]:
    return connection.execute(query("files", name), parameters)


def _written(scanned: ScannedFile) -> dict[str, Any]:
    own = {name: getattr(scanned, name) for name in ("source", "scan", "version", "media_type", "fingerprint")}
    listed = {name: getattr(scanned.file, name) for name in ("path", "size_bytes", "revision")}
    return {**own, **listed}


def _error(error: IngestError) -> dict[str, Any]:
    message = str(error)[:MAX_MESSAGE_CHARACTERS].replace("\x00", "")
    return {"error": error.reason, "message": message, "retryable": error.retryable}
