"""The page of search and its JSON twin, on a store that real documents filled; hostile ones too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from ingest_pipeline.errors import BadSetting, ModelMismatch, ServiceUnavailable
from ingest_pipeline.models import ModelCard
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.search_models import Coverage, Place, SearchAnswer, SearchHit
from ingest_pipeline.service import search_api
from ingest_pipeline.service.pages import FILTERS
from ingest_pipeline.service.rendering import STATIC
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.query_models import QueryVector
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.pipeline import Pipeline
from ingest_pipeline_tests.service_pages import FakeModels, inline_parts, parsed, roomy, served

SCRIPT = "<script>alert('kiln')</script> & \"quotes\" <img src=x onerror=alert(1)> </mark></p><svg onload=alert(2)>"
BIDI = "The kiln \u202egnp.exe\u202c is \u2066hidden\u2069 here.\x07"
GROUNDS = ("ground", "panel")
NAME = "a\"quote'<b>&\n\u202egnp.exe.txt"


@pytest.fixture
def pipeline(connection: Connection, settings: Settings) -> Iterator[Pipeline]:
    with Sandbox(memory_limit_bytes=512 * 1024**2) as sandbox:
        yield Pipeline(connection, roomy(settings), sandbox)


@pytest.fixture
def client(settings: Settings, url: str) -> Iterator[TestClient]:
    with served(settings, url) as opened:
        yield opened


@pytest.fixture
def filled(pipeline: Pipeline, source: Path, client: TestClient) -> TestClient:
    """Three documents, of which one fails."""
    (source / "kiln.md").write_text("# Firing\n\nThe kiln is fired at nine in the morning.\n")
    (source / "sub").mkdir()
    (source / "sub" / "oven.txt").write_text("The oven is cleaned on Monday.")
    (source / "empty.txt").write_text("")
    pipeline.ingest()
    return client


def answering(monkeypatch: pytest.MonkeyPatch, *hits: SearchHit, **more: Any) -> None:
    """Let each search answer with these hits."""
    answer = SearchAnswer(hits, Coverage(files=9, searched=7), **more)
    monkeypatch.setattr(search_api, "search", lambda *arguments, **options: answer)


def test_a_query_shows_hits(filled: TestClient) -> None:
    """Each hit links to the file's own page, and says page, section, folder and scores; the coverage comes first."""
    answer = filled.get("/?q=kiln")
    html = parsed(answer.text)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    hits = filled.get("/search.json?q=kiln").json()["hits"]
    assert {hit["path"] for hit in hits} == {"kiln.md", "sub/oven.txt"}
    assert {f"/files/{hit['file_id']}" for hit in hits} <= {*html.hrefs()}
    assert "kiln.md Firing page 1" in html.text  # name, title, page
    assert "fired at nine in the morning." in html.text
    assert "Searched 2 of 3 files in this scope; 1 failed" in html.text


