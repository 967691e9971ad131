"""The addresses of pages, of their JSON twins, and of Dagster's UI."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from starlette.requests import Request

from ingest_pipeline.settings import Settings

EVERYWHERE = "0.0.0.0"  # noqa: S104 - compared, not listened on
TWINS = {"/": "/search.json"}
UNSAID = {"top": "10", "context": "0"}
"""What a search does anyway."""
PLACES = ("after", "before")
"""Where a list goes on: of no use once another filter is chosen."""


def address(path: str, parameters: Mapping[str, object], /, **changes: object) -> str:
    """Return a path with a query string; empty parameters are left out, and changes replace parameters."""
    chosen = {name: str(value) for name, value in {**parameters, **changes}.items() if value not in (None, "")}
    return f"{path}?{urlencode(chosen)}" if chosen else path


def tidy(request: Request) -> str | None:
    """Return the address without what a form sends and says nothing; None if there is nothing of it."""
    given = request.query_params.multi_items()
    said = {name: value for name, value in given if value.strip() and UNSAID.get(name) != value}
    return None if len(said) == len(given) else address(request.url.path, said)


def twin(request: Request) -> str:
    """Return the address of the same content as JSON."""
    path = request.url.path
    return address(TWINS.get(path, f"{path}.json"), dict(request.query_params))


def without_place(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of a list without where it goes on."""
    return {name: value for name, value in parameters.items() if name not in PLACES}


def partition_url(request: Request, settings: Settings, batch: str) -> str:
    """Return the page of a batch's partition in Dagster's UI."""
    return f"{_dagster(request, settings)}/assets/embeddings?view=partitions&partition={quote(batch, safe='')}"


def run_url(request: Request, settings: Settings, run_id: str) -> str:
    """Return the page of a run in Dagster's UI."""
    return f"{_dagster(request, settings)}/runs/{quote(run_id, safe='')}"


def _dagster(request: Request, settings: Settings) -> str:
    # A UI that listens everywhere is reached by the name by which the service was.
    host = settings.ui_host if settings.ui_host != EVERYWHERE else request.url.hostname or "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.ui_port}"
