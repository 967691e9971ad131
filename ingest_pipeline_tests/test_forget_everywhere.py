"""A document that real runs have ingested is forgotten: nothing under INGEST_HOME has its text or its name any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import AssetKey, DagsterInstance

from ingest_pipeline.store.server import postgres_program
from ingest_pipeline_tests.conftest import share_models
from ingest_pipeline_tests.test_cli import Ingest

pytestmark = pytest.mark.proof
NAME = "größe [draft]_2.md"
SECRET = "Nobody shall ever read quuxfrobnicate again."


@pytest.fixture
def ingest(tmp_path: Path, models: Path) -> Iterator[Ingest]:
    """A document and a file that fails, ingested by real runs."""
    source = tmp_path / "documents"
    source.mkdir()
    (source / NAME).write_text(f"# Title\n\n{SECRET}\n")
    (source / "other.md").write_text("# Other\n\nText.\n")
    command = Ingest(share_models(tmp_path / "home", models), INGEST_SOURCES=str(source))
    command("run")
    yield command
    command.server.stop()


def dump(ingest: Ingest) -> str:
    import subprocess

    url = ingest("db", "url").strip()
    return subprocess.run([str(postgres_program("pg_dump")), url], capture_output=True, text=True, check=True).stdout


def holding(home: Path, words: str) -> list[str]:
    """The files under a home, without Postgres' own, that hold some words."""
    paths = (path for path in home.rglob("*") if path.is_file() and "postgres" not in path.relative_to(home).parts)
    return [str(path) for path in paths if words.encode() in path.read_bytes()]


def test_no_text_in_logs(ingest: Ingest) -> None:
    """Logs, records and configuration of runs hold no text of a document."""
    assert SECRET in dump(ingest)
    assert holding(ingest.home, "quuxfrobnicate") == []


def test_nothing_anywhere(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither database nor files have text or name; Dagster reads its events as before."""
    before = dump(ingest)
    assert "gr\\\\u00f6\\\\u00dfe" in before or "größe" in before
    ingest("forget", NAME, "--and-ignore")
    after = dump(ingest)
    for words in ("quuxfrobnicate", "größe", "u00dfe", "draft"):
        assert words not in after, words
        assert holding(ingest.home, words) == []
    assert "other.md" in after
    monkeypatch.setenv("INGEST_HOME", str(ingest.home))
    monkeypatch.setenv("DAGSTER_HOME", str(ingest.home / "dagster"))
    with DagsterInstance.get() as instance:
        event = instance.get_latest_materialization_event(AssetKey("embeddings"))
        assert event is not None and event.asset_materialization is not None
        table = event.asset_materialization.metadata["batch_files"].value
        assert "| (erased) |" in table and "| other.md |" in table
        for run in instance.get_runs():
            assert instance.all_logs(run.run_id)
    ingest("run")
    assert [row["path"] for row in ingest.json("files")] == ["other.md"]
