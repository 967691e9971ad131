"""Generations: the chunks of one version of some bytes, written page by page, shown to readers all at once.

A file's new version becomes searchable in one short transaction (`publish_file`), when its last vector is in.
Until then readers see the old generation; no reader ever sees half a document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import Cursor
from psycopg.rows import class_row

from ingest_pipeline.models import Checkpoint, Chunk, Gap, ModelCard, ParsedFile, RawFile, Section
from ingest_pipeline.store import files, locks
from ingest_pipeline.store.connection import Connection, repeatable, scalar

LOCK_SPACE = 7261  # our half of the advisory locks' two-integer space
HOLD, LET_GO = "SELECT pg_advisory_lock(%s, %s)", "SELECT pg_advisory_unlock(%s, %s)"

CLAIM = """
INSERT INTO generations (version, fingerprint, tokenizer, max_tokens) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
COLUMNS = """
SELECT generations.generation_id, complete, generations.pages, generations.gaps, generations.warnings,
       checkpoint_pages, checkpoint_characters, checkpoint_chunks
FROM generations
"""
SELECT_CLAIMED = COLUMNS + "WHERE version = %s AND fingerprint = %s AND tokenizer = %s AND max_tokens = %s"
SELECT_SHOWN = (
    COLUMNS
    + """
JOIN files USING (generation_id) WHERE files.file_id = %s AND generations.version = %s
"""
)
PAGE_OF = "SELECT page_to FROM chunks WHERE generation_id = %s AND ordinal = %s"
SELECT_GENERATION = COLUMNS + "WHERE generation_id = %s"
# Complete ones of the same text, made for another model; what readers see first.
COMPLETE_ONES = (
    COLUMNS
    + """
WHERE version = %s AND fingerprint = %s AND complete
ORDER BY EXISTS (SELECT FROM files f WHERE f.generation_id = generations.generation_id) DESC, generation_id DESC
"""
)
INSERT_CHUNK = """
INSERT INTO chunks (generation_id, ordinal, page_from, page_to, char_from, char_to, tokens, heading,
                    page_label, section, text, text_hash)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
SELECT_SECTIONS = """
SELECT ordinal, level, title, path, page_from, page_to FROM sections WHERE generation_id = %s ORDER BY ordinal
"""
UPSERT_SECTION = """
INSERT INTO sections (generation_id, ordinal, level, title, path, page_from, page_to)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (generation_id, ordinal) DO UPDATE SET level = excluded.level, title = excluded.title,
    path = excluded.path, page_from = excluded.page_from, page_to = excluded.page_to
"""
DROP_SECTIONS_AFTER_CHECKPOINT = """
DELETE FROM sections s USING generations g
WHERE g.generation_id = %s AND s.generation_id = g.generation_id AND s.page_from > g.checkpoint_pages
"""
SAVE_CHECKPOINT = """
UPDATE generations SET checkpoint_pages = %s, checkpoint_characters = %s, checkpoint_chunks = %s,
       gaps = %s, warnings = %s WHERE generation_id = %s
"""
FORGET_CHECKPOINT = """
UPDATE generations SET checkpoint_pages = 0, checkpoint_characters = 0, checkpoint_chunks = 0, gaps = '[]',
       warnings = '[]'
WHERE generation_id = %s AND NOT complete
"""
DROP_AFTER_CHECKPOINT = """
DELETE FROM chunks c USING generations g
WHERE g.generation_id = %s AND c.generation_id = g.generation_id AND c.ordinal >= g.checkpoint_chunks
"""
COMPLETE = """
WITH sizes AS (
    SELECT count(*) AS chunks, coalesce(sum(tokens), 0) AS tokens, coalesce(max(tokens), 0) AS longest
    FROM chunks WHERE generation_id = %(generation)s
), completed AS (
    UPDATE generations g SET complete = true, pages = %(pages)s, title = %(title)s, gaps = %(gaps)s,
           warnings = %(warnings)s, limits = %(limits)s, chunks = sizes.chunks, tokens = sizes.tokens
    FROM sizes WHERE g.generation_id = %(generation)s
    RETURNING g.generation_id, g.tokenizer, sizes.longest
)
INSERT INTO generation_lengths (generation_id, tokenizer, longest_tokens) SELECT * FROM completed
ON CONFLICT (generation_id, tokenizer) DO UPDATE SET longest_tokens = excluded.longest_tokens
"""
NOTE_MODEL = """
INSERT INTO generation_models (generation_id, model_id) SELECT %(generation)s, %(model)s
WHERE NOT EXISTS (SELECT FROM chunk_states WHERE generation_id = %(generation)s AND model_id = %(model)s
                  AND state IN ('waiting', 'deferred'))
