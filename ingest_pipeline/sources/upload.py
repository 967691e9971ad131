"""Files into a source: streamed, within the size limit, there as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ingest_pipeline.errors import BadSetting, SourceUnavailable, UploadRefused
from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.hashing import pieces_of
from ingest_pipeline.sources.refusals import is_utf8, too_large


def add_file(source: str, name: str, stream: BinaryIO, access: Access, *, max_bytes: int, replace: bool = False) -> int:
    """Stream an upload into a source under a name; return its length in bytes.

    Nobody ever lists half of it: in a folder it gets its name when it is complete, in a bucket it appears so.

    Args:
        source: a folder or a bucket; nothing can be put into a list of URLs.
        name: relative to the source, with `/` between the parts.
        stream: read 256 KiB at a time.
        access: how to reach a bucket.
        max_bytes: FileTooLarge beyond it, and nothing is left of what came.
        replace: whether a file of this name may become this one.

    Raises:
        UploadRefused: the name is taken, leaves the source, or would be hidden.
        FileTooLarge: more than `max_bytes` came.
        BadSetting: this source takes no uploads.
    """
    _refuse_name(name)
    counted = _Counted(pieces_of(stream, name), name, max_bytes)
    if source.startswith("s3://"):
        from ingest_pipeline.sources.remote import ServerAway, patiently
        from ingest_pipeline.sources.s3 import Bucket

        bucket = Bucket(source, access)
        if not replace and patiently(lambda: bucket.exists(name), name, access):
            raise _taken(source, name)
        try:
            bucket.put(name, iter(counted))
        except ServerAway as error:  # what came cannot be asked for again: a stream is read once
            raise SourceUnavailable(f"{name}: {source} does not take it now: {error}") from None
    elif "://" in source:
        raise BadSetting("--to", source, "a folder or a bucket; a list of URLs takes no files")
    else:
        _into_folder(Path(source), name, counted, replace=replace)
    return counted.length


class _Counted:
    def __init__(self, pieces: Iterator[bytes], name: str, max_bytes: int) -> None:
        self._pieces, self._name, self._max_bytes = pieces, name, max_bytes
        self.length = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.length += len(piece)
            if self.length > self._max_bytes:
                raise too_large(self._name, self.length, self._max_bytes)
            yield piece


def _into_folder(source: Path, name: str, pieces: _Counted, *, replace: bool) -> None:
    target = source / name
    try:
        there = next(folder for folder in target.parents if folder.exists())
        if not there.resolve().is_relative_to(source.resolve()):
            raise UploadRefused(f"{name}: a link in its path leaves {source}")
        target.parent.mkdir(parents=True, exist_ok=True)
        # A hidden name: no catalog lists it while it grows.
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".upload-", delete=False) as growing:
            try:
                for piece in pieces:
                    growing.write(piece)
                growing.flush()
                os.fsync(growing.fileno())
                Path(growing.name).chmod(0o644)
                _name(Path(growing.name), target, source, name, replace=replace)
            finally:
                Path(growing.name).unlink(missing_ok=True)
    except OSError as error:
        raise UploadRefused(f"{name}: cannot be written into {source}: {error.strerror}") from error


def _name(growing: Path, target: Path, source: Path, name: str, *, replace: bool) -> None:
    if replace:
        growing.replace(target)
        return
    try:
        target.hardlink_to(growing)  # unlike a rename, it fails when somebody was faster
    except FileExistsError:
        raise _taken(str(source), name) from None


def _taken(source: str, name: str) -> UploadRefused:
    return UploadRefused(f"{name}: {source} has a file of this name; --replace makes this its new version")


def _refuse_name(name: str) -> None:
    parts = name.split("/")
    unfit = "\x00" in name or not is_utf8(name)
    if unfit or any(part in ("", ".", "..") for part in parts):
        raise UploadRefused(f"{name!r}: not a name inside a source")
    if any(part.startswith(".") for part in parts):
        raise UploadRefused(f"{name}: hidden files are not documents; give it another name with --name")
