"""The parent's side of parsing and cutting: a child with a kernel limit and deadlines, replaced when it fails."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict
from types import TracebackType
from typing import BinaryIO, Self

from ingest_pipeline.errors import (
    IngestError,
    ParserCrashed,
    ParserOutOfMemory,
    ParserTimedOut,
    ParserUnavailable,
    PermanentError,
    UnreadableDocument,
    error_named,
)
from ingest_pipeline.memory.process import limit_file_bytes, resident_bytes
from ingest_pipeline.models import CutPages, Done, Gap, Page, ParseCost, ParseEvent
from ingest_pipeline.parsing.request import CutRequest, ParseRequest
from ingest_pipeline.parsing.sandbox import cut as cutting
from ingest_pipeline.parsing.sandbox.launch import OUT_OF_MEMORY_CODES, ending, exit_code_of, kill_group, launched
from ingest_pipeline.parsing.sandbox.protocol import (
    DeadlinePassed,
    Disconnected,
    Message,
    ProtocolError,
    decode,
    receive,
    send,
)

logger = logging.getLogger(__name__)

START_SECONDS = 60.0  # 0.1 s on an idle machine
FILES_PER_CHILD = 200  # bounds what leaks in parser libraries can add up to; a new child takes 0.1-0.5 s
MAX_KEPT_BYTES = 24 * 1024**2
"""Growth after which a child is replaced. Parser libraries take 8-13 MiB; memory kept from a large file would count for
the next one: files of 3 KiB were measured at 85 MiB (docs/findings.md, D4)."""
MAX_FAILURE_CHARACTERS = 4_000
CHILD_IS_GONE = (Disconnected, DeadlinePassed, ProtocolError, BrokenPipeError, ConnectionResetError)


class Sandbox:
    """Parses and cuts files one after another in a child process; a context manager.

    Args:
        memory_limit_bytes: RLIMIT_DATA of the child.
        page_seconds: deadline for the next page.
        file_seconds: deadline for one file.
    """

    def __init__(self, *, memory_limit_bytes: int, page_seconds: float = 60.0, file_seconds: float = 1800.0):
        self.memory_limit_bytes = memory_limit_bytes
        self.page_seconds = page_seconds
        self.file_seconds = file_seconds
        self.confined: dict[str, str] = {}
        """What restricts the child's access to `network` and `files`; `open` where the kernel refuses."""
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._files = 0
        self._fresh_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def events(self, stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
        """Yield the events of one file.

        The child waits when the socket is full, while the caller works on a page. Only the time in which the caller
        waits for the child counts against the deadlines.

        Raises:
            PermanentError: the parser's error, or the failure of the child; a `ParseCost` comes before it.
        """
        sock, cost = self._ready(), _Cost()
        os.lseek(stream.fileno(), 0, os.SEEK_SET)  # duplicates of a descriptor share its position, and a child moved it
        try:
            with self._replacing_child(request, cost):
                send(sock, {"kind": "parse", "request": asdict(request)}, (stream.fileno(),))
                yield from self._received(sock, request, cost)
        except PermanentError:
            yield cost.so_far()
            raise

    def cut(self, stream: BinaryIO, request: CutRequest, output: BinaryIO) -> CutPages:
        """Write the requested pages of a PDF into a file, as a PDF that holds no others.

        The output is as hostile as the document: only the sandbox may read it. After an error it may hold anything.

        Args:
            stream: the document.
            request: the pages, and the limit for the output.
            output: a temporary file, open for reading and writing; it is emptied first, and is at its start afterwards.

        Raises:
            FileTooLarge: the pages need more than `request.max_bytes`.
            PermanentError: the pages cannot be cut, or the child failed; the same types as in `events`.
            OSError: ENOSPC, the disk of the output is full.
        """
        sock = self._ready_to_write(request.max_bytes)
        cutting.prepare(stream, output)
        with self._replacing_child(request, _Cost()):
            send(sock, {"kind": "cut", "request": asdict(request)}, (stream.fileno(), output.fileno()))
            answer = cutting.answer(sock, min(self.file_seconds, self.page_seconds * request.pages))
            if not isinstance(answer, CutPages):
                cutting.check_space(output)
                raise _failure_of_file(answer, request)
            cutting.check(answer, request, output)
            return answer

    def close(self) -> None:
        """Kill the child and all processes that it started."""
        if self._socket:
            self._socket.close()
            self._socket = None
        if self._child:
            kill_group(self._child)
            self._child = None

    @contextlib.contextmanager
    def _replacing_child(self, request: ParseRequest | CutRequest, cost: _Cost) -> Iterator[None]:
        """Turn the failure of the child into an error; kill the child unless it can serve the next file."""
        try:
            yield
        except CHILD_IS_GONE as error:
            raise self._failure_of_child(error, request, cost) from None
        except BaseException as error:
            if not isinstance(error, PermanentError) or isinstance(error, ParserOutOfMemory):
                # Events of this file may still be in the socket; after a MemoryError the child's heap is not reliable.
                self.close()
            raise

    def _received(self, sock: socket.socket, request: ParseRequest, cost: _Cost) -> Iterator[ParseEvent]:
        gaps = 0
        while True:
            with cost.waiting():
                message = receive(sock, deadline=self._deadline(cost))
            if message["kind"] == "failed":
                raise _failure_of_file(message, request)
            event = decode(message)
            gaps += isinstance(event, Gap)
            # Bounded here, too: a child that a document took over may send anything.
            if gaps > request.max_pages or (isinstance(event, Page) and event.number > request.max_pages):
                raise ProtocolError("more pages or gaps than were asked for")
            if isinstance(event, ParseCost):
                event = cost.reported(event)
            yield event
            if isinstance(event, Done):
                return

    def _deadline(self, cost: _Cost) -> float:
        return time.monotonic() + min(self.page_seconds, self.file_seconds - cost.waited_seconds)

    def _ready(self) -> socket.socket:
        self._files += 1
        if self._socket and (self._files > FILES_PER_CHILD or not self._is_reusable()):
            self.close()
        if self._socket is None:
            self._start()
        assert self._socket is not None
        return self._socket

    def _ready_to_write(self, max_bytes: int) -> socket.socket:
        """Return the socket of a child that the kernel stops at a file of this size, whatever runs in it."""
        sock = self._ready()
        assert self._child is not None
        if not limit_file_bytes(self._child.pid, max_bytes):  # of an earlier cut: a limit can only be lowered
            self.close()
            sock = self._ready()
            limit_file_bytes(self._child.pid, max_bytes)
        return sock

    def _is_reusable(self) -> bool:
        """Return whether the child is alive and has not grown by more than MAX_KEPT_BYTES."""
        if self._child is None or self._child.poll() is not None:
            return False
        return resident_bytes(self._child.pid) <= self._fresh_bytes + MAX_KEPT_BYTES

    def _start(self) -> None:
        self._files = 1
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = launched(theirs, self.memory_limit_bytes)
        self._socket = ours
        self._greet(ours)
        self._fresh_bytes = resident_bytes(self._child.pid)
        logger.debug(
            "parser child %d started, limit %d bytes, network %s, files %s",
            self._child.pid, self.memory_limit_bytes, self.confined.get("network"), self.confined.get("files"),
        )  # fmt: skip

    def _greet(self, sock: socket.socket) -> None:
        try:
            ready = receive(sock, deadline=time.monotonic() + START_SECONDS)
            self.confined = {str(name): str(how) for name, how in dict(ready["confined"]).items()}
        except (Disconnected, DeadlinePassed, ProtocolError, KeyError, TypeError, ValueError) as error:
            self.close()
            raise ParserUnavailable(
                f"the parser's child did not start under {self.memory_limit_bytes:,} bytes: {type(error).__name__}; "
                "raise INGEST_RUN_MEMORY or check the installation"
            ) from None

    def _failure_of_child(self, error: Exception, request: ParseRequest | CutRequest, cost: _Cost) -> PermanentError:
        """Kill the child; return its failure as an error."""
        if isinstance(error, DeadlinePassed):
            self.close()
            return ParserTimedOut(
                f"{request.name}: no page came for {self.page_seconds:.0f} s, or the file took over "
                f"{self.file_seconds:.0f} s; raise INGEST_PAGE_SECONDS or INGEST_FILE_SECONDS"
            )
        if isinstance(error, ProtocolError):
            self.close()
            return ParserCrashed(f"{request.name}: the parser's child sent an invalid message: {error}")
        assert self._child is not None
        code = exit_code_of(self._child)
        self.close()
        if code in OUT_OF_MEMORY_CODES:
            cost.peak_memory_bytes = self.memory_limit_bytes  # the child reached it and could not report it
            how, limit = OUT_OF_MEMORY_CODES[code], f"its limit was {self.memory_limit_bytes:,} bytes"
            return ParserOutOfMemory(f"{request.name}: the parser's child {how}; {limit}; raise INGEST_RUN_MEMORY")
        return ParserCrashed(f"{request.name}: the parser's child ended: {ending(code)}")


class _Cost:
    """The cost of one file in one child so far."""

    def __init__(self) -> None:
        self.peak_memory_bytes, self.seconds, self.waited_seconds = 0, 0.0, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time in this context as waiting for the child."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.waited_seconds += time.monotonic() - began

    def reported(self, cost: ParseCost) -> ParseCost:
        """Record the cost that the child reports; return it with the time that the parent waited."""
        self.peak_memory_bytes, self.seconds = cost.peak_memory_bytes, cost.seconds
        return self.so_far()

    def so_far(self) -> ParseCost:
        """Return the cost as an event."""
        return ParseCost(self.peak_memory_bytes, self.seconds, self.waited_seconds)


def _failure_of_file(message: Message, request: ParseRequest | CutRequest) -> PermanentError:
    try:
        kind: type[IngestError] = error_named(str(message.get("reason")))
    except KeyError:
        kind = UnreadableDocument
    if not issubclass(kind, PermanentError):  # a document must not be able to end the run
        kind = UnreadableDocument
    text = str(message.get("message"))[:MAX_FAILURE_CHARACTERS]
    return kind(text if request.name in text else f"{request.name}: {text}")
