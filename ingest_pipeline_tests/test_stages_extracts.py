"""An LLM is asked about each section: answers are stored at once, asked for once, and nothing is left at the server."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from reportlab.pdfgen import canvas

from ingest_pipeline.cli.main import main
from ingest_pipeline.errors import ServiceUnavailable, TokenLimitReached
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.remote import calls
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.extracts import ExtractOutcome, extract_run
from ingest_pipeline.stages.index import refresh_index
from ingest_pipeline.stages.requeue import requeue_unfinished
from ingest_pipeline.stages.run import BatchRun
from ingest_pipeline.store import batches, extracts, usage
from ingest_pipeline.store.connection import Connection, store
from ingest_pipeline_tests.documents import count, status_of
from ingest_pipeline_tests.embedding_server import EmbeddingServer
from ingest_pipeline_tests.gemini_server import KEY, GeminiServer, gemini_server
from ingest_pipeline_tests.test_server_embeddings import Stages

SCHEMA = {"type": "object", "properties": {"topic": {"type": "string"}}, "required": ["topic"]}


@pytest.fixture(scope="module")
def running() -> Iterator[GeminiServer]:
    with gemini_server() as server:
        yield server


@pytest.fixture
def gemini(running: GeminiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[GeminiServer]:
    """The server, which knows nothing; after the test no file is left there."""
    running.reset()
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setattr(calls, "FIRST_BACKOFF_SECONDS", 0.002)
    monkeypatch.setattr(calls, "MAX_BACKOFF_SECONDS", 0.02)
    yield running
    assert sorted(running.state.files) == []


class Asking(Stages):
    """The stages with an embedder that costs nothing, and questions about sections."""

    def extract(self, run: BatchRun) -> list[ExtractOutcome]:
        with Sandbox(memory_limit_bytes=2**30) as sandbox, TreeWatch() as watch:
            return list(extract_run(run, sandbox=sandbox, watch=watch).files())

    def ask(self) -> list[ExtractOutcome]:
        """Everything; returns what became of each file's sections."""
        outcomes = []
        for key in self.batches():
            run = self.open(key)
            self.chunk(run)
            self.embed(run)
            run.finish()
            outcomes += self.extract(run)
        return outcomes


@pytest.fixture
def asking(connection: Connection, settings: Settings, tmp_path: Path) -> Iterator[Asking]:
    api = EmbeddingServer().start()
    remote = replace(settings, embedder="openai", embedder_url=api.url, model="one", extract_delay_seconds=0.0)
    remote = replace(remote, run_memory=8 * 2**30, machine_memory=16 * 2**30)  # as `ample_memory`
    yield Asking(connection, replace(remote, extract=str(tmp_path / "extract.yaml")))
    api.shutdown()
    api.server_close()


def write_spec(settings: Settings, url: str, **changes: Any) -> None:
    fields = {
        "name": "topics", "provider": "gemini", "model": "gemini-2.5-flash", "url": url, "input": "pdf",
        "prompt": "What is section {title} on pages {pages} about?", "schema": SCHEMA, "sections": {"pages": 1},
    }  # fmt: skip
    Path(settings.extract).write_text(yaml.safe_dump({**fields, **changes}))


def write_pdf(path: Path, *pages: str) -> None:
    """A PDF with a line of text on each page."""
    paper = canvas.Canvas(str(path))
    for text in pages:
        paper.drawString(72, 700, text)
        paper.showPage()
    paper.save()


