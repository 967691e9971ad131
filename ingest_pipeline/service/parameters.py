"""The parameters of a search in the query string: for the page, its JSON twin and the tools of agents alike."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.search_models import SearchQuery, SearchScope, moment_of

MOST_HITS = 100
MOST_CONTEXT = 5
MOST_CHARACTERS = 2_000
TEXTS = ("source", "path", "media_type", "section", "batch", "entity")


class BadParameter(ConfigurationError):
    """A request's parameter cannot be used; the message names it."""


def query_of(parameters: Mapping[str, str]) -> SearchQuery:
    """Return the query of a request: `q`, `top`, `context`, and the fields of `SearchScope`; empty ones do not count.

    Raises:
        BadParameter: one of them cannot be used.
    """
    text = parameters.get("q", "").strip()
    if len(text) > MOST_CHARACTERS or "\x00" in text:
        raise BadParameter(f"q: at most {MOST_CHARACTERS:,} characters of text")
    top = _number(parameters, "top", least=1, most=MOST_HITS)
    context = _number(parameters, "context", least=0, most=MOST_CONTEXT)
    return SearchQuery(text, top or 10, scope_of(parameters), context or 0)


def scope_of(parameters: Mapping[str, str]) -> SearchScope:
    """Return where is looked.

    Raises:
        BadParameter: one of the parameters cannot be used.
    """
    chosen: dict[str, Any] = {name: parameters[name].strip() or None for name in TEXTS if name in parameters}
    if any(text and "\x00" in text for text in chosen.values()):
        raise BadParameter("a parameter must not contain a NUL character")
    chosen |= {name: _number(parameters, name, least=1, most=2**31 - 1) for name in ("page_from", "page_to")}
    chosen |= {name: _time(parameters, name) for name in ("since", "until")}
    return SearchScope(**chosen)


def model_of(parameters: Mapping[str, str]) -> str | None:
    """Return the name of the model that is asked; None: that of the settings.

    Raises:
        BadParameter: it cannot be a name.
    """
    name = parameters.get("model", "").strip()
    if "\x00" in name:
        raise BadParameter("model: a name of `ingest models`")
    return name or None


def _number(parameters: Mapping[str, str], name: str, *, least: int, most: int) -> int | None:
    text = parameters.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and least <= int(text[:12]) <= most):
        raise BadParameter(f"{name}: a whole number from {least} to {most:,}")
    return int(text)


def _time(parameters: Mapping[str, str], name: str) -> datetime | None:
    text = parameters.get(name, "").strip()
    if not text:
        return None
    try:
        return moment_of(text)
    except ValueError:
        raise BadParameter(f"{name}: a date such as 2026-11-29, or a time such as 2026-11-29T12:00Z") from None