ON CONFLICT DO NOTHING
"""
SHOWN_AT = """
SELECT DISTINCT generation_id FROM files WHERE generation_id IS NOT NULL
  AND (source || '/' || path = %(path)s OR right(source || '/' || path, length(%(path)s) + 1) = '/' || %(path)s)
"""
SHOWN_WAITING = """
SELECT DISTINCT f.generation_id FROM files f WHERE f.generation_id IS NOT NULL
  AND EXISTS (SELECT FROM waiting_chunks c WHERE c.generation_id = f.generation_id AND c.model_id = %s)
ORDER BY 1
"""
PROCESSED_SIZES = """
SELECT f.file_id, g.generation_id, g.chunks FROM files f
JOIN generations g ON g.generation_id = f.next_generation_id AND g.complete
WHERE f.batch = %(batch)s AND f.status = 'processed'
"""
# Another generation can be made of the same bytes then, while readers go on seeing this one.
RETIRE = """
UPDATE generations SET fingerprint = fingerprint || ' retired ' || generation_id
WHERE generation_id = ANY(%s) AND position(' retired ' IN fingerprint) = 0
"""
SHOWN_BY = "SELECT DISTINCT generation_id FROM files WHERE file_id = ANY(%s) AND generation_id IS NOT NULL"
DELETE = "DELETE FROM generations WHERE generation_id = ANY(%s)"
LIVE = "SELECT generation_id FROM files WHERE file_id = %s"
# No file shows it, and no file that waits will.
UNUSED = """
NOT EXISTS (SELECT FROM files f WHERE f.generation_id = g.generation_id)
  AND NOT EXISTS (SELECT FROM files f WHERE f.version = g.version
                  AND f.status IN ('synced', 'processing', 'processed'))
"""
# A file may come to show it while this is under way. So it is locked first, unless somebody is just making use of it:
# then no file can refer to it any more, and the second statement sees those that do already.
LOCK_UNUSED = f"""
SELECT g.generation_id FROM generations g
WHERE (%(generation)s::bigint IS NULL OR g.generation_id = %(generation)s) AND {UNUSED}
FOR UPDATE SKIP LOCKED
"""  # noqa: S608
DROP_UNUSED = f"DELETE FROM generations g WHERE g.generation_id = ANY(%s) AND {UNUSED}"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Generation:
    """The chunks of one version under one fingerprint, and how far they have come."""

    generation_id: int
    complete: bool
    pages: int
    gaps: tuple[Gap, ...]
    warnings: tuple[str, ...]
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class GenerationSize:
    """The generation that a file waits for, and how many chunks it has."""

    file_id: int
    generation_id: int
    chunks: int


@contextmanager
def claimed_generation(
    connection: Connection, file: RawFile, *, fingerprint: str, card: ModelCard
) -> Iterator[Generation]:
    """Hold the generation of a file's bytes whose chunks are cut for a model; it is begun if there is none."""
    key = (file.version, fingerprint, card.tokenizer, card.max_tokens)
    with repeatable(connection):
        connection.execute(CLAIM, key)
    [generation] = _select(connection, SELECT_CLAIMED, key)
    with held_generation(connection, generation.generation_id) as held:
        yield held


@contextmanager
def held_generation(connection: Connection, generation_id: int) -> Iterator[Generation]:
    """Hold one generation for this process: who else wants the same bytes waits here, then finds them done.

    The lock belongs to the connection, so it ends with the process, however that ends.

    Raises:
        LookupError: there is no such generation.
    """
    key = (LOCK_SPACE, generation_id % 2**31)
    connection.execute(HOLD, key)
    try:
        yield find_generation(connection, generation_id)
    finally:
        if not connection.broken:
            connection.execute(LET_GO, key)


