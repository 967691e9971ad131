"""What a source is. The modules of the kinds of source import this one; `registry.py` imports them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from ingest_pipeline.models import ListedFile, RawFile


class Source(Protocol):
    """A folder, a bucket, a list of URLs: files that can be listed and read.

    Whatever reads a file raises FileVanished, FileTooLarge, FileCutShort, LinkLeavesSource or UnreadableDocument
    where that file is at fault, and SourceUnavailable where the source is.
    """

    name: str
    """Its canonical spelling, as in the ledger."""

    def files(self) -> Iterator[ListedFile]:
        """Yield every file; nothing accumulates.

        Raises:
            SourceUnavailable: it cannot be listed to its end. The caller must then delete nothing from the ledger.
            BadSetting: there is no such source, or it may not be read.
        """

    def read_version(self, path: str, *, max_bytes: int) -> tuple[str, int, bytes]:
        """Return the SHA-256 in hex, the length and the first 4 KiB of a file.

        Raises:
            FileTooLarge: more than `max_bytes` came, whatever the listing said; reading stopped there.
        """

    def read_head(self, path: str) -> bytes:
        """Return the first 4 KiB of a file."""

    def verify(self, file: RawFile, *, max_bytes: int) -> None:
        """Make sure that a file is still the version that its batch was sealed with.

        Raises:
            FileChanged: it is not.
        """

    def open_version(self, file: RawFile, *, max_bytes: int) -> AbstractContextManager[BinaryIO]:
        """Open a file's version for reading, by a real and read-only file descriptor.

        Raises:
            FileChanged: it is not the version that was catalogued, or was written to while it was read.
        """

    def refuse_changed(self, stream: BinaryIO, file: RawFile) -> None:
        """Make sure that an open version was not written to since it was catalogued.

        Raises:
            FileChanged: it was.
        """


class Uploads(Protocol):
    """A source that files can be added to."""

    def add(self, path: str, pieces: Iterable[bytes], *, replace: bool) -> None:
        """Write a file; it appears when it is complete, or not at all.

        Raises:
            UploadRefused: there is a file at this path and `replace` is off, or it cannot be written.
            SourceUnavailable: the source does not take it now.
        """


def file_name(source: str, path: str) -> str:
    """Return source and path in one string, for messages: as `RawFile.name`."""
    return f"{source.rstrip('/')}/{path}"


def is_utf8(name: str) -> bool:
    """Return whether a name can be written into the ledger; those of a disk may hold any bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in name)
