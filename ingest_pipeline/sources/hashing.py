"""Counts and hashes streams of bytes, up to a size limit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from ingest_pipeline.errors import UnreadableDocument
from ingest_pipeline.sources.wording import too_large

READ_BYTES = 256 * 1024  # larger reads gained nothing, a whole file cost 28 MB (docs/findings.md, E11)
HEAD_BYTES = 4096  # as much as `parsing/detect.py` looks at


def pieces_of(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield a stream in pieces of 256 KiB.

    Raises:
        UnreadableDocument: a read failed.
    """
    try:
        while piece := stream.read(READ_BYTES):
            yield piece
    except OSError as error:
        raise UnreadableDocument(f"{name}: reading failed: {error.strerror}") from error


def head_of(pieces: Iterable[bytes]) -> bytes:
    """Return the first 4 KiB of a stream, and read no further."""
    head = b""
    for piece in pieces:  # pieces may be short: each is what one network packet held
        head += piece[: HEAD_BYTES - len(head)]
        if len(head) == HEAD_BYTES:
            break
    return head


def hash_pieces(pieces: Iterable[bytes], *, name: str, max_bytes: int) -> tuple[str, int, bytes]:
    """Return the SHA-256 in hex, the length and the first 4 KiB of a stream.

    Raises:
        FileTooLarge: the stream has more than `max_bytes`; reading stopped there.
    """
    digest, length, head = hashlib.sha256(), 0, b""
    for piece in pieces:
        head += piece[: HEAD_BYTES - len(head)]
        length += len(piece)
        if length > max_bytes:
            raise too_large(name, length, max_bytes)
        digest.update(piece)
    return digest.hexdigest(), length, head
