"""What LLMs are asked about the parts of documents, and what they answered.

A part is written down before it is asked about, and so is the file that is uploaded for it: what a killed run leaves at
a provider can be found and deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from psycopg.rows import class_row, dict_row

from ingest_pipeline.errors import IngestError
from ingest_pipeline.store.connection import Connection, scalar

MAX_ATTEMPTS = 3
"""Of a part that the server failed with. What it answered and cannot be used is not asked again by itself."""
ROWS_AT_A_TIME = 100
MAX_TEXT_CHARACTERS = 64 * 1024

IS_PLANNED = "SELECT count(*) FROM extract_plans WHERE generation_id = %s AND prompt = %s AND plan_version = %s"
UPSERT_PART = """
INSERT INTO section_extracts AS x
    (generation_id, prompt, ordinal, title, page_from, page_to, content_hash, prompt_version, model)
VALUES (%(generation)s, %(prompt)s, %(ordinal)s, %(title)s, %(page_from)s, %(page_to)s, %(content_hash)s,
        %(prompt_version)s, %(model)s)
ON CONFLICT (generation_id, prompt, ordinal) DO UPDATE SET
    title = excluded.title, page_from = excluded.page_from, page_to = excluded.page_to,
    content_hash = excluded.content_hash, prompt_version = excluded.prompt_version, model = excluded.model,
    status = 'waiting', error = NULL, message = NULL, raw = NULL, attempts = 0, updated_at = now()
WHERE (x.content_hash, x.prompt_version, x.model) <> (excluded.content_hash, excluded.prompt_version, excluded.model)
"""
DROP_PARTS_AFTER = "DELETE FROM section_extracts WHERE generation_id = %s AND prompt = %s AND ordinal >= %s"
# Answers to the same question about the same text: of an older version, of another file, of an earlier run.
ADOPT_ANSWERS = """
UPDATE section_extracts x SET status = 'done', error = NULL, message = NULL, raw = NULL, updated_at = now()
FROM extract_answers a
WHERE x.generation_id = %s AND x.prompt = %s AND x.status IN ('waiting', 'failed')
  AND a.content_hash = x.content_hash AND a.prompt_version = x.prompt_version AND a.model = x.model
"""
RECORD_PLAN = """
INSERT INTO extract_plans (generation_id, prompt, plan_version) VALUES (%s, %s, %s)
ON CONFLICT (generation_id, prompt) DO UPDATE SET plan_version = excluded.plan_version
"""
NEXT_PARTS = """
SELECT generation_id, prompt, ordinal, title, page_from, page_to, content_hash, attempts FROM section_extracts
WHERE generation_id = %(generation)s AND prompt = %(prompt)s AND ordinal > %(after)s
  AND (status = 'waiting' OR status = 'failed' AND attempts < %(most)s)
ORDER BY ordinal LIMIT %(limit)s
"""
COUNT_PARTS = "SELECT count(*) FROM section_extracts WHERE generation_id = %s AND prompt = %s"
KEY = "generation_id = %(generation_id)s AND prompt = %(prompt)s AND ordinal = %(ordinal)s"
BEGIN = f"UPDATE section_extracts SET attempts = attempts + 1, updated_at = now() WHERE {KEY}"  # noqa: S608
GIVE_BACK = f"UPDATE section_extracts SET attempts = attempts - 1 WHERE {KEY}"  # noqa: S608
FAIL = f"""
UPDATE section_extracts SET status = %(status)s, error = %(error)s, message = %(message)s, raw = %(raw)s,
       attempts = CASE WHEN %(final)s THEN {MAX_ATTEMPTS} ELSE attempts END, updated_at = now()
WHERE {KEY}
"""  # noqa: S608
INSERT_ANSWER = """
INSERT INTO extract_answers
    (content_hash, prompt_version, model, answer, prompt_tokens, completion_tokens, seconds)
