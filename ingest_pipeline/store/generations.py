"""Generations: the chunks of one version of some bytes, written page by page, shown to readers all at once.

A file's new version becomes searchable in one short transaction (`publish_file`), when its last vector is in.
Until then readers see the old generation; no reader ever sees half a document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from psycopg import Cursor
from psycopg.rows import class_row

from ingest_pipeline.models import Checkpoint, Chunk, Gap, ParsedFile, RawFile, Section
from ingest_pipeline.store import files, locks
from ingest_pipeline.store.connection import Connection, repeatable, scalar

LOCK_SPACE = 7261  # our half of the advisory locks' two-integer space

CLAIM = """
INSERT INTO generations (version, fingerprint, model_id) VALUES (%s, %s, %s) ON CONFLICT (version, fingerprint) DO
NOTHING
"""
SELECT_GENERATION = """
SELECT generation_id, complete, pages, gaps, warnings, checkpoint_pages, checkpoint_characters, checkpoint_chunks
FROM generations WHERE version = %s AND fingerprint = %s
"""
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
       gaps = %s WHERE generation_id = %s
"""
FORGET_CHECKPOINT = """
UPDATE generations SET checkpoint_pages = 0, checkpoint_characters = 0, checkpoint_chunks = 0, gaps = '[]'
WHERE generation_id = %s AND NOT complete
"""
DROP_AFTER_CHECKPOINT = """
DELETE FROM chunks c USING generations g
WHERE g.generation_id = %s AND c.generation_id = g.generation_id AND c.ordinal >= g.checkpoint_chunks
"""
COMPLETE = """
UPDATE generations g SET complete = true, pages = %s, title = %s, gaps = %s, warnings = %s,
       chunks = c.chunks, tokens = c.tokens
FROM (SELECT count(*) AS chunks, coalesce(sum(tokens), 0) AS tokens FROM chunks WHERE generation_id = %s) c
WHERE g.generation_id = %s
"""
PROCESSED_SIZES = """
SELECT f.file_id, g.generation_id, g.chunks FROM files f
JOIN generations g ON g.version = f.version AND g.fingerprint = %(fingerprint)s || ':' || f.media_type AND g.complete
WHERE f.batch = %(batch)s AND f.status = 'processed'
"""
LIVE = "SELECT generation_id FROM files WHERE file_id = %s FOR UPDATE"
# No file shows it, and no file that waits will.
DROP_UNUSED = """
DELETE FROM generations g
WHERE (%(generation)s::bigint IS NULL OR g.generation_id = %(generation)s)
  AND NOT EXISTS (SELECT FROM files f WHERE f.generation_id = g.generation_id)
  AND NOT EXISTS (SELECT FROM files f WHERE f.version = g.version
                  AND f.status IN ('synced', 'processing', 'processed'))
"""


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
    connection: Connection, file: RawFile, *, fingerprint: str, model_id: int
) -> Iterator[Generation]:
    """Hold one generation for this process: who else wants the same bytes waits here, then finds them done.

    The lock belongs to the connection, so it ends with the process, however that ends.
    """
    with repeatable(connection):
        connection.execute(CLAIM, (file.version, fingerprint, model_id))
    generation = _select(connection, file.version, fingerprint)
    key = generation.generation_id % 2**31
    connection.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_SPACE, key))
    try:
        yield _select(connection, file.version, fingerprint)
    finally:
        if not connection.broken:
            connection.execute("SELECT pg_advisory_unlock(%s, %s)", (LOCK_SPACE, key))


def resume_generation(connection: Connection, generation: Generation) -> tuple[Checkpoint, list[Section]]:
    """Return where to go on and the sections up to there; drop what came after: it may be cut differently this time."""
    with repeatable(connection):
        connection.execute(DROP_AFTER_CHECKPOINT, (generation.generation_id,))
        connection.execute(DROP_SECTIONS_AFTER_CHECKPOINT, (generation.generation_id,))
    with connection.cursor(row_factory=class_row(Section)) as cursor:
        return generation.checkpoint, cursor.execute(SELECT_SECTIONS, (generation.generation_id,)).fetchall()


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
    sections: Iterable[Section] = (),
) -> None:
    """Store some chunks (with the hashes of their texts), the sections that began since the last time, and how far
    the file has come, in one transaction.
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
                generation.generation_id,
            ),
        )


def complete_generation(connection: Connection, generation: Generation, parsed: ParsedFile) -> None:
    """Note that all chunks of a generation are stored."""
    known = (parsed.pages, parsed.title, _gaps_json(parsed.gaps), json.dumps(list(parsed.warnings)))
    with repeatable(connection):
        connection.execute(COMPLETE, (*known, generation.generation_id, generation.generation_id))


def _upsert_sections(cursor: Cursor, generation: Generation, sections: Iterable[Section]) -> None:
    rows = [
        (generation.generation_id, one.ordinal, one.level, one.title, one.path, one.page_from, one.page_to)
        for one in sections
    ]
    if rows:
        cursor.executemany(UPSERT_SECTION, rows)


def find_generation(connection: Connection, file: RawFile, fingerprint: str) -> Generation:
    """Return the generation of a file whose chunks are stored.

    Raises:
        LookupError: there is none.
    """
    return _select(connection, file.version, fingerprint)


def publish_file(connection: Connection, file: RawFile, generation: Generation, *, fingerprint: str) -> bool:
    """Show readers the new generation instead of the old, in one transaction; drop the old if no other file shows it.

    Returns:
        False when the file has moved on meanwhile (changed, deleted) or a vector is missing; nothing was done then.
    """
    with connection.transaction():
        shown = scalar(connection, LIVE, (file.file_id,))
        if not files.publish(connection, file, generation.generation_id, fingerprint=fingerprint):
            return False
        if shown is not None and shown != generation.generation_id:
            connection.execute(DROP_UNUSED, {"generation": shown})
    return True


def drop_unused_generations(connection: Connection) -> int:
    """Delete the chunks that no file shows or is on the way to; return how many generations went."""
    return connection.execute(DROP_UNUSED, {"generation": None}).rowcount


def processed_sizes(connection: Connection, batch: str, *, fingerprint: str) -> dict[int, GenerationSize]:
    """Return how many chunks each processed file of a batch has, by the file's id."""
    wanted = {"batch": batch, "fingerprint": fingerprint}
    with connection.cursor(row_factory=class_row(GenerationSize)) as cursor:
        return {size.file_id: size for size in cursor.execute(PROCESSED_SIZES, wanted)}


def _select(connection: Connection, version: str, fingerprint: str) -> Generation:
    row = connection.execute(SELECT_GENERATION, (version, fingerprint)).fetchone()
    if row is None:
        raise LookupError(f"no generation of version {version[:12]}… under fingerprint {fingerprint}")
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
