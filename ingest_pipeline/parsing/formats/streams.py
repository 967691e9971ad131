"""Wrappers of byte streams: one can be read several times, one unpacks gzip up to a limit."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from typing import BinaryIO, cast

from ingest_pipeline.errors import TooMuchText
from ingest_pipeline.parsing.request import ParseRequest

PASSES = 5  # a text is read up to three times: its head, around its first non-UTF-8 byte, for its text
MIN_UNPACKED_BYTES = 16 * 1024**2  # a small repetitive file may compress better than the ratio
MAX_UNPACKED_RATIO = 200  # prose packs 4:1, tables and logs up to 50:1, zeros 1,000:1 (docs/findings.md, E7)


def rewinding(stream: BinaryIO) -> Callable[[], BinaryIO]:
    """Return a function that opens a seekable stream from its start, again and again."""

    def open_stream() -> BinaryIO:
        stream.seek(0)
        return cast(BinaryIO, _Borrowed(stream))

    return open_stream


def unpacked(stream: BinaryIO, request: ParseRequest) -> BinaryIO:
    """Return the content of a gzip file as a seekable stream; it raises TooMuchText for a decompression bomb."""
    return cast(BinaryIO, _Unpacked(stream, request))


class _Borrowed(io.RawIOBase):
    """A stream that does not close the underlying one when it is closed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._stream.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def tell(self) -> int:
        return self._stream.tell()


class _Unpacked(io.RawIOBase):
    """The content of a gzip file, up to the amount of text that a file of its size can hold."""

    def __init__(self, stream: BinaryIO, request: ParseRequest) -> None:
        packed_bytes = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        self._gzip, self._name = gzip.GzipFile(fileobj=stream), request.name
        allowed = max(MIN_UNPACKED_BYTES, packed_bytes * MAX_UNPACKED_RATIO)
        self._left = min(request.max_expanded_bytes, allowed) * PASSES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; going back means to unpack again from the start."""
        return self._gzip.seek(offset, whence)

    def tell(self) -> int:
        return self._gzip.tell()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._gzip.read(len(buffer))
        self._left -= len(piece)
        if self._left < 0:
            raise TooMuchText(f"{self._name}: unpacks to more than a text may; possibly a decompression bomb")
        buffer[: len(piece)] = piece
        return len(piece)
