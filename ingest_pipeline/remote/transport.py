"""Bounds an answer as a whole: a client's timeout counts from byte to byte, and a server that drips never ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS = 15.0
MAX_ANSWER_BYTES = 64 * 1024**2
"""2,048 vectors of 3,072 dimensions, as base64, are 32 MiB."""


def bounded_client(*, call_seconds: float) -> httpx2.Client:
    """Return an HTTP client whose answers end within some seconds and 64 MiB.

    What it raises is httpx2's: `ReadTimeout` for the time, `ReadError` for the size.
    """
    import httpx2

    class BoundedStream(httpx2.SyncByteStream):
        """The body of an answer, read against a deadline."""

        def __init__(self, stream: httpx2.SyncByteStream, deadline: float) -> None:
            self._stream, self._deadline = stream, deadline

        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for piece in self._stream:
                size += len(piece)
                if time.monotonic() > self._deadline:
                    raise httpx2.ReadTimeout(f"no whole answer within {call_seconds:.0f} s")
                if size > MAX_ANSWER_BYTES:
                    raise httpx2.ReadError(f"an answer of over {MAX_ANSWER_BYTES:,} bytes")
                yield piece

        def close(self) -> None:
            self._stream.close()

    class BoundedTransport(httpx2.HTTPTransport):
        """Sends requests; each answer has a deadline."""

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            deadline = time.monotonic() + call_seconds
            response = super().handle_request(request)
            assert isinstance(response.stream, httpx2.SyncByteStream)
            response.stream = BoundedStream(response.stream, deadline)
            return response

    timeout = httpx2.Timeout(call_seconds, connect=CONNECT_SECONDS)
    return httpx2.Client(transport=BoundedTransport(), timeout=timeout, follow_redirects=False)
