"""One file's page and its JSON twin: what became of it, its sections, its names, the picture of its memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from ingest_pipeline.chunking import text_hash
from ingest_pipeline.errors import KilledRepeatedly, NoText
from ingest_pipeline.memory.record import memory_file
from ingest_pipeline.memory.recorder import Position, Recorder
from ingest_pipeline.models import Entity, TextEntities
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.service import links
from ingest_pipeline.settings import Settings
from ingest_pipeline.store import embedding_models, entities, extracts, files
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.conftest import CARD
from ingest_pipeline_tests.documents import FINGERPRINT, SOURCE, add_file, files_of, seal, write
from ingest_pipeline_tests.pipeline import Pipeline
from ingest_pipeline_tests.service_pages import inline_parts, parsed, roomy, served

MIB = 1024**2
OUTLINE = "".join(
    f"# Part {number}\n\nWhat stands in part {number}.\n\n## Detail {number}\n\nMore.\n\n" for number in range(150)
)


@pytest.fixture
def client(settings: Settings, url: str) -> Iterator[TestClient]:
    with served(settings, url) as opened:
        yield opened


@pytest.fixture
def pipeline(connection: Connection, settings: Settings) -> Iterator[Pipeline]:
    with Sandbox(memory_limit_bytes=512 * MIB) as sandbox:
        yield Pipeline(connection, roomy(settings), sandbox)


def one_file(connection: Connection, path: str = "a.txt") -> int:
    """The number of a file in the ledger."""
    row = connection.execute("SELECT file_id FROM files WHERE path = %s", (path,)).fetchone()
    assert row is not None
    return int(row[0])


def test_a_files_page_is_its_twin(pipeline: Pipeline, source: Path, client: TestClient) -> None:
    """The page of an indexed file shows its title, sections, attempt, batch and Dagster's pages; the twin the same."""
    (source / "a.md").write_text("# Title\n\nThe kiln.\n\n## Heat\n\nIt is hot.\n")
    pipeline.ingest()
    file_id = one_file(pipeline.connection, "a.md")
    page, row = client.get(f"/files/{file_id}"), client.get(f"/files/{file_id}.json").json()
    html = parsed(page.text)
    assert (row["status"], row["media_type"], row["chunks"], row["model"]) == ("indexed", "text/markdown", 1, "fake")
    assert [section["path"] for section in row["sections"]] == ["Title", "Title › Heat"]
    [attempt] = row["attempts"]
    assert (attempt["run_id"], attempt["outcome"], attempt["chunks_embedded"]) == ("run1", "done", 1)
    batch = row["batch_details"]
    assert batch["dagster_url"].endswith(f"/assets/embeddings?view=partitions&partition={batch['batch']}")
    assert {batch["dagster_url"], attempt["dagster_url"], f"/files/{file_id}.json"} <= {*html.hrefs()}
    for words in (row["version"], "Heat", "1 chunk", batch["batch"], "1 attempt", "Predicted peak"):
        assert words in html.text
    assert inline_parts(page.text) == []


@pytest.mark.parametrize(
    ("listens", "asked", "address"),
    [
        ("127.0.0.1", "documents.example:3080", "http://127.0.0.1:3999"),
        ("10.1.2.3", "documents.example:3080", "http://10.1.2.3:3999"),
        ("0.0.0.0", "documents.example:3080", "http://documents.example:3999"),
        ("0.0.0.0", "[::1]:3080", "http://[::1]:3999"),
    ],
)
def test_dagsters_address(listens: str, asked: str, address: str) -> None:
    """A UI that listens on every address is linked by the name that the browser knows; else by its own address."""
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "scheme": "http", "server": ("h", 1)}
    request = Request(scope | {"headers": [(b"host", asked.encode())]})
    settings = replace(Settings(), ui_host=listens, ui_port=3999)
    assert (
        links.partition_url(request, settings, "b 1") == f"{address}/assets/embeddings?view=partitions&partition=b%201"
    )
    assert links.run_url(request, settings, "run/1") == f"{address}/runs/run%2F1"


def test_a_failed_file_says_what_to_do(connection: Connection, client: TestClient) -> None:
    """The page has reason, message, advice and the command; a path in the command is quoted for a shell."""
    add_file(connection, "it's.txt")
    file = files_of(connection, seal(connection))["it's.txt"]
    files.refuse_file(connection, file.file_id, NoText("it's.txt: no text on 3 pages"), fingerprint=FINGERPRINT)
    html = parsed(client.get(f"/files/{file.file_id}").text)
    for words in ("NoText", "it's.txt: no text on 3 pages", "run OCR on scans", "ingest run", "failed"):
        assert words in html.text
    files.refuse_file(connection, file.file_id, KilledRepeatedly("3 kills"), fingerprint=FINGERPRINT)
    advice = client.get(f"/files/{file.file_id}.json").json()["advice"]
    assert advice["command"] == "ingest reset --reason KilledRepeatedly"
    connection.execute("UPDATE files SET error = 'ParserCrashed'")
    advice = client.get(f"/files/{file.file_id}.json").json()["advice"]
    assert "`ingest autopsy '/documents/it'\"'\"'s.txt'`" in advice["text"]


