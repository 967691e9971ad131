"""What two or three sessions do at once, stepped statement by statement in an order that a seed decides.

The sessions are real connections that run the real functions of the store in threads (`stepping.py`). Whatever the
order, none of them may fail, and the check of the scenario holds afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import psycopg
from pgvector.psycopg import register_vector

from ingest_pipeline.chunking import text_hash
from ingest_pipeline.errors import NoText
from ingest_pipeline.models import Checkpoint, FileCost, ListedFile, ParsedFile, PlannedBatch, RawFile, TextEntities
from ingest_pipeline.stages.scan import SlabChanges
from ingest_pipeline.store import batches, embedding_models, entities, files, generations, ledger, vectors
from ingest_pipeline.store.connection import SEARCH_PATH, Connection
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder
from ingest_pipeline_tests.crash.invariants import NEVER
from ingest_pipeline_tests.crash.stages import TABLES
from ingest_pipeline_tests.documents import FINGERPRINT, SOURCE, add_file, chunk, files_of, seal
from ingest_pipeline_tests.stepping import Session, SteppedConnection, interleave

KIND = "text/plain"
Work = Callable[[Connection], Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Some sessions, and what must be true when they have ended."""

    name: str
    prepare: Callable[[Connection], dict[str, Work]]
    """Fills an empty store; returns the sessions' work by their names."""
    check: Callable[[Connection], None]


def generation_fingerprint() -> str:
    return f"{FINGERPRINT}:{KIND}"


def run_file(connection: Connection, file: RawFile, texts: tuple[str, ...] = ("same", "text")) -> None:
    """What a run does with one file: chunk it in two pieces, embed what is missing, publish."""
    model = embedding_models.model_id(connection, CARD)
    claim = generations.claimed_generation(connection, file, fingerprint=generation_fingerprint(), card=CARD)
    with claim as generation:
        if not generation.complete:
            generations.resume_generation(connection, generation)
            for number, text in enumerate(texts):
                generations.write_chunks(
                    connection, generation, [(chunk(number, text), text_hash(text))],
                    checkpoint=Checkpoint(number + 1, 0, number + 1), gaps=[],
                )  # fmt: skip
            generations.complete_generation(connection, generation, ParsedFile(pages=len(texts)))
        files.mark_processed(connection, file, generation_id=generation.generation_id, pages=len(texts))
    with generations.held_generation(connection, generation.generation_id) as held:
        embed(connection, held.generation_id)
        generations.publish_file(connection, file, held, fingerprint=FINGERPRINT, model=model)


def embed(connection: Connection, generation: int) -> None:
    model = embedding_models.model_id(connection, CARD)
    pending = vectors.pending_chunks(connection, model, [generation], limit=10)
    if pending:
        vectors.write_vectors(connection, model, pending, FakeEmbedder().embed([one.text for one in pending]))


def sweep(connection: Connection) -> None:
    """What `vector_index` does."""
    generations.drop_unused_generations(connection)
    vectors.drop_unused_vectors(connection)
    entities.drop_unused_entities(connection)


def catalog(connection: Connection, path: str, version: str, *, scan: int = 2) -> None:
    """What a catalog run does that finds one new file."""
    model = embedding_models.model_id(connection, CARD)
    scanned = files.ScannedFile(SOURCE, ListedFile(path, 5, version), scan, version=version, media_type=KIND)
    write_slab(connection, [scanned], scan)
    files.adopt_known_versions(connection, FINGERPRINT, model=model)


def write_slab(connection: Connection, scanned: list[files.ScannedFile], scan: int) -> None:
    source = SimpleNamespace(source=SimpleNamespace(name=SOURCE), number=scan)
    SlabChanges(versions=scanned).write(connection, source)  # type: ignore[arg-type]


def indexed(connection: Connection, path: str, version: str) -> RawFile:
    """A file that readers see."""
    add_file(connection, path, version)
    file = files_of(connection, seal(connection))[path]
    run_file(connection, file)
    return file


def waiting(connection: Connection, path: str, version: str) -> RawFile:
    add_file(connection, path, version)
    return files_of(connection, seal(connection))[path]


def sound(connection: Connection) -> None:
    """Nothing is there that must never be, and every path has the chunks of one version, whole."""
    for name, query in NEVER.items():
        row = connection.execute(query).fetchone()  # type: ignore[call-overload]
        assert row == (0,), (name, row)


