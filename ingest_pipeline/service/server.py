"""The HTTP server of the service: uvicorn in this process, with limits, until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from h11 import IDLE
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 256
"""Also idle ones; who comes then is told 503."""
HEADER_BYTES = 32 * 1024
"""Of the request's line and its headers together."""
HEADER_SECONDS = 10.0
"""The longest that they may take to arrive, and that a connection may say nothing."""
IDLE_SECONDS = 15.0
"""For how long a connection waits for the next request."""
STOP_SECONDS = 10.0
"""For how long requests at work may go on after a signal."""
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that ends a connection whose request does not arrive: uvicorn waits for it without end."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the time begins with the first of a request, and ends with its headers."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        if self.conn.their_state is not IDLE:
            self._forget()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _forget(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class Server(uvicorn.Server):
    """A server that ends well at SIGINT, SIGTERM and SIGHUP; a second one ends it at once.

    Args:
        app: the application.
        started: called once connections are taken.
    """

    def __init__(self, app: ASGIApp, started: Callable[[], None]) -> None:
        super().__init__(_config(app))
        self._tell_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections."""
        await super().startup(sockets)
        if self.started:
            self._tell_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals while serving; uvicorn itself would raise them again afterwards."""
        before = {number: signal.signal(number, self._stop) for number in NUMBERS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: Any) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,  # its lines have the queries in them
        proxy_headers=False,  # nobody's word for where a request comes from is taken
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=int(IDLE_SECONDS),
        timeout_graceful_shutdown=int(STOP_SECONDS),
        h11_max_incomplete_event_size=HEADER_BYTES,
    )


def serve(app: ASGIApp, bound: socket.socket, started: Callable[[], None]) -> None:
    """Answer requests on a bound socket until a signal.

    Args:
        app: the application.
        bound: see `stages.listening`.
        started: called once connections are taken.
    """
    Server(app, started).run(sockets=[bound])