def complete_generations(connection: Connection, file: RawFile, *, fingerprint: str) -> list[Generation]:
    """Return the complete generations of a file's bytes, for whatever model; first the one that readers see."""
    return _select(connection, COMPLETE_ONES, (file.version, fingerprint))


def resume_generation(connection: Connection, generation: Generation) -> tuple[Checkpoint, list[Section]]:
    """Return where to go on and the sections up to there; drop what came after: it may be cut differently this time."""
    with repeatable(connection):
        connection.execute(DROP_AFTER_CHECKPOINT, (generation.generation_id,))
        connection.execute(DROP_SECTIONS_AFTER_CHECKPOINT, (generation.generation_id,))
    return generation.checkpoint, sections_of(connection, generation.generation_id)


def discard_progress(connection: Connection, generation: Generation) -> None:
    """Forget what was written of an incomplete generation: it is not to be trusted."""
    with connection.transaction():
        connection.execute(FORGET_CHECKPOINT, (generation.generation_id,))
        connection.execute(DROP_AFTER_CHECKPOINT, (generation.generation_id,))
        connection.execute(DROP_SECTIONS_AFTER_CHECKPOINT, (generation.generation_id,))


def write_chunks(
    connection: Connection,
    generation: Generation,
    chunks: Sequence[tuple[Chunk, bytes]],
    *,
    checkpoint: Checkpoint,
    gaps: Iterable[Gap],
    warnings: Iterable[str] = (),
    sections: Iterable[Section] = (),
) -> None:
    """Store some chunks (with the hashes of their texts), the sections that began since the last time, and how far
    the file has come, in one transaction. A run that goes on from there meets these gaps and warnings no more.
    """
    rows = [
        (
            generation.generation_id, chunk.ordinal, chunk.page_from, chunk.page_to, chunk.char_from, chunk.char_to,
            chunk.tokens, chunk.heading, chunk.page_label, chunk.section, chunk.text, text_hash,
        )
        for chunk, text_hash in chunks
    ]  # fmt: skip
    with repeatable(connection), connection.cursor() as cursor:
        if rows:
            locks.rely_on_vectors(connection)
            cursor.executemany(INSERT_CHUNK, rows)
        _upsert_sections(cursor, generation, sections)
        cursor.execute(
            SAVE_CHECKPOINT,
            (
                checkpoint.pages,
                checkpoint.characters,
                checkpoint.chunks,
                _gaps_json(gaps),
                json.dumps(list(warnings)),
                generation.generation_id,
            ),
        )


def complete_generation(
    connection: Connection, generation: Generation, parsed: ParsedFile, *, limits: Mapping[str, float] | None = None
) -> None:
    """Note that all chunks of a generation are stored, and under which limits they were parsed."""
    known = {"pages": parsed.pages, "title": parsed.title, "gaps": _gaps_json(parsed.gaps)}
    warnings = json.dumps(list(parsed.warnings))
    with repeatable(connection):
        connection.execute(
            COMPLETE,
            {**known, "warnings": warnings, "limits": json.dumps(limits or {}), "generation": generation.generation_id},
        )


def _upsert_sections(cursor: Cursor, generation: Generation, sections: Iterable[Section]) -> None:
    rows = [
        (generation.generation_id, one.ordinal, one.level, one.title, one.path, one.page_from, one.page_to)
        for one in sections
    ]
    if rows:
        cursor.executemany(UPSERT_SECTION, rows)


def find_generation(connection: Connection, generation_id: int) -> Generation:
    """Return a generation.

    Raises:
        LookupError: there is none.
    """
    for generation in _select(connection, SELECT_GENERATION, (generation_id,)):
        return generation
    raise LookupError(f"no generation {generation_id}")


def page_of(connection: Connection, generation_id: int, ordinal: int) -> int:
    """Return the page on which a chunk ends; 0 if there is no such chunk."""
    return int(scalar(connection, PAGE_OF, (generation_id, ordinal)) or 0)


