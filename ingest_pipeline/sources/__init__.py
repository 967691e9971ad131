"""A source URL becomes its files; a file becomes a stream of bytes. The only room that touches paths and servers.

`local.py` reads folders; `s3.py` buckets and `web.py` lists of URLs, both by `remote.py`, which downloads what they
answer piece by piece and goes on after a cut; `spool.py` holds a download for the parser; `upload.py` puts files into a
source; `refusals.py` words what cannot be had. Which of them is asked is decided here, by the source's URL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO
from urllib.parse import urlsplit

from ingest_pipeline.errors import BadSetting
from ingest_pipeline.models import ListedFile, RawFile
from ingest_pipeline.sources import local
from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.hashing import HEAD_BYTES, hash_pieces, pieces_of
from ingest_pipeline.sources.refusals import changed, too_large

__all__ = [
    "Access",
    "canonical_source",
    "canonical_sources",
    "is_remote",
    "list_files",
    "open_version",
    "read_head",
    "read_version",
    "refuse_changed",
    "too_large",
    "verify_version",
]

KINDS = "a folder, s3://bucket/prefix, or the http(s):// URL of a list"


def canonical_source(text: str) -> str:
    """Return one spelling for a source, so that `./docs` and `docs/` are the same rows in the ledger.

    Raises:
        BadSetting: a kind of URL that is not supported, a folder that is not there, a URL with a password in it.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme == "file":
        return local.canonical_folder(text)
    if "@" in rest.partition("/")[0]:
        raise BadSetting(
            "INGEST_SOURCES", f"{scheme}://…", f"{KINDS}, without a password: those belong in .netrc or AWS_*"
        )
    if scheme == "s3" and rest.strip("/"):
        return f"s3://{rest.strip('/')}"
    if scheme in ("http", "https") and _has_host(text):
        return f"{scheme}://{rest}"
    raise BadSetting("INGEST_SOURCES", text, KINDS)


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname) and url.isprintable()
    except ValueError:
        return False


def canonical_sources(names: Iterable[str]) -> list[str]:
    """Return each source once, in the order given.

    Raises:
        BadSetting: as for `canonical_source`.
    """
    return list(dict.fromkeys(canonical_source(name) for name in names))


def is_remote(source: str) -> bool:
    """Return whether a source is on a server."""
    return "://" in source


def list_files(source: str, access: Access) -> Iterator[ListedFile]:
    """Yield every file below a source; nothing accumulates.

    Raises:
        SourceUnavailable: it cannot be listed. Whoever compares with the ledger must then delete nothing.
        BadSetting: there is no such bucket or list, or it may not be read.
    """
    if not is_remote(source):
        yield from local.list_files(source)
        return
    from ingest_pipeline.sources.remote import server_of

    yield from server_of(source, access).files()


def read_version(source: str, path: str, access: Access, *, max_bytes: int) -> tuple[str, int, bytes]:
    """Return the SHA-256 in hex, the length and the first bytes of a file, reading 256 KiB at a time.

    Raises:
        FileTooLarge: more than `max_bytes` came, whatever was said before; reading stopped there.
        FileVanished, FileCutShort, LinkLeavesSource, UnreadableDocument, SourceUnavailable: it cannot be read.
    """
    with _pieces(source, path, access) as pieces:
        return hash_pieces(pieces, name=f"{source}/{path}", max_bytes=max_bytes)


def read_head(source: str, path: str, access: Access) -> bytes:
    """Return the first 4 KiB of a file.

    Raises:
        FileVanished, FileCutShort, LinkLeavesSource, UnreadableDocument, SourceUnavailable: it cannot be read.
    """
    with _pieces(source, path, access) as pieces:
        head = b""
        for piece in pieces:
            head += piece[: HEAD_BYTES - len(head)]
            if len(head) == HEAD_BYTES:
                break
        return head


def verify_version(file: RawFile, access: Access, *, max_bytes: int) -> None:
    """Make sure that a file is what its batch was sealed with: a folder's by its bytes, a server's by what it says.

    A server's bytes are hashed when they are downloaded to be parsed; twice would be once too often.

    Raises:
        FileChanged: the next catalog takes up the new version.
        FileVanished, FileTooLarge, LinkLeavesSource, UnreadableDocument, SourceUnavailable: it cannot be read.
    """
    if is_remote(file.source):
        from ingest_pipeline.sources.remote import server_of

        now = server_of(file.source, access).look(file.path)
        if now.etag and file.etag and now.etag != file.etag:
            raise changed(file.name)
        return
    version, _, _ = read_version(file.source, file.path, access, max_bytes=max_bytes)
    if version != file.version:
        raise changed(file.name)


@contextmanager
def open_version(file: RawFile, access: Access, *, max_bytes: int) -> Iterator[BinaryIO]:
    """Open a file's version for reading, by a real and read-only file descriptor; a server's is downloaded first.

    Raises:
        FileChanged: it is not what was catalogued, or was written to while it was read.
        FileVanished, FileTooLarge, FileCutShort, UnreadableDocument, SourceUnavailable: it cannot be read.
    """
    if not is_remote(file.source):
        with local.open_file(file.source, file.path) as stream:
            refuse_changed(stream, file)
            yield stream
            refuse_changed(stream, file)
        return
    from ingest_pipeline.sources.spool import spooled

    with _pieces(file.source, file.path, access) as pieces:
        spool = spooled(pieces, name=file.name, max_bytes=max_bytes, folder=access.spool_folder)
        with spool as (stream, version):
            if version != file.version:
                raise changed(file.name)
            yield stream


def refuse_changed(stream: BinaryIO, file: RawFile) -> None:
    """Make sure that an open file was not written to since it was catalogued; a download cannot be.

    Raises:
        FileChanged: size or modification time moved.
    """
    if not is_remote(file.source) and local.facts_of(stream) != (file.size_bytes, file.modified_ns):
        raise changed(file.name)


@contextmanager
def _pieces(source: str, path: str, access: Access) -> Iterator[Iterable[bytes]]:
    if is_remote(source):
        from ingest_pipeline.sources.remote import downloaded, server_of

        yield downloaded(server_of(source, access), path, access)
        return
    with local.open_file(source, path) as stream:
        yield pieces_of(stream, f"{source}/{path}")
