"""Adds a file to a source: streamed, within the size limit, and atomically."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from ingest_pipeline.errors import UploadRefused
from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.base import is_utf8
from ingest_pipeline.sources.hashing import pieces_of
from ingest_pipeline.sources.registry import uploads_of
from ingest_pipeline.sources.wording import too_large

MAX_NAME_BYTES = 1024
"""Of a key in S3; the path of a file may have 4,096."""
MAX_PART_BYTES = 255
"""Between two slashes: what ext4, XFS and APFS take."""


def add_file(source: str, name: str, stream: BinaryIO, access: Access, *, max_bytes: int, replace: bool = False) -> int:
    """Stream an upload into a source under a name; return its length in bytes.

    An incomplete file is never listed.

    Args:
        source: a folder or a bucket; nothing can be added to a list of URLs.
        name: relative to the source, with `/` between the parts.
        stream: read 256 KiB at a time.
        access: how to reach a bucket.
        max_bytes: limit for the length; nothing is left of a longer upload.
        replace: whether an existing file of this name is replaced.

    Raises:
        UploadRefused: the name is taken, leaves the source, or would be hidden.
        FileTooLarge: the upload has more than `max_bytes`.
        BadSetting: this source accepts no uploads.
    """
    refuse_name(name)
    pieces = _Limited(pieces_of(stream, name), name, max_bytes)
    uploads_of(source, access).add(name, pieces, replace=replace)
    return pieces.length


class _Limited:
    def __init__(self, pieces: Iterator[bytes], name: str, max_bytes: int) -> None:
        self._pieces, self._name, self._max_bytes = pieces, name, max_bytes
        self.length = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.length += len(piece)
            if self.length > self._max_bytes:
                raise too_large(self._name, self.length, self._max_bytes)
            yield piece


def refuse_name(name: str) -> None:
    """Make sure that a name is one of a document inside a source.

    Raises:
        UploadRefused: it leaves the source, or would be hidden.
    """
    parts = name.split("/")
    longest = max(map(_length, parts))
    if _length(name) > MAX_NAME_BYTES or longest > MAX_PART_BYTES:
        raise UploadRefused(f"{name[:60]!r}…: a name has at most {MAX_NAME_BYTES} bytes, {MAX_PART_BYTES} in a part")
    invalid = "\x00" in name or not is_utf8(name)
    if invalid or any(part in ("", ".", "..") for part in parts):
        raise UploadRefused(f"{name!r}: not a name inside a source")
    if any(part.startswith(".") for part in parts):
        raise UploadRefused(f"{name}: hidden files are not documents; give it another name with --name")


def _length(name: str) -> int:
    return len(name.encode("utf-8", "replace"))
