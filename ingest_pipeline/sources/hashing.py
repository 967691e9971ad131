"""Bytes as they stream by: counted, hashed, and stopped when there are too many."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from ingest_pipeline.errors import UnreadableDocument
from ingest_pipeline.sources.wording import too_large

READ_BYTES = 256 * 1024  # the upload report's figure: larger reads gained nothing, a whole file cost 28 MB
HEAD_BYTES = 4096


def pieces_of(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield a stream in pieces of 256 KiB.

    Raises:
        UnreadableDocument: the disk refused a read.
    """
    try:
        while piece := stream.read(READ_BYTES):
            yield piece
    except OSError as error:
        raise UnreadableDocument(f"{name}: reading failed: {error.strerror}") from error


def head_of(pieces: Iterable[bytes]) -> bytes:
    """Return the first 4 KiB of what streams by, and read no further."""
    head = b""
    for piece in pieces:  # the first piece may be a few bytes: what a packet held
        head += piece[: HEAD_BYTES - len(head)]
        if len(head) == HEAD_BYTES:
            break
    return head


def hash_pieces(pieces: Iterable[bytes], *, name: str, max_bytes: int) -> tuple[str, int, bytes]:
    """Return the SHA-256 in hex, the length and the first 4 KiB of what streams by.

    Raises:
        FileTooLarge: more than `max_bytes` came; reading stopped there.
    """
    digest, length, head = hashlib.sha256(), 0, b""
    for piece in pieces:
        head += piece[: HEAD_BYTES - len(head)]
        length += len(piece)
        if length > max_bytes:
            raise too_large(name, length, max_bytes)
        digest.update(piece)
    return digest.hexdigest(), length, head