SELECT content_hash, prompt_version, model, %(answer)s::jsonb, %(prompt_tokens)s, %(completion_tokens)s, %(seconds)s
FROM section_extracts WHERE generation_id = %(generation_id)s AND prompt = %(prompt)s AND ordinal = %(ordinal)s
ON CONFLICT DO NOTHING
"""
DONE = f"""
UPDATE section_extracts SET status = 'done', error = NULL, message = NULL, raw = NULL, updated_at = now() WHERE {KEY}
"""  # noqa: S608
REOPEN = """
UPDATE section_extracts x SET status = 'waiting', attempts = 0 FROM files f
WHERE f.batch = %s AND x.generation_id IN (f.generation_id, f.next_generation_id) AND x.status = 'failed'
"""
NOTE_REMOTE = "INSERT INTO remote_files (name, provider, run_id) VALUES (%s, %s, %s)"
FORGET_REMOTE = "DELETE FROM remote_files WHERE name = %s"
# Of runs that are at work on nothing any more; a command's, which has no batch, after an hour.
ABANDONED = """
SELECT name FROM remote_files r WHERE provider = %(provider)s AND (run_id = %(run_id)s OR (
    NOT EXISTS (SELECT FROM batches b WHERE b.run_id = r.run_id AND b.status = 'running')
    AND (NOT starts_with(run_id, %(command)s) OR uploaded_at < now() - interval '1 hour')))
