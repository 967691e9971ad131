"""Stores a download as a file without a name: in memory up to 10 MiB, then on disk; it vanishes when it is closed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ingest_pipeline.errors import SourceUnavailable
from ingest_pipeline.sources.hashing import hash_pieces

MEMORY_BYTES = 10 * 1024**2  # docs/findings.md, E11


@contextmanager
def spooled(pieces: Iterable[bytes], *, name: str, max_bytes: int, folder: Path) -> Iterator[tuple[BinaryIO, str]]:
    """Write a stream to a file; yield it read-only with a real descriptor, and its SHA-256.

    Raises:
        FileTooLarge: the stream has more than `max_bytes`.
        SourceUnavailable: there is no room for it.
    """
    with _Spool(folder) as spool:
        try:
            version, _, _ = hash_pieces(spool.written(pieces), name=name, max_bytes=max_bytes)
        except OSError as error:
            raise SourceUnavailable(f"{name}: no room to download it in {folder}: {error.strerror}") from error
        # Opened again through /proc: the parser's child gets this descriptor and must not be able to write.
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
        """Yield each piece after writing it."""
        for piece in pieces:
            if self._in_memory and self._length + len(piece) > MEMORY_BYTES:
                self._move_to_disk()
            self._file.write(piece)
            self._length += len(piece)
            yield piece

    def _move_to_disk(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Without a name, so that nothing is left behind even after a SIGKILL.
        on_disk = cast(BinaryIO, tempfile.TemporaryFile(dir=self._folder, buffering=0))  # noqa: SIM115
        self._file.seek(0)
        while piece := self._file.read(256 * 1024):
            on_disk.write(piece)
        self._file.close()
        self._file, self._in_memory = on_disk, False
