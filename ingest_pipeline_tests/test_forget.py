"""A document is erased everywhere, and the receipt says what is left and why."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from ingest_pipeline.errors import ConfigurationError, IngestError
from ingest_pipeline.markdown import escaped
from ingest_pipeline.models import Entity, TextEntities
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.forget import Receipt, admit, forget
from ingest_pipeline.store import batches, entities
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.erasure import MARK
from ingest_pipeline.store.server import postgres_program
from ingest_pipeline_tests.documents import count, status_of
from ingest_pipeline_tests.pipeline import Pipeline

GIB = 1024**3
NAME = "secret [report]_ü|1.jsonl"
SECRET = "The password of the safe is xyzzy-plugh."
EVENT = (
    r"""{"md_str": "| file | status |\n|---|---|\n| secret \\[report\\]\\_ü\\|1.jsonl | indexed |\n"""
    r"""| other.jsonl | indexed |"}"""
)


@pytest.fixture
def pipeline(connection: Connection, settings: Settings, source: Path) -> Iterator[Pipeline]:
    """A document with a secret, and another one that has a sentence in common with it."""
    shared = '{"text": "This sentence is in both."}'
    (source / NAME).write_text(f'{shared}\n{{"text": "{SECRET}"}}\n')
    (source / "other.jsonl").write_text(f'{shared}\n{{"text": "Nothing special."}}\n')
    ample = replace(settings, run_memory=8 * GIB, machine_memory=16 * GIB)
    with Sandbox(memory_limit_bytes=GIB // 2) as sandbox:
        made = Pipeline(connection, ample, sandbox)
        made.ingest()
        yield made


def forgotten(pipeline: Pipeline, path: str = NAME, **options: bool) -> Receipt:
    [receipt] = forget(pipeline.connection, path, settings=pipeline.settings, **options)
    return receipt


def dump(pipeline: Pipeline) -> str:
    """The whole database as text, as a backup would hold it."""
    command = [str(postgres_program("pg_dump")), pipeline.settings.database_url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_nothing_is_left(pipeline: Pipeline) -> None:
    """Neither the text nor the name of a forgotten document is in any table."""
    before = dump(pipeline)
    assert SECRET in before and NAME in before
    receipt = forgotten(pipeline)
    after = dump(pipeline)
    assert "xyzzy" not in after and "secret" not in after
    assert (receipt.before["files"], receipt.after["files"]) == (1, 0)
    assert (receipt.before["chunks"], receipt.after["chunks"]) == (2, 0)
    assert receipt.dead_rows == {}


def test_replaced_versions(pipeline: Pipeline, source: Path) -> None:
    """What was made of versions that were replaced goes, too, though no index run has swept it yet."""
    connection = pipeline.connection
    hashes = [row[0] for row in connection.execute("SELECT DISTINCT text_hash FROM chunks").fetchall()]
    secret = TextEntities(hashes[0], (Entity("PERSON", 0, 5, "Xyzzy"),))
    entities.write_entities(connection, "m", [secret, *map(TextEntities, hashes[1:])])
    for text in (f"{SECRET} Plugh.", "All is well."):  # of the first only the chunks are stored
        (source / NAME).write_text(json.dumps({"text": text}) + "\n")
        pipeline.scan()
        [key] = pipeline.seal().batches
        run = pipeline.run(key)
        pipeline.chunk(run)
    pipeline.embed(run)
    run.finish()
    assert status_of(connection, NAME) == ("indexed", None) and "xyzzy-plugh" in dump(pipeline)
    forgotten(pipeline)
    assert "xyzzy" not in dump(pipeline).lower()
    orphans = "SELECT count(*) FROM embeddings e WHERE NOT EXISTS (SELECT FROM chunks WHERE text_hash = e.text_hash)"
    assert connection.execute(orphans).fetchone() == (0,)


def test_answers_go(pipeline: Pipeline) -> None:
    """Answers go with the content that they are about, by earlier prompts and about earlier versions, too."""
    connection = pipeline.connection
    connection.execute(
        "INSERT INTO section_extracts (generation_id, prompt, ordinal, title, page_from, page_to, content_hash,"
        " prompt_version, model, status) SELECT generation_id, 'p', 0, 't', 1, 1, sha256(convert_to(path, 'UTF8')),"
        " 'v2', 'm', 'done' FROM files"
    )
    answers = [(NAME, "v1"), (NAME, "v2"), ("a version that was replaced", "v1"), ("other.jsonl", "v1")]
    for content, prompt in answers:
        connection.execute(
            "INSERT INTO extract_answers (content_hash, prompt_version, model, answer, prompt_tokens,"
            " completion_tokens, seconds) VALUES (sha256(%s), %s, 'm', %s, 1, 1, 1)",
            (content.encode(), prompt, json.dumps(content)),
        )
    receipt = forgotten(pipeline)
    assert (receipt.before["extract_answers"], receipt.after["extract_answers"]) == (2, 0)
    assert connection.execute("SELECT answer FROM extract_answers").fetchall() == [("other.jsonl",)]


def test_shared_text_stays(pipeline: Pipeline) -> None:
    """The vector of a text that another document has, too, stays and is named in the receipt."""
    receipt = forgotten(pipeline)
    assert (receipt.before["embeddings"], receipt.after["embeddings"]) == (2, 1)
    assert status_of(pipeline.connection, "other.jsonl") == ("indexed", None)
    shown = pipeline.connection.execute("SELECT count(*) FROM searchable_chunks").fetchone()
    assert shown == (2,)


def test_copy_stays(pipeline: Pipeline, source: Path) -> None:
    """The same bytes at another path stay searchable, and the receipt names them."""
    (source / "copy.jsonl").write_bytes((source / NAME).read_bytes())
    pipeline.ingest()
    receipt = forgotten(pipeline)
    assert receipt.copies == (f"{source}/copy.jsonl",)
    assert receipt.after["chunks"] == receipt.before["chunks"] == 0
    assert status_of(pipeline.connection, "copy.jsonl") == ("indexed", None)


def test_comes_back(pipeline: Pipeline, source: Path) -> None:
    """A document that its source still holds comes back with the next catalog run, and the receipt says so."""
    assert forgotten(pipeline).is_in_source is True
    pipeline.ingest()
    assert status_of(pipeline.connection, NAME) == ("indexed", None)
    (source / NAME).unlink()
    assert forgotten(pipeline).is_in_source is False


def test_and_ignore(pipeline: Pipeline) -> None:
    """An ignored document stays away from the ledger until it is admitted again; its name is stored nowhere."""
    assert forgotten(pipeline, and_ignore=True).ignored
    pipeline.ingest()
    assert count(pipeline.connection, "files") == 1
    assert "secret" not in dump(pipeline)
    assert admit(pipeline.connection, NAME, settings=pipeline.settings)
    assert not admit(pipeline.connection, NAME, settings=pipeline.settings)
    pipeline.ingest()
    assert status_of(pipeline.connection, NAME) == ("indexed", None)


def test_admit_with_source(pipeline: Pipeline, source: Path) -> None:
    """An ignored document can be admitted by its whole name."""
    forgotten(pipeline, and_ignore=True)
    assert admit(pipeline.connection, f"{source}/{NAME}", settings=pipeline.settings)


def test_dry_run(pipeline: Pipeline) -> None:
    """A dry run counts what would go, and nothing goes."""
    before = dump(pipeline)
    receipt = forgotten(pipeline, dry_run=True)
    assert receipt.dry_run and receipt.before["chunks"] == 2
    assert [line for line in dump(pipeline).splitlines() if SECRET in line] == [
        line for line in before.splitlines() if SECRET in line
    ]


def test_entities_go(pipeline: Pipeline) -> None:
    """Entities of texts that only this document has go with it."""
    hashes = [row[0] for row in pipeline.connection.execute("SELECT DISTINCT text_hash FROM chunks").fetchall()]
    entities.write_entities(pipeline.connection, "m", [TextEntities(one) for one in hashes])
    receipt = forgotten(pipeline)
    assert (receipt.before["entity_texts"], receipt.after["entity_texts"]) == (2, 1)


def test_run_at_work(pipeline: Pipeline, source: Path) -> None:
    """A document of a batch that a run is at work on is not erased under it."""
    (source / "new.md").write_text("New.")
    pipeline.chunked()
    with pytest.raises(IngestError, match="a run is at work"):
        forgotten(pipeline, "new.md")
    assert status_of(pipeline.connection, "new.md")[0] == "processed"


def test_waiting_file(pipeline: Pipeline, source: Path) -> None:
    """A document that waits in a batch is erased, and its batch goes on without it."""
    (source / "new.md").write_text("New.")
    pipeline.scan()
    [key] = pipeline.seal().batches
    forgotten(pipeline, "new.md")
    run = pipeline.run(key)
    assert pipeline.chunk(run) == [] and run.finish() == 0
    assert [one.status for one in batches.list_batches(pipeline.connection, batch=key)] == ["done"]


def test_unknown_path(pipeline: Pipeline) -> None:
    """A path that the ledger does not have is a usage error."""
    with pytest.raises(ConfigurationError, match="no file of the ledger"):
        forgotten(pipeline, "nowhere.md")


@pytest.mark.parametrize("name", ["event_logs", "asset_keys"])
def test_dagster_tables(pipeline: Pipeline, name: str) -> None:
    """The name goes from texts of Dagster's tables, and the row of a Markdown table with all that it says of it."""
    named = f'"{pipeline.settings.sources[0]}/{NAME}: stopped"'
    pipeline.connection.execute(f"CREATE TABLE dagster.{name} (id int, event text)")  # type: ignore[arg-type]
    for number, text in enumerate((EVENT, EVENT.replace("ü", "\\u00fc"), named, "nothing")):
        pipeline.connection.execute(f"INSERT INTO dagster.{name} VALUES (%s, %s)", (number, text))  # type: ignore[arg-type]
    assert forgotten(pipeline).dagster_rows >= 3
    rows = pipeline.connection.execute(f"SELECT event FROM dagster.{name} ORDER BY id").fetchall()  # type: ignore[arg-type]
    markdown = r'{"md_str": "| file | status |\n|---|---|\n| (erased) |\n| other.jsonl | indexed |"}'
    assert [row[0] for row in rows] == [markdown, markdown, '"(erased): stopped"', "nothing"]


@pytest.mark.parametrize("words", ['Smith "Bob" Jones', "a\\nb", "C:\\new", "ends with \\", "größe \t\x01"])
def test_quoted_entities(pipeline: Pipeline, words: str) -> None:
    """What the row of a Markdown table says goes whole, whatever JSON escapes in it, and the event stays JSON."""
    pipeline.connection.execute("CREATE TABLE dagster.event_logs (id int, event text)")
    path = escaped(NAME)
    table = f"| file | entities |\n|---|---|\n| {path} | {words} (PERSON, 2) |\n| other.jsonl | x |"
    for number, ascii_only in enumerate((True, False)):
        event = json.dumps({"md_str": table, "next": 1}, ensure_ascii=ascii_only)
        pipeline.connection.execute("INSERT INTO dagster.event_logs VALUES (%s, %s)", (number, event))
    forgotten(pipeline)
    for (event,) in pipeline.connection.execute("SELECT event FROM dagster.event_logs").fetchall():
        shown = json.loads(event)
        assert shown == {"md_str": f"| file | entities |\n|---|---|\n| {MARK} |\n| other.jsonl | x |", "next": 1}


def test_run_configuration(pipeline: Pipeline) -> None:
    """The path goes from the configuration of a run of `ingest_reset`; keys of its JSON stay."""
    connection = pipeline.connection
    connection.execute("CREATE TABLE dagster.runs (id int, run_body text)")
    other = f"folder/{NAME}"
    for number, ascii_only in enumerate((True, False)):
        config = {"paths": [NAME, "a", 'b]"\\', other, NAME], "failed": False, NAME: 1}
        body = json.dumps({"run_config": {"ops": {"reset_files": {"config": config}}}}, ensure_ascii=ascii_only)
        connection.execute("INSERT INTO dagster.runs VALUES (%s, %s)", (number, body))
    forgotten(pipeline)
    for (body,) in connection.execute("SELECT run_body FROM dagster.runs").fetchall():
        config = json.loads(body)["run_config"]["ops"]["reset_files"]["config"]
        assert config == {"paths": [MARK, "a", 'b]"\\', other, MARK], "failed": False, NAME: 1}


def test_log_files(pipeline: Pipeline) -> None:
    """The name goes from the logs of runs, too."""
    logs = pipeline.settings.home / "runs"
    logs.mkdir()
    (logs / "run.log").write_text(f"stopped at {pipeline.settings.sources[0]}/{NAME}\n")
    (logs / "other.log").write_text("nothing\n")
    assert forgotten(pipeline).log_files == 1
    assert (logs / "run.log").read_text() == "stopped at (erased)\n"


def test_log_of_others(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that cannot be rewritten stops the command before the ledger forgets: the name would stay in silence."""
    logs = pipeline.settings.home / "runs"
    logs.mkdir()
    (logs / "run.log").write_text(f"stopped at {pipeline.settings.sources[0]}/{NAME}\n")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", Mock(side_effect=PermissionError(13, "Permission denied", "run.log")))
        with pytest.raises(PermissionError):
            forgotten(pipeline)
    assert forgotten(pipeline).log_files == 1


def test_run_messages(pipeline: Pipeline) -> None:
    """Messages of batches do not name it any more."""
    message = f"RunOutOfMemory: after a micro-batch of {pipeline.settings.sources[0]}/{NAME}"
    pipeline.connection.execute("UPDATE batches SET message = %s", (message,))
    forgotten(pipeline)
    rows = pipeline.connection.execute("SELECT DISTINCT message FROM batches").fetchall()
    assert rows == [("RunOutOfMemory: after a micro-batch of (erased)",)]
