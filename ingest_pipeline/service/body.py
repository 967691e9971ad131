"""The body of a request: read in pieces, within a size and a time, and handed to a thread that blocks."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from anyio import from_thread
from starlette.requests import Request

from ingest_pipeline.service.refused import BAD_REQUEST, TIMED_OUT, TOO_LARGE, Refused

SILENCE_SECONDS = 30.0
"""The longest that a client may send nothing."""
BODY_SECONDS = 600.0
"""The longest that a whole body may take: 50 MB at 85 kB/s."""


class Body:
    """The body of one request.

    Args:
        request: the request.
        most_bytes: of the body; a longer one is refused while it comes, or before if it says so.
    """

    def __init__(self, request: Request, *, most_bytes: int) -> None:
        self._pieces = request.stream().__aiter__()
        self._most_bytes, self._length = most_bytes, 0
        self._ends = time.monotonic() + BODY_SECONDS
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > most_bytes:
            raise self._too_large()

    async def piece(self) -> bytes:
        """Return the next piece, as the network brings it, up to about 64 KiB; b"" at the end.

        Raises:
            Refused: the body is too large, or the client too slow.
            ClientDisconnect: the client broke off.
        """
        seconds = min(SILENCE_SECONDS, self._ends - time.monotonic())
        with anyio.move_on_after(max(0.0, seconds)):
            while (piece := await anext(self._pieces, None)) is not None:
                if piece:
                    return self._counted(piece)
            return b""
        raise Refused(
            TIMED_OUT, f"the body came too slowly: {SILENCE_SECONDS:.0f} s of silence, {BODY_SECONDS:.0f} s in all",
            error="TooSlow",
        )  # fmt: skip

    async def whole(self) -> bytes:
        """Return all of it.

        Raises:
            Refused, ClientDisconnect: as for `piece`.
        """
        content = bytearray()
        while piece := await self.piece():
            content += piece
        return bytes(content)

    def _counted(self, piece: bytes) -> bytes:
        self._length += len(piece)
        if self._length > self._most_bytes:
            raise self._too_large()
        return piece

    def _too_large(self) -> Refused:
        return Refused(TOO_LARGE, f"the body has over {self._most_bytes:,} bytes", error="TooLarge")


class Pulled:
    """A body as the thread reads it that stores it: each read pulls pieces from the event loop, never more than needed.

    Args:
        next_piece: called in the event loop; b"" at the end.
    """

    def __init__(self, next_piece: Callable[[], Coroutine[Any, Any, bytes]]) -> None:
        self._next_piece = next_piece
        self._kept = bytearray()
        self._is_over = False
        self._digest = hashlib.sha256()

    @property
    def version(self) -> str:
        """SHA-256 in hex of what was read."""
        return self._digest.hexdigest()

    def read(self, size: int) -> bytes:
        """Return so many bytes; fewer at the end only.

        Raises:
            Refused, ClientDisconnect: the body cannot be read further.
        """
        while len(self._kept) < size and not self._is_over:
            piece = from_thread.run(self._next_piece)
            self._kept += piece
            self._is_over = not piece
        content = bytes(memoryview(self._kept)[:size])
        del self._kept[:size]
        self._digest.update(content)
        return content


async def json_of(request: Request, *, most_bytes: int) -> dict[str, Any]:
    """Return the JSON object that is the body of a request.

    Raises:
        Refused: it is too large, or no JSON object of texts that UTF-8 can write.
    """
    content = await Body(request, most_bytes=most_bytes).whole()
    try:
        value = json.loads(content, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair can be escaped in JSON
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else "it is no JSON in UTF-8"
        raise Refused(BAD_REQUEST, f"the body cannot be read: {why}") from None
    if not isinstance(value, dict):
        raise Refused(BAD_REQUEST, "the body must be a JSON object")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's
