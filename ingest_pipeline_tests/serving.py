"""A real `ingest serve` in a process of its own, for tests."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx

from ingest_pipeline.settings import Settings

TOKEN = "correct-horse-battery"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    """`ingest serve`, not waited for."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INGEST_")}
    return subprocess.Popen(
        [sys.executable, "-m", "ingest_pipeline.cli", "serve", *arguments],
        env=kept | settings.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@dataclass
class Served:
    """A service that answers."""

    process: subprocess.Popen[str]
    settings: Settings
    line: str
    """What it printed when it was ready."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.service_port}"

    def get(self, path: str, **more: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30, **more)

    def connect(self) -> socket.socket:
        """A connection without a client's manners."""
        return socket.create_connection(("127.0.0.1", self.settings.service_port), timeout=30)

    def raw(self, *pieces: bytes) -> bytes:
        """What is answered to bytes, until the service ends the connection."""
        with self.connect() as connection:
            for piece in pieces:
                connection.sendall(piece)
            return read_all(connection)

    def ended(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Its exit code and what else it printed, after a signal."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side ends."""
    pieces = []
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


@contextlib.contextmanager
def serving(settings: Settings, *arguments: str, **changes: Any) -> Iterator[Served]:
    """A service on a free port, once it is ready; ended afterwards."""
    settings = replace(settings, **{"service_port": free_port(), **changes})
    process = started(settings, *arguments)
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield Served(process, settings, line)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
