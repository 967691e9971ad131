"""Folders: lists and opens their files; links are followed only inside the folder; accepts uploads."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ingest_pipeline.errors import (
    BadSetting,
    FileError,
    LinkLeavesSource,
    SourceUnavailable,
    UnreadableDocument,
    UploadRefused,
)
from ingest_pipeline.models import ListedFile, RawFile
from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.base import file_name, is_utf8
from ingest_pipeline.sources.hashing import hash_pieces, head_of, pieces_of
from ingest_pipeline.sources.wording import changed, name_taken, vanished


def canonical(text: str) -> str:
    """Return the canonical spelling of a folder: absolute, without `..` and without a trailing slash.

    Raises:
        BadSetting: it does not exist.
    """
    folder = spelled(text)
    if not Path(folder).is_dir() or not is_utf8(text):
        raise BadSetting("INGEST_SOURCES", text, "an existing folder whose name is UTF-8")
    return folder


def spelled(text: str) -> str:
    """Return the canonical spelling of a folder that need not exist."""
    # Links are not resolved: the name in the ledger is the one that the user gave.
    return os.path.abspath(os.path.expanduser(text.removeprefix("file://")))


def make(name: str) -> None:
    """Make a folder, so that files can be added to it.

    Raises:
        UploadRefused: it cannot be made.
    """
    try:
        Path(name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UploadRefused(f"{name}: the folder cannot be made: {error.strerror}") from None


def open_source(name: str, access: Access) -> Folder:
    """Return the folder of this name."""
    return Folder(name)


def open_uploads(name: str, access: Access) -> Folder:
    """Return the folder of this name, to add files to it."""
    return Folder(name)


class Folder:
    """A folder with all folders below it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._root = Path(name)

    def files(self) -> Iterator[ListedFile]:
        """Yield every file, sorted within each folder, without hidden names.

        The entries of one folder are in memory at a time, not the whole tree. Links that leave the source, pipes, and
        names that are not UTF-8 have `refusal` set.

        Raises:
            SourceUnavailable: a folder cannot be read.
        """
        yield from self._walk(self._root, "")

    def read_version(self, path: str, *, max_bytes: int) -> tuple[str, int, bytes]:
        """Return the SHA-256, the length and the first 4 KiB of a file."""
        name = file_name(self.name, path)
        with open_file(self._root, path) as stream:
            return hash_pieces(pieces_of(stream, name), name=name, max_bytes=max_bytes)

    def read_head(self, path: str) -> bytes:
        """Return the first 4 KiB of a file."""
        with open_file(self._root, path) as stream:
            return head_of(pieces_of(stream, file_name(self.name, path)))

    def verify(self, file: RawFile, *, max_bytes: int) -> None:
        """Make sure that a file has the bytes of its version, by its hash: a modification time can be set back."""
        version, _, _ = self.read_version(file.path, max_bytes=max_bytes)
        if version != file.version:
            raise changed(file.name)

    @contextmanager
    def open_version(self, file: RawFile, *, max_bytes: int) -> Iterator[BinaryIO]:
        """Open the file itself; size and time must be the catalogued ones when it is opened and when it is closed."""
        with open_file(self._root, file.path) as stream:
            self.refuse_changed(stream, file)
            yield stream
            self.refuse_changed(stream, file)

    def refuse_changed(self, stream: BinaryIO, file: RawFile) -> None:
        """Make sure that size and time of an open file are the catalogued ones."""
        if _revision(os.fstat(stream.fileno())) != file.revision:
            raise changed(file.name)

    def add(self, path: str, pieces: Iterable[bytes], *, replace: bool) -> None:
        """Write a file under a hidden name, which no catalog run lists, and rename it when it is complete."""
        try:
            target = self._upload_target(path)
            if not replace and os.path.lexists(target):  # looked for before the bytes come, and again at their end
                raise name_taken(self.name, path)
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".upload-", delete=False) as temporary:
                try:
                    temporary.writelines(pieces)
                    temporary.flush()
                    os.fsync(temporary.fileno())  # the name must not appear before the bytes are on disk
                    Path(temporary.name).chmod(0o644)  # a temporary file is readable by its owner only
                    self._name(Path(temporary.name), path, replace=replace)
                finally:
                    Path(temporary.name).unlink(missing_ok=True)
        except OSError as error:
            raise UploadRefused(f"{path}: cannot be written into {self.name}: {error.strerror}") from error

    def _upload_target(self, path: str) -> Path:
        target = self._root / path
        existing = next(folder for folder in target.parents if folder.exists())
        if _leaves(existing, self._root):
            raise UploadRefused(f"{path}: a link in its path leaves {self.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _name(self, temporary: Path, path: str, *, replace: bool) -> None:
        target = self._root / path
        if replace:
            temporary.replace(target)
            return
        try:
            target.hardlink_to(temporary)  # unlike a rename it fails if the name exists, also in a race of two uploads
        except FileExistsError:
            raise name_taken(self.name, path) from None

    def _walk(self, folder: Path, prefix: str) -> Iterator[ListedFile]:
        for entry in _entries(folder):
            if entry.name.startswith("."):
                continue
            path = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path), f"{path}/")
            elif file := self._listed(entry, path):
                yield file

    def _listed(self, entry: os.DirEntry[str], path: str) -> ListedFile | None:
        """Return the listed file; None for a link to a folder, and for a file that was deleted meanwhile."""
        if not is_utf8(path):
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            return self._unreadable(shown, "its name is not UTF-8; rename the file")
        try:
            status = entry.stat()
        except FileNotFoundError:
            return self._unreadable(path, "the link points to nothing") if entry.is_symlink() else None
        except OSError as error:
            return self._unreadable(path, f"cannot be examined: {error.strerror}")
        refusal = self._refusal(entry, path, status)
        if refusal is None and stat.S_ISDIR(status.st_mode):  # links to folders could make the walk endless
            return None
        return ListedFile(path, status.st_size, _revision(status), refusal)

    def _unreadable(self, path: str, why: str) -> ListedFile:
        return ListedFile(path, 0, refusal=UnreadableDocument(f"{file_name(self.name, path)}: {why}"))

    def _refusal(self, entry: os.DirEntry[str], path: str, status: os.stat_result) -> FileError | None:
        name = file_name(self.name, path)
        if entry.is_symlink() and _leaves(Path(entry.path), self._root):
            return _link_leaves_source(name)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            return _not_regular(name)
        return None


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise SourceUnavailable(f"{folder}: {error.strerror}; nothing was changed in the ledger") from error


@contextmanager
def open_file(root: Path, path: str) -> Iterator[BinaryIO]:
    """Open one file below a folder for reading, with a real file descriptor.

    Raises:
        FileVanished: it no longer exists.
        LinkLeavesSource: a link in its path points outside the folder.
        UnreadableDocument: it cannot be opened (permissions, not a regular file).
    """
    name = file_name(str(root), path)
    try:
        if _leaves(root / path, root):
            raise _link_leaves_source(name)
        # Non-blocking: opening a named pipe that replaced the file would block the run.
        descriptor = os.open(root / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise vanished(name) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: links that form a loop, before Python 3.13
        why = getattr(error, "strerror", None) or "its links go in a circle"
        raise UnreadableDocument(f"{name}: cannot be opened: {why}") from error
    # Checked on the open descriptor: what the listing saw may have been replaced.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(name)
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def _leaves(path: Path, root: Path) -> bool:
    return not path.resolve().is_relative_to(root.resolve())


def _revision(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns}"


def _link_leaves_source(name: str) -> LinkLeavesSource:
    return LinkLeavesSource(f"{name}: the link leaves its source; links are followed only inside")


def _not_regular(name: str) -> UnreadableDocument:
    return UnreadableDocument(f"{name}: not a regular file")
