"""The edges that each statement of `files.sql` really has, beside those of the table in `files.py`.

One file is put into each status, with everything else as the statement wants it, and the statement is executed. Then
one thing is made different that must keep it from doing anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from psycopg import Rollback

from ingest_pipeline.chunking import text_hash
from ingest_pipeline.errors import NoText
from ingest_pipeline.models import START, FileCost, ListedFile, ParsedFile, RawFile
from ingest_pipeline.store import embedding_models, files, generations, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder
from ingest_pipeline_tests.documents import FINGERPRINT, chunk, seal

STATUSES = ("synced", "processing", "processed", "indexed", "failed", "deleted")
ANY = frozenset(STATUSES)
UNFINISHED = frozenset({"synced", "processing", "processed"})
SOURCE, PATH, VERSION, TEXT = "/documents", "a.txt", "v1", "text"
TABLE_ROW = re.compile(r"^\| (\w*) +\| `(\w+)` *\| (.+?) +\|$", re.MULTILINE)
Edge = tuple[str, str, str]
"""Function, status before, status after."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The file that statements are tried on, and what it belongs to."""

    connection: Connection
    file: RawFile
    generation: int
    batch: str
    model: int

    def scanned(self) -> files.ScannedFile:
        return files.ScannedFile(SOURCE, ListedFile(PATH, 5, "2"), 2, version=VERSION, media_type="text/plain")


@dataclass(frozen=True, slots=True)
class Call:
    """How a function of `files.py` is called, and when its statement must do nothing."""

    function: str
    statement: str
    call: Callable[[Subject], object]
    acts: frozenset[str]
    """The statuses in which it changes the row at all."""
    ready: str = ""
    """What the store must be like for it."""
    blocked: dict[str, str] = field(default_factory=dict)
    """What must keep it from changing anything, by a word for it."""


SHOWS = "UPDATE files SET generation_id = next_generation_id, model_id = %(model)s"
NO_VECTOR = "DELETE FROM embeddings"
INCOMPLETE = "UPDATE generations SET complete = false"
OTHER_VERSION = "UPDATE files SET version = 'v2'"
OTHER_BATCH = "UPDATE files SET batch = NULL"
WAITING_PART = """INSERT INTO section_extracts (generation_id, prompt, ordinal, title, page_from, page_to, content_hash,
    prompt_version, model) VALUES (%(generation)s, 'p', 0, '', 1, 1, '', '', '')"""
PLANNED = "INSERT INTO extract_plans VALUES (%(generation)s, 'p', 'v1')"
EXTRACT = {"prompt": "p", "plan_version": "v", "max_attempts": 3}
FREE = "UPDATE batches SET status = 'done' WHERE batch <> 'other'"
ENDED = "UPDATE batches SET status = 'failed' WHERE batch <> 'other'"
OTHER = """INSERT INTO batches (batch, status, memory_limit_bytes, predicted_peak_bytes, predicted_seconds)
    VALUES ('other', 'running', 1, 1, 1)"""
RETIRED = "UPDATE generations SET fingerprint = 'another'"


def ids(subject: Subject) -> list[int]:
    return [subject.file.file_id]