def all_indexed(connection: Connection) -> None:
    sound(connection)
    assert connection.execute("SELECT DISTINCT status FROM files").fetchall() == [("indexed",)]
    shown = connection.execute("SELECT path, count(*) FROM searchable_chunks GROUP BY 1").fetchall()
    assert {count for _, count in shown} == {2}, shown
    row = connection.execute("SELECT count(*) FROM files").fetchone()
    assert row == (len(shown),)


def orphan(connection: Connection) -> dict[str, Work]:
    """Vectors of texts in no chunk, while a file with these texts is ingested: the race of issue 4."""
    model = embedding_models.model_id(connection, CARD)
    for text in ("same", "text"):
        connection.execute("INSERT INTO embeddings VALUES (%s, %s, '[1,0,0,0,0,0,0,0]')", (model, text_hash(text)))
        connection.execute("INSERT INTO entity_texts VALUES ('m', %s)", (text_hash(text),))
    file = waiting(connection, "new.txt", "v1")

    def swept(session: Connection) -> None:
        with session.transaction():  # time between its deletion and its commit
            vectors.drop_unused_vectors(session)

    return {"sweep": swept, "run": lambda session: run_file(session, file)}


def orphan_entities(connection: Connection) -> dict[str, Work]:
    """Answers about texts in no chunk, while a file with these texts is read for entities."""
    for text in ("same", "text"):
        connection.execute("INSERT INTO entity_texts VALUES ('m', %s)", (text_hash(text),))
    file = waiting(connection, "new.txt", "v1")

    def swept(session: Connection) -> None:
        with session.transaction():
            entities.drop_unused_entities(session)

    def run(session: Connection) -> None:
        run_file(session, file)
        wanted = entities.batch_generations(session, file_batch(session, "new.txt"))
        if texts := entities.pending_texts(session, "m", wanted, limit=8):
            entities.write_entities(session, "m", [TextEntities(one.text_hash, (), False) for one in texts])

    return {"sweep": swept, "run": run}


def all_read(connection: Connection) -> None:
    all_indexed(connection)
    row = connection.execute(
        "SELECT count(*) FROM chunks c WHERE NOT EXISTS (SELECT FROM entity_texts t WHERE t.text_hash = c.text_hash)"
    ).fetchone()
    assert row == (0,), "the answer about a text was deleted under its chunk"


def file_batch(connection: Connection, path: str) -> str:
    row = connection.execute("SELECT batch FROM files WHERE path = %s", (path,)).fetchone()
    assert row is not None
    return str(row[0])


def same_bytes(connection: Connection) -> dict[str, Work]:
    """Two runs, two files, the same bytes."""
    one, two = waiting(connection, "a.txt", "v1"), waiting(connection, "b.txt", "v1")
    return {"one": lambda session: run_file(session, one), "two": lambda session: run_file(session, two)}


def copy_of_replaced(connection: Connection) -> dict[str, Work]:
    """A file is replaced while a catalog run finds a copy of its old bytes, and a sweep runs."""
    indexed(connection, "a.txt", "v1")
    new = waiting(connection, "a.txt", "v2")
    return {
        "run": lambda session: run_file(session, new, ("new", "words")),
        "catalog": lambda session: catalog(session, "b.txt", "v1"),
        "sweep": sweep,
    }


def copy_of_deleted(connection: Connection) -> dict[str, Work]:
    """A deleted file comes back while its chunks are swept."""
    indexed(connection, "a.txt", "v1")
    files.delete_unseen(connection, SOURCE, 9)
    return {"sweep": sweep, "catalog": lambda session: catalog(session, "a.txt", "v1", scan=10)}


def run_of_deleted(connection: Connection) -> dict[str, Work]:
    """The same, and its batch is run at once."""
    indexed(connection, "a.txt", "v1")
    files.delete_unseen(connection, SOURCE, 9)

    def back(session: Connection) -> None:
        scanned = files.ScannedFile(SOURCE, ListedFile("a.txt", 5, "v1"), 10, version="v1", media_type=KIND)
        write_slab(session, [scanned], 10)
        run_file(session, files_of(session, sealed_all(session)[0])["a.txt"])

    return {"sweep": sweep, "back": back}