def test_marks_and_places(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words are marked, printed page numbers and both scores shown, further places named with links, notes told."""
    hit = SearchHit(
        0.03, "/s", "a.pdf", 3, 4, "The kiln is hot.", page_label="iii", section="1 › Heat", file_id=7,
        vector_score=0.71, lexical_score=3.25, marks=((4, 8),), places=3, title="All about heat",
        also_at=(Place("/s", "copy one.pdf", 1, 1), Place("/s", "b.pdf", 2, 3)), before=("Before it.",),
    )  # fmt: skip
    answering(monkeypatch, hit, notes=("one model is missing",))
    html = parsed(client.get("/?q=kiln&context=1").text)
    assert html.within["mark"] == ["kiln"]
    for words in (
        "pages 3–4 (printed iii)", "1 › Heat", "All about heat", "meaning0.71", "words3.25", "Before it.",
        "The same text at 2 other places", "copy one.pdf, page 1", "one model is missing", "Searched 7 of 9 files",
    ):  # fmt: skip
        assert words in html.text.replace(" 0.71", "0.71").replace(" 3.25", "3.25")
    assert "/files?source=%2Fs&path=copy+one.pdf" in html.hrefs()


def test_no_words_load_no_model(filled: TestClient, settings: Settings, url: str) -> None:
    """Without a query the page counts what would be searched, and asks no model."""
    models = FakeModels()
    with served(settings, url, models) as client:
        html = parsed(client.get("/").text)
        twin = client.get("/search.json").json()
    assert models.embedder.asked == []
    assert "A search covers 2 of 3 files in this scope; 1 failed." in html.text
    assert (twin["hits"], twin["coverage"]["searched"], twin["query"]["q"]) == ([], 2, "")


def test_facets_are_links(filled: TestClient, source: Path) -> None:
    """Sources, types and states have exact counts; a link adds the filter, that of a chosen one takes it away."""
    facets = filled.get("/search.json?q=kiln").json()["facets"]
    assert facets["source"] == [{"value": str(source), "files": 3, "chosen": False}]
    assert {(one["value"], one["files"]) for one in facets["media_type"]} == {("text/plain", 2), ("text/markdown", 1)}
    assert {(one["value"], one["files"]) for one in facets["status"]} == {("indexed", 2), ("failed", 1)}
    html = parsed(filled.get("/?q=kiln&path=sub").text)
    assert "/?q=kiln&path=sub&media_type=text%2Fplain" in html.hrefs()
    assert "/files?path=sub&status=indexed" in html.hrefs()
    chosen = parsed(filled.get("/?q=kiln&media_type=text%2Fplain").text)
    assert "/?q=kiln" in chosen.hrefs()
    assert [link["href"] for link in chosen.all("a") if link.get("title") == "Remove this filter"] == ["/?q=kiln"] * 2


def test_filters_stay_in_the_form(filled: TestClient) -> None:
    """What was asked stands in the fields again, and beside them with a link that takes it away; fields have labels."""
    html = parsed(filled.get("/?q=kiln&section=Fir&page_from=1&since=2026-01-02&entity=Ada").text)
    values = {field["name"]: field.get("value") for field in html.all("input")}
    wanted = {"q": "kiln", "section": "Fir", "page_from": "1", "since": "2026-01-02", "entity": "Ada", "until": ""}
    assert wanted.items() <= values.items()
    assert "/?q=kiln&section=Fir&page_from=1&since=2026-01-02" in html.hrefs()
    assert "/?q=kiln" in html.hrefs()
    assert "Name in the text: Ada" in html.text
    fields = [field["id"] for tag in ("input", "select") for field in html.all(tag) if field.get("type") != "hidden"]
    assert sorted(label["for"] for label in html.all("label")) == sorted(fields)


def test_the_twin_has_the_same_hits(filled: TestClient) -> None:
    """The page links to its JSON twin with the same parameters, which has the same hits in the same order."""
    html = parsed(filled.get("/?q=kiln+oven&top=1").text)
    [twin] = [link["href"] for link in html.all("link") if link["rel"] == "alternate"]
    assert twin == "/search.json?q=kiln+oven&top=1"
    assert twin in html.hrefs()
    row = filled.get(twin).json()
    [hit] = row["hits"]
    assert f"/files/{hit['file_id']}" in html.hrefs()
    assert row["query"] == {"q": "kiln oven", "top": 1, "context": 0}
    assert "Show 11 results" in html.text


def test_hostile_documents_are_text(pipeline: Pipeline, source: Path, client: TestClient) -> None:
    """Tags, overrides and controls of documents and names are shown as text, on each page."""
    (source / "script.txt").write_text(SCRIPT)
    (source / "page.html").write_text(f"<html><title>{SCRIPT}</title><h1>kiln &lt;b&gt;</h1><p>kiln</html>")
    (source / "bidi.txt").write_text(BIDI)
    (source / NAME).write_text("kiln")
    pipeline.ingest()
    ids = [file["file_id"] for file in client.get("/files.json").json()["files"]]
    pages = [client.get(path).text for path in ("/?q=kiln", "/files", *(f"/files/{one}" for one in ids))]
    assert len(ids) == 4
    assert [part for page in pages for part in inline_parts(page)] == []
    shown = "".join(text for page in pages for text in parsed(page).texts)
    assert {*"\u202e\u202c\u2066\x07"} & {*shown} == set()
    html = parsed(pages[0])
    assert "<script>alert('kiln')</script>" in html.text
    assert "The kiln gnp.exe is hidden here." in html.text
    assert "a\"quote'<b>&\\n\\u202egnp.exe.txt" in html.text


def test_a_line_of_10_mb_stays_small(pipeline: Pipeline, source: Path, client: TestClient) -> None:
    """Of a document that is one line of 10 MB a page shows passages, not the line."""
    (source / "line.txt").write_text("kiln " + "x" * 10_000_000)
    pipeline.ingest()
    [file] = client.get("/files.json").json()["files"]
    sizes = [len(client.get(path).content) for path in ("/?q=kiln&top=100", f"/files/{file['file_id']}")]
    assert file["status"] == "indexed"
    assert max(sizes) < 150_000


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/?q=x&top=0", "top: a whole number from 1 to 100"),
        ("/?q=x&since=soon", "since: a date such as"),
        ("/?q=" + "x" * 2001, "q: at most 2,000 characters"),
        ("/?q=x&path=%00", "a parameter must not contain a NUL character"),
        ("/?q=x&model=other", "other"),
    ],
)
def test_a_bad_parameter_is_named(client: TestClient, address: str, words: str) -> None:
    """A parameter that cannot be used is a 400: a page for people, an object for programs."""
    page = client.get(address)
    twin = client.get(address.replace("/?", "/search.json?"))
    assert (page.status_code, twin.status_code) == (400, 400)
    assert words in parsed(page.text).text
    assert words in twin.json()["message"]
    assert [*twin.json()] == ["error", "message"]


class MissingModels(FakeModels):
    """A model that cannot be loaded."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def vector(self, text: str, stored: ModelCard | None = None) -> QueryVector:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        BadSetting("INGEST_MODEL", "nothing", "a model"),
        ModelMismatch("model", "a" * 64, "b" * 64),
        ServiceUnavailable("the embedder's server is away"),
    ],
)
def test_a_missing_model_is_503(filled: TestClient, settings: Settings, url: str, error: Exception) -> None:
    """A model that cannot be used makes the service unavailable for searches; pages without a query go on."""
    with served(settings, url, MissingModels(error)) as client:
        answers = [client.get(path) for path in ("/?q=kiln", "/search.json?q=kiln", "/", "/files")]
    assert [answer.status_code for answer in answers] == [503, 503, 200, 200]
    assert str(error) in parsed(answers[0].text).text
    assert answers[1].json() == {"error": type(error).__name__, "message": str(error)}
    assert answers[1].headers["retry-after"] == "5"


