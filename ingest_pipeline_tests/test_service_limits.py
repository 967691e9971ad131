"""How much one client may take: bodies, time, requests at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ingest_pipeline.service.limits import BODY_BYTES, Limits

MIB = 1024**2


async def length(request: Request) -> Response:
    """How many bytes the body has."""
    total = 0
    async for piece in request.stream():
        total += len(piece)
    return PlainTextResponse(str(total))


async def slow(request: Request) -> Response:
    await asyncio.sleep(float(request.query_params["seconds"]))
    return PlainTextResponse("slept")


def blocking(request: Request) -> Response:
    """Holds a thread, which nobody can cancel."""
    time.sleep(float(request.query_params["seconds"]))
    return PlainTextResponse("slept")


ROUTES = [
    Route("/length", length, methods=["POST"]), Route("/documents", length, methods=["POST"]),
    Route("/slow", slow, methods=["GET", "POST"]), Route("/blocking", blocking), Route("/healthz", slow),
]  # fmt: skip


def asked(ask: Callable[[httpx.AsyncClient], Awaitable[Any]], **limits: Any) -> Any:
    """What some requests of one client come to, in one event loop."""
    app = Starlette(routes=ROUTES, middleware=[Middleware(Limits, **limits)])

    async def run() -> Any:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=30) as client:
            return await ask(client)

    return asyncio.run(run())


async def pieces(total_bytes: int, pause_seconds: float = 0) -> AsyncIterator[bytes]:
    """A body whose length nobody declares."""
    for _ in range(total_bytes // 65536):
        await asyncio.sleep(pause_seconds)
        yield b"x" * 65536


@pytest.mark.parametrize("declared", [True, False])
def test_bodies_are_bounded(declared: bool) -> None:
    """A body of 1 MiB is taken; a larger one ends as 413, whether it says its length or not."""

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        sizes = [BODY_BYTES, BODY_BYTES + 65536]
        return [await client.post("/length", content=b"x" * size if declared else pieces(size)) for size in sizes]

    taken, refused = asked(ask)
    assert (taken.status_code, taken.text) == (200, str(BODY_BYTES))
    assert (refused.status_code, refused.json()["error"]) == (413, "BodyTooLarge")


def test_documents_are_streamed() -> None:
    """The paths that take documents get a body of any length; they check it themselves."""
    answer = asked(lambda client: client.post("/documents", content=pieces(4 * MIB)))
    assert (answer.status_code, answer.text) == (200, str(4 * MIB))


def test_a_body_that_stalls() -> None:
    """A client that is silent in the middle of a body gets 408; a slow one that goes on is waited for."""

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.post("/documents", content=pieces(2 * 65536, pause)) for pause in (5.0, 0.1)]

    began = time.monotonic()
    stalled, taken = asked(ask, stall_seconds=0.5)
    assert (stalled.status_code, stalled.json()["error"], taken.text) == (408, "BodyStalled", str(2 * 65536))
    assert time.monotonic() - began < 4


def test_reads_end_in_time() -> None:
    """A read that takes too long ends as 503, also while its thread goes on; a write takes the time that it needs."""

    async def ask(client: httpx.AsyncClient) -> list[tuple[int, float]]:
        ends = []
        for method, path in (("GET", "/slow"), ("GET", "/blocking"), ("POST", "/slow")):
            began = time.monotonic()
            answer = await client.request(method, f"{path}?seconds=1.5")
            ends.append((answer.status_code, time.monotonic() - began))
        return ends

    slow_read, blocking_read, write = asked(ask, read_seconds=0.3)
    assert (slow_read[0], blocking_read[0], write[0]) == (503, 503, 200)
    assert slow_read[1] < 1 and blocking_read[1] < 1 <= write[1]


def test_requests_at_once_are_bounded() -> None:
    """Beyond the limit a request is told when to come again; the health check is answered all the same."""

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        waiting = [asyncio.create_task(client.get("/slow?seconds=0.5")) for _ in range(3)]
        await asyncio.sleep(0.2)
        others = [await client.get("/slow?seconds=0"), await client.get("/healthz?seconds=0")]
        return [*others, *[await task for task in waiting], await client.get("/slow?seconds=0")]

    refused, health, *rest = asked(ask, requests=3)
    assert (refused.status_code, refused.json()["error"], refused.headers["retry-after"]) == (
        503, "TooManyRequests", "2",
    )  # fmt: skip
    assert [answer.status_code for answer in (health, *rest)] == [200] * 5


def test_given_up_ones_still_count() -> None:
    """A request that was given up holds its thread, and its place, until the thread is through."""

    async def ask(client: httpx.AsyncClient) -> list[int]:
        statuses = [(await client.get("/blocking?seconds=1")).status_code]
        statuses.append((await client.get("/slow?seconds=0")).status_code)
        await asyncio.sleep(1.2)
        return [*statuses, (await client.get("/slow?seconds=0")).status_code]

    assert asked(ask, requests=1, read_seconds=0.2) == [503, 503, 200]
