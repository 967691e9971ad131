"""The longest chunk of a generation, as each tokenizer counts it: does a model take chunks made for another one?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ingest_pipeline.store.connection import Connection, scalar
from ingest_pipeline.store.generations import Generation

SELECT_LONGEST = "SELECT longest_tokens FROM generation_lengths WHERE generation_id = %s AND tokenizer = %s"
RECORD_LONGEST = """
INSERT INTO generation_lengths (generation_id, tokenizer, longest_tokens) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING
"""
CHUNK_TEXTS = "SELECT ordinal, text FROM chunks WHERE generation_id = %s AND ordinal > %s ORDER BY ordinal LIMIT %s"
TEXTS_AT_A_TIME = 256


def longest_tokens(
    connection: Connection, generation: Generation, *, tokenizer: str, count: Callable[[str], int]
) -> int:
    """Return the tokens of a generation's longest chunk; counted once for each tokenizer, 256 texts in memory."""
    known: int | None = scalar(connection, SELECT_LONGEST, (generation.generation_id, tokenizer))
    if known is not None:
        return known
    longest = max((count(text) for text in chunk_texts(connection, generation.generation_id)), default=0)
    connection.execute(RECORD_LONGEST, (generation.generation_id, tokenizer, longest))
    return longest


def chunk_texts(connection: Connection, generation_id: int) -> Iterator[str]:
    """Yield the texts of a generation's chunks in order, 256 in memory."""
    last = -1
    while rows := connection.execute(CHUNK_TEXTS, (generation_id, last, TEXTS_AT_A_TIME)).fetchall():
        yield from (text for _, text in rows)
        last = rows[-1][0]
