"""Cases for one guard each, of files and batches: what walks and sessions reach too rarely, or not at all."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ingest_pipeline.errors import NoText
from ingest_pipeline.models import FileCost, PlannedBatch, RawFile
from ingest_pipeline.store import batches, embedding_models, entities, files, generations, ledger, run_ends
from ingest_pipeline.store.connection import Connection, store
from ingest_pipeline.store.ledger import AttemptCost
from ingest_pipeline.store.queries import query
from ingest_pipeline_tests.conftest import CARD
from ingest_pipeline_tests.crash.sessions import catalog, indexed
from ingest_pipeline_tests.documents import FINGERPRINT, SOURCE, add_file, files_of, seal, status_of, write

OPEN = "SELECT run_id FROM attempts WHERE open ORDER BY 1"


def two_files(connection: Connection) -> tuple[str, dict[str, RawFile]]:
    """A batch of two files that a run has taken up."""
    for path in ("a.txt", "b.txt"):
        add_file(connection, path, version=path)
    batch = seal(connection)
    batches.begin_batch(connection, batch, "run1")
    return batch, files_of(connection, batch)


def each_run_has_its_attempt(connection: Connection) -> None:
    """A run that closes its attempt, or counts its chunks, leaves the attempt of another run as it is."""
    batch, known = two_files(connection)
    for run_id in ("run1", "run2"):
        ledger.open_attempt(connection, known["a.txt"], batch=batch, run_id=run_id, stage="chunks")
    ledger.add_embedded(connection, known["a.txt"], run_id="run1", chunks=3)
    assert connection.execute("SELECT run_id FROM attempts WHERE chunks_embedded > 0").fetchall() == [("run1",)]
    ledger.close_attempt(connection, known["a.txt"], run_id="run1", cost=AttemptCost())
    assert connection.execute(OPEN).fetchall() == [("run2",)]


def a_done_batch_is_done(connection: Connection) -> None:
    """A batch is unfinished while one of its files is, and not by a file that changed or went elsewhere."""
    batch, known = two_files(connection)
    assert batches.unfinished_files(connection, batch) == 2
    add_file(connection, "b.txt", version="another")
    assert batches.unfinished_files(connection, batch) == 1
    files.refuse_file(connection, known["a.txt"].file_id, NoText("none"), fingerprint=FINGERPRINT)
    assert batches.unfinished_files(connection, batch) == 0


def a_killed_file_has_left(connection: Connection) -> None:
    """A file that left for a batch of its own is no longer its first batch's, though its version is the same."""
    batch, known = two_files(connection)
    for file in known.values():
        ledger.open_attempt(connection, file, batch=batch, run_id="run1", stage="chunks")
        write(connection, file, [file.path], CARD)
    assert len(entities.batch_generations(connection, batch)) == 2
    files.attribute_kills(connection, [known["a.txt"].file_id], batch)
    assert batches.unfinished_files(connection, batch) == 1
    assert list(files_of(connection, batch)) == ["b.txt"]
    own = seal(connection)
    write(connection, files_of(connection, own)["a.txt"], ["a.txt"], CARD)
    assert len(entities.batch_generations(connection, batch)) == 1
    assert list(generations.processed_sizes(connection, own)) == [known["a.txt"].file_id]


def repairs_leave_what_is_right(connection: Connection) -> None:
    """What is repaired is looked at again by the repair: meanwhile a run may have taken it up."""
    batch, _ = two_files(connection)
    connection.execute("INSERT INTO entity_texts VALUES ('m', '\\x01')")
    connection.execute("INSERT INTO entities VALUES ('m', '\\x01', 0, 1, 'PERSON', 'A')")
    connection.execute(query("repairs", "drop_entities"), {"keys": ["01"]})
    assert connection.execute("SELECT count(*) FROM entities").fetchone() == (1,)
    for status, repair in (("running", "finish_batches"), ("done", "release_batches")):
        connection.execute("UPDATE batches SET status = %s", (status,))
        connection.execute(query("repairs", repair), {"keys": [batch]})
        assert connection.execute("SELECT status FROM batches").fetchone() == (status,)


def what_is_swept_is_not_adopted(connection: Connection) -> None:
    """A catalog run that finds a copy of bytes whose chunks are just being deleted leaves the copy waiting."""
    indexed(connection, "a.txt", "v1")
    files.delete_unseen(connection, SOURCE, 9)
    model = embedding_models.model_id(connection, CARD)
    with store(connection.info.dsn) as other, ThreadPoolExecutor(1) as pool:
        with connection.transaction():
            assert generations.drop_unused_generations(connection) == 1
            add_file(other, "b.txt", "v1")
            adopted = pool.submit(files.adopt_known_versions, other, FINGERPRINT, model=model)
            waits(adopted)
        assert adopted.result(timeout=60) == 0
    assert status_of(connection, "b.txt") == ("synced", None)