def indexed_or_waiting(connection: Connection) -> None:
    """A copy was adopted, or waits for its batch; readers see what was ingested."""
    sound(connection)
    rows = connection.execute("SELECT path, status, batch IS NULL FROM files").fetchall()
    assert all(status == "indexed" or (status, free) == ("synced", True) for _, status, free in rows), rows


def sealed_all(session: Connection) -> list[str]:
    """What sealing does, two files to a batch."""
    keys = []
    with batches.sealing(session):
        costs = [FileCost(one.file_id, one.path, one.version, 1, 1.0, False) for one in ledger.waiting_files(session)]
        for start in range(0, len(costs), 2):
            planned = PlannedBatch(tuple(costs[start : start + 2]), 1, 1.0)
            keys.append(batches.seal_batch(session, planned, memory_limit_bytes=2**30))
    return keys


def two_seal(connection: Connection) -> dict[str, Work]:
    """Catalog, sensor and command line find the same files waiting; a slab changes some of them, in another order."""
    for path in ("a.txt", "b.txt", "c.txt"):
        add_file(connection, path, "v1")
    changed = [
        files.ScannedFile(SOURCE, ListedFile(path, 5, "2"), 2, version="v2", media_type=KIND)
        for path in ("c.txt", "b.txt", "a.txt")
    ]
    return {
        "daemon": sealed_all, "command": sealed_all, "catalog": lambda session: write_slab(session, changed, 2)
    }  # fmt: skip


def sealed_while_changed(connection: Connection) -> dict[str, Work]:
    """A slab changes files that are being sealed, in another order: without one lock for both, a deadlock."""
    works = two_seal(connection)
    del works["command"]
    return works


def sealed_once(connection: Connection) -> None:
    """Each file is in one batch of its present version at most, and a batch has what it was sealed with."""
    sound(connection)
    twice = connection.execute("SELECT file_id, version FROM batch_files GROUP BY 1, 2 HAVING count(*) > 1").fetchall()
    assert not twice, "a version was sealed twice"


def taken_over(connection: Connection) -> dict[str, Work]:
    """The daemon and a command reconcile a killed run while another run takes the batch up."""
    file = waiting(connection, "a.txt", "v1")
    waiting_too = waiting(connection, "b.txt", "v2")
    batch = file_batch(connection, "a.txt")
    assert waiting_too
    batches.begin_batch(connection, batch, "run1")
    ledger.open_attempt(connection, file, batch=batch, run_id="run1", stage="chunks")

    def reconcile(session: Connection) -> None:
        batches.reconcile_batch(session, batch, "run1", killed=False, canceled=False, message="OSError: gone")

    def take_up(session: Connection) -> None:
        batches.begin_batch(session, batch, "run2")
        ledger.open_attempt(session, file, batch=batch, run_id="run2", stage="chunks")

    return {"daemon": reconcile, "command": reconcile, "run2": take_up}


def run_two_works(connection: Connection) -> None:
    """The second run is at work on its file, and the end of the first one counted once at most."""
    sound(connection)
    row = connection.execute("SELECT status, run_id, failures FROM batches WHERE run_id = 'run2'").fetchone()
    assert row is not None and row[:2] == ("running", "run2"), row
    assert row[2] <= 1, "the end of a run was counted twice"
    assert connection.execute("SELECT status FROM files WHERE path = 'a.txt'").fetchone() == ("processing",)
    assert connection.execute("SELECT count(*) <= 1 FROM incidents").fetchone() == (True,)


def killed_twice(connection: Connection) -> dict[str, Work]:
    """Two processes notice the same kill."""
    file = waiting(connection, "a.txt", "v1")
    batch = file_batch(connection, "a.txt")
    batches.begin_batch(connection, batch, "run1")
    ledger.open_attempt(connection, file, batch=batch, run_id="run1", stage="chunks")

    def reconcile(session: Connection) -> None:
        batches.reconcile_batch(session, batch, "run1", killed=True, canceled=False, message="killed")

    return {"daemon": reconcile, "command": reconcile}


def killed_once(connection: Connection) -> None:
    sound(connection)
    assert connection.execute("SELECT kills, status, batch FROM files").fetchall() == [(1, "synced", None)]
    assert connection.execute("SELECT status, failures FROM batches").fetchall() == [("done", 0)]