def test_gaps_and_warnings_are_shown(connection: Connection, client: TestClient) -> None:
    """Pages that could not be read stand with reason and advice, warnings as they were noted."""
    add_file(connection, "a.txt")
    write(connection, files_of(connection, seal(connection))["a.txt"], ["one"], CARD)
    connection.execute(
        "UPDATE files SET status = 'indexed', generation_id = next_generation_id, "
        "warnings = '[\"guessed <latin-1>\"]', "
        'gaps = \'[{"page_from": 2, "page_to": 4, "reason": "ParserTimedOut; given up from here on"}]\''
    )
    row = client.get(f"/files/{one_file(connection)}.json").json()
    assert row["gaps"][0]["advice"] == "raise INGEST_PAGE_SECONDS or INGEST_FILE_SECONDS"
    text = parsed(client.get(f"/files/{one_file(connection)}").text).text
    for words in ("2–4", "ParserTimedOut; given up from here on", "raise INGEST_PAGE_SECONDS", "guessed <latin-1>"):
        assert words in text


def test_an_older_version_is_told(connection: Connection, client: TestClient) -> None:
    """A file of which readers see an older version says so, and what has no vector is counted."""
    model = embedding_models.model_id(connection, CARD)
    add_file(connection, "a.txt")
    write(connection, files_of(connection, seal(connection))["a.txt"], ["one", "two"], CARD)
    connection.execute(
        "UPDATE files SET status = 'synced', generation_id = next_generation_id, version = 'v2', model_id = %s",
        (model,),
    )
    connection.execute(
        "INSERT INTO unembedded_texts (model_id, text_hash, state) VALUES (%s, %s, 'rejected')",
        (model, text_hash("two")),
    )
    row = client.get(f"/files/{one_file(connection)}.json").json()
    assert (row["searchable_version"], row["version"], row["unembedded"]) == ("v1", "v2", {"rejected": 1})
    text = parsed(client.get(f"/files/{one_file(connection)}").text).text
    assert "An older version of this file is searched" in text
    assert "2 chunks, 1 rejected" in text


def test_sections_come_in_pieces(pipeline: Pipeline, source: Path, client: TestClient) -> None:
    """A long outline is shown in part with its exact count; the JSON of its sections goes on to the end."""
    (source / "long.md").write_text(OUTLINE)
    pipeline.ingest()
    file_id = one_file(pipeline.connection, "long.md")
    first = client.get(f"/sections.json?file={file_id}").json()
    second = client.get(first["next"]).json()
    titles = [section["title"] for section in [*first["sections"], *second["sections"]]]
    assert titles == [f"{word} {number}" for number in range(150) for word in ("Part", "Detail")]
    assert (first["section_count"], len(first["sections"]), second["next"]) == (300, 200, None)
    html = parsed(client.get(f"/files/{file_id}").text)
    assert "The first 200." in html.text
    assert f"/files/{file_id}/sections.json" in html.hrefs()


def test_names_lead_to_a_search(connection: Connection, client: TestClient) -> None:
    """The names of a file come with counts, most frequent first, and each is a search for it; dates are left out."""
    add_file(connection, "a.txt")
    write(connection, files_of(connection, seal(connection))["a.txt"], ["Ada in London", "ada again"], CARD)
    connection.execute("UPDATE files SET status = 'indexed', generation_id = next_generation_id")
    ada, london, year = Entity("PERSON", 0, 3, "Ada"), Entity("GPE", 7, 13, "London"), Entity("DATE", 4, 6, "1842")
    found = [TextEntities(text_hash("Ada in London"), (ada, london, year))]
    found += [TextEntities(text_hash("ada again"), (replace(ada, name="ada"),))]
    for model in ("one", "two"):  # what two models find at one place is one name
        entities.write_entities(connection, model, found)
    row = client.get(f"/files/{one_file(connection)}.json").json()
    assert [(one["label"], one["name"].lower(), one["count"]) for one in row["entities"]] == [
        ("PERSON", "ada", 2), ("GPE", "london", 1),
    ]  # fmt: skip
    assert "/?q=London&entity=London" in parsed(client.get(f"/files/{one_file(connection)}").text).hrefs()


