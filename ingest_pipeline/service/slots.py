"""How many requests of one kind are served at once; the others are told when to come again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from ingest_pipeline.service.refused import BUSY, Refused


class Slots:
    """Slots for requests of one kind.

    Args:
        count: requests at once.
        what: is done in them, for the message: `uploads`.
        queue: requests that may wait for a slot.
        patience_seconds: the longest that one waits.
        retry_after_seconds: what the others are told.
    """

    def __init__(
        self, count: int, what: str, *, queue: int = 0, patience_seconds: float = 0.0, retry_after_seconds: int = 5
    ) -> None:
        self._count, self._what = count, what
        self._queue, self._patience_seconds = queue, patience_seconds
        self._retry_after_seconds = retry_after_seconds
        self._free = anyio.Semaphore(count)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot.

        Raises:
            Refused: there is none.
        """
        await self.take()
        try:
            yield
        finally:
            self.give_back()

    async def take(self) -> None:
        """Take a slot, which the caller gives back.

        Raises:
            Refused: there is none.
        """
        try:
            self._free.acquire_nowait()
        except anyio.WouldBlock:
            await self._wait()

    def refuse_without(self) -> None:
        """Make sure that there is a slot now; it is not taken.

        Raises:
            Refused: there is none.
        """
        if self._free.value == 0:
            raise self._busy()

    def give_back(self) -> None:
        """Give a slot back."""
        self._free.release()

    async def _wait(self) -> None:
        if self._free.statistics().tasks_waiting < self._queue:
            with anyio.move_on_after(self._patience_seconds):
                await self._free.acquire()
                return
        raise self._busy()

    def _busy(self) -> Refused:
        why, seconds = f"{self._count} {self._what} at once at most; ask again", self._retry_after_seconds
        return Refused(BUSY, why, error="Busy", retry_after_seconds=seconds)
