"""Cases for one guard each, of chunks, vectors, entities and extracts: beside those of `cases.py`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from ingest_pipeline.chunking import text_hash
from ingest_pipeline.errors import NoText
from ingest_pipeline.models import TextEntities
from ingest_pipeline.store import embedding_models, entities, extracts, files, generations, vectors
from ingest_pipeline.store.connection import Connection, store
from ingest_pipeline.store.queries import query
from ingest_pipeline_tests.conftest import CARD
from ingest_pipeline_tests.crash.cases import two_files, waits
from ingest_pipeline_tests.crash.sessions import indexed
from ingest_pipeline_tests.documents import FINGERPRINT, SOURCE, add_file, files_of, seal, write

REJECTED = "INSERT INTO unembedded_texts (model_id, text_hash, state, reason) VALUES (%s, %s, 'rejected', 'why')"
ANSWERED = "INSERT INTO entity_texts (model, text_hash) VALUES ('m', %s)"


def a_new_model_answers_with_its_vectors(connection: Connection) -> None:
    """A file that is published under another model with all its vectors is shown under that one from then on."""
    indexed(connection, "a.txt", "v1")
    row = connection.execute("SELECT file_id, generation_id FROM files").fetchone()
    assert row is not None
    other = embedding_models.model_id(connection, replace(CARD, identity="e" * 64))
    files.requeue_indexed(connection, [row[0]])
    file = files_of(connection, seal(connection))["a.txt"]
    files.mark_processed(connection, file, generation_id=row[1], pages=2)
    connection.execute("INSERT INTO embeddings SELECT %s, text_hash, embedding FROM embeddings", (other,))
    assert files.publish(connection, file, row[1], fingerprint=FINGERPRINT, model=other)
    assert connection.execute("SELECT model_id FROM files").fetchone() == (other,)


def a_skipped_text_stays_skipped(connection: Connection) -> None:
    """A text that no answer came for twice is skipped; one that was answered once is not, whatever comes then."""
    for skipped in (True, True):
        entities.write_entities(connection, "m", [TextEntities(b"a", (), skipped)])
    assert connection.execute("SELECT skipped FROM entity_texts").fetchone() == (True,)
    for skipped in (False, True):
        entities.write_entities(connection, "m", [TextEntities(b"a", (), skipped)])
    assert connection.execute("SELECT skipped FROM entity_texts").fetchone() == (False,)


def a_plan_keeps_what_is_known(connection: Connection) -> None:
    """Parts that are planned again keep how they ended, also where an answer to their question came meanwhile."""
    batch, known = two_files(connection)
    generation = write(connection, known["a.txt"], ["text"], CARD).generation_id
    key = extracts.PlanKey(generation, "p", "1", "m", "v")
    parts = [extracts.PlannedPart(number, "", 1, 1, bytes([number])) for number in range(2)]
    extracts.write_plan(connection, key, parts)
    failed, skipped = extracts.waiting_parts(connection, key)
    extracts.fail_part(connection, failed, error="AnswerInvalid", message="why")
    extracts.skip_part(connection, skipped, "empty")
    connection.execute(
        "INSERT INTO extract_answers (content_hash, prompt_version, model, answer, prompt_tokens, completion_tokens, "
        "seconds) VALUES (%s, '1', 'm', '{}', 1, 1, 1)",
        (bytes([1]),),
    )
    extracts.write_plan(connection, key, parts)
    rows = connection.execute("SELECT status FROM section_extracts ORDER BY ordinal").fetchall()
    assert rows == [("failed",), ("skipped",)]
    extracts.reopen_parts(connection, batch)
    rows = connection.execute("SELECT status FROM section_extracts ORDER BY ordinal").fetchall()
    assert rows == [("waiting",), ("skipped",)]


def a_failed_section_is_not_asked_again(connection: Connection) -> None:
    """A section that lost its answer is asked about again; one that failed stays so."""
    _, known = two_files(connection)
    generation = write(connection, known["a.txt"], ["text"], CARD).generation_id
    connection.execute(
        "INSERT INTO section_extracts (generation_id, prompt, ordinal, title, page_from, page_to, content_hash, "
        "prompt_version, model, status) VALUES (%s, 'p', 0, '', 1, 1, '', '', '', 'failed')",
        (generation,),
    )
    connection.execute(query("repairs", "ask_again"), {"keys": [f"{generation} 0 p"]})
    assert connection.execute("SELECT status FROM section_extracts").fetchone() == ("failed",)


def uploads_of_ended_runs_are_left(connection: Connection) -> None:
    """What was uploaded is deleted by its own run and after its run has ended, not under another run at work."""
    batch, known = two_files(connection)
    upload = "INSERT INTO remote_files (name, provider, run_id) VALUES (%s, 'p', %s)"
    for name, run_id in (("at work", "run1"), ("ended", "run0"), ("of this run", "run2")):
        connection.execute(upload, (name, run_id))
    assert extracts.abandoned_remotes(connection, "p", run_id="run2") == ["ended", "of this run"]
    assert extracts.abandoned_remotes(connection, "p", run_id="run1") == ["at work", "ended", "of this run"]
    for file in known.values():
        files.refuse_file(connection, file.file_id, NoText("none"), fingerprint=FINGERPRINT)
    connection.execute("UPDATE batches SET status = 'done' WHERE batch = %s AND run_id = 'run1'", (batch,))
    assert extracts.abandoned_remotes(connection, "p", run_id="") == ["at work", "ended", "of this run"]


def questions_are_asked_once(connection: Connection) -> None:
    """A part that has its answer does not wait, nor does a text whose entities are known."""
    _, known = two_files(connection)
    generation = write(connection, known["a.txt"], ["one", "two"], CARD).generation_id
    key = extracts.PlanKey(generation, "p", "1", "m", "v")
    extracts.write_plan(connection, key, [extracts.PlannedPart(number, "", 1, 1, bytes([number])) for number in (0, 1)])
    first, _ = extracts.waiting_parts(connection, key)
    extracts.store_answer(connection, first, {}, prompt_tokens=1, completion_tokens=1, seconds=1.0)
    assert [part.ordinal for part in extracts.waiting_parts(connection, key)] == [1]
    connection.execute(ANSWERED, (text_hash("one"),))
    pending = entities.pending_texts(connection, "m", [generation], limit=9)
    assert [one.text for one in pending] == ["two"]


def other_bytes_are_not_shown(connection: Connection) -> None:
    """A file whose bytes have changed shows chunks of the old ones to readers, and none to its own run."""
    indexed(connection, "a.txt", "v1")
    connection.execute("UPDATE files SET status = 'synced', batch = NULL")
    assert generations.shown_of(connection, files_of(connection, seal(connection))["a.txt"])
    add_file(connection, "a.txt", "v2")
    assert generations.shown_of(connection, files_of(connection, seal(connection))["a.txt"]) is None


def a_model_is_noted_with_its_vectors(connection: Connection) -> None:
    """A model cannot answer for a generation while one of its chunks waits for a vector."""
    _, known = two_files(connection)
    generation = write(connection, known["a.txt"], ["text"], CARD).generation_id
    generations.note_model(connection, generation, embedding_models.model_id(connection, CARD))
    assert connection.execute("SELECT count(*) FROM generation_models").fetchone() == (0,)


def only_processed_files_have_sizes(connection: Connection) -> None:
    """A file that failed after its chunks were stored is not embedded."""
    batch, known = two_files(connection)
    for file in known.values():
        write(connection, file, [file.path], CARD)
    files.refuse_file(connection, known["a.txt"].file_id, NoText("none"), fingerprint=FINGERPRINT)
    assert list(generations.processed_sizes(connection, batch)) == [known["b.txt"].file_id]


def other_files_keep_nothing(connection: Connection) -> None:
    """Chunks that no file shows go, though a file with other bytes waits."""
    indexed(connection, "a.txt", "v1")
    files.delete_unseen(connection, SOURCE, 9)
    add_file(connection, "b.txt", "v2")
    assert generations.drop_unused_generations(connection) == 1


class Interrupted:
    """A session in which something happens before its DELETE, as what other sessions commit between two statements."""

    def __init__(self, connection: Connection, happens: Callable[[], object]) -> None:
        self._connection, self._happens = connection, happens

    def execute(self, statement: bytes, *parameters: Any) -> Any:
        """Execute a statement."""
        if statement.startswith(b"DELETE"):
            self._happens()
        return self._connection.execute(statement, *parameters)


def what_comes_to_be_used_stays(connection: Connection) -> None:
    """Chunks that a file shows, or waits for, since a sweep has listed and locked them are left alone."""
    indexed(connection, "a.txt", "v1")
    show = connection.execute("SELECT generation_id FROM files").fetchone()
    files.delete_unseen(connection, SOURCE, 9)
    shown = "UPDATE files SET generation_id = %s"
    for happens in (
        lambda: connection.execute(shown, show),
        lambda: add_file(connection, "b.txt", "v1"),
    ):
        with connection.transaction(force_rollback=True):
            swept = Interrupted(connection, happens)
            assert generations._drop_unused(swept, None) == 0  # type: ignore[arg-type]


def one_run_writes_a_generation(connection: Connection) -> None:
    """A run that wants the same bytes waits until the other one has stored their chunks, or has ended."""
    _, known = two_files(connection)
    generation = write(connection, known["a.txt"], ["text"], CARD).generation_id
    with store(connection.info.dsn) as other, ThreadPoolExecutor(1) as pool:
        with generations.held_generation(connection, generation):
            held = pool.submit(_hold, other, generation)
            waits(held)
        held.result(timeout=60)


def _hold(connection: Connection, generation: int) -> None:
    with generations.held_generation(connection, generation):
        pass


def only_failed_files_are_tried_again(connection: Connection) -> None:
    """A text that was rejected is tried again with its failed file; another file's stays rejected."""
    batch, known = two_files(connection)
    model = embedding_models.model_id(connection, CARD)
    for file in known.values():
        write(connection, file, [file.path], CARD)
        connection.execute(REJECTED, (model, text_hash(file.path)))
    files.refuse_file(connection, known["a.txt"].file_id, NoText("none"), fingerprint=FINGERPRINT)
    vectors.forget_rejections(connection, model, batch)
    left = connection.execute("SELECT text_hash FROM unembedded_texts").fetchall()
    assert left == [(text_hash("b.txt"),)]


