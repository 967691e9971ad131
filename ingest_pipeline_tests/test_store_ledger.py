"""The ledger: files wait, are tried, are attributed, and no attempt is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_pipeline.errors import NoText
from ingest_pipeline.models import ListedFile
from ingest_pipeline.store import batches, embedding_models, generations, ledger, vectors
from ingest_pipeline.store import files as store_files
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder
from ingest_pipeline_tests.documents import FINGERPRINT, add_file, count, files_of, seal, status_of, write


def test_a_new_file_waits_for_its_batch(connection: Connection) -> None:
    """Recorded, a file waits for a batch; sealed, it has one."""
    add_file(connection, "a.txt")
    assert [file.path for file in ledger.waiting_files(connection)] == ["a.txt"]
    batch = seal(connection)
    assert list(ledger.waiting_files(connection)) == []
    assert list(files_of(connection, batch)) == ["a.txt"]


def test_batch_keys_are_never_used_again(connection: Connection) -> None:
    """Keys grow in the order of sealing, also when the same files are sealed again."""
    keys = []
    for _ in range(3):
        add_file(connection, "a.txt")
        keys.append(seal(connection))
    assert keys == sorted(set(keys))


def test_a_changed_file_leaves_its_batch(connection: Connection) -> None:
    """A batch never changes; it just has nothing to do with the new version."""
    add_file(connection, "a.txt", "v1")
    old = seal(connection)
    add_file(connection, "a.txt", "v2")
    new = seal(connection)
    assert files_of(connection, old) == {}
    assert files_of(connection, new)["a.txt"].version == "v2"


def test_an_attempt_counts_once_for_a_run(connection: Connection) -> None:
    """Two stages of one run are one attempt; a second run is a second."""
    add_file(connection, "a.txt")
    file = files_of(connection, batch := seal(connection))["a.txt"]
    for run_id, stage in (("run1", "chunks"), ("run1", "embeddings"), ("run2", "chunks")):
        ledger.open_attempt(connection, file, batch=batch, run_id=run_id, stage=stage)
        assert status_of(connection, "a.txt") == ("processing", None)
    assert connection.execute("SELECT attempts FROM files").fetchone() == (2,)
    assert connection.execute("SELECT count(*) FROM attempts WHERE open").fetchone() == (2,)


@pytest.mark.parametrize("killed", [False, True])
def test_a_rivals_attempt_is_closed(connection: Connection, killed: bool) -> None:
    """Of two runs of one batch, one is killed at a file: when the other has ended, no attempt is open any more."""
    add_file(connection, "a.txt")
    file = files_of(connection, batch := seal(connection))["a.txt"]
    for run_id in ("run1", "run2"):
        batches.begin_batch(connection, batch, run_id)
        ledger.open_attempt(connection, file, batch=batch, run_id=run_id, stage="chunks")
    if killed:
        assert batches.reconcile_batch(connection, batch, "run2", killed=True, canceled=False, message="") == "done"
    else:
        batches.finish_batch(connection, batch)
    assert connection.execute("SELECT outcome FROM attempts WHERE open OR run_id = 'run1'").fetchall() == [
        ("interrupted",)
    ]


def test_costs_of_an_attempt_add_up(connection: Connection) -> None:
    """Parsing and embedding each add their seconds; a lower peak does not hide a higher."""
    add_file(connection, "a.txt")
    file = files_of(connection, batch := seal(connection))["a.txt"]
    ledger.open_attempt(connection, file, batch=batch, run_id="run1", stage="chunks")
    for cost in (
        ledger.AttemptCost(pages=3, parse_seconds=1.0, parse_peak_bytes=900),
        ledger.AttemptCost(embed_seconds=2.0, embed_peak_bytes=70),
        ledger.AttemptCost(parse_peak_bytes=100),
    ):
        ledger.close_attempt(connection, file, run_id="run1", cost=cost)
    row = connection.execute("SELECT measured_peak_bytes, seconds FROM files").fetchone()
    assert row == (900, 3.0)


def test_a_refused_file_has_a_reason(connection: Connection) -> None:
    """The reason is the error's type; Postgres takes no NUL."""
    add_file(connection, "a.txt")
    [waiting] = ledger.waiting_files(connection)
    store_files.refuse_file(connection, waiting.file_id, NoText("a.txt: no\x00thing"), fingerprint=FINGERPRINT)
    row = connection.execute("SELECT status, error, message, retryable FROM files").fetchone()
    assert row == ("failed", "NoText", "a.txt: nothing", False)