def publish_file(
    connection: Connection, file: RawFile, generation: Generation, *, fingerprint: str, model: int
) -> bool:
    """Show readers the new generation instead of the old, in one transaction; drop the old if no other file shows it.

    Returns:
        False when the file has moved on meanwhile (changed, deleted) or a chunk waits; nothing was done then.
    """
    with connection.transaction():
        shown = scalar(connection, LIVE, (file.file_id,))
        if not files.publish(connection, file, generation.generation_id, fingerprint=fingerprint, model=model):
            return False
        note_model(connection, generation.generation_id, model)
        if shown is not None and shown != generation.generation_id:
            _drop_unused(connection, shown)
    return True


def sections_of(connection: Connection, generation_id: int) -> list[Section]:
    """Return the outline of a generation, in document order."""
    with connection.cursor(row_factory=class_row(Section)) as cursor:
        return cursor.execute(SELECT_SECTIONS, (generation_id,)).fetchall()


def shown_of(connection: Connection, file: RawFile) -> Generation | None:
    """Return the generation of a file that readers see; None if they see none, or one of other bytes."""
    for generation in _select(connection, SELECT_SHOWN, (file.file_id, file.version)):
        return generation
    return None


def note_model(connection: Connection, generation_id: int, model: int) -> None:
    """Note that a model can answer for a generation, if none of its chunks waits or is deferred."""
    connection.execute(NOTE_MODEL, {"generation": generation_id, "model": model})


def shown_at(connection: Connection, path: str) -> list[int]:
    """Return the generations that readers see at a path: of a file, with or without its source, or the end of it."""
    return [number for (number,) in connection.execute(SHOWN_AT, {"path": path})]


def shown_waiting(connection: Connection, model: int) -> list[int]:
    """Return the generations that readers see and of which a chunk waits under a model."""
    return [number for (number,) in connection.execute(SHOWN_WAITING, (model,))]


def drop_unused_generations(connection: Connection) -> int:
    """Delete the chunks that no file shows or is on the way to; return how many generations went."""
    with connection.transaction():
        locks.hold_sealing(connection)  # no new file is found meanwhile that waits for what is deleted
        return _drop_unused(connection, None)


def _drop_unused(connection: Connection, generation_id: int | None) -> int:
    locked = [number for (number,) in connection.execute(LOCK_UNUSED.encode(), {"generation": generation_id})]
    return connection.execute(DROP_UNUSED.encode(), (locked,)).rowcount if locked else 0


def parse_again(connection: Connection, file_ids: Sequence[int]) -> int:
    """Have files parsed again whose chunks are complete; readers see these until then. Return how many files."""
    with connection.transaction():
        connection.execute(RETIRE, (shown_by(connection, file_ids),))
        return files.requeue_indexed(connection, file_ids)


def shown_by(connection: Connection, file_ids: Sequence[int]) -> list[int]:
    """Return the generations that readers see of some files."""
    return [number for (number,) in connection.execute(SHOWN_BY, (list(file_ids),))]


def delete_generations(connection: Connection, generation_ids: Sequence[int]) -> int:
    """Delete generations that cannot be relied on; files that show them are worked on again; return how many."""
    with connection.transaction():
        files.withdraw_generations(connection, generation_ids)
        return connection.execute(DELETE, (list(generation_ids),)).rowcount


def processed_sizes(connection: Connection, batch: str) -> dict[int, GenerationSize]:
    """Return how many chunks each processed file of a batch has, by the file's id."""
    with connection.cursor(row_factory=class_row(GenerationSize)) as cursor:
        return {size.file_id: size for size in cursor.execute(PROCESSED_SIZES, {"batch": batch})}


def _select(connection: Connection, statement: str, key: tuple[Any, ...]) -> list[Generation]:
    return [_generation(row) for row in connection.execute(statement.encode(), key)]


def _generation(row: tuple[Any, ...]) -> Generation:
    generation_id, complete, pages, gaps, warnings, *checkpoint = row
    return Generation(
        generation_id=generation_id,
        complete=complete,
        pages=pages,
        gaps=tuple(Gap(**gap) for gap in gaps),
        warnings=tuple(warnings),
        checkpoint=Checkpoint(*checkpoint),
    )


def _gaps_json(gaps: Iterable[Gap]) -> str:
    return json.dumps([asdict(gap) for gap in gaps])
