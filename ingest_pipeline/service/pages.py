"""The pages for people. Each shows what its JSON twin holds, and works without JavaScript."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from ingest_pipeline.models import FILE_STATUSES
from ingest_pipeline.service import files_api, links
from ingest_pipeline.service.parameters import MOST_HITS
from ingest_pipeline.service.rendering import STATIC, html_page
from ingest_pipeline.service.search_api import answered_query

FILTERS = {
    "source": "Source", "media_type": "Type", "path": "Path", "section": "Section", "entity": "Name in the text",
    "batch": "Batch", "page_from": "From page", "page_to": "To page", "since": "Changed since",
    "until": "Changed before",
}  # fmt: skip
"""Parameters that narrow a search, and what the page calls them."""
OF_FILES = ("source", "media_type", "path", "batch", "since", "until")
"""Filters that the list of files has, too."""
MORE_HITS = 10


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [
        Route("/", search_page),
        Route("/files", files_page),
        Route("/files/{file_id}", file_page),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


def search_page(request: Request) -> Response:
    """Show the query box, and what was found for a query."""
    if tidy := links.tidy(request):
        return RedirectResponse(tidy, 303)
    answered = answered_query(request)
    query, answer = answered.query, answered.answer
    more = len(answer.hits) == query.top < MOST_HITS and min(query.top + MORE_HITS, MOST_HITS)
    content = {
        "query": query,
        "answer": answer,
        "facets": answered.facets,
        "more": more,
        "labels": FILTERS,
        "filtered": {name: label for name, label in FILTERS.items() if request.query_params.get(name, "").strip()},
        "none_of_them": dict.fromkeys(FILTERS),
        "file_parameters": {name: request.query_params.get(name, "") for name in OF_FILES},
        "pages_in_words": pages_in_words,
        "twin": links.twin(request),
    }
    return html_page(request, "search.html", content)


def files_page(request: Request) -> Response:
    """Show the list of files."""
    if tidy := links.tidy(request):
        return RedirectResponse(tidy, 303)
    rows = files_api.listed(request)
    pages = {name: (rows[name] or "").replace("/files.json", "/files", 1) or None for name in ("next", "previous")}
    chosen = links.without_place(request.query_params)
    content = rows | pages | {"chosen": chosen, "statuses": FILE_STATUSES, "twin": links.twin(request)}
    return html_page(request, "files.html", content)


def file_page(request: Request) -> Response:
    """Show all about one file."""
    return html_page(request, "file.html", {"file": files_api.details(request), "twin": links.twin(request)})


def pages_in_words(page_from: int, page_to: int, label: str | None = None) -> str:
    """Return on which pages a text stands: `page 3 (printed iii)`."""
    pages = f"page {page_from}" if page_from == page_to else f"pages {page_from}–{page_to}"
    return f"{pages} (printed {label})" if label else pages
