"""Named entities, keyed by (model, hash of the text): each text is read once by a model, wherever it appears.

A row in `entity_texts` says that a model has answered for a text, also when it found nothing. Any finder of entities
may write here under a key of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from ingest_pipeline.models import StoredChunk, TextEntities
from ingest_pipeline.store import locks
from ingest_pipeline.store.connection import Connection, repeatable
from ingest_pipeline.store.pages import page_of_chunks

# The chunks of a batch's files: those that readers will see of a processed file, those that they see of an indexed one.
BATCH_CHUNKS = """
batch_files b JOIN files f ON f.file_id = b.file_id AND f.batch = b.batch AND f.version = b.version
JOIN chunks c ON c.generation_id = CASE f.status WHEN 'processed' THEN f.next_generation_id
                                                 WHEN 'indexed' THEN f.generation_id END
"""
BATCH_GENERATIONS = f"SELECT DISTINCT c.generation_id FROM {BATCH_CHUNKS} WHERE b.batch = %s ORDER BY 1"  # noqa: S608
# Keyset, not a cursor: a named cursor ends at each COMMIT.
PENDING = """
SELECT generation_id, ordinal, text, text_hash, tokens FROM (
    SELECT DISTINCT ON (text_hash) generation_id, ordinal, text, text_hash, tokens FROM (
        SELECT generation_id, ordinal, text, text_hash, tokens FROM chunks c
        WHERE generation_id = ANY(%(generations)s) AND (generation_id, ordinal) > (%(after_generation)s, %(after)s)
          AND NOT EXISTS (SELECT FROM entity_texts t WHERE t.model = %(model)s AND t.text_hash = c.text_hash)
        ORDER BY generation_id, ordinal LIMIT %(limit)s
    ) c ORDER BY text_hash, generation_id, ordinal
) c ORDER BY generation_id, ordinal
"""
# Answers add up: a chunk that belongs to two sections may be asked about twice. Of one model that answers the same each
# time, the second answer changes nothing.
WRITE = """
WITH answered AS (
    INSERT INTO entity_texts (model, text_hash, skipped)
    SELECT %(model)s, text_hash, bool_and(skipped)
    FROM unnest(%(texts)s::bytea[], %(skipped)s::boolean[]) t (text_hash, skipped) GROUP BY text_hash ORDER BY text_hash
    ON CONFLICT (model, text_hash) DO UPDATE SET skipped = false WHERE entity_texts.skipped AND NOT excluded.skipped
)
INSERT INTO entities (model, text_hash, char_from, char_to, label, name)
SELECT %(model)s, text_hash, char_from, char_to, label, name
FROM unnest(%(hashes)s::bytea[], %(froms)s::integer[], %(tos)s::integer[], %(labels)s::text[], %(names)s::text[])
     e (text_hash, char_from, char_to, label, name) ON CONFLICT DO NOTHING
"""
TEXT_COUNTS = f"""
SELECT count(DISTINCT c.text_hash)::int AS texts,
       count(DISTINCT c.text_hash) FILTER (WHERE t.skipped)::int AS skipped,
       count(DISTINCT c.text_hash) FILTER (WHERE t.text_hash IS NULL)::int AS waiting