CALLS = (
    Call("record_versions", "record_version", lambda s: files.record_versions(s.connection, s.scanned()), ANY),
    Call(
        "record_refusals", "record_refusal",
        lambda s: files.record_refusals(s.connection, (s.scanned(), NoText("none"))), ANY,
    ),
    Call(
        "mark_seen", "mark_seen", lambda s: files.mark_seen(s.connection, SOURCE, [PATH], 2), ANY,
        blocked={"an older scan": "UPDATE files SET last_scan = 3", "another source": "UPDATE files SET source = '/x'"},
    ),
    Call(
        "record_touches", "record_touch", lambda s: files.record_touches(s.connection, s.scanned()), ANY,
        blocked={"another path": "UPDATE files SET path = 'b.txt'"},
    ),
    Call("forget_revision", "forget_revision", lambda s: files.forget_revision(s.connection, s.file), ANY),
    Call(
        "delete_unseen", "delete_unseen", lambda s: files.delete_unseen(s.connection, SOURCE, 2), ANY - {"deleted"},
        blocked={"seen": "UPDATE files SET last_scan = 2", "another source": "UPDATE files SET source = '/x'"},
    ),
    Call(
        "adopt_known_versions", "adopt_known_versions",
        lambda s: files.adopt_known_versions(s.connection, FINGERPRINT, model=s.model), frozenset({"synced"}),
        blocked={
            "another version": OTHER_VERSION, "incomplete": INCOMPLETE, "a chunk waits": NO_VECTOR,
            "another fingerprint": RETIRED, "shown already": SHOWS,
            "the model cannot answer": "DELETE FROM generation_models",
        },
    ),
    Call(
        "show_under_model", "show_under_model", lambda s: files.show_under_model(s.connection, s.model),
        frozenset({"indexed"}), "UPDATE files SET generation_id = next_generation_id, model_id = NULL",
        {"shown under it": SHOWS, "the model cannot answer": "DELETE FROM generation_models"},
    ),
    Call("forget_model", "forget_model", lambda s: files.forget_model(s.connection, s.model), ANY, SHOWS),
    Call(
        "requeue_outdated", "requeue_outdated", lambda s: files.requeue_outdated(s.connection, ["another"]),
        frozenset({"indexed", "failed"}),
        blocked={
            "a valid fingerprint": "UPDATE files SET fingerprint = 'another'",
            "none": "UPDATE files SET fingerprint = NULL",
            "no parser": "UPDATE files SET fingerprint = 'formats:1'",
            "never read": "UPDATE files SET version = '', batch = NULL",
        },
    ),
    Call(
        "requeue_affordable", "requeue_affordable", lambda s: files.requeue_affordable(s.connection, 10),
        frozenset({"failed"}), "UPDATE files SET error = 'FileNeedsMoreMemory'",
        {"too large": "UPDATE files SET predicted_peak_bytes = 11", "another reason": "UPDATE files SET error = 'x'"},
    ),
    Call(
        "requeue_with_gaps", "requeue_with_gaps", lambda s: files.requeue_with_gaps(s.connection),
        frozenset({"failed"}), "UPDATE files SET error = 'UnreadablePages'",
        {"another reason": "UPDATE files SET error = 'NoText'"},
    ),
    Call(
        "requeue_without_vector", "requeue_without_vector",
        lambda s: files.requeue_without_vector(s.connection, s.model), frozenset({"indexed"}), f"{SHOWS};{NO_VECTOR}",
        {"no chunk waits": "INSERT INTO unembedded_texts SELECT %(model)s, text_hash, 'deferred' FROM chunks"},
    ),
    Call(
        "requeue_without_extract", "requeue_without_extract",
        lambda s: files.requeue_without_extract(s.connection, **EXTRACT, given_up=False),  # type: ignore[arg-type]
        frozenset({"indexed"}), f"{SHOWS};{FREE};{PLANNED};{WAITING_PART}",
        {
            "a batch at work": "UPDATE batches SET status = 'running'", "a batch given up": ENDED,
            "all is answered": "UPDATE section_extracts SET status = 'done'",
            "no more attempts": "UPDATE section_extracts SET status = 'failed', attempts = 3",
        },
    ),
    Call(
        "requeue_without_extract", "requeue_without_extract",
        lambda s: files.requeue_without_extract(s.connection, **EXTRACT, given_up=True),  # type: ignore[arg-type]
        frozenset({"indexed"}), f"{SHOWS};{ENDED}",
        {"it is planned": PLANNED, "a batch waits": "UPDATE batches SET status = 'waiting'"},
    ),
    Call(
        "requeue_without_entities", "requeue_without_entities",
        lambda s: files.requeue_without_entities(s.connection, "m", given_up=False), frozenset({"indexed"}),
        f"{SHOWS};{FREE}",
        {
            "it was read": "INSERT INTO entity_texts SELECT 'm', text_hash, false FROM chunks",
            "a batch at work": "UPDATE batches SET status = 'running'", "a batch given up": ENDED,
        },
    ),
    Call(
        "requeue_unparsed", "requeue_unparsed",
        lambda s: files.requeue_unparsed(s.connection, s.batch, fingerprint=FINGERPRINT, card=CARD),
        frozenset({"processed"}), RETIRED,
        {"as the run parses": f"UPDATE generations SET fingerprint = '{FINGERPRINT}:text/plain'", "batch": OTHER_BATCH},
    ),
    Call(
        "requeue_unparsed", "requeue_unparsed",
        lambda s: files.requeue_unparsed(s.connection, s.batch, fingerprint=FINGERPRINT, card=CARD),
        frozenset({"processed"}), "UPDATE generations SET version = 'v2'",
    ),
    Call(
        "requeue_unparsed", "requeue_unparsed",
        lambda s: files.requeue_unparsed(s.connection, s.batch, fingerprint=FINGERPRINT, card=CARD),
        frozenset({"processed"}), INCOMPLETE,
    ),
    Call(
        "requeue_unparsed", "requeue_unparsed",
        lambda s: files.requeue_unparsed(s.connection, s.batch, fingerprint=FINGERPRINT, card=CARD),
        frozenset({"processed"}), "UPDATE generation_lengths SET longest_tokens = 1000",
    ),
    Call(
        "reopen_failed", "reopen_failed", lambda s: files.reopen_failed(s.connection, s.batch), frozenset({"failed"}),
        blocked={"another batch": OTHER_BATCH},
    ),
    Call(
        "reset_failed", "reset_failed", lambda s: files.reset_failed(s.connection, ids(s)), frozenset({"failed"}),
        blocked={
            "never read": "UPDATE files SET version = '', batch = NULL",
            "no parser": "UPDATE files SET fingerprint = 'formats:1'",
        },
    ),
    Call("look_again", "look_again", lambda s: files.look_again(s.connection, ids(s)), frozenset({"failed"})),
    Call(
        "release_stuck", "release_stuck", lambda s: files.release_stuck(s.connection, ids(s)), UNFINISHED, FREE,
        {"the batch waits": "UPDATE batches SET status = 'waiting'",
         "a run works": "UPDATE batches SET status = 'running'"},
    ),
    Call(
        "release_stuck", "release_stuck", lambda s: files.release_stuck(s.connection, ids(s)), UNFINISHED,
        OTHER_VERSION,
    ),
    Call(
        "release_stuck", "release_stuck", lambda s: files.release_stuck(s.connection, ids(s)), UNFINISHED,
        f"{FREE};INSERT INTO batch_files SELECT 'other', file_id, version FROM files",
    ),
    Call("requeue_indexed", "requeue_indexed", lambda s: files.requeue_indexed(s.connection, ids(s)),
         frozenset({"indexed"})),
    Call("withdraw_files", "withdraw", lambda s: files.withdraw_files(s.connection, ids(s)), ANY, SHOWS),
    Call(
        "withdraw_files", "forget_revisions", lambda s: files.withdraw_and_read(s.connection, ids(s)), ANY, SHOWS
    ),
    Call(
        "withdraw_generations", "withdraw_generations",
        lambda s: files.withdraw_generations(s.connection, [s.generation]), ANY, SHOWS,
        {"another generation": "UPDATE files SET generation_id = NULL, next_generation_id = NULL"},
    ),
    Call(
        "withdraw_generations", "withdraw_generations",
        lambda s: files.withdraw_generations(s.connection, [s.generation]), frozenset({"processed"}),
    ),
    Call(
        "refuse_unread", "refuse_unread", lambda s: files.refuse_unread(s.connection, ids(s)), UNFINISHED,
        "UPDATE files SET version = '', batch = NULL", {"it was read": "UPDATE files SET version = 'v1'"},
    ),
    Call(
        "explain_failure", "explain_failure", lambda s: files.explain_failure(s.connection, ids(s)),
        frozenset({"failed"}), "UPDATE files SET error = NULL", {"a reason": "UPDATE files SET error = 'NoText'"},
    ),
    Call(
        "assign_batch", "assign_batch",
        lambda s: files.assign_batch(s.connection, s.batch, [FileCost(s.file.file_id, "", VERSION, 7, 1.0, False)]),
        frozenset({"synced"}), OTHER_BATCH,
        {"another version": OTHER_VERSION, "it has one": "UPDATE files SET batch = 'other'"},
    ),
    Call(
        "dissolve_waiting", "dissolve_waiting", lambda s: files.dissolve_waiting(s.connection, memory_limit_bytes=1),
        UNFINISHED,
        blocked={
            "a run works": "UPDATE batches SET status = 'running'", "it has ended": FREE,
            "the same budget": "UPDATE batches SET memory_limit_bytes = 1", "no batch": OTHER_BATCH,
        },
    ),
    Call(
        "begin_attempt", "begin_attempt",
        lambda s: files.begin_attempt(s.connection, s.file, batch=s.batch, is_new=True), ANY,
    ),
    Call("begin_attempt", "begin_attempt",
         lambda s: files.begin_attempt(s.connection, s.file, batch=s.batch, is_new=False),
         frozenset({"synced"}),
        blocked={"another batch": OTHER_BATCH}),
    Call(
        "add_cost", "add_cost",
        lambda s: files.add_cost(
            s.connection, s.file,
            {"parse_peak_bytes": 1, "embed_peak_bytes": 1, "parse_seconds": 1.0, "embed_seconds": 0.0},
        ), ANY,
    ),
    Call(
        "mark_processed", "mark_processed",
        lambda s: files.mark_processed(s.connection, s.file, generation_id=s.generation, pages=9), UNFINISHED,
        blocked={"another version": OTHER_VERSION, "no batch": OTHER_BATCH},
    ),
    Call(
        "publish", "publish",
        lambda s: files.publish(s.connection, s.file, s.generation, fingerprint=FINGERPRINT, model=s.model),
        frozenset({"processed"}),
        blocked={"another version": OTHER_VERSION, "incomplete": INCOMPLETE, "a chunk waits": NO_VECTOR},
    ),
    Call(
        "refuse_file", "refuse_file",
        lambda s: files.refuse_file(
            s.connection, s.file.file_id, NoText("none"), fingerprint=FINGERPRINT, version=VERSION
        ), ANY, blocked={"another version": OTHER_VERSION},
    ),
    Call(
        "attribute_kills", "attribute_kill", lambda s: files.attribute_kills(s.connection, ids(s), s.batch),
        frozenset({"processing", "processed"}), blocked={"another batch": OTHER_BATCH},
    ),
    Call(
        "release_batch", "release_batch", lambda s: files.release_batch(s.connection, s.batch),
        frozenset({"processing"}), blocked={"another batch": OTHER_BATCH},
    ),
)  # fmt: skip
NOT_TRIED = {
    "erase_file": "it deletes the row in whatever status",
    "rename_source": "it changes no status: the files of a restored ledger have another place",
}


