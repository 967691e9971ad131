"""Chunks embedded by a server: whatever it answers, each text is paid for once and each file is accounted for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_pipeline.chunking import estimated_offsets
from ingest_pipeline.embedding.choice import card_of
from ingest_pipeline.embedding.load import load_embedder, prepare_engine
from ingest_pipeline.embedding.openai_api import checked_vectors
from ingest_pipeline.errors import AccessRefused, BadSetting, CallFailed, ServiceUnavailable, TokenLimitReached
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import Usage
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.remote import calls
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.chunks import check_files, chunk_files
from ingest_pipeline.stages.embeddings import embed_files
from ingest_pipeline.stages.fingerprint import fingerprint_of
from ingest_pipeline.stages.run import BatchRun, FileOutcome, open_batch
from ingest_pipeline.stages.scan import scan_sources
from ingest_pipeline.stages.sealing import seal_waiting
from ingest_pipeline.store import batches, embedding_models, reports, usage, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.documents import count, status_of
from ingest_pipeline_tests.embedding_server import FAULTS, EmbeddingServer

PASSING_FAULTS = [fault for fault in FAULTS if fault not in ("429 quota", "401", "404")]


@pytest.fixture
def api() -> Iterator[EmbeddingServer]:
    embedding_server = EmbeddingServer().start()
    yield embedding_server
    embedding_server.shutdown()
    embedding_server.server_close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff in milliseconds."""
    monkeypatch.setattr(calls, "FIRST_BACKOFF_SECONDS", 0.002)
    monkeypatch.setattr(calls, "MAX_BACKOFF_SECONDS", 0.02)


