"""Folders: their files in order, links followed inside only, names as they are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ingest_pipeline.errors import (
    BadSetting,
    LinkLeavesSource,
    SourceUnavailable,
    UnreadableDocument,
)
from ingest_pipeline.models import MAX_NANOSECONDS, ListedFile
from ingest_pipeline.sources.refusals import is_utf8, vanished


def canonical_folder(text: str) -> str:
    """Return one spelling for a folder: absolute, without `..` and without a slash at its end.

    Raises:
        BadSetting: it is not there.
    """
    folder = Path(os.path.abspath(os.path.expanduser(text.removeprefix("file://"))))
    if not folder.is_dir() or not is_utf8(text):
        raise BadSetting("INGEST_SOURCES", text, "an existing folder whose name is UTF-8")
    return str(folder)


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
    if not is_utf8(path):
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
        # A time in the year 2286 is more nanoseconds than the ledger's numbers hold.
        yield ListedFile(path, facts.st_size, min(facts.st_mtime_ns, MAX_NANOSECONDS), refusal)


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
        raise vanished(name) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, on Python before 3.13
        why = getattr(error, "strerror", None) or "its links go in a circle"
        raise UnreadableDocument(f"{name}: cannot be opened: {why}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableDocument(f"{name}: not a regular file")
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def facts_of(stream: BinaryIO) -> tuple[int, int]:
    """Return size and modification time in nanoseconds of an open file."""
    facts = os.fstat(stream.fileno())
    return facts.st_size, min(facts.st_mtime_ns, MAX_NANOSECONDS)
