"""What a store holds of files: their text without white space, and all that two ways to ingest must agree on."""

from __future__ import annotations

import unicodedata

from ingest_pipeline.store.connection import Connection

Rows = dict[str, tuple[str, str | None, str, list[bytes]]]


def squeezed(text: str) -> str:
    """A text without its white space."""
    return "".join(unicodedata.normalize("NFC", text).split())


def text_of(connection: Connection, path: str) -> str:
    """What is searchable of a file, without white space."""
    rows = connection.execute("SELECT text FROM searchable_chunks WHERE path = %s ORDER BY ordinal", (path,))
    return squeezed("".join(text for (text,) in rows))


def rows_of(connection: Connection) -> Rows:
    """What is in the store of each file: status, error, version, and the hashes of its chunks in order."""
    chunks: dict[str, list[bytes]] = {}
    for path, text_hash in connection.execute(
        "SELECT f.path, c.text_hash FROM files f JOIN chunks c USING (generation_id) ORDER BY f.path, c.ordinal"
    ):
        chunks.setdefault(path, []).append(text_hash)
    facts = connection.execute("SELECT path, status, error, version FROM files")
    return {path: (status, error, version, chunks.get(path, [])) for path, status, error, version in facts}
