"""Files are tried again because somebody asks for it, and nothing else is."""

from __future__ import annotations

import pytest

from ingest_pipeline.errors import EncryptedDocument, FileTooLarge, ParserTimedOut, TooManyRejected
from ingest_pipeline.models import ListedFile
from ingest_pipeline.stages.reset import reset_files
from ingest_pipeline.store import batches, embedding_models, files, ledger
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.ledger import AttemptCost
from ingest_pipeline.store.reset import ResetSelection
from ingest_pipeline_tests.conftest import CARD
from ingest_pipeline_tests.documents import FINGERPRINT, SOURCE, add_file, files_of, seal, status_of, write


def fail(connection: Connection, path: str, error: type[Exception]) -> None:
    [file] = [one for one in files_of(connection, seal(connection)).values() if one.path == path]
    files.refuse_file(connection, file.file_id, error("x"), fingerprint=FINGERPRINT)  # type: ignore[arg-type]


@pytest.fixture
def failed(connection: Connection) -> Connection:
    """Three failed files of two reasons, and one that waits in a batch."""
    for path, error in (("a.pdf", ParserTimedOut), ("dir/b.pdf", EncryptedDocument), ("dir/c.pdf", ParserTimedOut)):
        add_file(connection, path)
        fail(connection, path, error)
    add_file(connection, "waits.txt")
    seal(connection)
    return connection


def actions(connection: Connection, selection: ResetSelection, *, dry_run: bool = False) -> dict[str, str]:
    return {file.path: file.action for file in reset_files(connection, selection, dry_run=dry_run)}


@pytest.mark.parametrize(
    ("selection", "paths"),
    [
        (ResetSelection(failed=True), {"a.pdf", "dir/b.pdf", "dir/c.pdf"}),
        (ResetSelection(reason="ParserTimedOut"), {"a.pdf", "dir/c.pdf"}),
        (ResetSelection(paths=["dir"]), {"dir/b.pdf", "dir/c.pdf"}),
        (ResetSelection(paths=["dir/"]), {"dir/b.pdf", "dir/c.pdf"}),
        (ResetSelection(paths=[f"{SOURCE}/a.pdf"]), {"a.pdf"}),
        (ResetSelection(paths=["di"]), set()),
        (ResetSelection(paths=["", "/"]), set()),
        (ResetSelection(reason="NoText"), set()),
        (ResetSelection(stuck=True), set()),
    ],
)  # fmt: skip
def test_failed_files(failed: Connection, selection: ResetSelection, paths: set[str]) -> None:
    """Selected failed files wait for a new batch; all others stay as they were."""
    assert actions(failed, selection) == dict.fromkeys(paths, "try again")
    assert {file.path for file in ledger.waiting_files(failed)} == paths
    for path in {"a.pdf", "dir/b.pdf", "dir/c.pdf"} - paths:
        assert status_of(failed, path)[0] == "failed"


def test_dry_run(failed: Connection) -> None:
    """A dry run names the same files and changes none."""
    assert len(actions(failed, ResetSelection(failed=True), dry_run=True)) == 3
    assert list(ledger.waiting_files(failed)) == []


def test_unread_file(connection: Connection) -> None:
    """A file that was refused before it was read is looked at by the next catalog run, and stays failed until then."""
    listed = ListedFile("large.pdf", 10, "revision")
    files.record_refusals(connection, (files.ScannedFile(SOURCE, listed, 1), FileTooLarge("x")))
    assert actions(connection, ResetSelection(failed=True)) == {"large.pdf": "read again"}
    known = ledger.known_files(connection, SOURCE, ["large.pdf"])["large.pdf"]
    assert (known.status, known.revision) == ("failed", "")