def test_a_kill_is_attributed(connection: Connection) -> None:
    """The open file leaves for a batch of its own; its siblings stay and wait."""
    for path in ("a.txt", "b.txt", "c.txt"):
        add_file(connection, path, version=path)
    files = files_of(connection, batch := seal(connection))
    batches.begin_batch(connection, batch, "run1")
    ledger.open_attempt(connection, files["b.txt"], batch=batch, run_id="run1", stage="chunks")
    assert (
        batches.reconcile_batch(connection, batch, "run1", killed=True, canceled=False, message="SIGKILL") == "waiting"
    )
    assert set(files_of(connection, batch)) == {"a.txt", "c.txt"}
    [attributed] = ledger.waiting_files(connection)
    assert (attributed.path, attributed.alone) == ("b.txt", True)


def test_three_kills_fail_a_file(connection: Connection) -> None:
    """After the third kill the file is failed: KilledRepeatedly, with three attempts."""
    add_file(connection, "bomb.txt")
    for number in range(3):
        file = files_of(connection, batch := seal(connection))["bomb.txt"]
        batches.begin_batch(connection, batch, f"run{number}")
        ledger.open_attempt(connection, file, batch=batch, run_id=f"run{number}", stage="chunks")
        batches.reconcile_batch(connection, batch, f"run{number}", killed=True, canceled=False, message="")
    assert status_of(connection, "bomb.txt") == ("failed", "KilledRepeatedly")
    assert connection.execute("SELECT attempts, kills FROM files").fetchone() == (3, 3)
    assert list(ledger.waiting_files(connection)) == []


def test_an_own_failure_is_no_kill(connection: Connection) -> None:
    """An exception that the run lived to report is no kill: the file waits in the same batch."""
    add_file(connection, "a.txt")
    file = files_of(connection, batch := seal(connection))["a.txt"]
    batches.begin_batch(connection, batch, "run1")
    ledger.open_attempt(connection, file, batch=batch, run_id="run1", stage="chunks")
    assert batches.reconcile_batch(connection, batch, "run1", killed=False, canceled=False, message="") == "waiting"
    assert connection.execute("SELECT kills, status FROM files").fetchone() == (0, "synced")
    assert connection.execute("SELECT outcome FROM attempts").fetchone() == ("interrupted",)


def test_a_batch_that_keeps_failing(connection: Connection) -> None:
    """With no file to attribute the failures to, the batch stays failed: trying for ever would hide the cause."""
    add_file(connection, "a.txt")
    batch, ends = seal(connection), []
    for number in range(batches.MAX_FAILURES):
        batches.begin_batch(connection, batch, f"run{number}")
        ends.append(batches.reconcile_batch(connection, batch, f"run{number}", killed=True, canceled=False, message=""))
    assert ends == ["waiting", "waiting", "failed"]
    assert batches.retry_failed_batches(connection) == 1
    assert batches.list_batches(connection, status="waiting")[0].key == batch


def test_reconciling_twice_changes_nothing(connection: Connection) -> None:
    """Sensor and command may both notice the same kill: it is counted once."""
    add_file(connection, "a.txt")
    file = files_of(connection, batch := seal(connection))["a.txt"]
    batches.begin_batch(connection, batch, "run1")
    ledger.open_attempt(connection, file, batch=batch, run_id="run1", stage="chunks")
    for _ in range(2):
        batches.reconcile_batch(connection, batch, "run1", killed=True, canceled=False, message="")
    assert connection.execute("SELECT kills FROM files").fetchone() == (1,)


def test_another_fingerprint_waits_again(connection: Connection, embedder: FakeEmbedder) -> None:
    """A new model or chunker puts files back in line; readers keep the old generation until then."""
    generation = _indexed(connection, embedder, "a.txt", ["one text"])
    assert store_files.requeue_outdated(connection, [FINGERPRINT]) == 0
    assert store_files.requeue_outdated(connection, ["another"]) == 1
    assert status_of(connection, "a.txt") == ("synced", None)
    assert connection.execute("SELECT generation_id FROM files").fetchone() == (generation,)