class Stages:
    """The stages one after another, with the embedder of the settings."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.connection, self.settings, self.runs = connection, settings, 0

    def batches(self) -> list[str]:
        """Scan and seal."""
        fingerprint = fingerprint_of(self.settings)
        model = embedding_models.model_id(self.connection, card_of(self.settings))
        scan_sources(self.connection, settings=self.settings, fingerprint=fingerprint, model=model)
        return list(seal_waiting(self.connection, settings=self.settings, fingerprint=fingerprint).batches)

    def open(self, batch: str) -> BatchRun:
        self.runs += 1
        return open_batch(self.connection, self.settings, batch=batch, run_id=f"run{self.runs}")

    def chunk(self, run: BatchRun) -> list[FileOutcome]:
        list(check_files(run))
        with Sandbox(memory_limit_bytes=2**30) as sandbox:
            return list(chunk_files(run, encode=estimated_offsets, sandbox=sandbox, degradation=Degradation(0)))

    def embed(self, run: BatchRun) -> list[FileOutcome]:
        load = lambda: load_embedder(run.settings, run.card)  # noqa: E731
        return list(embed_files(run, load_embedder=load, watch=TreeWatch()))

    def ingest(self) -> list[BatchRun]:
        """Everything."""
        runs = []
        for key in self.batches():
            run = self.open(key)
            self.chunk(run)
            self.embed(run)
            run.finish()
            runs.append(run)
        return runs


@pytest.fixture
def stages(connection: Connection, settings: Settings, api: EmbeddingServer) -> Stages:
    remote = replace(
        settings,
        embedder="openai",
        embedder_url=api.url,
        model="hashed-words",
        chunk_tokens=64,
        embed_batch=4,
        run_memory=8 * 2**30,
        machine_memory=16 * 2**30,
    )
    return Stages(connection, remote)


def write(source: Path, name: str, lines: int, *, marked: int = 0) -> None:
    """A document of some chunks, of which the first ones have a mark."""
    paragraphs = [
        f"{'BAD ' if number < marked else ''}{name} paragraph {number}: "
        + " ".join(f"word{number}x{i}" for i in range(9))
        + "."
        for number in range(lines)
    ]
    (source / name).write_text("\n\n".join(paragraphs))


def test_every_fault_passes(stages: Stages, api: EmbeddingServer, source: Path, connection: Connection) -> None:
    """Rate limits, errors, answers cut, out of order, too short, with NaN: all chunks get their vectors, once each."""
    write(source, "a.txt", 100)
    stages.settings = replace(stages.settings, embedder_call_seconds=1.0)
    [key] = stages.batches()
    run = stages.open(key)
    stages.chunk(run)
    api.script.extend(fault for one in PASSING_FAULTS for fault in (one, ""))
    stages.embed(run)
    assert status_of(connection, "a.txt") == ("indexed", None)
    assert reports.inconsistencies(connection) == {}
    texts = count(connection, "embeddings")
    assert texts == count(connection, "chunks") >= 100
    assert sum(api.asked.values()) - api.asked["probe"] == texts
    assert vectors.not_unit_norm(connection, run.model_id) == 0
    used = usage.usage_of_run(connection, run.run_id)
    assert used.failed_calls == len(PASSING_FAULTS) - 1  # an answer out of order is put in order
    assert used.calls == api.calls - 1  # but for the one that asked for the dimension


def test_a_rejected_text(
    stages: Stages, api: EmbeddingServer, source: Path, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """One text that the server refuses is noted with the reason; the rest of the file is indexed."""
    write(source, "a.txt", 38, marked=1)
    api.rejects = "BAD"
    with caplog.at_level(logging.INFO):
        [run] = stages.ingest()
    assert status_of(connection, "a.txt") == ("indexed", None)
    assert reports.chunks_by_state(connection, run.batch) == {"rejected": 1}
    assert reports.chunks_without_vector(connection, run.batch) == 0
    [(state, reason)] = connection.execute("SELECT state, reason FROM chunk_states WHERE state <> 'done'").fetchall()
    assert (state, reason) == ("rejected", "HTTP 400: this input is not allowed")
    total = count(connection, "chunks")
    lines = [record.getMessage() for record in caplog.records if "[embeddings]" in record.getMessage()]
    assert lines[0] == f"[embeddings] Total chunks: {total}"
    assert lines[1].startswith("[embeddings] Progress: 1") and lines[1].endswith(f"/{total}")
    assert lines[-1] == f"[embeddings] Stats: {total - 1} processed, 1 rejected"
    asked = api.calls
    assert stages.ingest() == []
    assert api.calls == asked, "a rejected text is not asked for again"


def test_a_text_that_breaks_the_server(
    stages: Stages, api: EmbeddingServer, source: Path, connection: Connection
) -> None:
    """A text that always gives 500 is rejected while the server answers to others: it does not stop the run."""
    write(source, "a.txt", 12, marked=1)
    api.fails_on = "BAD"
    [run] = stages.ingest()
    assert reports.chunks_by_state(connection, run.batch) == {"rejected": 1}
    assert status_of(connection, "a.txt") == ("indexed", None)


def test_too_many_rejected(stages: Stages, api: EmbeddingServer, source: Path, connection: Connection) -> None:
    """Ten rejected chunks fail the file with the reason; its vectors stay, its neighbours go on; a retry asks again."""
    write(source, "a.txt", 40, marked=30)
    write(source, "b.txt", 5)
    api.rejects = "BAD"
    [run] = stages.ingest()
    status, error = status_of(connection, "a.txt")
    assert (status, error) == ("failed", "TooManyRejected")
    assert status_of(connection, "b.txt") == ("indexed", None)
    [message] = connection.execute("SELECT message FROM files WHERE error IS NOT NULL").fetchone() or ("",)
    assert "the embedder rejected 10 chunks; the last: HTTP 400" in message
    rejected = count(connection, "unembedded_texts")
    assert rejected == 10
    kept = count(connection, "embeddings")
    api.rejects = ""
    again = stages.open(run.batch)
    stages.chunk(again)
    stages.embed(again)
    assert status_of(connection, "a.txt") == ("indexed", None)
    assert count(connection, "embeddings") > kept
    assert max(times for text, times in api.asked.items() if text != "probe") == 1


def test_a_server_that_refuses_every_text(stages: Stages, api: EmbeddingServer, source: Path) -> None:
    """A 400 to whatever is sent is no text's fault: the run ends with a verdict, and no chunk is rejected."""
    write(source, "a.txt", 3)
    [key] = stages.batches()
    run = stages.open(key)
    stages.chunk(run)
    api.rejects = "p"
    with pytest.raises(AccessRefused, match="refuses every text"):
        stages.embed(run)
    assert count(run.connection, "unembedded_texts") == 0


def test_a_server_that_is_down(stages: Stages, api: EmbeddingServer, source: Path, connection: Connection) -> None:
    """Ten errors in a row stop the run with a verdict; what was made stays, and the next run asks only for the rest."""
    write(source, "a.txt", 40)
    [key] = stages.batches()
    run = stages.open(key)
    stages.chunk(run)
    api.script.extend([""] * 3 + ["500"] * 50)
    with pytest.raises(ServiceUnavailable, match="10 errors in a row"):
        stages.embed(run)
    assert count(connection, "embeddings") == 12
    assert count(connection, "unembedded_texts") == 0, "an outage is no text's fault"
    batches.reconcile_batch(connection, key, run.run_id, killed=False, canceled=False, message="ServiceUnavailable: x")
    api.script.clear()
    stages.embed(stages.open(key))
    assert status_of(connection, "a.txt") == ("indexed", None)
    assert max(api.asked.values()) == 1


@pytest.mark.parametrize("fault", ["401", "404", "429 quota"])
def test_a_refusal_is_final(stages: Stages, api: EmbeddingServer, source: Path, fault: str) -> None:
    """A refused key, an unknown model or a spent quota ends the run at the first call."""
    write(source, "a.txt", 10)
    [key] = stages.batches()
    run = stages.open(key)
    stages.chunk(run)
    api.script.extend([fault] * 5)
    asked = api.calls
    with pytest.raises(AccessRefused):
        stages.embed(run)
    assert api.calls == asked + 1


