"""What two ingestions of the same files must agree on, in order: no number, no time, no count of tries."""

from __future__ import annotations

import hashlib
from collections import Counter

from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.cleanup import find_damage
from ingest_pipeline.store import reports
from ingest_pipeline.store.connection import Connection

FILES = """
SELECT f.source, f.path, f.size_bytes, f.revision, f.version, f.media_type, f.status, f.error, f.message, f.retryable,
       f.fingerprint, f.pages, f.gaps, f.warnings, m.name, g.version, g.fingerprint, g.tokenizer, g.max_tokens
FROM files f LEFT JOIN generations g USING (generation_id) LEFT JOIN models m ON m.model_id = f.model_id
ORDER BY f.source, f.path
"""
KEY = "g.version, g.fingerprint, g.tokenizer, g.max_tokens"
GENERATIONS = f"""
SELECT {KEY}, g.complete, g.title, g.pages, g.gaps, g.warnings, g.chunks, g.tokens, l.tokenizer, l.longest_tokens,
       g.checkpoint_pages, g.checkpoint_characters, g.checkpoint_chunks
FROM generations g LEFT JOIN generation_lengths l USING (generation_id) ORDER BY 1, 2, 3, 4, l.tokenizer
"""
MODELS_OF_GENERATIONS = f"""
SELECT {KEY}, m.identity
FROM generations g JOIN generation_models n USING (generation_id) JOIN models m USING (model_id) ORDER BY 1, 2, 3, 4, 5
"""
CHUNKS = f"""
SELECT {KEY}, c.ordinal, c.page_from, c.page_to, c.char_from, c.char_to, c.tokens, c.heading, c.page_label, c.section,
       c.text, c.text_hash FROM generations g JOIN chunks c USING (generation_id) ORDER BY 1, 2, 3, 4, 5
"""
SECTIONS = f"""
SELECT {KEY}, s.ordinal, s.level, s.title, s.path, s.page_from, s.page_to
FROM generations g JOIN sections s USING (generation_id) ORDER BY 1, 2, 3, 4, 5
"""
VECTORS = """
SELECT m.identity, e.text_hash, e.embedding::text FROM embeddings e JOIN models m USING (model_id) ORDER BY 1, 2
"""
TABLES = {
    "files": FILES, "generations": GENERATIONS, "models of generations": MODELS_OF_GENERATIONS, "chunks": CHUNKS,
    "sections": SECTIONS, "vectors": VECTORS,
}  # fmt: skip
UNFINISHED = """
SELECT 'file ' || path || ' is ' || status FROM files WHERE status IN ('synced', 'processing', 'processed')
UNION ALL SELECT 'batch ' || batch || ' is ' || status FROM batches WHERE status IN ('waiting', 'running', 'failed')
UNION ALL SELECT 'attempt at file ' || file_id || ' is open' FROM attempts WHERE open
UNION ALL SELECT 'file ' || path || ' has ' || kills || ' kills' FROM files WHERE kills > 3
"""

Dump = dict[str, list[str]]


def dump_of(connection: Connection) -> Dump:
    """Every table as lines; texts and vectors by their hash."""
    return {table: [_line(row) for row in connection.execute(statement)] for table, statement in TABLES.items()}


def _line(row: tuple[object, ...]) -> str:
    return " | ".join(_short(value) for value in row)


def _short(value: object) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) < 200 else hashlib.sha256(text.encode()).hexdigest()


def differences(expected: Dump, found: Dump) -> list[str]:
    """The lines that only one of two dumps has."""
    return [
        f"{table} {sign} {line}"
        for table in TABLES
        for sign, ours, others in (("-", expected, found), ("+", found, expected))
        for line in sorted((Counter(ours[table]) - Counter(others[table])).elements())
    ]


def damage_of(connection: Connection, settings: Settings) -> list[str]:
    """What must not be there after a recovery: unfinished work, ledger and tables that disagree, damage, leftovers."""
    unfinished = [text for (text,) in connection.execute(UNFINISHED)]
    disagreements = [f"{count} × {problem}" for problem, count in reports.inconsistencies(connection).items()]
    damage = find_damage(connection, settings)
    wrong = [f"{one.count} × {one.kind}: {one.example}" for one in damage if one.severity != "retry"]
    return unfinished + disagreements + wrong
