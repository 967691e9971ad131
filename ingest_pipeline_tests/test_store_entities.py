"""Entities in the store: each text has one answer of each model, and goes when no chunk has it any more."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest_pipeline.chunking import text_hash
from ingest_pipeline.models import Entity, RawFile, TextEntities
from ingest_pipeline.search_models import SearchQuery, SearchScope
from ingest_pipeline.store import embedding_models, entities, generations, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.entities import EntityCount, TextCounts
from ingest_pipeline.store.search import search
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder
from ingest_pipeline_tests.documents import add_file, count, files_of, seal, write

MODEL = "en_test-1.0"
ADA, LONDON = Entity("PERSON", 0, 3, "Ada"), Entity("GPE", 4, 10, "London")


def batch_of(connection: Connection, **texts: list[str]) -> tuple[str, dict[str, RawFile]]:
    """A batch of processed files with these chunks."""
    for path in texts:
        add_file(connection, path, version=path)
    batch = seal(connection)
    files = files_of(connection, batch)
    for path, chunks in texts.items():
        write(connection, files[path], chunks, CARD)
    return batch, files_of(connection, batch)


def publish(connection: Connection, file: RawFile) -> None:
    """Show a processed file, without vectors."""
    connection.execute(
        "UPDATE files SET status = 'indexed', generation_id = next_generation_id, next_generation_id = NULL "
        "WHERE file_id = %s",
        (file.file_id,),
    )


def pending(connection: Connection, batch: str, *, limit: int = 100, model: str = MODEL) -> list[str]:
    """The first page of texts that wait."""
    wanted = entities.batch_generations(connection, batch)
    return [chunk.text for chunk in entities.pending_texts(connection, model, wanted, limit=limit)]


def answer(text: str, *found: Entity, skipped: bool = False) -> TextEntities:
    return TextEntities(text_hash(text), found, skipped)


def test_pending_texts(connection: Connection) -> None:
    """Of the files of the batch, each text once, in pages, until a model has answered for it."""
    batch, _ = batch_of(connection, a=["one", "two", "one"], b=["two", "three"])
    assert sorted(pending(connection, batch)) == ["one", "three", "two"]
    assert pending(connection, batch, limit=1) == ["one"]
    entities.write_entities(connection, MODEL, [answer("one", ADA), answer("three", skipped=True)])
    assert pending(connection, batch) == ["two"]
    assert sorted(pending(connection, batch, model="another")) == ["one", "three", "two"]


def test_processed_and_indexed_files(connection: Connection) -> None:
    """Chunks of a file count when they are complete, before and after it is published; those of others do not."""
    batch, files = batch_of(connection, a=["one"], b=["two"], c=["three"])
    publish(connection, files["a"])
    connection.execute("UPDATE files SET status = 'processing' WHERE path = 'c'")
    assert pending(connection, batch) == ["one", "two"]
    connection.execute("UPDATE files SET batch = NULL WHERE path = 'b'")
    assert pending(connection, batch) == ["one"]
    assert entities.batch_generations(connection, "no such batch") == []


def test_answers_add_up(connection: Connection) -> None:
    """A second answer of a model adds what is new in it, and a text that was read is not skipped any more."""
    entities.write_entities(connection, MODEL, [answer("one", skipped=True)])
    for _ in range(2):
        entities.write_entities(connection, MODEL, [answer("one", ADA), answer("one", ADA, LONDON), answer("two")])
    entities.write_entities(connection, MODEL, [answer("one", skipped=True)])
    assert connection.execute("SELECT name FROM entities ORDER BY 1").fetchall() == [("Ada",), ("London",)]
    assert connection.execute("SELECT skipped FROM entity_texts").fetchall() == [(False,), (False,)]


def test_models_have_their_own_answers(connection: Connection) -> None:
    """What an LLM finds stands beside what spaCy found."""
    entities.write_entities(connection, MODEL, [answer("one", ADA)])
    entities.write_entities(connection, "llm", [answer("one", ADA, LONDON, LONDON)])
    assert (count(connection, "entities"), count(connection, "entity_texts")) == (3, 2)


def test_nothing_to_write(connection: Connection) -> None:
    """An empty batch, and texts in which nothing was found."""
    entities.write_entities(connection, MODEL, [])
    entities.write_entities(connection, MODEL, [answer("one"), answer("two", skipped=True)])
    assert (count(connection, "entity_texts"), count(connection, "entities")) == (2, 0)


def test_counts(connection: Connection) -> None:
    """Texts once, entities as often as they stand in a document."""
    batch, _ = batch_of(connection, a=["one", "two"], b=["two", "three", "four"])
    entities.write_entities(
        connection, MODEL, [answer("one", ADA, LONDON), answer("two", ADA), answer("three", skipped=True)]
    )
    assert entities.text_counts(connection, MODEL, batch) == TextCounts(texts=4, skipped=1, waiting=1)
    assert entities.label_counts(connection, MODEL, batch) == {"PERSON": 3, "GPE": 1}
    assert list(entities.label_counts(connection, MODEL, batch)) == ["PERSON", "GPE"]
    assert entities.label_counts(connection, "another", batch) == {}


def test_top_entities(connection: Connection) -> None:
    """The most frequent names of each document; numbers are left out, case alone makes no other name."""
    batch, _ = batch_of(connection, a=["one", "two"], b=["two"])
    upper, year = Entity("GPE", 20, 26, "LONDON"), Entity("DATE", 30, 34, "1843")
    entities.write_entities(connection, MODEL, [answer("one", LONDON, upper, ADA, year), answer("two", LONDON, year)])
    top = entities.top_entities(connection, MODEL, batch, each=5, documents=10)
    assert [(one.path, one.name, one.count) for one in top] == [("a", "London", 3), ("a", "Ada", 1), ("b", "London", 1)]
    assert top[0] == EntityCount("/documents", "a", "GPE", "London", 3)
    assert [one.path for one in entities.top_entities(connection, MODEL, batch, each=1, documents=1)] == ["a"]


@pytest.mark.parametrize(("name", "found"), [("LONDON", True), (" london ", True), ("Lon", False), ("%", False)])
def test_texts_with_an_entity(connection: Connection, name: str, found: bool) -> None:
    """A search for a name finds only passages with the whole name, in any case."""
    batch, files = batch_of(connection, a=["one", "two"])
    entities.write_entities(connection, MODEL, [answer("one", LONDON)])
    model, [generation] = embedding_models.model_id(connection, CARD), entities.batch_generations(connection, batch)
    waiting = vectors.pending_chunks(connection, model, [generation], limit=10)
    vectors.write_vectors(connection, model, waiting, FakeEmbedder().embed([chunk.text for chunk in waiting]))
    publish(connection, files["a"])
    generations.note_model(connection, generation, model)
    vector = FakeEmbedder().embed(["two"])[0]
    hits = search(connection, model, vector, SearchQuery("two", 5, SearchScope(entity=name)))
    assert [hit.text for hit in hits] == (["one"] if found else [])


def test_the_view(connection: Connection) -> None:
    """Readers see the entities of what is published, with offsets in the file's text."""
    _, files = batch_of(connection, a=["one", "two"])
    entities.write_entities(connection, MODEL, [answer("two", LONDON)])
    assert count(connection, "chunk_entities") == 0
    publish(connection, files["a"])
    query = "SELECT path, ordinal, model, label, entity, char_from, char_to FROM chunk_entities"
    assert connection.execute(query).fetchall() == [("a", 1, MODEL, "GPE", "London", 104, 110)]


