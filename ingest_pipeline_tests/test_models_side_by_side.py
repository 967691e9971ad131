"""Two models in one database: chunks are embedded again without being parsed, and somebody always answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_pipeline.cli.main import main
from ingest_pipeline.embedding.choice import card_of
from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.search_models import SearchQuery
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages import chunks as chunks_stage
from ingest_pipeline.stages.index import refresh_index
from ingest_pipeline.stages.model_list import drop_model, models_with_default
from ingest_pipeline.stages.on_demand import embed_texts, embed_waiting, request_vectors
from ingest_pipeline.stages.search import search
from ingest_pipeline.store import batches, embedding_models, generations, reports
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.documents import count, status_of
from ingest_pipeline_tests.embedding_server import EmbeddingServer
from ingest_pipeline_tests.test_server_embeddings import Stages, write


@pytest.fixture
def api() -> Iterator[EmbeddingServer]:
    embedding_server = EmbeddingServer().start()
    yield embedding_server
    embedding_server.shutdown()
    embedding_server.server_close()


@pytest.fixture
def stages(connection: Connection, settings: Settings, api: EmbeddingServer) -> Stages:
    remote = replace(settings, embedder="openai", embedder_url=api.url, model="one", chunk_tokens=64)
    return Stages(connection, replace(remote, run_memory=8 * 2**30, machine_memory=16 * 2**30))  # as `ample_memory`


def refuse(*arguments: object) -> None:
    """Takes the place of parsing where there must be none."""
    raise AssertionError("a file was parsed")


def other(stages: Stages, **changes: object) -> Stages:
    """The same sources under another model."""
    return Stages(stages.connection, replace(stages.settings, **({"model": "two", "dimensions": 48} | changes)))


def paths(stages: Stages, query: str, model: str | None = None) -> set[str]:
    """The files that answer a query."""
    return {
        hit.path
        for hit in search(stages.connection, SearchQuery(query, 20), settings=stages.settings, model=model).hits
    }


def test_another_model_needs_no_parsing(
    stages: Stages, source: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new model embeds the stored chunks; both have their vectors and their index in the end."""
    write(source, "a.txt", 12)
    stages.ingest()
    texts = count(connection, "embeddings")
    monkeypatch.setattr(chunks_stage.GenerationWriter, "write", refuse)
    second = other(stages)
    second.ingest()
    assert status_of(connection, "a.txt") == ("indexed", None)
    assert count(connection, "embeddings") == 2 * texts
    assert count(connection, "generations") == 1
    assert reports.inconsistencies(connection) == {}
    for one in (stages, second):
        refresh_index(connection, one.settings)
    [(indexes,)] = connection.execute("SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'embeddings_hnsw_%'")
    assert indexes == 2
    assert [row[0] for row in connection.execute("SELECT DISTINCT model FROM searchable_chunks")] == ["two"]


def test_the_old_model_answers_meanwhile(stages: Stages, source: Path, connection: Connection) -> None:
    """Each file is answered by the old model until the new one has all its vectors; no file is ever missing."""
    for name in ("a.txt", "b.txt"):
        write(source, name, 6)
    stages.settings = replace(stages.settings, batch_files=1)
    stages.ingest()
    second = other(stages)
    first, last = second.batches()
    assert paths(second, "paragraph") == {"a.txt", "b.txt"}
    assert paths(second, "paragraph", model="one") == {"a.txt", "b.txt"}
    run = second.open(first)
    second.chunk(run)
    second.embed(run)
    run.finish()
    assert paths(second, "paragraph", model="two") == {"a.txt"}
    assert paths(second, "paragraph") == {"a.txt", "b.txt"}
    run = second.open(last)
    second.chunk(run)
    second.embed(run)
    assert paths(second, "paragraph", model="two") == {"a.txt", "b.txt"}
    assert paths(second, "paragraph", model="one") == {"a.txt", "b.txt"}


def test_back_to_the_first_model(stages: Stages, source: Path, connection: Connection, api: EmbeddingServer) -> None:
    """Whose vectors are all there answers at once: nothing is embedded, nothing runs."""
    write(source, "a.txt", 6)
    stages.ingest()
    other(stages).ingest()
    calls = api.calls
    assert stages.ingest() == []
    assert api.calls == calls
    assert [row[0] for row in connection.execute("SELECT DISTINCT model FROM searchable_chunks")] == ["one"]


def test_chunks_that_are_too_long(stages: Stages, source: Path, connection: Connection) -> None:
    """A model that does not take the stored chunks has the file parsed again, in shorter ones."""
    write(source, "a.txt", 12)
    stages.ingest()
    before = count(connection, "chunks")
    other(stages, model_tokens=30, chunk_tokens=30).ingest()
    assert status_of(connection, "a.txt") == ("indexed", None)
    assert count(connection, "generations") == 1
    assert count(connection, "chunks") > before
    [(longest,)] = connection.execute("SELECT max(tokens) FROM chunks")
    assert longest <= 30


