"""The status of a file moves as the table in `store/files.py` says, and in no other way."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_pipeline.chunking import text_hash
from ingest_pipeline.errors import FileChanged, FileNeedsMoreMemory, NoText, UnreadablePages
from ingest_pipeline.models import START, ListedFile, ParsedFile, RawFile
from ingest_pipeline.store import batches, embedding_models, files, generations, ledger, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder
from ingest_pipeline_tests.documents import FINGERPRINT, SOURCE, chunk, seal

STATUSES = ("synced", "processing", "processed", "indexed", "failed", "deleted")
ANY = frozenset(STATUSES)
PATH, VERSION = "a.txt", "v1"
TABLE_ROW = re.compile(r"^\| (\w*) +\| `(\w+)` +\| (.+?) +\|$", re.MULTILINE)


@dataclass
class World:
    """One file, and a second path with the same bytes that stays indexed."""

    connection: Connection
    generation: generations.Generation
    batch: str

    @property
    def file(self) -> RawFile:
        row = self.connection.execute("SELECT file_id, status, version FROM files WHERE path = %s", (PATH,)).fetchone()
        assert row is not None
        return RawFile(row[0], SOURCE, PATH, row[2], 5, "1", "text/plain", status=row[1])

    @property
    def model(self) -> int:
        return embedding_models.model_id(self.connection, CARD)

    @property
    def status(self) -> str:
        return self.file.status

    def force(self, status: str, error: str | None = None) -> None:
        """Put the file into a status, as only a test may."""
        self.connection.execute(
            "UPDATE files SET status = %s, error = %s, batch = %s, generation_id = NULL, kills = 0, "
            "predicted_peak_bytes = 10, fingerprint = %s, last_scan = 1, next_generation_id = %s WHERE path = %s",
            (status, error, self.batch, FINGERPRINT, self.generation.generation_id, PATH),
        )
        self.connection.execute("UPDATE batches SET status = 'waiting'")


def embed(connection: Connection, generation: generations.Generation) -> None:
    model = embedding_models.model_id(connection, CARD)
    pending = vectors.pending_chunks(connection, model, [generation.generation_id], limit=10)
    if pending:
        vectors.write_vectors(connection, model, pending, FakeEmbedder().embed([one.text for one in pending]))


@pytest.fixture
def world(connection: Connection) -> World:
    """A file whose bytes are searchable, all its vectors there."""
    listed = ListedFile(PATH, 5, "1")
    files.record_versions(connection, files.ScannedFile(SOURCE, listed, 1, version=VERSION, media_type="text/plain"))
    batch = seal(connection)
    file = RawFile(0, SOURCE, PATH, VERSION, 5, "1", "text/plain")
    fingerprint = f"{FINGERPRINT}:text/plain"
    with generations.claimed_generation(connection, file, fingerprint=fingerprint, card=CARD) as generation:
        rows = [(chunk(0, "text"), text_hash("text"))]
        generations.write_chunks(connection, generation, rows, checkpoint=START, gaps=[])
    generations.complete_generation(connection, generation, ParsedFile(pages=1))
    embed(connection, generation)
    model = embedding_models.model_id(connection, CARD)
    connection.execute("INSERT INTO generation_models VALUES (%s, %s)", (generation.generation_id, model))
    return World(connection, generation, batch)


def version(world: World) -> None:
    listed = ListedFile(PATH, 5, "2")
    files.record_versions(
        world.connection, files.ScannedFile(SOURCE, listed, 2, version=VERSION, media_type="text/plain")
    )


def refusal(world: World) -> None:
    listed, error = ListedFile(PATH, 5, "2"), FileChanged("changed")
    known = {"media_type": "text/plain", "version": VERSION}
    files.record_refusals(world.connection, (files.ScannedFile(SOURCE, listed, 2, **known), error))


def refuse(world: World) -> None:
    files.refuse_file(world.connection, world.file.file_id, NoText("none"), fingerprint=FINGERPRINT)


def without_vector(world: World) -> None:
    showing = (world.generation.generation_id,)
    world.connection.execute("UPDATE files SET generation_id = %s WHERE status = 'indexed'", showing)
    world.connection.execute("DELETE FROM embeddings")
    files.requeue_without_vector(world.connection, world.model)
    embed(world.connection, world.generation)


def publish(world: World) -> None:
    files.publish(
        world.connection, world.file, world.generation.generation_id, fingerprint=FINGERPRINT, model=world.model
    )


def processed(world: World) -> None:
    files.mark_processed(world.connection, world.file, generation_id=world.generation.generation_id, pages=1)


def dissolve(world: World) -> None:
    files.dissolve_waiting(world.connection, memory_limit_bytes=1)


def release_stuck(world: World) -> None:
    world.connection.execute("UPDATE files SET batch = NULL WHERE path = %s", (PATH,))
    files.release_stuck(world.connection, [world.file.file_id])


def refuse_unread(world: World) -> None:
    world.connection.execute("UPDATE files SET version = '' WHERE path = %s", (PATH,))
    files.refuse_unread(world.connection, [world.file.file_id])
    world.connection.execute("UPDATE files SET version = %s WHERE path = %s", (VERSION, PATH))


def withdraw_generations(world: World) -> None:
    showing = (world.generation.generation_id,)
    world.connection.execute("UPDATE files SET generation_id = %s WHERE status = 'indexed'", showing)
    files.withdraw_generations(world.connection, showing)


# Each function, from which statuses it moves a file, and to which.
MOVES: dict[str, tuple[Callable[[World], object], frozenset[str], str]] = {
    "record_versions": (version, ANY, "synced"),
    "record_refusals": (refusal, ANY, "failed"),
    "refuse_file": (refuse, ANY, "failed"),
    "delete_unseen": (lambda w: files.delete_unseen(w.connection, SOURCE, 99), ANY, "deleted"),
    "requeue_outdated": (
        lambda w: files.requeue_outdated(w.connection, ["another"]), frozenset({"indexed", "failed"}), "synced",
    ),
    "requeue_without_vector": (without_vector, frozenset({"indexed"}), "synced"),
    "requeue_unparsed": (
        lambda w: files.requeue_unparsed(w.connection, w.batch, fingerprint="another", card=CARD),
        frozenset({"processed"}), "synced",
    ),
    "reopen_failed": (lambda w: files.reopen_failed(w.connection, w.batch), frozenset({"failed"}), "synced"),
    "attribute_kills": (
        lambda w: files.attribute_kills(w.connection, [w.file.file_id], w.batch),
        frozenset({"processing", "processed"}), "synced",
    ),
    "dissolve_waiting": (dissolve, frozenset({"synced", "processing", "processed"}), "synced"),
    "release_batch": (lambda w: files.release_batch(w.connection, w.batch), frozenset({"processing"}), "synced"),
    "release_stuck": (release_stuck, frozenset({"processing", "processed"}), "synced"),
    "reset_failed": (
        lambda w: files.reset_failed(w.connection, [w.file.file_id]), frozenset({"failed"}), "synced",
    ),
    "requeue_indexed": (
        lambda w: files.requeue_indexed(w.connection, [w.file.file_id]), frozenset({"indexed"}), "synced",
    ),
    "withdraw_files": (
        lambda w: files.withdraw_files(w.connection, [w.file.file_id]), frozenset({"processed", "indexed"}), "synced",
    ),
    "withdraw_generations": (withdraw_generations, frozenset({"processed", "indexed"}), "synced"),
    "refuse_unread": (refuse_unread, frozenset({"synced", "processing", "processed"}), "failed"),
    "begin_attempt": (
        lambda w: files.begin_attempt(w.connection, w.file, batch=w.batch, is_new=True), frozenset({"synced"}),
        "processing",
    ),
    "mark_processed": (processed, frozenset({"synced", "processing", "processed"}), "processed"),
    "publish": (publish, frozenset({"processed"}), "indexed"),
    "adopt_known_versions": (
        lambda w: files.adopt_known_versions(w.connection, FINGERPRINT, model=w.model), frozenset({"synced"}),
        "indexed",
    ),
}  # fmt: skip
BY_REASON = {
    "requeue_affordable": (
        lambda w: files.requeue_affordable(w.connection, 10), FileNeedsMoreMemory.__name__,
    ),
    "requeue_with_gaps": (lambda w: files.requeue_with_gaps(w.connection), UnreadablePages.__name__),
}  # fmt: skip


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("name", MOVES)
def test_each_move(world: World, name: str, before: str) -> None:
    """From the statuses of the table a function moves the file where the table says; elsewhere it does nothing."""
    move, allowed, after = MOVES[name]
    world.force(before)
    move(world)
    assert world.status == (after if before in allowed else before)


@pytest.mark.parametrize("error", ["FileNeedsMoreMemory", "UnreadablePages", "NoText"])
@pytest.mark.parametrize("name", BY_REASON)
def test_moves_by_reason(world: World, name: str, error: str) -> None:
    """A failed file waits again when the reason that it failed for is gone, and no other."""
    move, reason = BY_REASON[name]
    world.force("failed", error)
    move(world)
    assert world.status == ("synced" if error == reason else "failed")


def test_table_in_docstring() -> None:
    """The table in the module's docstring names these functions, with these ends."""
    drawn, becomes = {}, ""
    for status, name, _ in TABLE_ROW.findall(files.__doc__ or ""):
        becomes = status or becomes
        drawn[name] = becomes
    assert drawn == {name: after for name, (_, _, after) in MOVES.items()} | dict.fromkeys(BY_REASON, "synced")