def table_edges() -> set[Edge]:
    """Return the edges that the table in the docstring of `files.py` has."""
    edges, becomes = set[Edge](), ""
    for status, function, text in TABLE_ROW.findall(files.__doc__ or ""):
        becomes = status or becomes
        named = [word for word in re.findall(r"\w+", text.split(";")[0]) if word in STATUSES]
        before = STATUSES if text.startswith("any") else named
        edges |= {(function, one, becomes) for one in before if one != becomes}
    return edges


def subject_in(connection: Connection) -> Subject:
    """Return a file whose bytes are stored and embedded, sealed in a batch, in an empty store."""
    listed = ListedFile(PATH, 5, "1")
    files.record_versions(connection, files.ScannedFile(SOURCE, listed, 1, version=VERSION, media_type="text/plain"))
    batch, model = seal(connection), embedding_models.model_id(connection, CARD)
    row = connection.execute("SELECT file_id FROM files").fetchone()
    assert row is not None
    file = RawFile(row[0], SOURCE, PATH, VERSION, 5, "1", "text/plain")
    fingerprint = f"{FINGERPRINT}:text/plain"
    with generations.claimed_generation(connection, file, fingerprint=fingerprint, card=CARD) as generation:
        generations.write_chunks(connection, generation, [(chunk(0, TEXT), text_hash(TEXT))], checkpoint=START, gaps=[])
    generations.complete_generation(connection, generation, ParsedFile(pages=1))
    pending = vectors.pending_chunks(connection, model, [generation.generation_id], limit=1)
    vectors.write_vectors(connection, model, pending, FakeEmbedder().embed([TEXT]))
    generations.note_model(connection, generation.generation_id, model)
    connection.execute(OTHER)  # a batch at work that has nothing to do with the file
    return Subject(connection, file, generation.generation_id, batch, model)