def parts(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute("SELECT path, section, status, error FROM extracts ORDER BY 1, 2").fetchall()


def test_each_section_is_answered(
    asking: Asking, gemini: GeminiServer, source: Path, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """Cut, uploaded, answered, deleted, one after another; the answers are in the view, their cost is counted."""
    write_pdf(source / "a.pdf", "Bread and flour", "Ovens and heat", "Salt")
    write_spec(asking.settings, gemini.url)
    with caplog.at_level(logging.INFO):
        [outcome] = asking.ask()
    assert (outcome.parts, dict(outcome.asked)) == (3, {"done": 3})
    rows = connection.execute("SELECT section, page_from, page_to, status, answer FROM extracts ORDER BY 1").fetchall()
    assert [row[:4] for row in rows] == [(0, 1, 1, "done"), (1, 2, 2, "done"), (2, 3, 3, "done")]
    assert all("topic" in row[4] for row in rows)
    assert gemini.state.most_files == 1
    assert count(connection, "remote_files") == 0
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("section ")]
    assert lines[0].startswith("section 1/3: cut, uploaded, answered, deleted (")
    used = usage.usage_of_run(connection, "run1", stage="extracts")
    assert used.calls == 3 and used.prompt_tokens > 0 and used.completion_tokens > 0


def test_an_answer_is_asked_for_once(
    asking: Asking, gemini: GeminiServer, source: Path, connection: Connection
) -> None:
    """A rerun asks nothing; a new version asks only about what changed; an equal document at another path nothing."""
    write_pdf(source / "a.pdf", "One", "Two", "Three")
    write_spec(asking.settings, gemini.url)
    asking.ask()
    assert asking.ask() == []
    assert gemini.state.calls["generate"] == 3
    write_pdf(source / "a.pdf", "One", "Changed", "Three")
    [outcome] = asking.ask()
    assert dict(outcome.asked) == {"done": 1}
    write_pdf(source / "b.pdf", "Three", "Two")
    asking.ask()
    assert [row[2] for row in parts(connection)] == ["done"] * 5
    assert gemini.state.calls["generate"] == 5  # `Two` was asked about on page 2 before, and `Three` on page 3


def test_another_prompt_asks_again(asking: Asking, gemini: GeminiServer, source: Path, connection: Connection) -> None:
    """A changed prompt is a new version: all sections are asked about again, without parsing."""
    write_pdf(source / "a.pdf", "One", "Two")
    write_spec(asking.settings, gemini.url)
    asking.ask()
    write_spec(asking.settings, gemini.url, prompt="Who wrote {title}?")
    asking.ask()
    assert gemini.state.calls["generate"] == 4
    assert count(connection, "generations") == 1
    assert [row[2] for row in parts(connection)] == ["done", "done"]


def test_one_failed_section(asking: Asking, gemini: GeminiServer, source: Path, connection: Connection) -> None:
    """A section whose answer cannot be used keeps the raw answer and its reason, and harms no other."""
    write_pdf(source / "a.pdf", "One", "Two", "Three")
    write_spec(asking.settings, gemini.url)
    gemini.fail("generate", "text", text="not json")
    gemini.fail("generate", "text", text="still not json")
    [outcome] = asking.ask()
    assert dict(outcome.asked) == {"done": 2, "failed": 1}
    assert parts(connection)[0][2:] == ("failed", "AnswerInvalid")
    [(raw, message)] = connection.execute(
        "SELECT raw, message FROM section_extracts WHERE status = 'failed'"
    ).fetchall()
    assert raw == "still not json" and "not JSON" in message
    assert asking.ask() == [], "what would end the same is not asked again by itself"
    [batch] = batches.list_batches(connection)
    again = asking.open(batch.key)
    asking.chunk(again)
    asking.extract(again)
    assert [row[2] for row in parts(connection)] == ["done"] * 3, "a partition materialized by hand asks again"


def test_a_server_that_fails(asking: Asking, gemini: GeminiServer, source: Path, connection: Connection) -> None:
    """An outage ends the run with a verdict, costs no section an attempt, and leaves nothing at the server."""
    write_pdf(source / "a.pdf", *(f"Page {number}" for number in range(6)))
    write_spec(asking.settings, gemini.url)
    for _ in range(40):
        gemini.fail("generate", "status", code=503)
    with pytest.raises(ServiceUnavailable):
        asking.ask()
    gemini.faults["generate"].clear()
    statuses = {row[2] for row in parts(connection)}
    assert statuses <= {"waiting", "failed"}
    assert status_of(connection, "a.pdf") == ("indexed", None)
    requeue_unfinished(connection, asking.settings)
    asking.ask()
    assert [row[2] for row in parts(connection)] == ["done"] * 6


def test_the_rest_waits(asking: Asking, gemini: GeminiServer, source: Path, connection: Connection) -> None:
    """When the time of the run is over, or its tokens, the rest waits in a new batch; nothing is asked twice."""
    write_pdf(source / "a.pdf", *(f"Page {number}" for number in range(5)))
    write_spec(asking.settings, gemini.url)
    whole = asking.settings
    asking.settings = replace(whole, extract_run_seconds=1e-9)
    asking.ask()
    assert {row[2] for row in parts(connection)} == {"waiting"}
    asking.settings = replace(whole, max_tokens_per_run=1)
    with pytest.raises(TokenLimitReached):
        asking.ask()
    done = [row[2] for row in parts(connection)].count("done")
    assert done == 1
    asking.settings = whole
    requeue_unfinished(connection, whole)
    asking.ask()
    assert [row[2] for row in parts(connection)] == ["done"] * 5
    assert gemini.state.calls["generate"] == 5


@pytest.mark.parametrize(("mode", "most"), [("sequential", 1), ("concurrent", 3), ("hybrid", 3)])
def test_modes(asking: Asking, gemini: GeminiServer, source: Path, mode: str, most: int) -> None:
    """One file at the server at a time, or as many as the concurrency says; hybrid: by the size of the document."""
    write_pdf(source / "a.pdf", *(f"Page {number}" for number in range(9)))
    write_spec(asking.settings, gemini.url)
    gemini.script.seconds = 0.05
    asking.settings = replace(asking.settings, extract_mode=mode, extract_concurrency=3)
    asking.ask()
    assert gemini.state.most_files == most
    if mode == "hybrid":
        gemini.state.most_files = 0
        asking.settings = replace(asking.settings, extract_hybrid_size=1)
        write_pdf(source / "b.pdf", *(f"Sheet {number}" for number in range(4)))
        asking.ask()
        assert gemini.state.most_files == 1


def test_what_a_killed_run_left(asking: Asking, gemini: GeminiServer, source: Path, connection: Connection) -> None:
    """A file whose name is in the ledger is deleted by the next run, whether it was uploaded or not."""
    write_pdf(source / "a.pdf", "One")
    write_spec(asking.settings, gemini.url)
    connection.execute(
        "INSERT INTO remote_files VALUES ('ingest-never-uploaded', %s, 'killed')", (f"gemini {gemini.url}",)
    )
    asking.ask()
    assert count(connection, "remote_files") == 0
    assert gemini.state.calls["delete"] == 2


def test_the_index_sweeps(asking: Asking, gemini: GeminiServer, source: Path, connection: Connection) -> None:
    """What a killed run left is deleted though no section waits; a provider that is gone stops nothing."""
    write_pdf(source / "a.pdf", "One")
    write_spec(asking.settings, gemini.url)
    asking.ask()
    connection.execute("INSERT INTO remote_files VALUES ('ingest-left', %s, 'killed')", (f"gemini {gemini.url}",))
    write_spec(asking.settings, "http://127.0.0.1:9")
    refresh_index(connection, asking.settings)
    assert count(connection, "remote_files") == 1
    write_spec(asking.settings, gemini.url)
    refresh_index(connection, asking.settings)
    assert count(connection, "remote_files") == 0
    assert gemini.state.calls["delete"] == 2


@pytest.mark.parametrize("mode", ["sequential", "concurrent"])
def test_stored_before_the_delete(
    asking: Asking, gemini: GeminiServer, source: Path, connection: Connection, url: str, mode: str
) -> None:
    """An answer, and what it cost, is in the store before the file is deleted: a kill in between loses nothing."""
    write_pdf(source / "a.pdf", "One", "Two", "Three")
    write_spec(asking.settings, gemini.url)
    seen: list[tuple[int, int]] = []

    def look(call: str) -> None:
        if call == "delete":
            with store(url) as other:
                calls_counted = other.execute("SELECT sum(calls) FROM api_usage WHERE stage = 'extracts'").fetchone()
                seen.append((count(other, "extract_answers"), int(calls_counted[0] or 0) if calls_counted else 0))

    gemini.on_call = look
    asking.settings = replace(asking.settings, extract_mode=mode, extract_concurrency=2)
    asking.ask()
    assert len(seen) == 3, (gemini.state.calls, parts(connection))
    assert all(answers >= place and used >= place for place, (answers, used) in enumerate(sorted(seen), 1)), seen
    assert usage.usage_of_run(connection, "run1", stage="extracts").calls == 3


def test_text_and_outline(asking: Asking, gemini: GeminiServer, source: Path, connection: Connection) -> None:
    """Text of a Markdown file by its headings; files that the globs leave out are not asked about."""
    (source / "a.md").write_text("# Bread\n\nflour\n\n# Salt\n\nwhite\n")
    (source / "b.txt").write_text("not asked about")
    write_spec(
        asking.settings,
        gemini.url,
        input="text",
        prompt="Topic of {title}: {text}",
        files=["*.md"],
        sections={"level": 1},
    )
    asking.ask()
    titles = [title for (title,) in connection.execute("SELECT title FROM extracts ORDER BY section")]
    assert titles == ["Bread", "Salt"]
    assert gemini.state.calls["upload"] == 0
    prompts = [request["contents"][0]["parts"][0]["text"] for request in gemini.state.requests]
    assert prompts[0].startswith("Topic of Bread:") and "flour" in prompts[0]
    assert asking.ask() == []


def test_a_sections_file(asking: Asking, gemini: GeminiServer, source: Path, connection: Connection) -> None:
    """The page ranges in a YAML file beside the document are its sections; a bad one fails no other document."""
    write_pdf(source / "a.pdf", *(f"Page {number}" for number in range(5)))
    rows = [{"title": "Intro", "page_from": 1, "page_to": 2}, {"title": "Rest", "page_from": 3, "page_to": 5}]
    (source / "a.sections.yaml").write_text(yaml.safe_dump({"sections": rows}))
    write_pdf(source / "b.pdf", "One")
    (source / "b.sections.yaml").write_text("sections: [{title: x, page_from: 1, page_to: 99}]")
    write_spec(asking.settings, gemini.url, sections={"file": ".sections.yaml"})
    outcomes = {outcome.file.path: outcome for outcome in asking.ask()}
    assert outcomes["b.pdf"].reason == "UnreadableDocument"
    query = "SELECT title, page_from, page_to, status FROM extracts WHERE path = %s ORDER BY section"
    assert connection.execute(query, ("a.pdf",)).fetchall() == [("Intro", 1, 2, "done"), ("Rest", 3, 5, "done")]
    assert connection.execute(query, ("b.pdf",)).fetchall() == [("sections file", 1, 1, "failed")]
    assert requeue_unfinished(connection, asking.settings) == 0, "what cannot be divided is not tried for ever"


def test_entities_by_an_llm(asking: Asking, gemini: GeminiServer, source: Path, connection: Connection) -> None:
    """One question for each chunk; the names that it answers are in the view with their places."""
    (source / "a.txt").write_text("Ada Lovelace wrote to Charles Babbage.")
    gemini.script.answer = (
        '{"entities": [{"label": "PERSON", "name": "Ada Lovelace"}, {"label": "PERSON", "name": "Nobody"}]}'
    )
    spec = {"input": "text", "prompt": "Names in: {text}", "entities": True, "sections": {"each": "chunk"}}
    write_spec(asking.settings, gemini.url, **(spec | {"schema": None}))
    found = Path(asking.settings.extract)
    found.write_text(yaml.safe_dump({k: v for k, v in yaml.safe_load(found.read_text()).items() if v is not None}))
    asking.ask()
    rows = connection.execute("SELECT entity, label, char_from, char_to, model FROM chunk_entities").fetchall()
    assert rows == [("Ada Lovelace", "PERSON", 0, 12, "gemini:gemini-2.5-flash")]


def test_one_document(
    asking: Asking,
    gemini: GeminiServer,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`ingest extract PATH`: a JSON line for each section of one document; asked again, it repeats the answers."""
    write_pdf(source / "a.pdf", "One", "Two")
    write_pdf(source / "b.pdf", "Other")
    spec, asking.settings = asking.settings.extract, replace(asking.settings, extract="")
    asking.ingest()
    write_spec(replace(asking.settings, extract=spec), gemini.url)
    for name, text in asking.settings.environ().items():
        monkeypatch.setenv(name, text)
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main(["extract", "a.pdf", "--prompt", spec])
        assert ended.value.code == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [(row["section"], row["page_from"], row["status"]) for row in rows] == [(0, 1, "done"), (1, 2, "done")]
        assert all("topic" in row["answer"] for row in rows)
    assert gemini.state.calls["generate"] == 2
    for arguments, line in (
        (["extract", "c.pdf", "--prompt", spec], "no searchable file has this path"),
        (["extract", "a.pdf"], "INGEST_EXTRACT"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert line in capsys.readouterr().err


def test_pages_are_for_pdfs(asking: Asking, gemini: GeminiServer, source: Path, connection: Connection) -> None:
    """A document that has no pages to send is skipped with the reason."""
    (source / "a.txt").write_text("some text")
    write_spec(asking.settings, gemini.url, sections={"whole": True})
    asking.ask()
    [(status, message)] = connection.execute("SELECT status, message FROM extracts").fetchall()
    assert status == "skipped" and "only PDFs" in message
    assert extracts.counts_by_status(connection, "topics") == {"skipped": 1}
