"""Files on servers: downloaded piece by piece, taken up again after a cut, given up when a server stays away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ingest_pipeline.errors import FileCutShort, SourceUnavailable
from ingest_pipeline.models import ListedFile
from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.hashing import READ_BYTES

logger = logging.getLogger(__name__)
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 8.0
MAX_CUTS = 4
Answer = TypeVar("Answer")


class ServerAway(Exception):
    """Nobody answers, or what answers says that it cannot now: worth another try."""


class AnswerCut(Exception):
    """An answer began and broke off: worth another try from where it broke."""


@dataclass(frozen=True, slots=True)
class Body:
    """An answer that is still coming."""

    read: Callable[[int], bytes]
    """Returns up to so many bytes, b"" at the end; raises AnswerCut."""
    etag: str
    begins_at: int
    """Where in the file it begins: a server may not be able to begin in the middle."""
    ends_at: int | None
    """How long the file is said to be."""


class Server(Protocol):
    """Where a source's files are: a bucket, or a list of URLs."""

    def files(self) -> Iterator[ListedFile]:
        """Yield every file."""

    def look(self, path: str) -> ListedFile:
        """Return what the server says of one file now; raise FileVanished."""

    def get(self, path: str, *, begin: int, etag: str) -> AbstractContextManager[Body]:
        """Open a file's bytes from `begin` on; raise FileChanged when it is no longer this version."""


def server_of(source: str, access: Access) -> Server:
    """Return whoever answers for a remote source; its libraries are imported here."""
    if source.startswith("s3://"):
        from ingest_pipeline.sources.s3 import Bucket

        return Bucket(source, access)
    from ingest_pipeline.sources.web import WebList

    return WebList(source, access)


def downloaded(server: Server, path: str, access: Access) -> Iterator[bytes]:
    """Yield a file's bytes, 256 KiB at most at a time; after a cut it goes on where that was, with the same version.

    Raises:
        FileVanished, FileChanged: it is gone, or became another while it was read.
        FileCutShort: the server answers, but breaks off at the same place again and again.
        SourceUnavailable: the server stayed away.
    """
    came, etag, cuts, patience = 0, "", Cuts(path), Patience(access.patience_seconds)
    while True:
        try:
            with server.get(path, begin=came, etag=etag) as body:
                etag, skip = body.etag, came - body.begins_at
                while piece := body.read(READ_BYTES):
                    piece, skip = piece[skip:], max(0, skip - len(piece))
                    if piece:
                        came += len(piece)
                        patience.renew()
                        yield piece
                if body.ends_at is not None and came < body.ends_at:
                    raise AnswerCut(f"{came:,} of {body.ends_at:,} bytes")
            return
        except AnswerCut as error:
            cuts.wait(error, came)
        except ServerAway as error:
            patience.wait(error, path)


def patiently(ask: Callable[[], Answer], what: str, access: Access) -> Answer:
    """Return what a server answers, asked again while it is away.

    Raises:
        SourceUnavailable: it stayed away.
        FileCutShort: it answers, but what comes is no answer.
    """
    cuts, patience = Cuts(what), Patience(access.patience_seconds)
    while True:
        try:
            return ask()
        except AnswerCut as error:
            cuts.wait(error, 0)
        except ServerAway as error:
            patience.wait(error, what)


class Cuts:
    """Counts the cuts in one file: a few bytes more each time are no progress."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._count = self._came = 0

    def wait(self, error: Exception, came: int) -> None:
        """Wait before another try.

        Raises:
            FileCutShort: it breaks off again and again.
        """
        self._count = 1 if came - self._came >= READ_BYTES else self._count + 1
        self._came = came
        if self._count > MAX_CUTS:
            raise FileCutShort(f"{self._path}: the server breaks off after {came:,} bytes ({error})") from None
        time.sleep(FIRST_WAIT_SECONDS * self._count)


class Patience:
    """Waits twice as long each time, until it is used up; progress renews it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Begin anew."""
        self._until = time.monotonic() + self._seconds
        self._next = FIRST_WAIT_SECONDS

    def wait(self, error: Exception, what: str) -> None:
        """Wait before another try.

        Raises:
            SourceUnavailable: it is used up.
        """
        if time.monotonic() >= self._until:
            raise SourceUnavailable(f"{what}: no answer for {self._seconds:.0f} s: {error}") from None
        logger.info("waiting %.1f s: %s", self._next, type(error).__name__)
        time.sleep(self._next)
        self._next = min(LONGEST_WAIT_SECONDS, 2 * self._next)