FROM {BATCH_CHUNKS} LEFT JOIN entity_texts t ON t.model = %(model)s AND t.text_hash = c.text_hash
WHERE b.batch = %(batch)s
"""  # noqa: S608
LABEL_COUNTS = f"""
SELECT n.label, count(*) FROM {BATCH_CHUNKS} JOIN entities n ON n.model = %(model)s AND n.text_hash = c.text_hash
WHERE b.batch = %(batch)s GROUP BY 1 ORDER BY 2 DESC, 1
"""  # noqa: S608
# Names that differ in case alone are one entity, shown as it is written most often.
TOP = f"""
SELECT source, path, label, name, count FROM (
    SELECT f.source, f.path, n.label, mode() WITHIN GROUP (ORDER BY n.name) AS name, count(*)::int AS count,
           row_number() OVER (PARTITION BY f.file_id ORDER BY count(*) DESC, lower(n.name), n.label) AS place,
           dense_rank() OVER (ORDER BY f.source, f.path) AS document
    FROM {BATCH_CHUNKS} JOIN entities n ON n.model = %(model)s AND n.text_hash = c.text_hash
    WHERE b.batch = %(batch)s AND n.label <> ALL(%(without)s)
    GROUP BY f.file_id, f.source, f.path, n.label, lower(n.name)
) e WHERE place <= %(each)s AND document <= %(documents)s ORDER BY source, path, place
"""  # noqa: S608
# A slab of answers by their key; those for texts that no chunk has are deleted, with what was found.
DROP_UNUSED = """
WITH slab AS (
    SELECT model, text_hash FROM entity_texts WHERE (model, text_hash) > (%(model)s, %(text_hash)s)
    ORDER BY model, text_hash LIMIT %(limit)s
), unused AS (
    DELETE FROM entity_texts t USING slab s
    WHERE t.model = s.model AND t.text_hash = s.text_hash
      AND NOT EXISTS (SELECT FROM chunks c WHERE c.text_hash = t.text_hash)
    RETURNING t.model, t.text_hash
), dropped AS (
    DELETE FROM entities n USING unused u WHERE n.model = u.model AND n.text_hash = u.text_hash
)
SELECT (SELECT count(*) FROM unused), last.model, last.text_hash
FROM (SELECT model, text_hash FROM slab ORDER BY model DESC, text_hash DESC LIMIT 1) last
"""
SLAB_TEXTS = 10_000  # runs that store chunks wait for one slab, as for one of vectors
NUMBERS = ("CARDINAL", "ORDINAL", "PERCENT", "QUANTITY", "MONEY", "DATE", "TIME")
"""Labels of numbers and dates: the most frequent entities of a document, which say nothing of it."""


@dataclass(frozen=True, slots=True)
class TextCounts:
    """How many different texts a batch has, and how many of them a model did not read."""

    texts: int
    skipped: int
    waiting: int


@dataclass(frozen=True, slots=True)
class EntityCount:
    """How often a document names an entity."""

    source: str
    path: str
    label: str
    name: str
    count: int


def batch_generations(connection: Connection, batch: str) -> list[int]:
    """Return the generations whose chunks are complete, of the files that a batch answers for."""
    return [number for (number,) in connection.execute(BATCH_GENERATIONS, (batch,))]


def pending_texts(
    connection: Connection, model: str, generation_ids: Sequence[int], *, after: StoredChunk | None = None, limit: int
) -> list[StoredChunk]:
    """Return the next chunks of some generations whose texts a model has not read, each text once; [] at the end.

    A text that is on a page comes again on the next one unless its answer is written in between.

    Args:
        connection: to the store.
        model: its key.
        generation_ids: whose chunks.
        after: the last chunk of the page before; None: from the beginning.
        limit: chunks in a page.
    """
    return page_of_chunks(connection, PENDING, after=after, limit=limit, model=model, generations=list(generation_ids))


def write_entities(connection: Connection, model: str, texts: Sequence[TextEntities]) -> None:
    """Store what a model found in some texts, committed, beside what it has found in them before."""
    ordered = sorted(texts, key=lambda one: one.text_hash)  # two runs with the same texts do not wait in a circle
    found = [(one.text_hash, entity) for one in ordered for entity in one.entities]
    rows = {
        "model": model,
        "texts": [one.text_hash for one in ordered],
        "skipped": [one.skipped for one in ordered],
        "hashes": [text_hash for text_hash, _ in found],
        "froms": [entity.char_from for _, entity in found],
        "tos": [entity.char_to for _, entity in found],
        "labels": [entity.label for _, entity in found],
        "names": [entity.name for _, entity in found],
    }
    with repeatable(connection):
        connection.execute(WRITE, rows)


def text_counts(connection: Connection, model: str, batch: str) -> TextCounts:
    """Return how many texts of a batch a model has read, skipped and not seen yet."""
    with connection.cursor(row_factory=class_row(TextCounts)) as cursor:
        return cursor.execute(TEXT_COUNTS, {"model": model, "batch": batch}).fetchone() or TextCounts(0, 0, 0)


def label_counts(connection: Connection, model: str, batch: str) -> dict[str, int]:
    """Return how often each label stands in the documents of a batch, most frequent first."""
    return dict(connection.execute(LABEL_COUNTS, {"model": model, "batch": batch}).fetchall())


def top_entities(connection: Connection, model: str, batch: str, *, each: int, documents: int) -> list[EntityCount]:
    """Return the entities that each document of a batch names most often, without numbers and dates.

    Args:
        connection: to the store.
        model: its key.
        batch: its key.
        each: entities of one document at most.
        documents: at most, by source and path.
    """
    wanted = {"model": model, "batch": batch, "without": list(NUMBERS), "each": each, "documents": documents}
    with connection.cursor(row_factory=class_row(EntityCount)) as cursor:
        return cursor.execute(TOP, wanted).fetchall()


def entity_name(text: str) -> str:
    """Return a name as it is stored: with single spaces."""
    return " ".join(text.split())


def drop_unused_entities(connection: Connection) -> int:
    """Delete the answers for texts that are in no chunk any more; return how many texts went.

    As for vectors: each slab holds the vector lock alone, which those who store chunks share. So a text that a run
    found answered cannot lose its answer while the run stores the chunk (see `locks.py`).
    """
    dropped, model, text_hash = 0, "", b""
    while True:
        with connection.transaction():
            locks.hold_vectors(connection)
            arguments = {"model": model, "text_hash": text_hash, "limit": SLAB_TEXTS}
            row = connection.execute(DROP_UNUSED, arguments).fetchone()
        if row is None:
            return dropped
        dropped, model, text_hash = dropped + row[0], row[1], row[2]
