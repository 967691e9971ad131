"""A source in memory, `toy://name`: what a new kind of source has to offer. One module, one row of `SCHEMES`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ingest_pipeline.models import ListedFile, RawFile
from ingest_pipeline.schemes import Scheme
from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.base import file_name
from ingest_pipeline.sources.hashing import hash_pieces
from ingest_pipeline.sources.spool import spooled
from ingest_pipeline.sources.wording import changed, vanished

SCHEME = Scheme("ingest_pipeline_tests.toy_source", "toy://name", on_server=False)
FILES: dict[str, dict[str, tuple[int, bytes]]] = {}
"""By the name of the source and by path: how often the file was written, and its bytes."""


def canonical(text: str) -> str:
    """Return the name as it is."""
    return text


def open_source(name: str, access: Access) -> ToySource:
    """Return the source of this name."""
    return ToySource(name)


class ToySource:
    """Files in a dictionary."""

    def __init__(self, name: str) -> None:
        self.name = name

    def files(self) -> Iterator[ListedFile]:
        """Yield every file; its revision is the number of times that it was written."""
        for path, (writes, content) in sorted(FILES[self.name].items()):
            yield ListedFile(path, len(content), str(writes))

    def read_version(self, path: str, *, max_bytes: int) -> tuple[str, int, bytes]:
        """Return the SHA-256, the length and the first 4 KiB."""
        return hash_pieces([self._content(path)], name=file_name(self.name, path), max_bytes=max_bytes)

    def read_head(self, path: str) -> bytes:
        """Return the first 4 KiB."""
        return self._content(path)[:4096]

    def verify(self, file: RawFile, *, max_bytes: int) -> None:
        """Make sure that a file has the bytes of its version."""
        if self.read_version(file.path, max_bytes=max_bytes)[0] != file.version:
            raise changed(file.name)

    @contextmanager
    def open_version(self, file: RawFile, *, max_bytes: int) -> Iterator[BinaryIO]:
        """Write the bytes to where they have a descriptor, as a download is."""
        pieces, folder = [self._content(file.path)], Path(tempfile.gettempdir())
        with spooled(pieces, name=file.name, max_bytes=max_bytes, folder=folder) as (stream, version):
            if version != file.version:
                raise changed(file.name)
            yield stream

    def refuse_changed(self, stream: BinaryIO, file: RawFile) -> None:
        """Do nothing: nobody writes to what was opened."""

    def _content(self, path: str) -> bytes:
        try:
            return FILES[self.name][path][1]
        except KeyError:
            raise vanished(file_name(self.name, path)) from None
