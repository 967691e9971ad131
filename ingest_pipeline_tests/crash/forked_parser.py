"""The parser's child, forked instead of started: the same code behind the same limits, in milliseconds.

A page with `END_OF_PARSER` ends the child that reads it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from ingest_pipeline.models import Page, ParseEvent
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox import child, parent

END_OF_PARSER = "ENDOFPARSER"
CODE = 70


class ForkedChild:
    """What the sandbox needs of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid, self.returncode = pid, None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = 60.0) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("parser", timeout)
            time.sleep(0.0005)
        return code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def install() -> None:
    """Fork parsers in this process from now on."""
    parent.launched = _forked  # type: ignore[assignment]


def _forked(theirs: socket.socket, memory_limit_bytes: int) -> Any:
    own = os.getpid()
    pid = os.fork()
    if pid:
        return ForkedChild(pid)
    try:
        _close_all_but(theirs.fileno())
        parser_for = child.parser_for
        child.parser_for = lambda media_type: _ending(parser_for(media_type))  # type: ignore[assignment]
        child.main([str(theirs.fileno()), str(memory_limit_bytes), str(own)])
    finally:
        os._exit(0)


def _close_all_but(kept: int) -> None:
    """A copy of a connection would keep its session alive after the end of its owner."""
    os.closerange(3, kept)
    os.closerange(kept + 1, 1024)


def _ending(parse: Any) -> Any:
    def parsed(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
        for event in parse(stream, request):
            if isinstance(event, Page) and END_OF_PARSER in event.text:
                os._exit(CODE)
            yield event

    return parsed