ORDER BY name
"""
COMMAND_RUN = "command-"
"""What the id of a run begins with that is a command's."""
BY_STATUS = """
SELECT x.status, count(*) FROM section_extracts x JOIN files f USING (generation_id)
WHERE (%(batch)s::text IS NULL OR f.batch = %(batch)s) AND x.prompt = %(prompt)s GROUP BY 1
"""
ASKED_AND_ALL = """
SELECT count(*) FILTER (WHERE x.status <> 'waiting')::int, count(*)::int
FROM section_extracts x JOIN files f USING (generation_id) WHERE f.batch = ANY(%s)
"""
FAILED_BY_REASON = """
SELECT x.error, count(*) FROM section_extracts x JOIN files f USING (generation_id)
WHERE f.batch = %s AND x.prompt = %s AND x.status = 'failed' GROUP BY 1 ORDER BY 2 DESC, 1
"""
ANSWERS = """
SELECT x.ordinal AS section, x.title, x.page_from, x.page_to, x.status, a.answer, a.prompt_tokens,
       a.completion_tokens, a.seconds, x.error, x.message
FROM section_extracts x
LEFT JOIN extract_answers a ON x.status = 'done' AND a.content_hash = x.content_hash
      AND a.prompt_version = x.prompt_version AND a.model = x.model
WHERE x.generation_id = %s AND x.prompt = %s AND x.ordinal > %s ORDER BY x.ordinal LIMIT 100
"""
CHUNKS_OF_PAGES = """
SELECT ordinal, text, text_hash FROM chunks
WHERE generation_id = %(generation)s AND page_to >= %(page_from)s AND page_from <= %(page_to)s
  AND ordinal > %(after)s ORDER BY ordinal LIMIT 256
"""
CHUNK_PLACES = """
SELECT ordinal, coalesce(heading, ''), page_from, page_to FROM chunks
WHERE generation_id = %s AND ordinal > %s ORDER BY ordinal LIMIT 256
"""
CHUNK = "SELECT text, text_hash FROM chunks WHERE generation_id = %s AND ordinal = %s"


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """A part of a document, and what is asked about it."""

    ordinal: int
    title: str
    page_from: int
    page_to: int
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class PlanKey:
    """What the parts of a generation are planned for."""

    generation_id: int
    prompt: str
    """Its name."""
    prompt_version: str
    model: str
    plan_version: str
    """Changes with what is asked about: files, sections, the sections file."""


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part that waits for an answer."""

    generation_id: int
    prompt: str
    ordinal: int
    title: str
    page_from: int
    page_to: int
    content_hash: bytes
    attempts: int

    @property
    def key(self) -> dict[str, Any]:
        """What it is known by."""
        return {"generation_id": self.generation_id, "prompt": self.prompt, "ordinal": self.ordinal}


def is_planned(connection: Connection, key: PlanKey) -> bool:
    """Return whether the parts of a generation are written down as they are asked about now."""
    return bool(scalar(connection, IS_PLANNED, (key.generation_id, key.prompt, key.plan_version)))


def write_plan(connection: Connection, key: PlanKey, parts: Iterable[PlannedPart]) -> int:
    """Write down the parts of a generation, in one transaction; return how many there are.

    Parts whose question is the same keep what is known of them; those that were answered elsewhere are done at once.
    """
    same = {"generation": key.generation_id, "prompt": key.prompt}
    same |= {"prompt_version": key.prompt_version, "model": key.model}
    rows, count = iter(parts), 0
    with connection.transaction(), connection.cursor() as cursor:
        while some := list(islice(rows, ROWS_AT_A_TIME)):
            cursor.executemany(UPSERT_PART, [same | _columns(part) for part in some])
            count += len(some)
        cursor.execute(DROP_PARTS_AFTER, (key.generation_id, key.prompt, count))
        cursor.execute(ADOPT_ANSWERS, (key.generation_id, key.prompt))
        cursor.execute(RECORD_PLAN, (key.generation_id, key.prompt, key.plan_version))
    return count


def fail_plan(connection: Connection, key: PlanKey, error: IngestError) -> None:
    """Note why a generation could not be divided into parts: one part that failed says so."""
    with connection.transaction():
        write_plan(connection, key, [PlannedPart(0, "sections file", 1, 1, b"")])
        part = StoredPart(key.generation_id, key.prompt, 0, "", 1, 1, b"", 0)
        fail_part(connection, part, error=error.reason, message=str(error))


def waiting_parts(connection: Connection, key: PlanKey) -> Iterator[StoredPart]:
    """Yield the parts of a generation that wait for an answer, in order; 100 in memory."""
    after = -1
    wanted = {"generation": key.generation_id, "prompt": key.prompt, "most": MAX_ATTEMPTS, "limit": ROWS_AT_A_TIME}
    while True:
        with connection.cursor(row_factory=class_row(StoredPart)) as cursor:
            parts = cursor.execute(NEXT_PARTS, wanted | {"after": after}).fetchall()
        yield from parts
        if len(parts) < ROWS_AT_A_TIME:
            return
        after = parts[-1].ordinal


def count_parts(connection: Connection, key: PlanKey) -> int:
    """Return how many parts a generation has."""
    return int(scalar(connection, COUNT_PARTS, (key.generation_id, key.prompt)))


def begin_part(connection: Connection, part: StoredPart, *, remote_name: str, provider: str, run_id: str) -> None:
    """Write down, before it begins, that a part is asked about, and the name of the file that will be uploaded."""
    with connection.transaction():
        connection.execute(BEGIN.encode(), part.key)
        if remote_name:
            connection.execute(NOTE_REMOTE, (remote_name, provider, run_id))


def give_back_part(connection: Connection, part: StoredPart) -> None:
    """Take back the last attempt: that it failed was no fault of the part."""
    connection.execute(GIVE_BACK.encode(), part.key)


def store_answer(
    connection: Connection, part: StoredPart, answer: Any, *, prompt_tokens: int, completion_tokens: int, seconds: float
) -> None:
    """Store an answer: it was paid for, so the commit waits for the disk."""
    known = {"answer": json.dumps(answer), "prompt_tokens": prompt_tokens}
    known |= {"completion_tokens": completion_tokens, "seconds": seconds}
    with connection.transaction():
        connection.execute(INSERT_ANSWER, part.key | known)
        connection.execute(DONE.encode(), part.key)


def fail_part(
    connection: Connection, part: StoredPart, *, error: str, message: str, raw: str = "", final: bool = True
) -> None:
    """Note why a part has no answer; `final`: it is not asked about again by itself."""
    texts = {"message": _storable(message), "raw": _storable(raw) or None}
    connection.execute(FAIL.encode(), part.key | texts | {"status": "failed", "error": error, "final": final})


def skip_part(connection: Connection, part: StoredPart, message: str) -> None:
    """Note that there is nothing to ask about."""
    reason = {"status": "skipped", "error": None, "message": message, "raw": None, "final": True}
    connection.execute(FAIL.encode(), part.key | reason)


def reopen_parts(connection: Connection, batch: str) -> int:
    """Give the failed parts of a batch's files another chance: it was materialized by hand; return how many."""
    return connection.execute(REOPEN, (batch,)).rowcount