def test_postgres_away_is_503(settings: Settings, url: str) -> None:
    """Without Postgres each page is a 503 that says so."""
    with served(settings, url) as client:
        pool = client.app.state.service.pool  # type: ignore[attr-defined]
        pool.close()
        answers = [client.get(path) for path in ("/", "/files", "/files/1", "/search.json?q=x")]
        assert [answer.status_code for answer in answers] == [503] * 4
        assert "Postgres" in answers[0].text


def test_no_traceback_leaves(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of ours is a 500 without a word of what happened inside."""

    def broken(*arguments: Any, **options: Any) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(search_api, "facet_counts", broken)
    for path, kind in (("/", "text/html"), ("/search.json", "application/json")):
        answer = client.get(path)
        assert answer.status_code == 500
        assert answer.headers["content-type"].startswith(kind)
        assert "its log says where" in answer.text
        assert [word for word in ("secret", "Traceback", "ZeroDivision", ".py") if word in answer.text] == []


@pytest.mark.parametrize(
    ("path", "accept", "method", "kind"),
    [
        ("/nothing", "text/html", "GET", "text/html; charset=utf-8"),
        ("/nothing", "*/*", "GET", "application/json"),
        ("/nothing.json", "text/html", "GET", "application/json"),
        ("/", "text/html", "POST", "application/json"),
    ],
)
def test_errors_fit_who_asks(client: TestClient, path: str, accept: str, method: str, kind: str) -> None:
    """People get a page, programs JSON: by the ending of the path, the method, and what they accept."""
    answer = client.request(method, path, headers={"Accept": accept})
    assert answer.status_code in ((403, 405) if method == "POST" else (404,))
    assert answer.headers["content-type"] == kind


def test_an_empty_store_says_what_to_do(client: TestClient) -> None:
    """Before the first run the page says which command reads the sources, and the list of files is empty."""
    assert "No file is known yet: ingest run reads the sources." in parsed(client.get("/").text).text
    assert client.get("/files.json").json()["files"] == []
    assert "No file is like this." in client.get("/files").text


def test_nothing_found_says_so(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty answer still has its coverage, and says what may help."""
    answering(monkeypatch)
    text = parsed(client.get("/?q=kiln&path=a").text).text
    assert "Searched 7 of 9 files" in text
    assert "Nothing was found. Fewer filters may help." in text


def test_static_files_and_head(client: TestClient) -> None:
    """The style is served with the page's address for it, the page answers HEAD, and nothing else is in the folder."""
    html = parsed(client.get("/").text)
    [style] = [link["href"] for link in html.all("link") if link["rel"] == "stylesheet"]
    assert client.get(style).headers["content-type"] == "text/css; charset=utf-8"
    assert client.head("/").status_code == 200
    assert client.get("/static/../pages.py").status_code == 404
    assert client.get("/static/%2e%2e/pages.py").status_code == 404


def test_many_readers_share_connections(filled: TestClient, settings: Settings, url: str) -> None:
    """More requests at once than connections: each gets its answer."""
    from concurrent.futures import ThreadPoolExecutor

    with served(replace(settings, max_runs=1), url, readers=2) as client, ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda _: client.get("/search.json?q=kiln").status_code, range(24)))
    assert statuses == [200] * 24


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        ("/?q=kiln&source=&path=&top=10&context=0", "/?q=kiln"),
        ("/?q=kiln&q=oven&path=+&top=20", "/?q=oven&top=20"),
        ("/files?status=&source=&path=", "/files"),
    ],
)
def test_addresses_are_tidy(client: TestClient, sent: str, address: str) -> None:
    """What a form sends and says nothing leaves the address: it can be kept and sent to others."""
    answer = client.get(sent, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, address)
    assert client.get(address, follow_redirects=False).status_code == 200