def test_models_are_listed_and_dropped(
    stages: Stages,
    source: Path,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`ingest models` counts; a model that answers is not dropped, another one goes with vectors and index."""
    write(source, "a.txt", 6)
    stages.ingest()
    second = other(stages)
    with pytest.raises(ConfigurationError, match="INGEST_MODEL"):
        drop_model(connection, "one", settings=stages.settings)
    embedding_models.model_id(connection, card_of(second.settings))
    with pytest.raises(ConfigurationError, match="readers see 1 file "):
        drop_model(connection, "one", settings=second.settings)
    with pytest.raises(ConfigurationError, match="no such model"):
        drop_model(connection, "three", settings=second.settings)
    second.ingest()
    refresh_index(connection, stages.settings)
    texts = count(connection, "embeddings") // 2
    listed = models_with_default(connection, settings=second.settings)
    assert [(one.model.name, one.model.vectors, one.model.files, one.is_default) for one in listed] == [
        ("one", texts, 0, False), ("two", texts, 1, True),
    ]  # fmt: skip
    for name, text in second.settings.environ().items():
        monkeypatch.setenv(name, text)
    with pytest.raises(SystemExit):
        main(["models"])
    shown = capsys.readouterr().out
    assert "* two" in shown and "  one" in shown
    assert drop_model(connection, "one", settings=second.settings, dry_run=True) == texts
    assert count(connection, "embeddings") == 2 * texts
    with pytest.raises(SystemExit):
        main(["models", "--drop", "one", "--json"])
    assert json.loads(capsys.readouterr().out) == {"model": "one", "vectors_dropped": texts, "dry_run": False}
    assert count(connection, "embeddings") == texts
    assert paths(second, "paragraph") == {"a.txt"}


def test_prefixes(stages: Stages, source: Path, api: EmbeddingServer) -> None:
    """Passages and queries are sent with their prefixes; another passage prefix is another model."""
    write(source, "a.txt", 2)
    prefixed = other(stages, passage_prefix="passage:", query_prefix="query:", query_model="asker")
    assert card_of(prefixed.settings).identity != card_of(replace(prefixed.settings, passage_prefix="")).identity
    prefixed.ingest()
    assert all(text.startswith("passage: ") for text in api.asked if text != "probe")
    paths(prefixed, "where")
    assert api.asked["query: where"] == 1


def test_texts_on_demand(stages: Stages, source: Path, connection: Connection, api: EmbeddingServer) -> None:
    """A text that a chunk has comes from the store; another one is computed; equal ones once."""
    write(source, "a.txt", 2)
    stages.ingest()
    [(known,)] = connection.execute("SELECT text FROM chunks ORDER BY ordinal LIMIT 1").fetchall()
    calls = api.calls
    first, second, third = embed_texts(connection, [known, "new", "new"], settings=stages.settings)
    assert (first.known, second.known, third.known) == (True, False, False)
    assert second.vector == third.vector
    assert api.calls == calls + 1
    assert sum(number * number for number in first.vector) == pytest.approx(1, abs=0.01)


def test_files_on_demand(stages: Stages, source: Path, connection: Connection) -> None:
    """What is deferred is embedded for one file, then for all."""
    for name in ("a.txt", "b.txt"):
        write(source, name, 4)
    stages.settings = replace(stages.settings, embed="on-demand")
    stages.ingest()
    assert count(connection, "embeddings") == 0
    with pytest.raises(ConfigurationError, match="no searchable file"):
        request_vectors(connection, settings=stages.settings, path="c.txt")
    asked = request_vectors(connection, settings=stages.settings, path="a.txt")
    assert embed_waiting(connection, settings=stages.settings) == (asked, 0)
    assert paths(stages, "paragraph", model="one") >= {"a.txt"}
    request_vectors(connection, settings=stages.settings)
    embed_waiting(connection, settings=stages.settings)
    assert count(connection, "embeddings") == count(connection, "chunks")
    assert generations.shown_waiting(connection, embedding_models.model_id(connection, card_of(stages.settings))) == []
    assert batches.list_batches(connection, status="waiting") == []


def test_on_demand_keeps_the_old_model(stages: Stages, source: Path, connection: Connection) -> None:
    """A new model whose vectors are made on demand takes nothing away: the old one answers until they are made."""
    write(source, "a.txt", 6)
    stages.ingest()
    second = other(stages, embed="on-demand")
    second.ingest()
    assert paths(second, "paragraph") == {"a.txt"}
    with pytest.raises(ConfigurationError, match="readers see 1 file "):
        drop_model(connection, "one", settings=second.settings)
    request_vectors(connection, settings=second.settings)
    embed_waiting(connection, settings=second.settings)
    hits = search(connection, SearchQuery("paragraph", 50), settings=second.settings).hits
    assert len(hits) == count(connection, "chunks"), "no passage comes twice"
    assert [row[0] for row in connection.execute("SELECT DISTINCT model FROM searchable_chunks")] == ["two"]


def test_a_model_at_work_is_not_dropped(stages: Stages, source: Path, connection: Connection) -> None:
    """While a run is at work no model is dropped."""
    write(source, "a.txt", 2)
    [key] = stages.batches()
    stages.open(key)
    with pytest.raises(ConfigurationError, match="a run is at work"):
        drop_model(connection, "one", settings=other(stages).settings)