def only_waiting_files_adopt(connection: Connection) -> None:
    """Of two files with searchable bytes the one that waits is indexed; one that failed stays so."""
    indexed(connection, "a.txt", "v1")
    model = embedding_models.model_id(connection, CARD)
    add_file(connection, "b.txt", "v1")
    file = files_of(connection, seal(connection))["b.txt"]
    files.refuse_file(connection, file.file_id, NoText("none"), fingerprint=None)
    add_file(connection, "c.txt", "v1")
    assert files.adopt_known_versions(connection, FINGERPRINT, model=model) == 1
    assert status_of(connection, "b.txt") == ("failed", "NoText")
    assert status_of(connection, "c.txt") == ("indexed", None)


def what_is_adopted_is_not_swept(connection: Connection) -> None:
    """Chunks that a catalog run is just making use of are left alone by a sweep, which does not wait for it."""
    indexed(connection, "a.txt", "v1")
    files.delete_unseen(connection, SOURCE, 9)
    model = embedding_models.model_id(connection, CARD)
    with store(connection.info.dsn) as other, other.transaction():
        add_file(other, "b.txt", "v1")
        assert files.adopt_known_versions(other, FINGERPRINT, model=model) == 1
        connection.execute("SET lock_timeout = '5s'")
        assert generations.drop_unused_generations(connection) == 0
        connection.execute("SET lock_timeout = 0")
    assert status_of(connection, "b.txt") == ("indexed", None)


def no_file_is_found_during_a_sweep(connection: Connection) -> None:
    """A catalog run writes what it found when the sweep has committed: nothing new waits for what is gone."""
    indexed(connection, "a.txt", "v1")
    files.delete_unseen(connection, SOURCE, 9)
    with store(connection.info.dsn) as other, ThreadPoolExecutor(1) as pool:
        with connection.transaction():
            assert generations.drop_unused_generations(connection) == 1
            written = pool.submit(catalog, other, "b.txt", "v1")
            waits(written)
            assert connection.execute("SELECT count(*) FROM files").fetchone() == (1,)
        written.result(timeout=60)
    assert status_of(connection, "b.txt") == ("synced", None)


def waits(future: Future[Any]) -> None:
    """Another session waits for this one."""
    try:
        future.result(timeout=0.5)
    except TimeoutError:
        return
    raise AssertionError("it did not wait")


def the_last_failed_file_ends_it(connection: Connection) -> None:
    """A batch of which every file failed is done when its run is reconciled, and does not wait."""
    batch, known = two_files(connection)
    for file in known.values():
        files.refuse_file(connection, file.file_id, NoText("none"), fingerprint=FINGERPRINT)
    ended = {"killed": False, "canceled": False, "message": "OSError: gone"}
    assert batches.reconcile_batch(connection, batch, "run1", **ended) == "done"  # type: ignore[arg-type]


def only_failed_batches_are_retried(connection: Connection) -> None:
    """A batch that is running, or has nothing left to do, is not retried."""
    batch, known = two_files(connection)
    assert batches.retry_failed_batches(connection) == 0
    connection.execute("UPDATE batches SET status = 'failed'")
    for file in known.values():
        files.refuse_file(connection, file.file_id, NoText("none"), fingerprint=FINGERPRINT)
    assert batches.retry_failed_batches(connection) == 0
    files.reopen_failed(connection, batch)
    connection.execute("INSERT INTO batches (batch, status, memory_limit_bytes, predicted_peak_bytes, "
                       "predicted_seconds) VALUES ('empty', 'failed', 1, 1, 1)")  # fmt: skip
    assert batches.retry_failed_batches(connection) == 1


def a_file_goes_to_the_batch_of_its_version(connection: Connection) -> None:
    """A batch answers for the versions that it was sealed with, as long as they belong to it."""
    batch, known = two_files(connection)
    add_file(connection, "b.txt", version="another")
    assert list(files_of(connection, batch)) == ["a.txt"]
    stale = FileCost(known["b.txt"].file_id, "b.txt", "b.txt", 1, 1.0, False)
    batches.seal_batch(connection, PlannedBatch((stale,), 1, 1.0), memory_limit_bytes=1)
    assert [one.path for one in ledger.waiting_files(connection)] == ["b.txt"]


def an_ended_run_has_its_end(connection: Connection) -> None:
    """A restore ends the runs that the other machine's history shows at work, and none that had ended there."""
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE SCHEMA IF NOT EXISTS dagster")
        connection.execute("CREATE TABLE dagster.runs (run_id text, partition text, status text)")
        connection.execute("INSERT INTO dagster.runs VALUES ('run1', 'b', 'STARTED'), ('run2', 'b', 'SUCCESS')")
        assert run_ends.end_unfinished(connection, "restored") == 1
        assert [end.run_id for end in run_ends.ends_of_batch(connection, "b")] == ["run1"]


CASES = (
    only_waiting_files_adopt, what_is_swept_is_not_adopted, what_is_adopted_is_not_swept,
    no_file_is_found_during_a_sweep,
    each_run_has_its_attempt, a_done_batch_is_done, a_killed_file_has_left, repairs_leave_what_is_right,
    the_last_failed_file_ends_it, only_failed_batches_are_retried,
    a_file_goes_to_the_batch_of_its_version, an_ended_run_has_its_end,
)  # fmt: skip
