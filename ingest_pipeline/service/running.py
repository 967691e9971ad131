"""What lives as long as the application: its threads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette

THREADS = 8
"""That answer requests. Each that waits for one of the four connections holds one; by default there would be 40, and
each keeps free memory of its own."""


@asynccontextmanager
async def running(app: Starlette) -> AsyncIterator[None]:
    """Prepare the application, and clear up behind it."""
    current_default_thread_limiter().total_tokens = THREADS
    yield
