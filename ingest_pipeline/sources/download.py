"""Downloads files from servers in pieces; resumes after an interruption; fails when a server stays unavailable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol, TypeVar

from ingest_pipeline.errors import FileCutShort, SourceUnavailable
from ingest_pipeline.models import ListedFile, RawFile
from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.base import file_name
from ingest_pipeline.sources.hashing import READ_BYTES, hash_pieces, head_of
from ingest_pipeline.sources.spool import spooled
from ingest_pipeline.sources.wording import changed

logger = logging.getLogger(__name__)
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 8.0
MAX_CUTS = 4  # with waits of 0.5 to 2 s: 5 s for a file that always breaks off at the same place
Response = TypeVar("Response")


class ServerUnavailable(Exception):
    """The server does not respond, or reports a temporary failure: the request is sent again."""


class TruncatedResponse(Exception):
    """A response broke off: the download is resumed at that place."""


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a response, to be read."""

    read: Callable[[int], bytes]
    """Returns up to so many bytes, b"" at the end; raises TruncatedResponse."""
    etag: str
    begins_at: int
    """Its offset in the file: not every server can begin in the middle."""
    ends_at: int | None
    """The length of the file, if the server reports it."""


class Server(Protocol):
    """The server side of a source: a bucket or a list of URLs. `Downloads` makes a source of it."""

    name: str

    def files(self) -> Iterator[ListedFile]:
        """Yield every file."""

    def head(self, path: str) -> ListedFile:
        """Return size and revision of one file as the server reports them now; raise FileVanished."""

    def get(self, path: str, *, begin: int, etag: str) -> AbstractContextManager[Body]:
        """Open a file's bytes from `begin` on; raise FileChanged if it is no longer this version."""


class Downloads:
    """A source whose files are on a server: reading means downloading."""

    def __init__(self, server: Server, access: Access) -> None:
        self.name = server.name
        self._server, self._access = server, access

    def files(self) -> Iterator[ListedFile]:
        """Yield every file, as the server lists it."""
        return self._server.files()

    def read_version(self, path: str, *, max_bytes: int) -> tuple[str, int, bytes]:
        """Return the SHA-256, the length and the first 4 KiB of a file."""
        return hash_pieces(self._pieces(path), name=file_name(self.name, path), max_bytes=max_bytes)

    def read_head(self, path: str) -> bytes:
        """Return the first 4 KiB of a file; the rest is not downloaded."""
        return head_of(self._pieces(path))

    def verify(self, file: RawFile, *, max_bytes: int) -> None:
        """Make sure that a file has its revision, or else the bytes of its version.

        With an equal revision nothing is downloaded: the bytes are hashed later, when they are downloaded for parsing.
        """
        now = self._server.head(file.path)
        if not now.revision or not file.revision or now.revision == file.revision:
            return
        version, _, _ = self.read_version(file.path, max_bytes=max_bytes)
        if version != file.version:
            raise changed(file.name)

    @contextmanager
    def open_version(self, file: RawFile, *, max_bytes: int) -> Iterator[BinaryIO]:
        """Download a file and open the download, if its hash is the version's."""
        pieces, folder = self._pieces(file.path), self._access.spool_folder
        with spooled(pieces, name=file.name, max_bytes=max_bytes, folder=folder) as (stream, version):
            if version != file.version:
                raise changed(file.name)
            yield stream

    def refuse_changed(self, stream: BinaryIO, file: RawFile) -> None:
        """Do nothing: a download cannot change."""

    def _pieces(self, path: str) -> Iterator[bytes]:
        return downloaded(self._server, path, self._access)


def revision_of(etag: str, size_bytes: int, modified_seconds: int) -> str:
    """Return the revision of a file from a server's headers; '' if neither ETag nor time is known."""
    etag = etag.replace("\x00", "").encode("utf-8", "backslashreplace").decode()  # Postgres accepts UTF-8 without NUL
    return f"{etag} {size_bytes} {modified_seconds}" if etag or modified_seconds else ""


def downloaded(server: Server, path: str, access: Access) -> Iterator[bytes]:
    """Yield a file's bytes, at most 256 KiB at a time; resume an interrupted download of the same version.

    Raises:
        FileVanished, FileChanged: it no longer exists, or changed while it was read.
        FileCutShort: the server responds, but breaks off at the same place again and again.
        SourceUnavailable: the server stayed unavailable.
    """
    received, etag, cuts, patience = 0, "", Cuts(path), Patience(access.patience_seconds)
    while True:
        try:
            with server.get(path, begin=received, etag=etag) as body:
                # A server without ranges begins at 0: what was received before is skipped.
                etag, skip = body.etag, received - body.begins_at
                while piece := body.read(READ_BYTES):
                    piece, skip = piece[skip:], max(0, skip - len(piece))
                    if piece:
                        received += len(piece)
                        patience.renew()
                        yield piece
                # Some servers close the connection early without an error.
                if body.ends_at is not None and received < body.ends_at:
                    raise TruncatedResponse(f"{received:,} of {body.ends_at:,} bytes")
            return
        except TruncatedResponse as error:
            cuts.wait(error, received)
        except ServerUnavailable as error:
            patience.wait(error, path)


def patiently(request: Callable[[], Response], what: str, access: Access) -> Response:
    """Return the response to a request, which is sent again while the server is unavailable.

    Raises:
        SourceUnavailable: the server stayed unavailable.
        FileCutShort: the server sends invalid responses.
    """
    cuts, patience = Cuts(what), Patience(access.patience_seconds)
    while True:
        try:
            return request()
        except TruncatedResponse as error:
            cuts.wait(error, 0)
        except ServerUnavailable as error:
            patience.wait(error, what)


class Cuts:
    """Counts the interruptions of one download in a row."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._count = self._received = 0

    def wait(self, error: Exception, received: int) -> None:
        """Wait before the next try.

        Raises:
            FileCutShort: the download was interrupted too often.
        """
        # A few bytes more each time are no progress, or a slow server could keep a run for days.
        self._count = 1 if received - self._received >= READ_BYTES else self._count + 1
        self._received = received
        if self._count > MAX_CUTS:
            raise FileCutShort(f"{self._path}: the server breaks off after {received:,} bytes ({error})") from None
        time.sleep(FIRST_WAIT_SECONDS * self._count)


class Patience:
    """Waits twice as long each time, up to a total time; progress resets it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Start again with the whole time and the shortest wait."""
        self._until = time.monotonic() + self._seconds
        self._next = FIRST_WAIT_SECONDS

    def wait(self, error: Exception, what: str) -> None:
        """Wait before the next try.

        Raises:
            SourceUnavailable: the time is over.
        """
        if time.monotonic() >= self._until:
            raise SourceUnavailable(f"{what}: no response for {self._seconds:.0f} s: {error}") from None
        logger.info("waiting %.1f s: %s", self._next, type(error).__name__)
        time.sleep(self._next)
        self._next = min(LONGEST_WAIT_SECONDS, 2 * self._next)
