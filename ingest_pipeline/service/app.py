"""The application: routes from each module, the middleware around them, one answer for each kind of error."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from ingest_pipeline.service import (
    documents,
    embeddings,
    errors,
    extract,
    files_api,
    mcp,
    monitoring,
    openapi,
    pages,
    search_api,
    sign_in,
)
from ingest_pipeline.service.access import Access
from ingest_pipeline.service.limits import Limits
from ingest_pipeline.service.running import running
from ingest_pipeline.service.security import Security
from ingest_pipeline.service.state import Service

ROUTE_MODULES = (search_api, files_api, pages, documents, embeddings, extract, openapi, monitoring, sign_in, mcp)
"""Each has `routes()`; a new group of routes is a module beside these, and a name here."""


def create_app(service: Service) -> Starlette:
    """Return the application of one service.

    Raises:
        ConfigurationError: its settings would let other machines read without a token.
    """
    routes: list[BaseRoute] = [route for module in ROUTE_MODULES for route in module.routes()]
    # The outermost first: what may not be asked costs no place among the requests at work.
    middleware = [Middleware(Security, access=Access.of(service.settings)), Middleware(Limits)]
    app = Starlette(routes=routes, middleware=middleware, lifespan=running, exception_handlers=errors.handlers())
    app.state.service = service
    return app
