"""The file that `ingest backup` writes: a tar of a few members. The last one, the manifest, makes it whole.

Every byte of the file follows from the manifest and from the data whose SHA-256 the manifest has: headers have fixed
fields, and what fills up a block is zero. So a file that was changed or cut short anywhere is refused. The manifest has
a checksum of its own, as the `backup_manifest` of PostgreSQL has.

Any tar program unpacks it, and `pg_restore` reads the dump in it without this package.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ingest_pipeline.errors import BackupRefused

FORMAT = 1
DUMP, VIEWS, DOCUMENTS, MANIFEST = "ingest.dump", "views.sql", "documents.tar", "manifest.json"
CHECKSUM = "manifest_checksum"
PARTIAL = ".partial"
BLOCK_BYTES, RECORD_BYTES = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
PIECE_BYTES = 256 * 1024
MAX_MEMBERS = 8
MAX_MANIFEST_BYTES = 64 * 1024**2  # it is in memory as a whole; its largest part is a row for each table and source


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the file, as the manifest describes it."""

    name: str
    size_bytes: int
    sha256: str


class MemberWriter:
    """Takes the data of one member, which is counted and hashed on its way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        """Write a piece of the data."""
        self._digest.update(data)
        self.size_bytes += len(data)
        return self._file.write(data)

    @property
    def sha256(self) -> str:
        """Of what was written so far, in hex."""
        return self._digest.hexdigest()


class BackupWriter:
    """Writes a backup under the name `FILE.partial`; it gets its own name when it is whole."""

    def __init__(self, path: Path, file: BinaryIO, created_at: int) -> None:
        self._path, self._file = path, file
        self._created_at = created_at
        self._members: list[Member] = []

    @contextmanager
    def member(self, name: str) -> Iterator[MemberWriter]:
        """Append a member, whose size need not be known before."""
        begin = self._file.tell()
        self._file.write(bytes(BLOCK_BYTES))
        writer = MemberWriter(self._file)
        yield writer
        self._file.write(bytes(_padding(writer.size_bytes)))
        end = self._file.tell()
        self._file.seek(begin)
        self._file.write(_header(name, writer.size_bytes, self._created_at))
        self._file.seek(end)
        self._members.append(Member(name, writer.size_bytes, writer.sha256))

    def finish(self, content: Mapping[str, Any]) -> int:
        """Append the manifest, write everything to the disk and give the file its name; return its size in bytes."""
        members = [asdict(member) for member in self._members]
        whole = {"format": FORMAT, "created_at": self._created_at, **content, "members": members}
        text = _manifest_text(whole)
        self._file.write(_header(MANIFEST, len(text), self._created_at) + text + bytes(_padding(len(text))))
        self._file.write(bytes(_end_bytes(self._file.tell())))
        size_bytes = self._file.tell()
        self._file.flush()
        os.fsync(self._file.fileno())  # the name must not appear before the bytes are on disk
        refuse_existing(self._path)
        _partial(self._path).rename(self._path)
        _sync_folder(self._path.parent)
        return size_bytes


@contextmanager
def new_backup(path: Path, created_at: int) -> Iterator[BackupWriter]:
    """Open a backup for writing; nothing is left of one that is not finished, and what a kill leaves is not whole.

    Raises:
        BackupRefused: the name is taken, another backup writes to it, or the disk is full.
    """
    refuse_existing(path)
    partial = _partial(path)
    try:
        with partial.open("ab+") as file:
            _lock(file, path)
            file.truncate(0)  # what a killed backup left
            partial.chmod(0o600)  # it holds the text of all documents
            try:
                with partial.open("rb+") as written:
                    yield BackupWriter(path, written, created_at)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise BackupRefused(f"{path}: cannot be written: {error.strerror}") from error


def refuse_existing(path: Path) -> None:
    """Make sure that a backup replaces no file.

    Raises:
        BackupRefused: there is a file of this name, or no folder for it.
    """
    try:
        is_taken, has_folder = path.exists(), path.parent.is_dir()
    except OSError as error:  # a name that is too long, a folder of somebody else
        raise BackupRefused(f"{path}: cannot be written: {error.strerror}") from error
    if is_taken:
        raise BackupRefused(f"{path}: there is a file of this name; a backup replaces none, so give it another name")
    if not has_folder:
        raise BackupRefused(f"{path}: there is no folder {path.parent}")


class BackupFile:
    """A backup that is read. Its manifest is checked when it is opened, its data by `verify`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file
        self.size_bytes = os.fstat(file.fileno()).st_size
        self.manifest = self._read_manifest()
        self.members = {entry["name"]: Member(**entry) for entry in self.manifest["members"]}

    def verify(self) -> None:
        """Read the whole file and compare it with its manifest.

        Raises:
            BackupRefused: a byte of it was changed, or is missing.
        """
        self._file.seek(0)
        for member in self.members.values():
            self._expect(_header(member.name, member.size_bytes, self._created_at), member.name)
            self._verify_data(member)
        text = _manifest_text(_without_checksum(self.manifest))
        self._expect(_header(MANIFEST, len(text), self._created_at), MANIFEST)
        self._expect(text + bytes(_padding(len(text))), MANIFEST)
        self._expect(bytes(_end_bytes(self._file.tell())), "its end")
        if self._file.read(1):
            raise self._refused("there is something behind its end")

    def open_member(self, name: str) -> io.BufferedReader:
        """Return a member's data as a stream that can be searched; it reads the file at its own place."""
        begin, member = self._begin_of(name), self.members[name]
        return io.BufferedReader(_Part(self._file.fileno(), begin, member.size_bytes), PIECE_BYTES)

    def descriptor_at(self, name: str) -> int:
        """Return a file descriptor that stands at the beginning of a member's data; the caller closes it."""
        descriptor = os.open(f"/dev/fd/{self._file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        os.lseek(descriptor, self._begin_of(name), os.SEEK_SET)
        return descriptor

    @property
    def _created_at(self) -> int:
        return int(self.manifest["created_at"])

    def _begin_of(self, name: str) -> int:
        begin = 0
        for member in self.members.values():
            if member.name == name:
                return begin + BLOCK_BYTES
            begin += _stored_bytes(member.size_bytes)
        raise self._refused(f"it has no {name}")

    def _verify_data(self, member: Member) -> None:
        digest, left = hashlib.sha256(), member.size_bytes
        while piece := self._file.read(min(PIECE_BYTES, left)):
            digest.update(piece)
            left -= len(piece)
        if left or digest.hexdigest() != member.sha256:
            raise self._refused(f"{member.name} is not as it was written (SHA-256)")
        self._expect(bytes(_padding(member.size_bytes)), member.name)

    def _expect(self, data: bytes, what: str) -> None:
        if self._file.read(len(data)) != data:
            raise self._refused(f"{what} is not as it was written")

    def _read_manifest(self) -> dict[str, Any]:
        position = 0
        for _ in range(MAX_MEMBERS):
            self._file.seek(position)
            try:
                info = tarfile.TarInfo.frombuf(self._file.read(BLOCK_BYTES), "utf-8", "strict")
            except (tarfile.HeaderError, UnicodeDecodeError):
                break
            if info.name == MANIFEST:
                return self._checked(self._file.read(min(info.size, MAX_MANIFEST_BYTES)))
            position += _stored_bytes(info.size)
        raise BackupRefused(f"{self.path}: not a backup, or not a whole one: it has no manifest")

    def _checked(self, text: bytes) -> dict[str, Any]:
        try:
            manifest: dict[str, Any] = json.loads(text)
            if _manifest_text(_without_checksum(manifest)) != text:
                raise ValueError(CHECKSUM)
        except (ValueError, AttributeError):
            raise self._refused("its manifest was changed, or is cut short") from None
        if manifest.get("format") != FORMAT:
            raise BackupRefused(f"{self.path}: of a newer version ({manifest.get('version')}); upgrade this one first")
        return manifest

    def _refused(self, why: str) -> BackupRefused:
        return BackupRefused(f"{self.path}: damaged: {why}; copy it again, or take another backup")


@contextmanager
def opened_backup(path: Path) -> Iterator[BackupFile]:
    """Open a backup for reading.

    Raises:
        BackupRefused: it cannot be read, or is not a whole backup.
    """
    try:
        with path.open("rb") as file:
            yield BackupFile(path, file)
    except OSError as error:
        raise BackupRefused(f"{error.filename or path}: cannot be read: {error.strerror}") from error


class _Part(io.RawIOBase):
    """A part of a file, read without moving the file's own place."""

    def __init__(self, descriptor: int, begin: int, size_bytes: int) -> None:
        self._descriptor, self._begin, self._size_bytes = descriptor, begin, size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size_bytes - self._position))
        data = os.pread(self._descriptor, wanted, self._begin + self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _header(name: str, size_bytes: int, created_at: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size_bytes, 0o600, created_at
    return info.tobuf(tarfile.GNU_FORMAT)  # always one block, also above 8 GiB


def _manifest_text(content: Mapping[str, Any]) -> bytes:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, CHECKSUM: digest}, indent=1).encode() + b"\n"


def _without_checksum(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in manifest.items() if name != CHECKSUM}


def _padding(size_bytes: int) -> int:
    return -size_bytes % BLOCK_BYTES


def _stored_bytes(size_bytes: int) -> int:
    return BLOCK_BYTES + size_bytes + _padding(size_bytes)


def _end_bytes(position: int) -> int:
    return 2 * BLOCK_BYTES + -(position + 2 * BLOCK_BYTES) % RECORD_BYTES


def _partial(path: Path) -> Path:
    return path.with_name(path.name + PARTIAL)


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BackupRefused(f"{path}: another backup is being written to it") from None


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every file system can
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