def forget_remote(connection: Connection, name: str) -> None:
    """Note that a file is not at the provider any more."""
    connection.execute(FORGET_REMOTE, (name,))


def abandoned_remotes(connection: Connection, provider: str, *, run_id: str) -> list[str]:
    """Return the names of files that ended runs left at a provider, and this run before."""
    wanted = {"provider": provider, "run_id": run_id, "command": COMMAND_RUN}
    return [name for (name,) in connection.execute(ABANDONED, wanted)]


def counts_by_status(connection: Connection, prompt: str, *, batch: str | None = None) -> dict[str, int]:
    """Return how many parts of files that readers see have each status, in a batch or in all."""
    return dict(connection.execute(BY_STATUS, {"batch": batch, "prompt": prompt}).fetchall())


def asked_and_all(connection: Connection, batches: Sequence[str]) -> tuple[int, int]:
    """Return how many parts of the files of some batches were asked about, and how many there are."""
    asked, parts = connection.execute(ASKED_AND_ALL, (list(batches),)).fetchone() or (0, 0)
    return asked, parts


def failures_by_reason(connection: Connection, prompt: str, *, batch: str) -> dict[str, int]:
    """Return how many parts of a batch's files failed for each reason."""
    return dict(connection.execute(FAILED_BY_REASON, (batch, prompt)).fetchall())


def answers_of(connection: Connection, generation_id: int, prompt: str, *, after: int = -1) -> Iterator[dict[str, Any]]:
    """Yield what is known of each part of a generation behind a number, in order; 100 in memory."""
    while True:
        with connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(ANSWERS, (generation_id, prompt, after)).fetchall()
        yield from rows
        if len(rows) < ROWS_AT_A_TIME:
            return
        after = rows[-1]["section"]


def texts_of_pages(
    connection: Connection, generation_id: int, page_from: int, page_to: int
) -> Iterator[tuple[str, bytes]]:
    """Yield text and hash of each chunk that stands on some pages, in order; 256 in memory."""
    wanted = {"generation": generation_id, "page_from": page_from, "page_to": page_to, "after": -1}
    while rows := connection.execute(CHUNKS_OF_PAGES, wanted).fetchall():
        yield from ((text, text_hash) for _, text, text_hash in rows)
        wanted["after"] = rows[-1][0]


def chunk_places(connection: Connection, generation_id: int) -> Iterator[tuple[int, str, int, int]]:
    """Yield ordinal, heading and pages of each chunk, in order; 256 in memory."""
    last = -1
    while rows := connection.execute(CHUNK_PLACES, (generation_id, last)).fetchall():
        yield from rows
        last = rows[-1][0]


def chunk_text(connection: Connection, generation_id: int, ordinal: int) -> tuple[str, bytes]:
    """Return text and hash of a chunk.

    Raises:
        LookupError: there is none.
    """
    row = connection.execute(CHUNK, (generation_id, ordinal)).fetchone()
    if row is None:
        raise LookupError(f"generation {generation_id} has no chunk {ordinal}")
    return row[0], row[1]


def _columns(part: PlannedPart) -> dict[str, Any]:
    names = ("ordinal", "page_from", "page_to", "content_hash")
    return {name: getattr(part, name) for name in names} | {"title": _storable(part.title)}


def _storable(text: str) -> str:
    return text.replace("\x00", "")[:MAX_TEXT_CHARACTERS]