def test_equal_bytes_at_a_new_path(connection: Connection, embedder: FakeEmbedder) -> None:
    """A renamed file is adopted: nothing is parsed or embedded for it."""
    _indexed(connection, embedder, "a.txt", ["one text"])
    model = embedding_models.model_id(connection, CARD)
    add_file(connection, "b.txt")
    assert store_files.adopt_known_versions(connection, FINGERPRINT, model=model) == 1
    assert status_of(connection, "b.txt") == ("indexed", None)
    assert count(connection, "searchable_chunks") == 2


def test_an_unseen_file_is_deleted(connection: Connection, embedder: FakeEmbedder) -> None:
    """Deleted at once for readers, its chunks with it."""
    _indexed(connection, embedder, "a.txt", ["one text"])
    assert store_files.delete_unseen(connection, "/documents", scan=2) == 1
    assert count(connection, "searchable_chunks") == 0
    generations.drop_unused_generations(connection)
    assert count(connection, "chunks") == 0
    assert vectors.drop_unused_vectors(connection) == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from(["kill", "fail", "finish"]), st.integers(0, 3)), max_size=12))
def test_any_story_of_runs(connection: Connection, steps: list[tuple[str, int]]) -> None:
    """After any story of runs each file waits, has a batch, or came to its end; kills = attributed attempts."""
    connection.execute("TRUNCATE files, batches, batch_files, attempts CASCADE")
    for number in range(4):
        add_file(connection, f"{number}.txt", version=str(number))
    attributed = 0
    for step, (end, which) in enumerate(steps):
        if ledger.waiting_files(connection):
            seal(connection)
        waiting = batches.list_batches(connection, status="waiting")
        if not waiting:
            break
        batch, run_id = waiting[which % len(waiting)].key, f"run{step}"
        batches.begin_batch(connection, batch, run_id)
        files = [file for file in files_of(connection, batch).values() if file.status == "synced"]
        for file in files[: which + 1]:
            ledger.open_attempt(connection, file, batch=batch, run_id=run_id, stage="chunks")
            if file is not files[: which + 1][-1] or end == "finish":
                ledger.close_attempt(connection, file, run_id=run_id, cost=ledger.AttemptCost())
                connection.execute("UPDATE files SET status = 'indexed' WHERE file_id = %s", (file.file_id,))
        attributed += end == "kill" and bool(files)
        batches.reconcile_batch(connection, batch, run_id, killed=end == "kill", canceled=False, message="")
    rows = connection.execute("SELECT status, batch, kills FROM files").fetchall()
    assert all(status != "processing" for status, _, _ in rows)
    assert all(kills <= store_files.MAX_KILLS for _, _, kills in rows)
    assert sum(kills for _, _, kills in rows) == attributed
    assert connection.execute("SELECT count(*) FROM attempts WHERE open").fetchone() == (0,)


def test_known_files_come_back_by_path(connection: Connection) -> None:
    """Known facts come back by path; unknown paths are absent."""
    store_files.record_versions(
        connection,
        store_files.ScannedFile("/s", ListedFile("ä/b.txt", 7, "7 9"), 1, version="v", media_type="text/plain"),
    )
    known = ledger.known_files(connection, "/s", ["ä/b.txt", "none.txt"])
    assert {path: file.revision for path, file in known.items()} == {"ä/b.txt": "7 9"}


def test_an_unknown_key_cannot_begin(connection: Connection) -> None:
    """A partition added by hand has no files: a clear error, not an empty success."""
    with pytest.raises(LookupError, match="by hand"):
        batches.begin_batch(connection, "nonsense", "run1")


def _indexed(connection: Connection, embedder: FakeEmbedder, path: str, texts: list[str]) -> int:
    add_file(connection, path)
    file = files_of(connection, seal(connection))[path]
    generation = write(connection, file, texts, CARD)
    model = embedding_models.model_id(connection, CARD)
    pending = vectors.pending_chunks(connection, model, [generation.generation_id], limit=100)
    vectors.write_vectors(connection, model, pending, embedder.embed([chunk.text for chunk in pending]))
    assert generations.publish_file(connection, file, generation, fingerprint=FINGERPRINT, model=model)
    return generation.generation_id
