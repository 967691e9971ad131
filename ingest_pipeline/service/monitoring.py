"""What monitors ask: whether the service works, and numbers."""

from __future__ import annotations

from importlib.metadata import version

from anyio import CapacityLimiter, move_on_after
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingest_pipeline.service.state import service_of
from ingest_pipeline.stages.metrics import metrics_text
from ingest_pipeline.store.health import answers

DATABASE_SECONDS = 3.0
"""A database that takes longer for `SELECT 1` is away for those who wait."""
CHECKS_AT_ONCE = 2
"""In threads of their own: a busy service must not look like a broken one."""
PROMETHEUS = "text/plain; version=1.0.0; charset=utf-8"


def routes() -> list[Route]:
    """Return the routes of this module."""
    limiter: list[CapacityLimiter] = []  # made in the event loop that uses it

    async def healthz(request: Request) -> Response:
        if not limiter:
            limiter.append(CapacityLimiter(CHECKS_AT_ONCE))
        return await _health(request, limiter[0])

    return [Route("/healthz", healthz), Route("/metrics", metrics)]


async def _health(request: Request, limiter: CapacityLimiter) -> Response:
    """Answer 200 while the database answers, else 503."""
    service, is_there = service_of(request), False
    with move_on_after(DATABASE_SECONDS):
        is_there = await run_sync(answers, service.url, abandon_on_cancel=True, limiter=limiter)
    row = {
        "status": "ok" if is_there else "database away",
        "database": is_there,
        "model": service.models.state,
        "version": version("ingest-pipeline"),
    }
    return JSONResponse(row, 200 if is_there else 503)


def metrics(request: Request) -> Response:
    """Answer the metrics in Prometheus' text format."""
    service = service_of(request)
    with service.pool.connection() as connection:
        text = metrics_text(connection, service.settings)
    return Response(text, headers={"content-type": PROMETHEUS})