def test_colors_have_contrast() -> None:
    """In both schemes text, links and states have a contrast of at least 4.5 to 1 with what they stand on."""
    style = (STATIC / "style.css").read_text()
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part)) for part in style.split("@media")[:2])
    pairs = [(name, ground) for name in ("text", "muted", "accent", "good", "bad", "wait") for ground in GROUNDS]
    pairs += [("on-accent", "accent"), ("on-mark", "mark"), ("bad", "bad-ground"), ("text", "note-ground")]
    low = [pair for colors in (light, dark) for pair in pairs if _contrast(*(colors[name] for name in pair)) < 4.5]
    assert (len(light), len(dark), low) == (len(dark), len(light), [])


def _contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""
    darker, lighter = sorted(map(_luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    parts = [int(color[begin : begin + 2], 16) / 255 for begin in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


NASTY = (
    "\x00", "'\"<b>\\", "🦊 \u202e歌", "9" * 30, "-1", "2026-13-45", "9999-12-31T23:59-23:59", "%_*?[", "x" * 5000,
)  # fmt: skip
NAMES = ("q", "top", "context", "model", *FILTERS, "status", "error", "after", "before", "file")


def test_no_parameter_breaks_a_page(filled: TestClient) -> None:
    """Whatever stands in a parameter, each page and twin answers, or says what is wrong with it."""
    paths = ("/", "/search.json", "/files", "/files.json", "/files/1", "/sections.json")
    statuses, inline = {}, []
    for name, value, path in product(NAMES, NASTY, paths):
        answer = filled.get(path, params={"q": "kiln", name: value}, follow_redirects=False)
        statuses[path, name, value] = answer.status_code
        inline += inline_parts(answer.text) if "html" in answer.headers.get("content-type", "") else []
    assert {asked: status for asked, status in statuses.items() if status not in (200, 303, 400, 404)} == {}
    assert inline == []