def test_extracts_are_shown(connection: Connection, client: TestClient) -> None:
    """Answers about sections stand as text, whatever they contain, with the prompt and the model that gave them."""
    add_file(connection, "a.txt")
    generation = write(connection, files_of(connection, seal(connection))["a.txt"], ["one"], CARD)
    connection.execute("UPDATE files SET status = 'indexed', generation_id = next_generation_id")
    key = extracts.PlanKey(generation.generation_id, "lessons", "p1", "m", "1")
    parts = [extracts.PlannedPart(number, title, 1, 2, text_hash(title)) for number, title in enumerate("AB")]
    extracts.write_plan(connection, key, parts)
    first, second = extracts.waiting_parts(connection, key)
    answer: dict[str, Any] = {"lesson": "<script>alert(1)</script>"}
    extracts.store_answer(connection, first, answer, prompt_tokens=5, completion_tokens=2, seconds=1.0)
    extracts.fail_part(connection, second, error="AnswerEmpty", message="no text")
    row = client.get(f"/files/{one_file(connection)}.json").json()
    assert row["extract_counts"] == {"done": 1, "failed": 1}
    assert [(one["title"], one["answer"], one["error"]) for one in row["extracts"]] == [
        ("A", answer, None), ("B", None, "AnswerEmpty"),
    ]  # fmt: skip
    page = client.get(f"/files/{one_file(connection)}").text
    assert inline_parts(page) == []
    assert '"lesson": "<script>alert(1)</script>"' in parsed(page).text
    assert "AnswerEmpty: no text" in parsed(page).text


def test_the_picture_of_memory(pipeline: Pipeline, source: Path, client: TestClient) -> None:
    """The memory of the file's last run is an image of its own, in which a policy lets nothing run."""
    (source / "a<b>.txt").write_text("The kiln is hot.")
    pipeline.ingest()
    file_id = one_file(pipeline.connection, "a<b>.txt")
    assert client.get(f"/files/{file_id}.json").json()["memory_picture"] is None
    recorder = Recorder(
        memory_file(pipeline.settings.home, "run1"), stage="chunks", batch="b1", limit_bytes=512 * MIB,
        position=Position(file_id, 1),
    )  # fmt: skip
    recorder.note(100 * MIB, [])
    recorder.close()
    row = client.get(f"/files/{file_id}.json").json()
    picture = client.get(row["memory_picture"])
    assert row["memory_of_file"] is True
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert "default-src 'none'" in picture.headers["content-security-policy"]
    root = ElementTree.fromstring(picture.text)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {"svg", "g", "rect", "path", "text", "title"}
    assert [
        name for element in root.iter() for name in element.attrib if name.startswith("on") or name == "style"
    ] == []
    assert "a<b>.txt" in "".join(root.itertext())
    assert [image["src"] for image in parsed(client.get(f"/files/{file_id}").text).all("img")][-1] == row[
        "memory_picture"
    ]


def test_copies_are_named(pipeline: Pipeline, source: Path, client: TestClient) -> None:
    """A file whose bytes stand at another path links to it; one that needed no run says why there is none."""
    (source / "a.txt").write_text("The kiln is hot.")
    pipeline.ingest()
    (source / "b.txt").write_text("The kiln is hot.")
    pipeline.ingest()
    first, second = one_file(pipeline.connection), one_file(pipeline.connection, "b.txt")
    html = parsed(client.get(f"/files/{second}").text)
    assert f"/files/{first}" in html.hrefs()
    assert "its bytes were searchable at another path already" in html.text
    [copy] = client.get(f"/files/{first}.json").json()["same_bytes"]
    assert (copy["file_id"], copy["path"]) == (second, "b.txt")


def test_every_page_has_a_twin(pipeline: Pipeline, source: Path, client: TestClient) -> None:
    """Each page links to its content as JSON, in its head and for people, and that address answers."""
    (source / "a.txt").write_text("The kiln is hot.")
    pipeline.ingest()
    for address in ("/", "/?q=kiln", "/files", "/files?status=indexed", f"/files/{one_file(pipeline.connection)}"):
        html = parsed(client.get(address).text)
        [twin] = [link["href"] for link in html.all("link") if link["rel"] == "alternate"]
        answer = client.get(twin)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert twin in html.hrefs()


def test_a_deleted_file_stays_known(connection: Connection, client: TestClient) -> None:
    """A file that its source does not hold any more keeps its page, and counts among the deleted ones."""
    add_file(connection, "a.txt", scan=1)
    files.delete_unseen(connection, SOURCE, 2)
    assert client.get("/files.json?status=deleted").json()["facets"]["files"] == 1
    assert "deleted" in parsed(client.get(f"/files/{one_file(connection)}").text).text
