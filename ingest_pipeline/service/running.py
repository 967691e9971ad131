"""What lives as long as the application: its threads, and what answers agents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette

from ingest_pipeline.service.mcp import agents

THREADS = 12
"""That answer requests: four that read, four that take documents, and some that wait. By default there would be 40."""


@asynccontextmanager
async def running(app: Starlette) -> AsyncIterator[None]:
    """Prepare the application, and clear up behind it."""
    current_default_thread_limiter().total_tokens = THREADS
    async with agents(app.state.service) as app.state.agents:
        yield
