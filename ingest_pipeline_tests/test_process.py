"""`ingest process` takes so many waiting files and no more; `ingest index` keeps the index up and says how it finds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ingest_pipeline.chunking import text_hash
from ingest_pipeline.models import StoredChunk
from ingest_pipeline.store import batches, embedding_models, ledger, recall, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.command import Command
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder
from ingest_pipeline_tests.documents import add_file, seal, status_of
from ingest_pipeline_tests.test_cli_commands import command, launched  # noqa: F401
from ingest_pipeline_tests.test_headless import World, world  # noqa: F401

PATHS = ("a.txt", "b.txt", "c.txt", "d.txt", "e.txt")


def process(world: World, max_files: int | None = None) -> None:  # noqa: F811
    world.headless().process(world.shown.append, max_files=max_files)


def indexed(connection: Connection) -> list[str]:
    return [path for path in PATHS if status_of(connection, path)[0] == "indexed"]


@pytest.fixture
def waiting(world: World) -> World:  # noqa: F811
    """Five files that wait for a batch."""
    for path in PATHS:
        add_file(world.connection, path, version=path)
    return world


def test_everything_that_waits(waiting: World) -> None:
    """Without a limit all waiting files are processed; neither the catalog nor the index is run."""
    process(waiting)
    assert waiting.jobs() == ["ingest_batch"]
    assert indexed(waiting.connection) == list(PATHS)
    assert (waiting.result.stopped, waiting.result.incomplete) == (None, False)


def test_so_many_files(waiting: World) -> None:
    """With a limit so many files are processed, the first by path; the others wait, and the result says so."""
    process(waiting, 2)
    assert indexed(waiting.connection) == ["a.txt", "b.txt"]
    assert (waiting.result.stopped, waiting.result.incomplete) == ("3 files still to do: --max-files 2", True)


def test_in_portions(waiting: World) -> None:
    """Portion by portion all files are processed; the last one is complete."""
    for expected in (2, 4, 5):
        waiting.result.chosen, waiting.result.incomplete, waiting.result.stopped = [], False, None
        process(waiting, 2)
        assert len(indexed(waiting.connection)) == expected
    assert not waiting.result.incomplete


def test_sealed_files_count(waiting: World) -> None:
    """Files of a batch that was sealed before are planned anew: the limit holds for them, too."""
    key = seal(waiting.connection)
    process(waiting, 1)
    assert indexed(waiting.connection) == ["a.txt"]
    assert [batch.status for batch in batches.list_batches(waiting.connection, batch=key)] == ["done"]
    assert ledger.waiting_count(waiting.connection) == 4


def test_no_more_after_loss(waiting: World) -> None:
    """Called again after the database was lost, it goes on with its own files and takes no others."""
    process(waiting, 2)
    process(waiting, 2)
    assert indexed(waiting.connection) == ["a.txt", "b.txt"]


def test_killed_file_is_one_of_them(waiting: World) -> None:
    """A file at which a run was killed is tried again in a batch of its own, and no further file is taken for it."""
    waiting.ends["*"] = kill_once(waiting)
    process(waiting, 2)
    assert indexed(waiting.connection) == ["a.txt", "b.txt"]
    assert ledger.waiting_count(waiting.connection) == 3


def kill_once(world: World):  # type: ignore[no-untyped-def] # noqa: F811
    def end(run, key):  # type: ignore[no-untyped-def]
        world.ends.clear()
        world.kill_at_a_file(run, key)

    return end


def test_nothing_waits(world: World) -> None:  # noqa: F811
    """With nothing to do nothing is launched, whatever the limit."""
    process(world, 3)
    assert world.jobs() == []
    assert world.result.stopped is None


def test_index_alone(world: World) -> None:  # noqa: F811
    """The index is a run of its own."""
    world.headless().index(world.shown.append)
    assert world.jobs() == ["ingest_index"]


@pytest.fixture
def vectors_of_200(connection: Connection) -> int:
    """A model with 200 vectors and an index."""
    model = embedding_models.model_id(connection, CARD)
    chunks = [StoredChunk(1, number, f"text {number}", text_hash(f"text {number}"), 2) for number in range(200)]
    vectors.write_vectors(connection, model, chunks, FakeEmbedder().embed([chunk.text for chunk in chunks]))
    vectors.ensure_index(connection, model, 8)
    return model


def test_recall(connection: Connection, vectors_of_200: int) -> None:
    """Recall is measured over a sample of the stored vectors, against exact search."""
    measured = recall.measure(connection, vectors_of_200, "fake", dimension=8)
    assert (measured.vectors, measured.queries, measured.top) == (200, 100, 10)
    assert 0.9 <= measured.recall <= 1.0
    assert measured.index_ms > 0 and measured.exact_ms > 0


def test_recall_falls(connection: Connection, vectors_of_200: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that does not find what is near is seen in the figure."""
    index = recall._distances
    monkeypatch.setattr(
        recall, "_distances",
        lambda connection, statement, wanted, *, exact: (
            index(connection, statement, wanted, exact=True) if exact else ([2.0] * 10, 0.001)
        ),
    )  # fmt: skip
    assert recall.measure(connection, vectors_of_200, "fake", dimension=8).recall == 0.0


def test_too_few_for_recall(connection: Connection) -> None:
    """A handful of vectors says nothing."""
    model = embedding_models.model_id(connection, CARD)
    assert recall.measure(connection, model, "fake", dimension=8) == recall.Recall("fake")


def test_rebuild(connection: Connection, vectors_of_200: int) -> None:
    """A rebuild makes the index anew, also after an interrupted one, and searches find the same."""
    name = f"embeddings_hnsw_{vectors_of_200}"
    connection.execute(f"CREATE INDEX {name}_ccnew ON embeddings (model_id)")  # type: ignore[arg-type]
    before = connection.execute("SELECT relfilenode FROM pg_class WHERE relname = %s", (name,)).fetchone()
    assert vectors.rebuild_index(connection, vectors_of_200)
    after = connection.execute("SELECT relfilenode FROM pg_class WHERE relname = %s", (name,)).fetchone()
    left = connection.execute("SELECT count(*) FROM pg_class WHERE relname LIKE '%ccnew%'").fetchone()
    assert before != after and left == (0,)
    vector = np.asarray(FakeEmbedder().embed(["text 7"])[0])
    nearest = connection.execute(
        "SELECT text_hash FROM embeddings ORDER BY embedding::halfvec(8) <=> %s::halfvec(8) LIMIT 1",
        (str(vector.tolist()),),
    ).fetchone()
    assert nearest == (text_hash("text 7"),)


def test_no_index_to_rebuild(connection: Connection) -> None:
    """A model without an index gets one by the index run, not by a rebuild."""
    assert not vectors.rebuild_index(connection, embedding_models.model_id(connection, CARD))


def test_commands(launched: Command, connection: Connection) -> None:  # noqa: F811
    """The commands print the account and the recall, as text and as JSON; exit code 4 says that files wait."""
    for path in PATHS:
        (Path(launched.settings.sources[0]) / path).write_text(f"Text of {path}.")
    launched("run")
    [row] = launched.json("index")
    assert (row["vectors"], row["queries"], row["stopped"]) == (5, 0, None)
    assert launched("index", "--rebuild").startswith("all-MiniLM-L6-v2: 5 vectors, the index in order after ")
    connection.execute("UPDATE files SET status = 'synced', batch = NULL, generation_id = NULL")
    ended = launched.ended("process", "--max-files", "2", "--json")
    assert (ended.code, json.loads(ended.out)["stopped"]) == (4, "3 files still to do: --max-files 2")
    assert launched.ended("process").code == 0
