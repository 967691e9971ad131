"""The parent's side of parsing: a child with a kernel limit and a deadline, restarted when it dies."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, BinaryIO, Self

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
from ingest_pipeline.memory.process import resident_bytes
from ingest_pipeline.models import Gap, Heading, Page, ParsedFile
from ingest_pipeline.parsing.sandbox.outline import MAX_SECTIONS, with_entry
from ingest_pipeline.parsing.sandbox.protocol import (
    OUT_OF_MEMORY_EXIT,
    DeadlinePassed,
    Disconnected,
    Message,
    ProtocolError,
    receive,
    send,
)
from ingest_pipeline.parsing.request import ParseRequest

logger = logging.getLogger(__name__)

START_SECONDS = 60.0  # 0.1 s on an idle machine
OUT_OF_MEMORY_CODES = {
    -signal.SIGKILL: "was killed (SIGKILL), most likely by the kernel for memory",
    -signal.SIGABRT: "gave up (SIGABRT), as pdfium does when it is refused memory",
    OUT_OF_MEMORY_EXIT: "could not even report that it was out of memory",
}
FILES_PER_CHILD = 200  # a leak in a parser library is worth 0.5 s of start-up now and then
MAX_KEPT_BYTES = 24 * 1024**2
"""Parsers' libraries take 8-13 MiB. A child that kept more of a large file would have the next, small one measured as
large: files of 3 KiB were measured at 85 MiB (2026-11)."""
MAX_SINGLE_GAPS = 100
KEPT_ENVIRONMENT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "TZ",
)


class Sandbox:
    """Parses files one after another in a child process; a context manager.

    Args:
        memory_limit_bytes: RLIMIT_DATA of the child.
        page_seconds: the longest that the next page may take.
        file_seconds: the longest that one file may take.
    """

    def __init__(self, *, memory_limit_bytes: int, page_seconds: float = 60.0, file_seconds: float = 1800.0):
        self.memory_limit_bytes = memory_limit_bytes
        self.page_seconds = page_seconds
        self.file_seconds = file_seconds
        self.confined: dict[str, str] = {}
        """What keeps the child from `network` and `files`; `open` where the kernel does not allow it."""
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

    def pages(self, stream: BinaryIO, request: ParseRequest, parsed: ParsedFile) -> Iterator[Page]:
        """Yield the pages of one file, and fill `parsed` with everything else.

        The pipe pushes back: the child waits while the caller works on a page. Only the time spent
        waiting for the child counts against its deadlines.

        Raises:
            PermanentError: what the parser says of the file, or how the child died.
        """
        sock = self._ready()
        os.lseek(stream.fileno(), 0, os.SEEK_SET)  # an earlier child moved the position that all of them share
        try:
            send(sock, {"kind": "parse", "request": asdict(request)}, (stream.fileno(),))
            yield from self._answers(sock, request, parsed)
        except (Disconnected, BrokenPipeError, ConnectionResetError):
            raise self._death(request, parsed) from None
        except DeadlinePassed:
            self.close()
            raise ParserTimedOut(
                f"{request.name}: no page came for {self.page_seconds:.0f} s, or the file took over "
                f"{self.file_seconds:.0f} s; raise INGEST_PAGE_SECONDS or INGEST_FILE_SECONDS"
            ) from None
        except (ProtocolError, KeyError, TypeError, ValueError, OverflowError) as error:
            self.close()
            raise ParserCrashed(f"{request.name}: the parser's child answered nonsense: {error}") from None
        except (GeneratorExit, BaseException) as error:
            if not isinstance(error, PermanentError) or isinstance(error, ParserOutOfMemory):
                self.close()  # pages of this file may still be in the pipe; after a MemoryError its heap is suspect
            raise

    def close(self) -> None:
        """End the child and all that it started."""
        if self._socket:
            self._socket.close()
            self._socket = None
        if self._child:
            _kill_group(self._child)
            self._child = None

    def _answers(self, sock: socket.socket, request: ParseRequest, parsed: ParsedFile) -> Iterator[Page]:
        waited, sections = 0.0, _Sections(len(parsed.sections))
        while True:
            began = time.monotonic()
            try:
                message = receive(sock, deadline=began + min(self.page_seconds, self.file_seconds - waited))
            finally:
                waited = parsed.waited_seconds = waited + time.monotonic() - began
            parsed.peak_memory_bytes, parsed.seconds = int(message["peak"]), float(message["seconds"])
            if message["kind"] == "page":
                page = _page(message, sections.at(parsed))
                parsed.pages = max(parsed.pages, page.number)
                if page.number > request.max_pages:
                    raise ProtocolError("more pages than were asked for")
                parsed.total_pages = None if message["total"] is None else int(message["total"])
                parsed.complete_page = page.number if message["whole"] else parsed.complete_page
                parsed.has_text = parsed.has_text or bool(page.text.strip())
                yield page
            elif message["kind"] == "section":
                _add_section(parsed, message)
            elif message["kind"] == "gap":
                _add_gap(parsed, Gap(int(message["from"]), int(message["to"]), str(message["reason"])))
                if len(parsed.gaps) > request.max_pages:
                    raise ProtocolError("more gaps than pages")
            elif message["kind"] == "done":
                _finish(parsed, message)
                return
            elif message["kind"] == "failed":
                raise _failure(message, request)
            else:
                raise ProtocolError(f"kind {message['kind']!r}")

    def _ready(self) -> socket.socket:
        self._files += 1
        if self._socket and (self._files > FILES_PER_CHILD or not self._is_fit()):
            self.close()
        if self._socket is None:
            self._start()
        assert self._socket is not None
        return self._socket

    def _is_fit(self) -> bool:
        """Return whether the child lives, and holds no more of earlier files than it may."""
        if self._child is None or self._child.poll() is not None:
            return False
        return resident_bytes(self._child.pid) <= self._fresh_bytes + MAX_KEPT_BYTES

    def _start(self) -> None:
        self._files = 1
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [
                    sys.executable, "-P", "-m", "ingest_pipeline.parsing.sandbox.child",
                    str(theirs.fileno()), str(self.memory_limit_bytes), str(os.getpid()),
                ],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # a parser that floods its output floods nothing
                stderr=subprocess.DEVNULL,
                env=_scrubbed_environment(),
            )  # fmt: skip
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

    def _death(self, request: ParseRequest, parsed: ParsedFile) -> PermanentError:
        child = self._child
        assert child is not None
        code = _wait(child)
        self.close()
        if code in OUT_OF_MEMORY_CODES:
            how = OUT_OF_MEMORY_CODES[code]
            parsed.peak_memory_bytes = self.memory_limit_bytes  # it came that far, and could not say so
            limit = f"its limit was {self.memory_limit_bytes:,} bytes"
            return ParserOutOfMemory(f"{request.name}: the parser's child {how}; {limit}; raise INGEST_RUN_MEMORY")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return ParserCrashed(f"{request.name}: the parser's child died: {name}")


@dataclass(slots=True)
class _Sections:
    """Which section a page begins in: the first that came since the page before it, else the last one.

    Where a title, its chapter and its first section begin one after another, it is the section.
    """

    known: int

    def at(self, parsed: ParsedFile) -> int | None:
        at, self.known = self.known, len(parsed.sections)
        if at == self.known:
            return at - 1 if at else None
        while at + 1 < self.known and parsed.sections[at + 1].level > parsed.sections[at].level:
            at += 1
        return at


def _page(message: Message, section: int | None) -> Page:
    heading, label = message["heading"], message["label"]
    return Page(
        number=int(message["number"]),
        text=str(message["text"]),
        heading=None if heading is None else str(heading),
        continues=bool(message["continues"]),
        label=None if label is None else str(label),
        section=section,
    )


def _add_gap(parsed: ParsedFile, gap: Gap) -> None:
    """Note a gap; of very many, those that follow each other are one: they are written anew with each checkpoint."""
    last = parsed.gaps[-1] if parsed.gaps else None
    if last and len(parsed.gaps) >= MAX_SINGLE_GAPS and last.page_to + 1 == gap.page_from:
        parsed.gaps[-1] = Gap(last.page_from, gap.page_to, last.reason)
    else:
        parsed.gaps.append(gap)


def _add_section(parsed: ParsedFile, message: Message) -> None:
    entry = Heading(int(message["level"]), str(message["title"]), int(message["page"]))
    if len(parsed.sections) < MAX_SECTIONS:
        parsed.sections.append(with_entry(parsed.sections, entry))


def _finish(parsed: ParsedFile, message: Message) -> None:
    parsed.pages = max(parsed.pages, int(message["pages"]))
    title = message["title"]
    if title is not None and not isinstance(title, str):
        raise ProtocolError("a title that is no text")
    parsed.title = title
    parsed.more = bool(message["more"])
    parsed.warnings = [str(warning) for warning in message["warnings"]]
    if len(parsed.sections) == MAX_SECTIONS:
        parsed.warnings.append(f"only the first {MAX_SECTIONS:,} of its headings are kept as sections")


def _failure(message: Message, request: ParseRequest) -> PermanentError:
    try:
        kind: type[IngestError] = error_named(str(message["reason"]))
    except KeyError:
        kind = UnreadableDocument
    if not issubclass(kind, PermanentError):
        kind = UnreadableDocument
    text = str(message["message"])
    return kind(text if request.name in text else f"{request.name}: {text}")


def _scrubbed_environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    return kept | {"PYTHONNOUSERSITE": "1", "MALLOC_ARENA_MAX": "1"}


def _kill_group(child: subprocess.Popen[Any]) -> None:
    for kill in (lambda: os.killpg(child.pid, signal.SIGKILL), child.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill()  # the group exists from the child's setsid on; before that, the child alone
    child.wait()


def _wait(child: subprocess.Popen[Any]) -> int:
    try:
        return child.wait(timeout=5)
    except subprocess.TimeoutExpired:  # it closed its socket and lives on
        _kill_group(child)
        return child.wait()
