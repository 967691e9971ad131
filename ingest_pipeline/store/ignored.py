"""Files that were erased and are kept out, though their source holds them. The store has only a hash of each name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ingest_pipeline.models import ListedFile
from ingest_pipeline.store.connection import Connection

IGNORE = "INSERT INTO ignored_files (name_hash) VALUES (%s) ON CONFLICT DO NOTHING"
ADMIT = "DELETE FROM ignored_files WHERE name_hash = %s"
KNOWN = "SELECT name_hash FROM ignored_files WHERE name_hash = ANY(%s)"


def ignore_file(connection: Connection, source: str, path: str) -> None:
    """Keep a file out of the ledger from now on."""
    connection.execute(IGNORE, (_name_hash(source, path),))


def admit_file(connection: Connection, source: str, path: str) -> bool:
    """Let the next catalog run take a file up again; return whether it was ignored."""
    return bool(connection.execute(ADMIT, (_name_hash(source, path),)).rowcount)


def without_ignored(connection: Connection, source: str, files: Sequence[ListedFile]) -> list[ListedFile]:
    """Return the files of a listing that are not kept out."""
    hashes = {_name_hash(source, file.path): file for file in files}
    ignored = {bytes(name_hash) for (name_hash,) in connection.execute(KNOWN, (list(hashes),))}
    return [file for name_hash, file in hashes.items() if name_hash not in ignored]


def _name_hash(source: str, path: str) -> bytes:
    # Another program may have the names to try them all: a hash hides a name from who reads, not from who knows it.
    return hashlib.sha256(f"{source}\0{path}".encode("utf-8", "surrogateescape")).digest()
