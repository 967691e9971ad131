"""The documents of the sources, streamed one after another into a tar and back into sources."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from ingest_pipeline.errors import BackupRefused, BadSetting, FileChanged, FileError, SourceUnavailable, UploadRefused
from ingest_pipeline.models import ListedFile, RawFile
from ingest_pipeline.sources import Access, Source, source_of
from ingest_pipeline.sources.hashing import hash_pieces, pieces_of
from ingest_pipeline.sources.registry import takes_files
from ingest_pipeline.sources.upload import add_file, refuse_name
from ingest_pipeline.stages.scan import slabs

NO_LIMIT = 2**62
"""Of bytes: what may be parsed has a limit, what is copied has none."""
MAX_TORN = 1000
IGNORED = "ignored"
"""The reason of documents that `ingest forget --and-ignore` keeps out."""
VersionsOf = Callable[[str, Sequence[ListedFile]], Sequence[tuple[ListedFile, str]]]
"""Returns those files of a source that are not ignored, each with the version that the ledger knows, or ''."""


@dataclass(slots=True)
class CopiedDocuments:
    """What was copied, and what was not."""

    files: int = 0
    size_bytes: int = 0
    unchanged: int = 0
    """In a restore: there already, with the same bytes."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Documents that could not be copied, by reason."""
    torn: list[str] = field(default_factory=list)
    """Members whose document was written to while it was copied: a restore does not read them. At most 1,000."""

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Count documents that were not copied."""
        self.left_out[reason] = self.left_out.get(reason, 0) + count


def folder_names(sources: Sequence[str]) -> dict[str, str]:
    """Return the name of a folder for each source that takes files, `{folder: source}`: the last part of its name."""
    folders: dict[str, str] = {}
    for source in filter(takes_files, sources):
        name = base = source.rstrip("/").rpartition("/")[2].strip(".") or "documents"
        number = 2
        while name in folders:
            name, number = f"{base}-{number}", number + 1
        folders[name] = source
    return folders


def count_documents(sources: Sequence[str], access: Access) -> CopiedDocuments:
    """Return how many documents these sources list, and their bytes; nothing is read."""
    copied = CopiedDocuments()
    for source in sources:
        for listed in _listed(source, access):
            if listed.refusal:
                copied.leave_out(listed.refusal.reason)
            else:
                copied.files += 1
                copied.size_bytes += listed.size_bytes
    return copied


def write_documents(
    tar: tarfile.TarFile, folders: Mapping[str, str], versions_of: VersionsOf, access: Access
) -> CopiedDocuments:
    """Copy every document that the sources list now into a tar; one is open at a time.

    Args:
        tar: opened for writing as a stream.
        folders: the sources, by the folder of the tar that takes their documents.
        versions_of: asks the ledger; a document whose version it does not know is read twice.
        access: how to reach the sources.

    Raises:
        BackupRefused: a source cannot be listed to its end, or is written to all the time.
    """
    copied = CopiedDocuments()
    for folder, name in folders.items():
        source = source_of(name, access)
        for slab in slabs(_listed(name, access)):
            versions = versions_of(name, slab)
            if ignored := len(slab) - len(versions):
                copied.leave_out(IGNORED, ignored)
            for listed, version in versions:
                _write_document(tar, f"{folder}/{listed.path}", source, _versioned(listed, version), copied)
    return copied


def refuse_hostile(tar: tarfile.TarFile, folders: Mapping[str, str]) -> None:
    """Make sure that each member of a tar is a document inside one of its sources.

    Raises:
        BackupRefused: one is a link or a device, has an absolute name, or one that leaves its folder.
    """
    for member in members_of(tar):
        folder, _, path = member.name.partition("/")
        try:
            refuse_name(path)
        except UploadRefused:
            path = ""
        if not path or not member.isreg() or folder not in folders:
            raise BackupRefused(f"its document {member.name!r} leaves its source, or is no file: nothing is restored")


def read_documents(
    tar: tarfile.TarFile, folders: Mapping[str, str], torn: Sequence[str], access: Access
) -> CopiedDocuments:
    """Copy the documents of a tar into sources; no document that is there is replaced.

    Args:
        tar: opened for reading, in which places can be searched.
        folders: the sources that take the documents, by their folder in the tar.
        torn: members that are left out.
        access: how to reach the sources.
    """
    copied, skipped = CopiedDocuments(), set(torn)
    for member in members_of(tar):
        if member.name not in skipped:
            folder, _, path = member.name.partition("/")
            _read_document(tar, member, folders[folder], path, access, copied)
    return copied


def members_of(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar; unlike its own iterator, without keeping them all.

    Raises:
        BackupRefused: it is no tar.
    """
    try:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]
            yield member
    except tarfile.TarError as error:
        raise BackupRefused(f"the documents of the backup cannot be read: {error}") from None


