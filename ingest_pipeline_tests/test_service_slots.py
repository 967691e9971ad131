"""Slots: so many requests of one kind at once; a few more wait for a while, the others are told when to come again."""

from __future__ import annotations

import anyio
import pytest

from ingest_pipeline.service.refused import Refused
from ingest_pipeline.service.slots import Slots


def run(slots: Slots, requests: int, *, seconds: float = 0.05) -> tuple[int, int, int]:
    """Make some requests at once; return how many were served, refused, and at work together at most."""
    served, refused, at_once = 0, 0, [0, 0]

    async def request() -> None:
        nonlocal served, refused
        try:
            async with slots.slot():
                at_once[0] += 1
                at_once[1] = max(at_once)
                await anyio.sleep(seconds)
                at_once[0] -= 1
                served += 1
        except Refused as error:
            assert (error.status, error.retry_after_seconds) == (503, 5)
            refused += 1

    async def all_of_them() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(requests):
                group.start_soon(request)

    anyio.run(all_of_them)
    return served, refused, at_once[1]


def test_without_a_queue() -> None:
    """Who finds no slot is refused at once; a slot that was given back is free."""
    slots = Slots(2, "uploads")
    assert run(slots, 5) == (2, 3, 2)
    assert run(slots, 2) == (2, 0, 2)


def test_with_a_queue() -> None:
    """So many wait as the queue has places, and each is served in its turn."""
    assert run(Slots(1, "vectors", queue=3, patience_seconds=5), 6) == (4, 2, 1)


def test_patience_ends() -> None:
    """Who has waited too long is refused, and takes no slot afterwards."""
    slots = Slots(1, "vectors", queue=3, patience_seconds=0.02)
    assert run(slots, 2, seconds=0.1) == (1, 1, 1)
    assert run(slots, 1) == (1, 0, 1)


def test_looked_for_only() -> None:
    """`refuse_without` takes nothing, and refuses while there is none."""

    async def look() -> None:
        slots = Slots(1, "documents asked about")
        slots.refuse_without()
        async with slots.slot():
            with pytest.raises(Refused, match="documents asked about"):
                slots.refuse_without()
        slots.refuse_without()

    anyio.run(look)