def sweeps_leave_what_chunks_have(connection: Connection) -> None:
    """Vectors, rejections and answers of texts that chunks have are left by the sweeps."""
    indexed(connection, "a.txt", "v1")
    model = embedding_models.model_id(connection, CARD)
    row = connection.execute("SELECT text_hash FROM chunks LIMIT 1").fetchone()
    assert row is not None
    connection.execute(REJECTED, (model, row[0]))
    connection.execute(ANSWERED, row)
    vectors.drop_unused_vectors(connection)
    entities.drop_unused_entities(connection)
    for table in ("embeddings", "unembedded_texts", "entity_texts"):
        assert connection.execute(f"SELECT count(*) FROM {table} WHERE text_hash = %s", row).fetchone() == (1,), table  # type: ignore[arg-type]


CONTENT_CASES = (
    a_new_model_answers_with_its_vectors, a_skipped_text_stays_skipped, a_plan_keeps_what_is_known,
    a_failed_section_is_not_asked_again, uploads_of_ended_runs_are_left, questions_are_asked_once,
    other_bytes_are_not_shown, a_model_is_noted_with_its_vectors, only_processed_files_have_sizes,
    other_files_keep_nothing, what_comes_to_be_used_stays, one_run_writes_a_generation,
    only_failed_files_are_tried_again, sweeps_leave_what_chunks_have,
)  # fmt: skip