def test_the_sweep(connection: Connection) -> None:
    """Answers for texts that no chunk has any more go, of every model; the others stay."""
    batch_of(connection, a=["one", "shared"], b=["shared"])
    for model in (MODEL, "llm"):
        entities.write_entities(connection, model, [answer("one", ADA), answer("shared", LONDON)])
    assert entities.drop_unused_entities(connection) == 0
    connection.execute("UPDATE files SET status = 'deleted', next_generation_id = NULL, batch = NULL WHERE path = 'a'")
    assert generations.drop_unused_generations(connection) == 1
    assert entities.drop_unused_entities(connection) == 2
    assert connection.execute("SELECT DISTINCT name FROM entities").fetchall() == [("London",)]
    assert (count(connection, "entity_texts"), count(connection, "entities")) == (2, 2)


def test_the_sweep_goes_in_slabs(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a transaction of its own."""
    monkeypatch.setattr(entities, "SLAB_TEXTS", 3)
    entities.write_entities(connection, MODEL, [answer(str(number), ADA) for number in range(10)])
    batch_of(connection, a=["4"])
    assert entities.drop_unused_entities(connection) == 9
    assert count(connection, "entities") == 1


ENTITIES = st.lists(
    st.builds(
        Entity,
        st.sampled_from(["PERSON", "ORG"]),
        st.integers(0, 50),
        st.integers(51, 99),
        st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=200),
    ),
    max_size=5,
)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.dictionaries(st.text("abc", min_size=1, max_size=3), ENTITIES, max_size=5))
def test_what_is_written_is_read(connection: Connection, found: dict[str, list[Entity]]) -> None:
    """Any names, once for each place and label."""
    connection.execute("TRUNCATE entities, entity_texts")
    entities.write_entities(connection, MODEL, [answer(text, *rows) for text, rows in found.items()])
    stored = connection.execute("SELECT text_hash, label, char_from, char_to, name FROM entities").fetchall()
    places = {(text_hash(text), row.label, row.char_from, row.char_to) for text, rows in found.items() for row in rows}
    assert {row[:4] for row in stored} == places
    assert len(stored) == len(places)
    names = {(text_hash(text), row.name) for text, rows in found.items() for row in rows}
    assert {(row[0], row[4]) for row in stored} <= names