def test_a_token_limit(stages: Stages, api: EmbeddingServer, source: Path, connection: Connection) -> None:
    """INGEST_MAX_TOKENS_PER_RUN ends a run between two calls; the next one goes on, nothing is lost or paid twice."""
    write(source, "a.txt", 40)
    stages.settings = replace(stages.settings, max_tokens_per_run=100)
    [key] = stages.batches()
    run = stages.open(key)
    stages.chunk(run)
    with pytest.raises(TokenLimitReached, match="INGEST_MAX_TOKENS_PER_RUN=100"):
        stages.embed(run)
    assert 0 < count(connection, "embeddings") < count(connection, "chunks")
    assert 100 <= usage.tokens_of_run(connection, run.run_id) < 200
    stages.settings = replace(stages.settings, max_tokens_per_run=0)
    stages.embed(stages.open(key))
    assert status_of(connection, "a.txt") == ("indexed", None)
    assert max(api.asked.values()) == 1


@pytest.mark.parametrize("slots", [1, 3])
def test_calls_at_once(stages: Stages, api: EmbeddingServer, source: Path, slots: int) -> None:
    """One call after another by default, as many at once as INGEST_EMBEDDER_CONCURRENCY says."""
    write(source, "a.txt", 60)
    api.delay_seconds = 0.02
    stages.settings = replace(stages.settings, embedder_concurrency=slots)
    stages.ingest()
    assert api.most_at_once == slots


def test_usage_by_file(stages: Stages, source: Path, connection: Connection) -> None:
    """Calls and tokens are counted in Postgres by run and file."""
    write(source, "a.txt", 60)
    [run] = stages.ingest()
    used = usage.usage_of_run(connection, run.run_id, stage="embeddings")
    assert used.calls > 10
    assert used.prompt_tokens > 100
    assert (used.failed_calls, used.completion_tokens) == (0, 0)
    assert usage.usage_of_run(connection, run.run_id, stage="extracts") == Usage()


def test_on_demand(stages: Stages, api: EmbeddingServer, source: Path, connection: Connection) -> None:
    """INGEST_EMBED=on-demand publishes without a call; what is asked for later is embedded, once."""
    write(source, "a.txt", 8)
    write(source, "b.txt", 8)
    stages.settings = replace(stages.settings, embed="on-demand")
    stages.batches()
    calls_before = api.calls
    for batch in batches.list_batches(connection):
        run = stages.open(batch.key)
        stages.chunk(run)
        stages.embed(run)
        run.finish()
    assert api.calls == calls_before
    assert status_of(connection, "a.txt") == ("indexed", None)
    assert reports.chunks_by_state(connection, run.batch)["deferred"] == count(connection, "chunks")
    assert reports.status_counts(connection)["chunks"] == 0, "what has no vector is not counted as searchable"
    assert reports.inconsistencies(connection) == {}
    stages.settings = replace(stages.settings, embed="now")
    stages.ingest()
    assert count(connection, "embeddings") == count(connection, "chunks")
    assert count(connection, "unembedded_texts") == 0


def test_the_key_is_needed_for_openai(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI without a key is one line before anything is started."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(BadSetting, match="OPENAI_API_KEY"):
        prepare_engine(replace(settings, embedder="openai", model="text-embedding-3-small"))


def test_no_server_is_one_line(settings: Settings) -> None:
    """A server that does not answer at the first start is named, with what is not known of the model."""
    nowhere = replace(settings, embedder="openai", embedder_url="http://127.0.0.1:9/v1", model="unheard-of")
    with pytest.raises(ServiceUnavailable, match="the dimension of unheard-of is not known: the embedder: Connect"):
        prepare_engine(nowhere)


def test_known_models(settings: Settings) -> None:
    """OpenAI's models need no call to be known; a shortened one is another model."""
    small = card_of(replace(settings, embedder="openai", model="text-embedding-3-small"))
    assert (small.dimension, small.max_tokens, small.takes_tokens) == (1536, 512, 8191)
    short = card_of(replace(settings, embedder="openai", model="text-embedding-3-small", dimensions=256))
    assert (short.dimension, short.identity == small.identity) == (256, False)


@pytest.mark.parametrize(
    "rows",
    [[], [(0, [1.0, 0.0])] * 2, [(1, [1.0, 0.0]), (2, [1.0, 0.0])], [(0, [1.0]), (1, [1.0, 0.0])],
     [(0, [float("inf"), 0.0]), (1, [1.0, 0.0])], [(0, [0.0, 0.0]), (1, [1.0, 0.0])]],
)  # fmt: skip
def test_answers_are_checked(rows: list[tuple[int, list[float]]]) -> None:
    """A vector that is missing, doubled, of another length, infinite or zero is a failed call."""
    with pytest.raises(CallFailed):
        checked_vectors(rows, texts=2, dimension=2)


def test_vectors_are_normalized() -> None:
    """Vectors of a server that does not normalize get length 1."""
    assert checked_vectors([(0, [3.0, 4.0])], texts=1, dimension=2).tolist() == [
        [pytest.approx(0.6), pytest.approx(0.8)]
    ]
