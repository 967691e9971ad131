"""The application: routes from each module, the middleware around them, one answer for each kind of error."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from ingest_pipeline.service import errors, files_api, pages, search_api
from ingest_pipeline.service.state import Service

ROUTE_MODULES = (search_api, files_api, pages)
"""Each has `routes()`; a new group of routes is a module beside these, and a name here."""


def create_app(service: Service) -> Starlette:
    """Return the application of one service."""
    routes: list[BaseRoute] = [route for module in ROUTE_MODULES for route in module.routes()]
    app = Starlette(routes=routes, exception_handlers=errors.handlers())
    app.state.service = service
    return app
