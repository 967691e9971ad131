"""A source URL becomes its files; a file becomes a stream of bytes. The only room that touches paths."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from upath import UPath

from ingest_pipeline.errors import (
    BadSetting,
    FileChanged,
    FileTooLarge,
    FileVanished,
    LinkLeavesSource,
    SourceUnavailable,
    UnreadableDocument,
)
from ingest_pipeline.models import ListedFile, RawFile

READ_BYTES = 256 * 1024  # the upload report's figure: larger reads gained nothing, a whole file cost 28 MB


def canonical_source(text: str) -> str:
    """Return one spelling for a source, so that `./docs` and `docs/` are the same rows in the ledger.

    Raises:
        BadSetting: a kind of URL that is not supported, or a folder that is not there.
    """
    url = UPath(text)
    if url.protocol not in ("", "file"):
        raise BadSetting("INGEST_SOURCES", text, "a local folder (buckets come in a later version)")
    folder = Path(os.path.abspath(os.path.expanduser(url.path)))
    if not folder.is_dir():
        raise BadSetting("INGEST_SOURCES", text, "an existing folder")
    return str(folder)


def canonical_sources(names: Iterable[str]) -> list[str]:
    """Return each source once, in the order given.

    Raises:
        BadSetting: as for `canonical_source`.
    """
    return list(dict.fromkeys(canonical_source(name) for name in names))


def list_files(source: str) -> Iterator[ListedFile]:
    """Yield every file below a source, sorted within each folder; hidden names are left out.

    Nothing accumulates: a folder's entries are in memory while it is walked, the tree never is.
    A link that leaves the source, a pipe, a name that is no UTF-8 come with `refusal` set.

    Raises:
        SourceUnavailable: a folder cannot be read. Whoever compares with the ledger must then delete nothing.
    """
    root = Path(source)
    yield from _walk(root, root.resolve(), "")


def _walk(folder: Path, root: Path, prefix: str) -> Iterator[ListedFile]:
    for entry in _entries(folder):
        if entry.name.startswith("."):
            continue
        path = f"{prefix}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), root, f"{path}/")
        else:
            yield from _listed(entry, root, path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise SourceUnavailable(f"{folder}: {error.strerror}; nothing was changed in the ledger") from error


def _listed(entry: os.DirEntry[str], root: Path, path: str) -> Iterator[ListedFile]:
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        yield ListedFile(shown, 0, 0, refusal="its name is not UTF-8; rename the file")
        return
    try:
        facts = entry.stat()
    except FileNotFoundError:
        if entry.is_symlink():
            yield ListedFile(path, 0, 0, refusal="the link points to nothing")
        return  # gone between the listing and now: the same as never listed
    except OSError as error:
        yield ListedFile(path, 0, 0, refusal=f"cannot be looked at: {error.strerror}")
        return
    refusal = _refusal(entry, root, facts)
    if refusal is not None or not stat.S_ISDIR(facts.st_mode):
        yield ListedFile(path, facts.st_size, facts.st_mtime_ns, refusal)


def _refusal(entry: os.DirEntry[str], root: Path, facts: os.stat_result) -> str | None:
    if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root):
        return "the link leaves its source; links are followed only inside"
    if not stat.S_ISREG(facts.st_mode) and not stat.S_ISDIR(facts.st_mode):
        return "not a regular file"
    return None


@contextmanager
def open_file(source: str, path: str) -> Iterator[BinaryIO]:
    """Open one file of a source for reading, by a real file descriptor.

    Raises:
        FileVanished: it is gone.
        LinkLeavesSource: a link in its path points outside the source.
        UnreadableDocument: it cannot be opened (permissions, not a regular file).
    """
    root, name = Path(source), f"{source}/{path}"
    try:
        if not (root / path).resolve().is_relative_to(root.resolve()):
            raise LinkLeavesSource(f"{name}: the link leaves its source; links are followed only inside")
        # Non-blocking, or a named pipe put in the file's place would hold the run for ever.
        descriptor = os.open(root / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise FileVanished(f"{name}: no longer there; the next catalog settles it") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, on Python before 3.13
        why = getattr(error, "strerror", None) or "its links go in a circle"
        raise UnreadableDocument(f"{name}: cannot be opened: {why}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableDocument(f"{name}: not a regular file")
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def hash_stream(stream: BinaryIO, *, name: str, max_bytes: int) -> tuple[str, int, bytes]:
    """Return the SHA-256 in hex, the length and the first bytes of a stream, reading 256 KiB at a time.

    Raises:
        FileTooLarge: more than `max_bytes` came; reading stopped there.
        UnreadableDocument: the disk refused a read.
    """
    digest, length, head = hashlib.sha256(), 0, b""
    while piece := _read(stream, name):
        head = head or piece[:4096]
        length += len(piece)
        if length > max_bytes:
            raise too_large(name, length, max_bytes)
        digest.update(piece)
    return digest.hexdigest(), length, head


def _read(stream: BinaryIO, name: str) -> bytes:
    try:
        return stream.read(READ_BYTES)
    except OSError as error:
        raise UnreadableDocument(f"{name}: reading failed: {error.strerror}") from error


def too_large(name: str, size_bytes: int, max_bytes: int) -> FileTooLarge:
    """Return the refusal of a file over the size limit, in one wording."""
    return FileTooLarge(
        f"{name}: {size_bytes:,} bytes or more, over the limit of {max_bytes:,}; raise INGEST_MAX_FILE_SIZE"
    )


def verify_version(file: RawFile, *, max_bytes: int) -> None:
    """Make sure that a file still holds the bytes that its batch was sealed with.

    Raises:
        FileChanged: its bytes differ; the next catalog takes up the new ones.
        FileVanished, FileTooLarge, LinkLeavesSource, UnreadableDocument: as for opening and hashing.
    """
    with open_file(file.source, file.path) as stream:
        version, _, _ = hash_stream(stream, name=file.name, max_bytes=max_bytes)
    if version != file.version:
        raise _changed(file)


@contextmanager
def open_version(file: RawFile) -> Iterator[BinaryIO]:
    """Open a file that was verified; refuse it when size or modification time moved meanwhile.

    Raises:
        FileChanged: it was written to after it was hashed, before or while it was read.
    """
    with open_file(file.source, file.path) as stream:
        refuse_changed(stream, file)
        yield stream
        refuse_changed(stream, file)


def refuse_changed(stream: BinaryIO, file: RawFile) -> None:
    """Make sure that an open file was not written to since it was catalogued.

    Raises:
        FileChanged: size or modification time moved.
    """
    facts = os.fstat(stream.fileno())
    if (facts.st_size, facts.st_mtime_ns) != (file.size_bytes, file.modified_ns):
        raise _changed(file)


def _changed(file: RawFile) -> FileChanged:
    return FileChanged(f"{file.name}: changed since it was catalogued; the next catalog takes it up")
