"""Defines what a source is. The modules of the kinds of source import this one; `registry.py` imports them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from ingest_pipeline.models import ListedFile, RawFile


class Source(Protocol):
    """A folder, a bucket, a list of URLs: files that can be listed and read.

    Every method that reads a file raises FileVanished, FileTooLarge, FileCutShort, LinkLeavesSource or
    UnreadableDocument for a failure of that file, and SourceUnavailable for a failure of the source.
    """

    name: str
    """Its canonical spelling, as in the ledger."""

    def files(self) -> Iterator[ListedFile]:
        """Yield every file, without holding them all in memory.

        Raises:
            SourceUnavailable: the source cannot be listed completely. The caller must then delete nothing from the
                ledger.
            BadSetting: there is no such source, or access is denied.
        """

    def read_version(self, path: str, *, max_bytes: int) -> tuple[str, int, bytes]:
        """Return the SHA-256 in hex, the length and the first 4 KiB of a file.

        Raises:
            FileTooLarge: more than `max_bytes` were received, whatever size was listed; reading stopped there.
        """

    def read_head(self, path: str) -> bytes:
        """Return the first 4 KiB of a file."""

    def verify(self, file: RawFile, *, max_bytes: int) -> None:
        """Make sure that a file is still the version that its batch was sealed with.

        Raises:
            FileChanged: it is not.
        """

    def open_version(self, file: RawFile, *, max_bytes: int) -> AbstractContextManager[BinaryIO]:
        """Open a file's version for reading, with a real, read-only file descriptor.

        Raises:
            FileChanged: it is not the catalogued version, or it was written to while it was read.
        """

    def refuse_changed(self, stream: BinaryIO, file: RawFile) -> None:
        """Make sure that an open version was not written to since it was catalogued.

        Raises:
            FileChanged: it was.
        """


class Uploads(Protocol):
    """A source that files can be added to."""

    def add(self, path: str, pieces: Iterable[bytes], *, replace: bool) -> None:
        """Write a file atomically: it appears when it is complete, or not at all.

        Raises:
            UploadRefused: there is a file at this path and `replace` is off, or it cannot be written.
            SourceUnavailable: the source cannot accept it now.
        """


def file_name(source: str, path: str) -> str:
    """Return source and path in one string for messages, like `RawFile.name`."""
    return f"{source.rstrip('/')}/{path}"


def is_utf8(name: str) -> bool:
    """Return whether a name can be stored in the ledger; file names on a disk may contain any bytes."""
    # Python decodes bytes that are not UTF-8 to surrogates (PEP 383).
    return not any("\ud800" <= character <= "\udfff" for character in name)