def test_attempts_stay(connection: Connection) -> None:
    """The attempts of a file that is reset stay in its history; its kills are counted anew."""
    add_file(connection, "a.txt")
    batch = seal(connection)
    file = files_of(connection, batch)["a.txt"]
    ledger.open_attempt(connection, file, batch=batch, run_id="run", stage="chunks")
    ledger.close_attempt(connection, file, run_id="run", cost=AttemptCost(), error=ParserTimedOut("x"))
    files.refuse_file(connection, file.file_id, ParserTimedOut("x"), fingerprint=FINGERPRINT)
    connection.execute("UPDATE files SET kills = 2")
    reset_files(connection, ResetSelection(failed=True))
    assert connection.execute("SELECT attempts, kills FROM files").fetchall() == [(1, 0)]
    assert connection.execute("SELECT run_id, error FROM attempts").fetchall() == [("run", "ParserTimedOut")]


def test_stuck_files(connection: Connection) -> None:
    """Files that a lost batch left in the middle wait again; those of a batch at work stay."""
    add_file(connection, "stuck.txt")
    lost = seal(connection)
    connection.execute("UPDATE files SET status = 'processing'")
    batches.finish_batch(connection, lost)
    add_file(connection, "running.txt", "v2")
    running = seal(connection)
    batches.begin_batch(connection, running, "run")
    connection.execute("UPDATE files SET status = 'processing' WHERE path = 'running.txt'")
    assert actions(connection, ResetSelection(stuck=True)) == {"stuck.txt": "release"}
    assert [file.path for file in ledger.waiting_files(connection)] == ["stuck.txt"]


def test_given_up_batch(connection: Connection) -> None:
    """A batch that was given up waits again with its files."""
    add_file(connection, "a.txt")
    batch = seal(connection)
    connection.execute("UPDATE batches SET status = 'failed', failures = 3")
    reset_files(connection, ResetSelection(stuck=True))
    assert [(one.key, one.status, one.failures) for one in batches.list_batches(connection)] == [(batch, "waiting", 0)]


@pytest.mark.parametrize("selection", [ResetSelection(reason="ParserTimedOut"), ResetSelection(paths=["a.txt"])])
def test_gaps(connection: Connection, selection: ResetSelection) -> None:
    """A searchable file with gaps is parsed again, while readers see what they saw."""
    add_file(connection, "a.txt")
    file = files_of(connection, seal(connection))["a.txt"]
    generation = write(connection, file, ["one", "two"], CARD)
    gap = '[{"page_from": 2, "page_to": 3, "reason": "ParserTimedOut; given up from here on"}]'
    connection.execute(
        "UPDATE files SET status = 'indexed', gaps = %s, generation_id = %s", (gap, generation.generation_id)
    )
    assert actions(connection, selection) == {"a.txt": "parse again"}
    assert status_of(connection, "a.txt") == ("synced", None)
    again = write(connection, files_of(connection, seal(connection))["a.txt"], ["one", "two", "three"], CARD)
    assert again.generation_id != generation.generation_id
    assert connection.execute("SELECT generation_id FROM files").fetchone() == (generation.generation_id,)


def test_nothing_to_reset(connection: Connection) -> None:
    """A file that is in order is named, and left alone."""
    add_file(connection, "a.txt")
    assert actions(connection, ResetSelection(paths=["a.txt"])) == {"a.txt": "none"}
    assert status_of(connection, "a.txt") == ("synced", None)


def test_rejections_forgotten(connection: Connection) -> None:
    """The embedder is asked again for the texts that it rejected of a file that is reset."""
    add_file(connection, "a.txt")
    file = files_of(connection, seal(connection))["a.txt"]
    write(connection, file, ["one"], CARD)
    model = embedding_models.model_id(connection, CARD)
    connection.execute("INSERT INTO unembedded_texts SELECT %s, text_hash, 'rejected', 'x' FROM chunks", (model,))
    files.refuse_file(connection, file.file_id, TooManyRejected("x"), fingerprint=FINGERPRINT)
    reset_files(connection, ResetSelection(reason="TooManyRejected"))
    assert connection.execute("SELECT count(*) FROM unembedded_texts").fetchone() == (0,)
