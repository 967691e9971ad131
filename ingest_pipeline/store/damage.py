"""Damage and leftovers in the store: what can be wrong, and how each kind is repaired.

The kinds are in the order in which they are repaired: what a later one relies on is in order by then. A new kind is a
statement in `damage.sql` and a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import sql

from ingest_pipeline.store import batches, embedding_models, entities, files, generations, locks, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.queries import query

KEYS_AT_A_TIME = 10_000
COUNT = "SELECT count(*), min(name) FROM ({statement}) d (key, name)"
SOME = "SELECT key FROM ({statement}) d (key, name) LIMIT {limit}"

Severity = Literal["damage", "leftover", "retry"]
"""`damage`: something contradicts itself. `leftover`: what killed runs left, and the next run or index takes up or
deletes. `retry`: another try may give more."""
Repair = Callable[[Connection, Sequence[Any]], object]


@dataclass(frozen=True, slots=True)
class DamageKind:
    """One thing that can be wrong."""

    name: str
    """Of its statement in `damage.sql`, and in JSON: a contract."""
    severity: Severity
    text: str
    """What is wrong, for people; a number follows."""
    repair_text: str
    """What the repair does."""
    repair: Repair


def _run(name: str) -> Repair:
    return lambda connection, keys: connection.execute(query("repairs", name), {"keys": list(keys)})


def _drop_vectors(connection: Connection, keys: Sequence[Any]) -> None:
    with connection.transaction():
        locks.hold_vectors(connection)
        connection.execute(query("repairs", "drop_vectors"), {"keys": list(keys)})


def _drop_entities(connection: Connection, keys: Sequence[Any]) -> None:
    connection.execute(query("repairs", "drop_entities"), {"keys": list(keys)})
    entities.drop_unused_entities(connection)


def _make_indexes(connection: Connection, keys: Sequence[Any]) -> None:
    for model in keys:
        vectors.drop_invalid_index(connection, model)
        vectors.ensure_index(connection, model, embedding_models.dimension_of(connection, model))


AGAIN = "they are ingested again; readers see nothing of them until then"
KINDS = (
    DamageKind(
        "shown_generation_missing", "damage", "files show chunks that do not exist", AGAIN, files.withdraw_files
    ),
    DamageKind(
        "rows_without_generation", "damage", "generations have rows, but do not exist", "the rows are deleted",
        _run("drop_rows_without_generation"),
    ),
    DamageKind("incomplete_generation_shown", "damage", "files show half a document", AGAIN, files.withdraw_files),
    DamageKind("other_bytes_shown", "damage", "indexed files show other bytes", AGAIN, files.withdraw_and_read),
    DamageKind(
        "deleted_but_shown", "damage", "deleted files are still searchable", "readers see nothing of them",
        files.withdraw_files,
    ),
    DamageKind("indexed_without_chunks", "damage", "indexed files show nothing", AGAIN, files.withdraw_files),
    DamageKind(
        "chunks_incomplete", "damage", "documents lack chunks, or have too many", AGAIN, generations.delete_generations
    ),
    DamageKind(
        "chunk_text_changed", "damage", "documents have a chunk whose text is not the one that was stored", AGAIN,
        generations.delete_generations,
    ),
    DamageKind(
        "vectors_unusable", "damage", "vectors have another dimension than their model, or not the length 1",
        "they are deleted, and computed again by the next run", _drop_vectors,
    ),
    DamageKind(
        "contradicting_states", "leftover", "texts have a vector and are noted to have none", "the note is deleted",
        _run("drop_states"),
    ),
    DamageKind(
        "model_noted_too_early", "damage", "documents count as searchable under a model that lacks vectors of them",
        "the note is deleted; it is made when the last vector is there", _run("drop_noted_models"),
    ),
    DamageKind(
        "indexed_without_vector", "damage", "indexed files have a chunk without a vector",
        "the next run computes what is missing", files.requeue_indexed,
    ),
    DamageKind(
        "model_not_noted", "damage", "indexed documents are not found by searches under their model",
        "the model is noted for them", _run("note_models"),
    ),
    DamageKind(
        "answers_missing", "damage", "sections count as answered, without an answer", "they are asked about again",
        _run("ask_again"),
    ),
    DamageKind(
        "waiting_without_version", "damage", "files wait, but were never read", "the next catalog run reads them",
        files.refuse_unread,
    ),
    DamageKind(
        "failed_without_reason", "damage", "files failed without a reason", "the next catalog run tries them again",
        files.explain_failure,
    ),
    DamageKind(
        "scans_run_backwards", "damage", "files were seen by a scan that has not happened yet",
        "the numbers of scans go on behind them", _run("advance_scans"),
    ),
    DamageKind(
        "batches_without_run", "damage", "batches are at work without a run", "they wait for a run",
        _run("release_batches"),
    ),
    DamageKind(
        "stuck_files", "damage", "unfinished files belong to no batch at work", "they wait for a new batch",
        files.release_stuck,
    ),
    DamageKind(
        "given_up_batches", "leftover", "batches were given up after three failed runs, with files left",
        "they wait for another run", lambda connection, keys: batches.retry_failed_batches(connection),
    ),
    DamageKind(
        "open_attempts", "leftover", "attempts belong to runs that have ended", "they are closed as interrupted",
        _run("close_attempts"),
    ),
    DamageKind(
        "empty_batches", "leftover", "batches wait, and their files have moved on", "they are done",
        _run("finish_batches"),
    ),
    DamageKind(
        "unused_generations", "leftover", "documents are stored that no file shows", "they are deleted",
        lambda connection, keys: generations.drop_unused_generations(connection),
    ),
    DamageKind(
        "unused_vectors", "leftover", "vectors belong to no chunk", "they are deleted",
        lambda connection, keys: vectors.drop_unused_vectors(connection),
    ),
    DamageKind(
        "unused_entities", "leftover", "texts with entities belong to no chunk, or were not read",
        "the entities are deleted", _drop_entities,
    ),
    DamageKind(
        "index_missing", "leftover", "models have vectors, and no valid index", "the index is made", _make_indexes
    ),
    DamageKind(
        "gaps_under_lower_limits", "retry", "files have gaps that higher limits may close",
        "they are parsed again; readers see them as before until then", generations.parse_again,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Damage:
    """What was found of one kind."""

    kind: str
    severity: Severity
    count: int
    example: str
    text: str
    repair: str


def find(connection: Connection, limits: Mapping[str, float]) -> Iterator[Damage]:
    """Yield what is wrong in the store, kind by kind; changes nothing.

    Args:
        connection: to the store.
        limits: `page_seconds`, `file_seconds` and `parser_bytes` of the present settings.
    """
    for kind in KINDS:
        row = connection.execute(_around(COUNT, kind), limits).fetchone()
        if row is not None and row[0]:
            yield Damage(kind.name, kind.severity, row[0], row[1], kind.text, kind.repair_text)


def repair(connection: Connection, limits: Mapping[str, float]) -> Iterator[Damage]:
    """Repair what is wrong, kind by kind, also what earlier repairs bring to light; yield what was repaired of each."""
    for kind in KINDS:
        if damage := _repaired(connection, kind, limits):
            yield damage


def close_open_attempts(connection: Connection) -> None:
    """Close attempts of runs that are not at work: one that was overtaken may open one when its batch is done."""
    [kind] = (kind for kind in KINDS if kind.name == "open_attempts")
    _repaired(connection, kind, {})


def _repaired(connection: Connection, kind: DamageKind, limits: Mapping[str, float]) -> Damage | None:
    row = connection.execute(_around(COUNT, kind), limits).fetchone()
    if row is None or not row[0]:
        return None
    left: int = row[0]
    while left > 0:  # another process may add to it meanwhile: no more rounds than there were rows
        keys = [key for (key,) in connection.execute(_around(SOME, kind, limit=KEYS_AT_A_TIME), limits)]
        if not keys:
            break
        kind.repair(connection, keys)
        left -= len(keys)
    return Damage(kind.name, kind.severity, row[0], row[1], kind.text, kind.repair_text)


def _around(outer: str, kind: DamageKind, *, limit: int = 0) -> sql.Composed:
    return sql.SQL(outer).format(statement=query("damage", kind.name), limit=sql.Literal(limit))