def shows_its_bytes(world: World) -> bool:
    """Whether readers see the file."""
    return world.connection.execute("SELECT generation_id IS NOT NULL FROM files").fetchone() == (True,)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from(sorted(MOVES)), max_size=25))
def test_walks(world: World, names: list[str]) -> None:
    """Whatever happens in whatever order, each step is one of the table, and readers see the file only as published."""
    world.force("synced")
    for name in names:
        move, allowed, after = MOVES[name]
        world.connection.execute("UPDATE files SET batch = %s, kills = 0, fingerprint = 'f'", (world.batch,))
        world.connection.execute("UPDATE batches SET status = 'waiting'")
        # One that shows its bytes already waits for something else, and does not adopt them.
        world.connection.execute("UPDATE files SET generation_id = NULL WHERE status = 'synced'")
        before = world.status
        if name == "adopt_known_versions" and shows_its_bytes(world):
            allowed = frozenset()  # it waits for something else than chunks
        move(world)
        assert world.status == (after if before in allowed else before), (before, name)
        shown = world.connection.execute("SELECT generation_id IS NOT NULL FROM files").fetchone()
        if world.status in ("indexed", "deleted"):
            assert shown == (world.status == "indexed",)


def test_third_kill_fails(world: World) -> None:
    """The third kill of a file fails it with its name and its count."""
    for _ in range(files.MAX_KILLS):
        world.connection.execute("UPDATE files SET status = 'processing', batch = %s", (world.batch,))
        assert files.attribute_kills(world.connection, [world.file.file_id], world.batch) == [world.file.file_id]
    row = world.connection.execute("SELECT status, error, message FROM files").fetchone()
    assert row is not None
    assert row[:2] == ("failed", "KilledRepeatedly")
    assert row[2].startswith(f"{SOURCE}/{PATH}: 3 runs were killed")


def test_all_writes_are_here() -> None:
    """No other module changes a row of `files`."""
    from pathlib import Path

    folder = Path(files.__file__).parents[1]
    writing = re.compile(r"UPDATE files\b|INSERT INTO files\b|DELETE FROM files\b")
    writers = [path.name for path in folder.rglob("*.py") if writing.search(path.read_text())]
    assert writers == []
    assert batches.__doc__ and ledger.__doc__