BEGUN: list[str] = []


def begun_twice(connection: Connection) -> dict[str, Work]:
    """Two runs take up one batch."""
    waiting(connection, "a.txt", "v1")
    batch = file_batch(connection, "a.txt")
    BEGUN.clear()

    def begin(session: Connection, run_id: str) -> None:
        with session.transaction():  # time between the statement and its commit
            BEGUN.append(batches.begin_batch(session, batch, run_id))

    return {"one": lambda session: begin(session, "run1"), "two": lambda session: begin(session, "run2")}


def one_was_first(connection: Connection) -> None:
    assert sorted(BEGUN) == ["running", "waiting"], BEGUN
    assert connection.execute("SELECT runs FROM batches").fetchone() == (2,)


def finished_meanwhile(connection: Connection) -> dict[str, Work]:
    """A run finishes its batch while a second one gives its failed file another try, and is killed."""
    file = waiting(connection, "a.txt", "v1")
    batch = file_batch(connection, "a.txt")
    files.refuse_file(connection, file.file_id, NoText("none"), fingerprint=FINGERPRINT)
    batches.begin_batch(connection, batch, "run1")

    def finish(session: Connection) -> None:
        if not batches.unfinished_files(session, batch):
            batches.finish_batch(session, batch, run_id="run1")

    def again(session: Connection) -> None:
        batches.begin_batch(session, batch, "run2")
        files.reopen_failed(session, batch)
        ledger.open_attempt(session, file, batch=batch, run_id="run2", stage="chunks")

    return {"one": finish, "two": again}


def nothing_stuck(connection: Connection) -> None:
    """What the second run left is found when it is reconciled: no file waits in a batch that is done."""
    sound(connection)
    batch = file_batch(connection, "a.txt")
    batches.reconcile_batch(connection, batch, "run2", killed=False, canceled=False, message="OSError: gone")
    sound(connection)


SCENARIOS = (
    Scenario("orphan vectors", orphan, all_indexed),
    Scenario("orphan entities", orphan_entities, all_read),
    Scenario("same bytes", same_bytes, all_indexed),
    Scenario("copy of replaced bytes", copy_of_replaced, indexed_or_waiting),
    Scenario("copy of deleted bytes", copy_of_deleted, indexed_or_waiting),
    Scenario("run of deleted bytes", run_of_deleted, indexed_or_waiting),
    Scenario("sealed by two", two_seal, sealed_once),
    Scenario("sealed while changed", sealed_while_changed, sealed_once),
    Scenario("taken over", taken_over, run_two_works),
    Scenario("killed twice", killed_twice, killed_once),
    Scenario("begun twice", begun_twice, one_was_first),
    Scenario("finished meanwhile", finished_meanwhile, nothing_stuck),
)


class Theatre:
    """Connections for the sessions of all scenarios, and one that sees who waits for whom."""

    def __init__(self, connection: Connection, url: str) -> None:
        self._connection = connection
        self._observer = psycopg.connect(url, autocommit=True)
        self._stepped = [
            SteppedConnection.connect(url, autocommit=True, options=f"-csearch_path={SEARCH_PATH}") for _ in range(3)
        ]
        for one in self._stepped:
            register_vector(one)

    def play(self, scenario: Scenario, seed: int) -> tuple[str, ...]:
        """Play a scenario in one order; return the order.

        Raises:
            AssertionError: its check does not hold. psycopg.Error: a session failed.
        """
        for one in self._stepped:
            one.turn = lambda: None  # type: ignore[method-assign]
        self._connection.execute(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE")  # type: ignore[arg-type]
        works = scenario.prepare(self._connection)
        sessions = [Session(name, one, work) for (name, work), one in zip(works.items(), self._stepped, strict=False)]
        order = interleave(seed, sessions, self._observer)
        scenario.check(self._connection)
        return tuple(order)

    def close(self) -> None:
        """End the connections."""
        for one in (*self._stepped, self._observer):
            one.close()


@contextmanager
def theatre(connection: Connection, url: str) -> Iterator[Theatre]:
    """Return a theatre that is closed afterwards."""
    opened = Theatre(connection, url)
    try:
        yield opened
    finally:
        opened.close()
