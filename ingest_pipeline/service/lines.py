"""An answer of JSON lines, each sent as soon as it is known; the client's disconnect ends the work."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import anyio
from anyio import from_thread, to_thread
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ingest_pipeline.errors import IngestError
from ingest_pipeline.service.refused import refusal_of, refusal_response
from ingest_pipeline.service.slots import Slots

logger = logging.getLogger(__name__)
Row = dict[str, Any]
Rows = Callable[[], Iterator[Row]]
NDJSON = "application/x-ndjson"


class Lines(Response):
    """Rows of one job as lines.

    The job runs in one thread from its beginning to its end: a parser's child ends with the thread that started it. An
    error before the first row is an ordinary refusal, a later one the last line, with `error` and `message`.

    Args:
        rows: begins the job; a generator that ends its work when it is closed.
        slots: how many such jobs at once.
    """

    media_type = NDJSON

    def __init__(self, rows: Rows, slots: Slots) -> None:
        super().__init__()
        self._rows, self._slots = rows, slots
        self._threads = anyio.CapacityLimiter(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        try:
            async with self._slots.slot():
                await self._answer(scope, receive, send)
        except IngestError as error:
            await refusal_response(error)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_gone = threading.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(_watch, receive, is_gone)
            failure = await to_thread.run_sync(partial(self._work, send, is_gone), limiter=self._threads)
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _work(self, send: Send, is_gone: threading.Event) -> IngestError | None:
        """Do the job in a thread; return the error that ended it before its first row."""
        has_begun = False
        try:
            with closing(self._rows()) as rows:  # type: ignore[type-var]
                for row in rows:
                    if is_gone.is_set():
                        logger.info("the client is gone: the rest of its sections is not asked about")
                        return None
                    self._send(send, row, is_first=not has_begun)
                    has_begun = True
        except IngestError as error:
            if not has_begun:
                return error
            refused = refusal_of(error)
            self._send(send, {"error": refused.error, "message": str(refused)})
        if not has_begun:
            self._begin(send)
        from_thread.run(_sent, send, {"type": "http.response.body", "body": b""})
        return None

    def _send(self, send: Send, row: Row, *, is_first: bool = False) -> None:
        if is_first:
            self._begin(send)
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        from_thread.run(_sent, send, {"type": "http.response.body", "body": line, "more_body": True})

    @staticmethod
    def _begin(send: Send) -> None:
        headers = [(b"content-type", NDJSON.encode()), (b"cache-control", b"no-store")]
        from_thread.run(_sent, send, {"type": "http.response.start", "status": 200, "headers": headers})


async def _watch(receive: Receive, is_gone: threading.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    is_gone.set()


async def _sent(send: Send, message: Message) -> None:
    await send(message)