def _listed(name: str, access: Access) -> Iterator[ListedFile]:
    try:
        yield from source_of(name, access).files()
    except (SourceUnavailable, BadSetting) as error:
        raise BackupRefused(f"{name}: its documents cannot be copied now: {error}") from error


def _versioned(listed: ListedFile, version: str) -> RawFile | FileError:
    return listed.refusal or RawFile(0, "", listed.path, version, listed.size_bytes, listed.revision, "")


def _write_document(
    tar: tarfile.TarFile, name: str, source: Source, file: RawFile | FileError, copied: CopiedDocuments
) -> None:
    began = False
    try:
        if isinstance(file, FileError):
            raise file
        version = file.version or source.read_version(file.path, max_bytes=NO_LIMIT)[0]
        whole = RawFile(0, source.name, file.path, version, file.size_bytes, file.revision, "")
        with source.open_version(whole, max_bytes=NO_LIMIT) as stream:
            info, began = _info(name, stream), True
            tar.addfile(info, cast(BinaryIO, _Exactly(stream, info.size)))
            tar.members.clear()  # type: ignore[attr-defined]
        copied.files += 1
        copied.size_bytes += info.size
    except FileError as error:
        error.with_traceback(None)
        copied.leave_out(error.reason)
        if began and isinstance(error, FileChanged):
            _note_torn(copied, name)
    except SourceUnavailable as error:
        raise BackupRefused(f"{source.name}: its documents cannot be copied now: {error}") from error


def _note_torn(copied: CopiedDocuments, name: str) -> None:
    copied.torn.append(name)
    if len(copied.torn) > MAX_TORN:
        raise BackupRefused(f"over {MAX_TORN} documents changed while they were copied; back up at another time")


def _info(name: str, stream: BinaryIO) -> tarfile.TarInfo:
    status = os.fstat(stream.fileno())
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = status.st_size, int(status.st_mtime), 0o644
    return info


class _Exactly:
    """A stream of so many bytes: one that became shorter meanwhile ends with zeros, and is left out as changed."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream, self._left = stream, size_bytes

    def read(self, size: int) -> bytes:
        size = min(size, self._left)
        self._left -= size
        return self._stream.read(size).ljust(size, b"\0")


def _read_document(
    tar: tarfile.TarFile, member: tarfile.TarInfo, source: str, path: str, access: Access, copied: CopiedDocuments
) -> None:
    try:
        if _is_there(tar, member, source_of(source, access), path):
            copied.unchanged += 1
            return
        copied.size_bytes += add_file(source, path, _stream_of(tar, member), access, max_bytes=NO_LIMIT)
        copied.files += 1
    except (UploadRefused, FileError) as error:
        copied.leave_out(error.reason)
    except SourceUnavailable as error:
        raise BackupRefused(f"{source}: does not take the documents now: {error}; restore again") from error


def _is_there(tar: tarfile.TarFile, member: tarfile.TarInfo, source: Source, path: str) -> bool:
    """Return whether a source has this document already, with the same bytes."""
    try:
        version, _, _ = source.read_version(path, max_bytes=member.size)
    except FileError:  # not there, or longer: then it cannot be added, which is reported
        return False
    ours, _, _ = hash_pieces(pieces_of(_stream_of(tar, member), member.name), name=member.name, max_bytes=NO_LIMIT)
    return ours == version


def _stream_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> BinaryIO:
    stream = tar.extractfile(member)
    assert stream is not None, member.name  # refuse_hostile has let regular files through only
    return cast(BinaryIO, stream)
