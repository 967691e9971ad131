"""How much one client may take: the size of a request's body, its time, and requests at once."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest_pipeline.service.refusals import RETRY_AFTER, refusal
from ingest_pipeline.sizes import format_size

MOST_REQUESTS = 64
"""At once. Four connections answer them; of 64 searches of 50 ms the last waits for a second."""
BODY_BYTES = 1024**2
STREAMED_PATHS = ("/documents", "/api/v1/documents/upload", "/extract")
"""Their bodies are documents: they are read as a stream, and checked against INGEST_MAX_FILE_SIZE as they come."""
READ_SECONDS = 30.0
"""The longest that an answer to a request that reads may take."""
STALL_SECONDS = 30.0
"""The longest that a client may be silent in the middle of a body."""
UNCOUNTED = ("/healthz",)


class TooLarge(Exception):
    """A body has more bytes than its path takes."""


class Stalled(Exception):
    """A body does not come on."""


class Limits:
    """Middleware that bounds requests.

    Args:
        app: what answers.
        requests: at once at most.
        read_seconds: for a request that reads.
        stall_seconds: between two pieces of a body.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        requests: int = MOST_REQUESTS,
        read_seconds: float = READ_SECONDS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.app, self.requests, self.read_seconds, self.stall_seconds = app, requests, read_seconds, stall_seconds
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request within the limits."""
        if scope["type"] != "http" or scope["path"] in UNCOUNTED:
            await self.app(scope, receive, send)
        elif self._at_work >= self.requests:
            await refusal(503, "TooManyRequests", "the service is busy; try again", RETRY_AFTER)(scope, receive, send)
        elif _declared_bytes(scope) > _allowed_bytes(scope):
            await _too_large(scope)(scope, receive, send)
        else:
            await self._bounded(scope, receive, send)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        body = _Body(receive, allowed_bytes=_allowed_bytes(scope), stall_seconds=self.stall_seconds)
        self._at_work += 1
        task = asyncio.ensure_future(self.app(scope, body.receive, answer.send))
        task.add_done_callback(self._ended)  # one that is given up counts for as long as its thread is at work
        try:
            await asyncio.wait({task}, timeout=self.read_seconds if scope["method"] in ("GET", "HEAD") else None)
        finally:
            if not task.done():
                answer.give_up()
                task.cancel()
        if (instead := _instead_of(task, scope)) is None:
            return
        if answer.began:
            raise ConnectionError
        await instead(scope, receive, send)

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._at_work -= 1
        if not task.cancelled():
            task.exception()  # of one that was given up nobody else asks


class _Answer:
    """Passes an answer on until nobody waits for it any more."""

    def __init__(self, send: Send) -> None:
        self._send, self.began, self._given_up = send, False, False

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if not self._given_up:
            self.began = True
            await self._send(message)

    def give_up(self) -> None:
        self._given_up = True


class _Body:
    """Passes a body on while it is within its limits."""

    def __init__(self, receive: Receive, *, allowed_bytes: float, stall_seconds: float) -> None:
        self._receive, self._left_bytes, self._stall_seconds = receive, allowed_bytes, stall_seconds
        self._whole = False

    async def receive(self) -> Message:
        if self._whole:  # what comes now is the end of the connection
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._stall_seconds)
        except TimeoutError:
            raise Stalled from None
        self._left_bytes -= len(message.get("body", b""))
        if self._left_bytes < 0:
            raise TooLarge
        self._whole = not message.get("more_body", False)
        return message


def _instead_of(task: asyncio.Future[None], scope: Scope) -> Response | None:
    """Return what a client gets in the place of an answer; None where it has one.

    Raises:
        Exception: what the application raised.
    """
    if not task.done():
        return refusal(503, "TookTooLong", "the answer took too long; ask for less", RETRY_AFTER)
    try:
        task.result()
    except TooLarge:
        return _too_large(scope)
    except Stalled:
        return refusal(408, "BodyStalled", "the body of the request did not come on")
    return None


def _too_large(scope: Scope) -> Response:
    return refusal(413, "BodyTooLarge", f"{scope['path']} takes a body of at most {format_size(BODY_BYTES)}")


def _allowed_bytes(scope: Scope) -> float:
    return float("inf") if scope["path"] in STREAMED_PATHS else BODY_BYTES


def _declared_bytes(scope: Scope) -> int:
    text = Headers(scope=scope).get("content-length", "")
    return int(text) if text.isascii() and text.isdecimal() else 0
