"""The list of files and its JSON twin: pages, filters, counts."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.service_pages import parsed, served


@pytest.fixture
def client(settings: Settings, url: str) -> Iterator[TestClient]:
    with served(settings, url) as opened:
        yield opened


def many(connection: Connection, count: int) -> None:
    """Files in two sources, of two types; each tenth failed."""
    connection.execute(
        "INSERT INTO files (source, path, size_bytes, version, media_type, status, error) "
        "SELECT CASE WHEN n %% 2 = 0 THEN '/even' ELSE '/odd' END, 'f ' || lpad(n::text, 6, '0'), n, n::text, "
        "       CASE WHEN n %% 5 = 0 THEN 'application/pdf' ELSE 'text/plain' END, "
        "       CASE WHEN n %% 10 = 0 THEN 'failed' ELSE 'indexed' END, CASE WHEN n %% 10 = 0 THEN 'NoText' END "
        "FROM generate_series(1, %s) n",
        (count,),
    )


def walk(client: TestClient, address: str, side: str = "next") -> list[list[str]]:
    """The paths of each page of a list, from one address on."""
    pages: list[list[str]] = []
    following: str | None = address
    while following:
        row = client.get(following).json()
        pages.append([f"{file['source']}/{file['path']}" for file in row["files"]])
        following = row[side]
    return pages


def test_the_list_has_pages_of_50(connection: Connection, client: TestClient) -> None:
    """Following the links forwards shows each file once in order, 50 to a page, and backwards the same."""
    many(connection, 120)
    pages = walk(client, "/files.json")
    assert [len(page) for page in pages] == [50, 50, 20]
    whole = [name for page in pages for name in page]
    assert whole == sorted(whole)
    assert len({*whole}) == 120
    second = client.get(client.get("/files.json").json()["next"]).json()
    last = client.get(second["next"]).json()
    assert last["next"] is None
    assert walk(client, last["previous"], "previous") == [pages[1], pages[0]]
    first = client.get(second["previous"]).json()
    assert (first["previous"], first["next"]) == (None, client.get("/files.json").json()["next"])


def test_the_page_leads_through_the_list(connection: Connection, client: TestClient) -> None:
    """The page shows the same files as its twin, with links to their pages and to the next ones, filters kept."""
    many(connection, 300)
    html = parsed(client.get("/files?source=%2Feven&media_type=text%2F*").text)
    [following] = [link["href"] for link in html.all("a") if link.get("rel") == "next"]
    assert following.startswith("/files?source=%2Feven&media_type=text%2F%2A&after=")
    page, row = client.get(following), client.get(following.replace("/files?", "/files.json?")).json()
    assert [f"/files/{file['file_id']}" in parsed(page.text).hrefs() for file in row["files"]] == [True] * 50
    assert "120 files with these filters" in html.text
    assert parsed(page.text).all("link")[-1]["href"] == following.replace("/files?", "/files.json?").replace("*", "%2A")


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 120), ("status=failed", 12), ("source=%2Fodd", 60), ("media_type=application%2Fpdf", 24),
        ("media_type=text%2F*", 96), ("status=failed&media_type=text%2Fplain", 0), ("error=NoText", 12),
        ("path=f%2000010", 10), ("path=*5", 12), ("path=f%20%25", 0), ("since=2999-01-01", 0), ("batch=none", 0),
    ],
)  # fmt: skip
def test_filters_of_the_list(connection: Connection, client: TestClient, query: str, count: int) -> None:
    """Each filter means what it says, counts are exact, and `%` is no wildcard."""
    many(connection, 120)
    row = client.get(f"/files.json?{query}").json()
    assert row["facets"]["files"] == count
    assert len(row["files"]) == min(count, 50)


@pytest.mark.parametrize(
    "query", ["status=odd", "after=x", "before=-1", "error=%3Cb%3E", "path=%00", "after=" + "9" * 40]
)
def test_a_bad_filter_is_named(client: TestClient, query: str) -> None:
    """A filter that cannot be used is a 400 that names it."""
    answer = client.get(f"/files.json?{query}")
    assert (answer.status_code, [*answer.json()]) == (400, ["error", "message"])
    assert client.get(f"/files?{query}").status_code == 400


@pytest.mark.parametrize(
    "path", ["/files/9", "/files/9.json", "/files/x", "/files/9/memory.svg", "/files/" + "9" * 5000]
)
def test_no_such_file_is_404(client: TestClient, path: str) -> None:
    """What the ledger does not have is a 404, whatever stands for the number."""
    assert client.get(path).status_code == 404


def test_sections_need_a_file(client: TestClient) -> None:
    """`/sections.json` says which parameter is missing, or that there is no such file."""
    missing = client.get("/sections.json").json()
    assert missing == {"error": "BadParameter", "message": "file: the number of a file, as in /files.json"}
    assert client.get("/sections.json?file=9").status_code == 404


def test_the_list_is_cheap_at_100_000(connection: Connection, client: TestClient) -> None:
    """A page from the middle of 100,000 files and the counts of all take less than a second, whatever is filtered."""
    many(connection, 100_000)
    connection.execute("ANALYZE files")
    seconds = {}
    for query in ("", "after=50000", "status=failed&after=50000", "path=f%2009*", "source=%2Feven&error=NoText"):
        began = time.monotonic()
        assert len(client.get(f"/files.json?{query}").json()["files"]) == 50
        seconds[query] = time.monotonic() - began
    assert {query: spent for query, spent in seconds.items() if spent > 1.0} == {}  # 0.1 s on an idle machine
