"""The web service in this process, and what a test looks for in its pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any, cast

from starlette.testclient import TestClient

from ingest_pipeline.models import ModelCard
from ingest_pipeline.service.app import create_app
from ingest_pipeline.service.state import Service
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.query_models import QueryModels, QueryVector
from ingest_pipeline.store.pool import ReadPool
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder

PAGE = {"Accept": "text/html,application/xhtml+xml"}
"""What a browser asks for."""


class FakeModels:
    """The model of the tests, for queries; remembers what it was asked."""

    def __init__(self) -> None:
        self.card, self.embedder = CARD, FakeEmbedder()

    def vector(self, text: str, stored: ModelCard | None = None) -> QueryVector:
        return QueryVector(self.embedder.embed([text])[0])


@contextmanager
def served(settings: Settings, url: str, models: Any = None, *, readers: int = 2) -> Iterator[TestClient]:
    """The service of a database; a client that asks as a browser does, and gets each error as its answer."""
    pool = ReadPool(url, size=readers, statement_seconds=20)
    pool.open()
    try:
        service = Service(settings, pool, cast(QueryModels, models or FakeModels()), url)
        yield TestClient(create_app(service), "http://127.0.0.1:3080", raise_server_exceptions=False, headers=PAGE)
    finally:
        pool.close()


def roomy(settings: Settings) -> Settings:
    """The same settings with memory for a run in this process."""
    return replace(settings, run_memory=8 * 2**30, machine_memory=16 * 2**30)


@dataclass
class Html(HTMLParser):
    """The elements and the visible text of a page."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    within: dict[str, list[str]] = field(default_factory=dict)
    """Text by the element that it stands in directly."""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        self.within.setdefault(self._open[-1] if self._open else "", []).append(data)

    @property
    def text(self) -> str:
        """All of it with single spaces."""
        return " ".join("".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of each element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    def hrefs(self) -> list[str]:
        """Where its links lead."""
        return [attributes["href"] for attributes in self.all("a")]


def parsed(page: str) -> Html:
    """A page, parsed."""
    html = Html()
    html.feed(page)
    html.close()
    return html


def inline_parts(page: str) -> list[str]:
    """What a strict Content-Security-Policy forbids: scripts, styles within the page, handlers, other addresses."""
    bad = []
    for tag, attributes in parsed(page).elements:
        bad += [f"<{tag}>" for _ in [0] if tag in ("script", "style", "iframe", "object", "embed", "base", "svg")]
        bad += [f"{tag} {name}" for name in attributes if name.startswith("on") or name == "style"]
        bad += [f"{tag} {value}" for value in attributes.values() if value.lower().lstrip().startswith("javascript:")]
        bad += [f"{tag} src {attributes['src']}" for _ in [0] if not attributes.get("src", "/").startswith("/")]
    return bad