def effect(subject: Subject, call: Call, status: str, blocked: str = "") -> tuple[str, bool]:
    """Return the status after a call in this one, and whether the row has changed; nothing stays."""
    with _tried(subject, call, status, blocked):
        before = _row(subject)
        call.call(subject)
        after = _row(subject)
    return str(after["status"]), after != before


@contextmanager
def _tried(subject: Subject, call: Call, status: str, blocked: str) -> Iterator[None]:
    with subject.connection.transaction():
        _put(
            subject,
            f"UPDATE files SET status = '{status}', error = CASE '{status}' WHEN 'failed' THEN 'NoText' END, "
            f"fingerprint = '{FINGERPRINT}', predicted_peak_bytes = 10, next_generation_id = %(generation)s",
        )
        for statement in [*call.ready.split(";"), *blocked.split(";")]:
            if statement:
                _put(subject, statement)
        yield
        raise Rollback


def _put(subject: Subject, statement: str) -> None:
    known = {"model": subject.model, "generation": subject.generation}
    subject.connection.execute(statement, {name: known[name] for name in known if f"%({name})s" in statement})  # type: ignore[call-overload]


def _row(subject: Subject) -> dict[str, object]:
    cursor = subject.connection.execute("SELECT * FROM files")
    [row] = cursor.fetchall()
    names = [column.name for column in cursor.description or []]
    return {name: value for name, value in zip(names, row, strict=True) if name != "updated_at"}
