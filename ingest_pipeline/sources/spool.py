"""A download as a file: in memory while it is small, on disk beyond 10 MiB, gone when it is closed or we are killed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ingest_pipeline.errors import SourceUnavailable
from ingest_pipeline.sources.hashing import hash_pieces

MEMORY_BYTES = 10 * 1024**2  # the upload report's figure


@contextmanager
def spooled(pieces: Iterable[bytes], *, name: str, max_bytes: int, folder: Path) -> Iterator[tuple[BinaryIO, str]]:
    """Write what streams by; yield it as a read-only file with a real descriptor, and its SHA-256.

    Raises:
        FileTooLarge: more than `max_bytes` came.
        SourceUnavailable: there is no room for it.
    """
    with _Spool(folder) as spool:
        try:
            version, _, _ = hash_pieces(spool.written(pieces), name=name, max_bytes=max_bytes)
        except OSError as error:
            raise SourceUnavailable(f"{name}: no room to download it in {folder}: {error.strerror}") from error
        # Anew through /proc: the parser's child gets this descriptor, and must not write by it.
        with open(f"/proc/self/fd/{spool.fileno()}", "rb") as stream:  # noqa: PTH123
            yield stream, version


class _Spool:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO = os.fdopen(os.memfd_create("ingest-download", os.MFD_CLOEXEC), "w+b", buffering=0)
        self._length, self._in_memory = 0, True

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def fileno(self) -> int:
        return self._file.fileno()

    def written(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield each piece once it is written."""
        for piece in pieces:
            if self._in_memory and self._length + len(piece) > MEMORY_BYTES:
                self._move_to_disk()
            self._file.write(piece)
            self._length += len(piece)
            yield piece

    def _move_to_disk(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        on_disk = cast(BinaryIO, tempfile.TemporaryFile(dir=self._folder, buffering=0))  # noqa: SIM115  it has no name
        self._file.seek(0)
        while piece := self._file.read(256 * 1024):
            on_disk.write(piece)
        self._file.close()
        self._file, self._in_memory = on_disk, False
