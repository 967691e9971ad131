"""Chunks, vectors and search: written bit by bit, shown all at once, each text embedded once."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from ingest_pipeline.chunking import text_hash
from ingest_pipeline.models import Checkpoint, Gap, ParsedFile, RawFile
from ingest_pipeline.search_models import SearchQuery
from ingest_pipeline.store import embedding_models, generations, reports, vectors
from ingest_pipeline.store.connection import Connection, store
from ingest_pipeline.store.search import search
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder
from ingest_pipeline_tests.documents import FINGERPRINT, add_file, chunk, count, files_of, seal, write


def publishes(connection: Connection, file: RawFile, generation: generations.Generation) -> bool:
    model = model_of(connection)
    return generations.publish_file(connection, file, generation, fingerprint=FINGERPRINT, model=model)


def model_of(connection: Connection) -> int:
    return embedding_models.model_id(connection, CARD)


def embed(connection: Connection, generation: generations.Generation, embedder: FakeEmbedder) -> int:
    model = embedding_models.model_id(connection, CARD)
    pending = vectors.pending_chunks(connection, model, [generation.generation_id], limit=1000)
    if pending:
        vectors.write_vectors(connection, model, pending, embedder.embed([chunk.text for chunk in pending]))
    return len(pending)


def publish(connection: Connection, embedder: FakeEmbedder, path: str, version: str, texts: list[str]) -> RawFile:
    add_file(connection, path, version)
    file = files_of(connection, seal(connection))[path]
    generation = write(connection, file, texts, CARD)
    embed(connection, generation, embedder)
    assert publishes(connection, file, generation)
    return file


def shown(connection: Connection) -> list[str]:
    return [text for (text,) in connection.execute("SELECT text FROM searchable_chunks ORDER BY path, ordinal")]


def test_the_old_version_answers_meanwhile(connection: Connection, embedder: FakeEmbedder) -> None:
    """The old version answers until the last vector of the new one is in: no reader sees half a document, or none."""
    publish(connection, embedder, "a.txt", "v1", ["old one", "old two"])
    add_file(connection, "a.txt", "v2")
    file = files_of(connection, seal(connection))["a.txt"]
    generation = write(connection, file, ["new one"], CARD)
    assert shown(connection) == ["old one", "old two"]
    embed(connection, generation, embedder)
    assert shown(connection) == ["old one", "old two"]
    publishes(connection, file, generation)
    assert shown(connection) == ["new one"]
    assert count(connection, "chunks") == 1


def test_a_changed_file_is_not_published(connection: Connection, embedder: FakeEmbedder) -> None:
    """Publishing a file that changed meanwhile does nothing and says so."""
    add_file(connection, "a.txt", "v1")
    file = files_of(connection, seal(connection))["a.txt"]
    generation = write(connection, file, ["text"], CARD)
    embed(connection, generation, embedder)
    add_file(connection, "a.txt", "v2")
    assert not publishes(connection, file, generation)
    assert shown(connection) == []


def test_a_text_is_embedded_once(connection: Connection, embedder: FakeEmbedder) -> None:
    """Two files and two chunks of one file with one text: one vector, one request to the model."""
    publish(connection, embedder, "a.txt", "v1", ["same", "same", "mine"])
    publish(connection, embedder, "b.txt", "v2", ["same", "other"])
    assert sorted(embedder.asked) == ["mine", "other", "same"]
    assert count(connection, "embeddings") == 3
    assert count(connection, "searchable_chunks") == 5


def test_no_publishing_without_all_vectors(connection: Connection) -> None:
    """Publishing looks by itself: no caller can show a document without all its vectors."""
    add_file(connection, "a.txt")
    file = files_of(connection, seal(connection))["a.txt"]
    generation = write(connection, file, ["text"], CARD)
    assert not publishes(connection, file, generation)


def test_shared_chunks_stay(connection: Connection, embedder: FakeEmbedder) -> None:
    """Equal bytes at two paths share a generation; one of them changing leaves the other alone."""
    publish(connection, embedder, "a.txt", "v1", ["shared"])
    publish(connection, embedder, "b.txt", "v1", ["shared"])
    publish(connection, embedder, "a.txt", "v2", ["new"])
    assert shown(connection) == ["new", "shared"]


def test_work_goes_on_at_the_checkpoint(connection: Connection) -> None:
    """After a kill, work goes on at the checkpoint; what came behind it is dropped, what came before stays."""
    add_file(connection, "a.txt")
    file = files_of(connection, seal(connection))["a.txt"]
    with generations.claimed_generation(connection, file, fingerprint=FINGERPRINT, card=CARD) as generation:
        rows = [(chunk(number, f"text {number}"), text_hash(f"text {number}")) for number in range(5)]
        generations.write_chunks(
            connection, generation, rows, checkpoint=Checkpoint(2, 200, 3), gaps=[Gap(1, 1, "damaged")],
            warnings=["guessed"],
        )  # fmt: skip
    with generations.claimed_generation(connection, file, fingerprint=FINGERPRINT, card=CARD) as again:
        assert again.checkpoint == Checkpoint(2, 200, 3)
        assert (again.gaps, again.warnings) == ((Gap(1, 1, "damaged"),), ("guessed",))
        assert generations.resume_generation(connection, again) == (Checkpoint(2, 200, 3), [])
    ordinals = [ordinal for (ordinal,) in connection.execute("SELECT ordinal FROM chunks ORDER BY 1")]
    assert ordinals == [0, 1, 2]


def test_the_same_bytes_are_parsed_once(url: str, connection: Connection) -> None:
    """Two runs with equal bytes: the second parses nothing."""
    add_file(connection, "a.txt")
    file = files_of(connection, seal(connection))["a.txt"]
    seen = []

    def second() -> None:
        with (
            store(url) as other,
            generations.claimed_generation(other, file, fingerprint=FINGERPRINT, card=CARD) as found,
        ):
            seen.append(found.complete)

    with generations.claimed_generation(connection, file, fingerprint=FINGERPRINT, card=CARD) as generation:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(timeout=0.5)
        assert thread.is_alive(), "the second did not wait"
        generations.complete_generation(connection, generation, ParsedFile(pages=1))
    thread.join(timeout=10)
    assert seen == [True]


def test_pending_chunks_come_in_slices(connection: Connection, embedder: FakeEmbedder) -> None:
    """Keyset slices walk through a generation; texts with a vector are left out."""
    add_file(connection, "a.txt")
    file = files_of(connection, seal(connection))["a.txt"]
    generation = write(connection, file, [f"text {number % 7}" for number in range(20)], CARD)
    model, last, found = embedding_models.model_id(connection, CARD), None, []
    while slice_ := vectors.pending_chunks(connection, model, [generation.generation_id], after=last, limit=6):
        vectors.write_vectors(connection, model, slice_, embedder.embed([chunk.text for chunk in slice_]))
        found += [chunk.text for chunk in slice_]
        last = slice_[-1]
    assert sorted(found) == sorted({f"text {number % 7}" for number in range(20)})
    assert vectors.pending_chunks(connection, model, [generation.generation_id], limit=1) == []


@pytest.mark.parametrize("indexed", [False, True])
def test_search_finds_the_nearest_first(connection: Connection, embedder: FakeEmbedder, indexed: bool) -> None:
    """The vector of a text finds that text first, with a cosine of 1, with and without an index."""
    texts = [f"text number {number}" for number in range(300)]
    publish(connection, embedder, "a.txt", "v1", texts)
    if indexed:
        vectors.ensure_index(connection, embedding_models.model_id(connection, CARD), CARD.dimension)
        vectors.vacuum(connection)
    vector = embedder.embed(["text number 123"])[0]
    hits = search(connection, model_of(connection), vector, SearchQuery("", 5))
    assert hits[0].text == "text number 123"
    assert hits[0].vector_score == pytest.approx(1.0, abs=0.001)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len(hits) == 5


def test_search_among_dead_rows(connection: Connection, embedder: FakeEmbedder) -> None:
    """Three whole replaces without VACUUM: `top=20` still is 20 (docs/findings.md, B saw 10)."""
    vectors.ensure_index(connection, embedding_models.model_id(connection, CARD), CARD.dimension)
    for version in range(4):
        publish(
            connection,
            embedder,
            "a.txt",
            f"v{version}",
            [f"{version} text {number}" for number in range(200)],
        )
    vector = embedder.embed(["0 text 5"])[0]
    hits = search(connection, model_of(connection), vector, SearchQuery("", 20))
    assert len(hits) == 20
    assert {hit.text[0] for hit in hits} == {"3"}


def test_a_copied_sentence_comes_first(connection: Connection, embedder: FakeEmbedder) -> None:
    """Who pastes a sentence wants the place it is from, line breaks or not."""
    publish(connection, embedder, "a.txt", "v1", ["Nothing of\nthe kind was ever\nsaid here.", *"abcdefgh"])
    hits = search(
        connection, model_of(connection), embedder.embed(["x"])[0], SearchQuery("Nothing of the kind was ever said", 3)
    )
    assert hits[0].text.startswith("Nothing")


def test_every_place_of_a_text_is_found(connection: Connection, embedder: FakeEmbedder) -> None:
    """One text in two files: one hit that names both places."""
    publish(connection, embedder, "a.txt", "v1", ["same"])
    publish(connection, embedder, "b.txt", "v2", ["same"])
    [hit] = search(connection, model_of(connection), embedder.embed(["same"])[0], SearchQuery("", 5))
    assert (hit.path, hit.places, [place.path for place in hit.also_at]) == ("a.txt", 2, ["b.txt"])


def test_models_keep_to_themselves(connection: Connection, embedder: FakeEmbedder) -> None:
    """A query by a model that embedded nothing finds nothing, whatever others embedded."""
    publish(connection, embedder, "a.txt", "v1", ["text"])
    other = embedding_models.model_id(connection, replace(CARD, identity="e" * 64, dimension=4))
    assert search(connection, other, np.array([1, 0, 0, 0], dtype=np.float32), SearchQuery("", 5)) == []


def test_crooked_vectors_are_counted(connection: Connection, embedder: FakeEmbedder) -> None:
    """The unit-norm check sees a vector whose length is not 1."""
    publish(connection, embedder, "a.txt", "v1", ["text"])
    model = embedding_models.model_id(connection, CARD)
    assert vectors.not_unit_norm(connection, model) == 0
    connection.execute("UPDATE embeddings SET embedding = '[2,0,0,0,0,0,0,0]'")
    assert vectors.not_unit_norm(connection, model) == 1


def test_inconsistencies_are_named(connection: Connection, embedder: FakeEmbedder) -> None:
    """A ledger in order has none; a chunk without its vector and a file that shows other bytes are named."""
    publish(connection, embedder, "a.txt", "v1", ["text"])
    assert reports.inconsistencies(connection) == {}
    connection.execute("DELETE FROM embeddings")
    connection.execute("UPDATE files SET version = 'other'")
    assert reports.inconsistencies(connection) == {
        "indexed, but shows other bytes": 1,
        "a chunk shown without its vector": 1,
    }


def test_files_are_listed_in_pages(connection: Connection) -> None:
    """More rows than one page come in order, each once."""
    for number in range(reports.PAGE_ROWS + 3):
        add_file(connection, f"{number:05d}.txt", version=str(number))
    paths = [row["path"] for row in reports.files(connection)]
    assert paths == sorted(set(paths))
    assert len(paths) == reports.PAGE_ROWS + 3
    assert list(reports.files(connection, status="failed")) == []


def test_two_make_one_index(url: str, connection: Connection) -> None:
    """Two `ingest run` at once may both find that a model has no index: the second waits, and then finds it made."""
    model, errors = embedding_models.model_id(connection, CARD), list[Exception]()

    def second() -> None:
        try:
            with store(url) as other:
                vectors.ensure_index(other, model, CARD.dimension)
        except Exception as error:
            errors.append(error)

    with connection.transaction():
        vectors.ensure_index(connection, model, CARD.dimension)
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(timeout=0.5)
        assert thread.is_alive(), "the second did not wait"
    thread.join(timeout=30)
    assert errors == []
