"""Search: what a query's page shows, and the same as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ingest_pipeline.search_models import SearchAnswer, SearchQuery
from ingest_pipeline.service.parameters import model_of, query_of
from ingest_pipeline.service.state import service_of
from ingest_pipeline.stages.answer_rows import answer_row
from ingest_pipeline.stages.file_details import Row, facets_row
from ingest_pipeline.stages.search import search
from ingest_pipeline.store.coverage import coverage
from ingest_pipeline.store.facets import FileFilter, facet_counts


@dataclass(frozen=True, slots=True)
class Answered:
    """A query, its answer, and the files of its scope by source, type and status."""

    query: SearchQuery
    answer: SearchAnswer
    facets: Row


def routes() -> list[Route]:
    """Return the routes of this module."""
    return [Route("/search.json", search_json)]


def search_json(request: Request) -> JSONResponse:
    """Answer a query for a program."""
    answered = answered_query(request)
    return JSONResponse(answer_row(answered.answer) | {"query": _query_row(answered.query), "facets": answered.facets})


def answered_query(request: Request) -> Answered:
    """Answer the query in the parameters of a request; without words, only count what would be searched.

    Raises:
        BadParameter: one of the parameters cannot be used.
        ConfigurationError, RunError: the model or the store cannot be used.
    """
    service, query = service_of(request), query_of(request.query_params)
    model = model_of(request.query_params)
    with service.pool.connection() as connection:
        if query.text:
            answer = search(connection, query, settings=service.settings, models=service.models, model=model)
        else:
            answer = SearchAnswer((), coverage(connection, query))
        return Answered(query, answer, facets_row(facet_counts(connection, FileFilter.of_scope(query.scope))))


def _query_row(query: SearchQuery) -> Row:
    scope = {name: value for name, value in asdict(query.scope).items() if value is not None}
    times = {name: scope[name].isoformat() for name in ("since", "until") if name in scope}
    return {"q": query.text, "top": query.top, "context": query.context} | scope | times
