"""No vector is deleted under a chunk that relies on it, however sweep and run meet; a missing one is repaired."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pgvector.psycopg import register_vector

from ingest_pipeline.chunking import text_hash
from ingest_pipeline.models import START, ParsedFile, RawFile
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.store import embedding_models, generations, reports, vectors
from ingest_pipeline.store import files as store_files
from ingest_pipeline.store.connection import SEARCH_PATH, Connection
from ingest_pipeline_tests.conftest import CARD, WHOLE_PROOF, FakeEmbedder
from ingest_pipeline_tests.documents import FINGERPRINT, add_file, chunk, count, files_of, seal, status_of
from ingest_pipeline_tests.pipeline import Pipeline
from ingest_pipeline_tests.stepping import Session, SteppedConnection, interleave

TEXT = "the same text"
INTERLEAVINGS = 1000 if WHOLE_PROOF else 100


@pytest.fixture
def stepped(url: str) -> Iterator[list[SteppedConnection]]:
    """Two connections of the kind that the stages use."""
    opened = [SteppedConnection.connect(url, autocommit=True, options=f"-csearch_path={SEARCH_PATH}") for _ in range(2)]
    for one in opened:
        register_vector(one)
    yield opened
    for one in opened:
        one.close()


def orphan_and_waiting_file(connection: Connection) -> RawFile:
    """A vector whose last file was deleted, and a file with the same text that is about to be chunked."""
    connection.execute("TRUNCATE files, batches, generations, chunks, embeddings CASCADE")
    model = embedding_models.model_id(connection, CARD)
    add_vector(connection, model)
    add_file(connection, "new.txt")
    return files_of(connection, seal(connection))["new.txt"]


def add_vector(connection: Connection, model: int) -> None:
    """The vector of TEXT."""
    connection.execute(
        "INSERT INTO embeddings VALUES (%s, %s, '[1,0,0,0,0,0,0,0]') ON CONFLICT DO NOTHING", (model, text_hash(TEXT))
    )


def sweep(connection: Connection) -> None:
    """What `vector_index` does, with time between its deletion and its commit."""
    with connection.transaction():
        vectors.drop_unused_vectors(connection)


def run(connection: Connection, file: RawFile) -> None:
    """What a run does with one file of one chunk: chunk it, embed what is missing, publish."""
    model = embedding_models.model_id(connection, CARD)
    with generations.claimed_generation(connection, file, fingerprint=FINGERPRINT, card=CARD) as generation:
        row = (chunk(0, TEXT), text_hash(TEXT))
        generations.write_chunks(connection, generation, [row], checkpoint=START, gaps=[])
        generations.complete_generation(connection, generation, ParsedFile(pages=1))
        store_files.mark_processed(connection, file, generation_id=generation.generation_id, pages=1)
        pending = vectors.pending_chunks(connection, model, [generation.generation_id], limit=10)
        if pending:
            vectors.write_vectors(connection, model, pending, FakeEmbedder().embed([one.text for one in pending]))
        generations.publish_file(connection, file, generation, fingerprint=FINGERPRINT, model=model)


def test_sweep_and_run_interleaved(connection: Connection, stepped: list[SteppedConnection]) -> None:
    """Whatever the order of their statements, the file ends indexed with its vector, and no orphan is left behind."""
    orders = set()
    with psycopg.connect(connection.info.dsn, autocommit=True) as observer:
        for seed in range(INTERLEAVINGS):
            file = orphan_and_waiting_file(connection)
            sessions = [
                Session("sweep", stepped[0], sweep),
                Session("run", stepped[1], lambda session, file=file: run(session, file)),  # type: ignore[misc]
            ]
            orders.add(tuple(interleave(seed, sessions, observer)))
            for one in stepped:
                one.turn = lambda: None  # type: ignore[method-assign]
            assert status_of(connection, "new.txt") == ("indexed", None), seed
            assert count(connection, "searchable_chunks") == 1, f"seed {seed}: the vector was deleted under its chunk"
    assert len(orders) > INTERLEAVINGS / 3


def test_sweep_in_slabs(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every orphan goes, in however many transactions."""
    model = embedding_models.model_id(connection, CARD)
    for number in range(25):
        connection.execute(
            "INSERT INTO embeddings VALUES (%s, %s, '[1,0,0,0,0,0,0,0]')", (model, text_hash(str(number)))
        )
    monkeypatch.setattr(vectors, "SLAB_VECTORS", 10)
    assert vectors.drop_unused_vectors(connection) == 25
    assert count(connection, "embeddings") == 0


def test_missing_vector_is_found_and_repaired(
    connection: Connection, settings: Settings, source: Path, tmp_path: Path
) -> None:
    """The check names an indexed file with a chunk without a vector; the next catalog queues it; nothing is parsed."""
    (source / "a.txt").write_text("Some words that are embedded.")
    with Sandbox(memory_limit_bytes=2**29) as sandbox:
        pipeline = Pipeline(connection, settings, sandbox)
        assert pipeline.ingest() == (1, 1)
        connection.execute("DELETE FROM embeddings")
        assert reports.inconsistencies(connection) == {"a chunk shown without its vector": 1}
        assert pipeline.ingest() == (0, 1)
    assert status_of(connection, "a.txt") == ("indexed", None)
    assert reports.inconsistencies(connection) == {}
    assert count(connection, "searchable_chunks") == 1
