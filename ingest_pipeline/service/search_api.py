"""Search as JSON."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ingest_pipeline.service.parameters import query_of
from ingest_pipeline.service.state import service_of
from ingest_pipeline.stages.answer_rows import answer_row
from ingest_pipeline.stages.search import search


def routes() -> list[Route]:
    """Return the routes of this module."""
    return [Route("/search.json", search_json)]


def search_json(request: Request) -> JSONResponse:
    """Answer a query."""
    service, query = service_of(request), query_of(request.query_params)
    with service.pool.connection() as connection:
        answer = search(
            connection, query, settings=service.settings, models=service.models, model=request.query_params.get("model")
        )
    return JSONResponse(answer_row(answer))
