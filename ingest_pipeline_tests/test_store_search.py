"""Hybrid search: two arms, one order; scopes; places, neighbours and marks; the same from SQL."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_pipeline.models import Section
from ingest_pipeline.search_models import SearchHit, SearchQuery, SearchScope
from ingest_pipeline.store import embedding_models, vectors
from ingest_pipeline.store.connection import Connection, scalar
from ingest_pipeline.store.search import search
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder
from ingest_pipeline_tests.filling import publish

BREAD = "The steam boxes of the oven are descaled every six weeks, and this is done on a Monday when it is cold."
ROLLS = "The rolls are baked in the oven for as long as it takes, and then they are put on the shelf by the baker."
NIGHT = "The night shift is at work from ten to six, and it has the keys to the door of the store that is locked."
VAGUE = np.zeros(8, dtype=np.float32)
VAGUE[0] = 1.0


def found(
    connection: Connection, text: str, *, vector: np.ndarray | None = None, top: int = 5, **scope: Any
) -> list[SearchHit]:
    model = embedding_models.model_id(connection, CARD)
    return search(connection, model, vector, SearchQuery(text, top, SearchScope(**scope)))


def paths(hits: list[SearchHit]) -> list[str]:
    return [hit.path for hit in hits]


@pytest.fixture
def filled(connection: Connection, embedder: FakeEmbedder) -> Connection:
    """Three files of one chunk each."""
    for path, text in (("bread.txt", BREAD), ("rolls.txt", ROLLS), ("night.txt", NIGHT)):
        publish(connection, embedder, path, [text])
    return connection


def test_words_find_their_text(filled: Connection) -> None:
    """The text with the rarest words of the query comes first; one word of many is enough."""
    assert paths(found(filled, "How often must the boxes be descaled, with which acid?")) == ["bread.txt"]
    assert paths(found(filled, "oven descaling"))[0] == "bread.txt"
    assert found(filled, "vinegar") == []


def test_stop_words_alone_find_nothing(filled: Connection) -> None:
    """A query of stop words, of signs, or of nothing has no words."""
    for text in ("the of and", "???", "", "   "):
        assert found(filled, text) == []


def test_a_copied_sentence_is_first(filled: Connection, embedder: FakeEmbedder) -> None:
    """Who pastes a sentence wants the place it is from, whatever the vector says."""
    hits = found(filled, "this is done on a Monday when it is cold", vector=embedder.embed([NIGHT])[0])
    assert {hit.path for hit in hits[:2]} == {"bread.txt", "night.txt"}
    assert hits[0].path == "bread.txt"


def test_both_arms_are_fused(filled: Connection, embedder: FakeEmbedder) -> None:
    """A text that both arms name comes before one that only one names, and says what each thinks of it."""
    [first, *_] = found(filled, "rolls on the shelf", vector=embedder.embed([ROLLS])[0])
    assert (first.path, first.score) == ("rolls.txt", pytest.approx(1 / 61 + 1.5 / 61))
    assert first.vector_score == pytest.approx(1, abs=0.001)
    assert first.lexical_score is not None and first.lexical_score > 0


def test_a_hundred_words(filled: Connection) -> None:
    """A query of hundreds of words is answered, and words that no text has do not count."""
    assert paths(found(filled, " ".join(f"word{number}" for number in range(400)) + " descaled"))[:1] == ["bread.txt"]


def test_a_foreign_query(connection: Connection, embedder: FakeEmbedder) -> None:
    """Texts of another language than the query's are left to the vectors; those without a known one are not."""
    publish(connection, embedder, "de.txt", ["Das System ist alt, und die Wartung ist nicht von der Firma."])
    publish(connection, embedder, "en.txt", ["The system is old, and the upkeep of it is not by the firm."])
    publish(connection, embedder, "list.txt", ["system 4711"])
    assert paths(found(connection, "what is the system of the firm")) == ["en.txt", "list.txt"]
    assert set(paths(found(connection, "system firm"))) == {"de.txt", "en.txt", "list.txt"}


def test_chinese_is_found(connection: Connection, embedder: FakeEmbedder) -> None:
    """Words of a script without spaces are found wherever they stand, and are marked."""
    publish(connection, embedder, "zh.txt", ["黑豹队的防守只丢了308分，在联赛中排名第六。", "今天天气很好。"])
    [hit] = found(connection, "联赛排名")
    assert [hit.text[begin:end] for begin, end in hit.marks] == ["联赛", "排名"]


def test_marks_show_the_stems(filled: Connection) -> None:
    """Other forms of a word are marked, as they are written; words of the rest are not."""
    [hit, *_] = found(filled, "descaling box")
    assert [hit.text[begin:end] for begin, end in hit.marks] == ["boxes", "descaled"]


def test_neighbours_come_along(connection: Connection, embedder: FakeEmbedder) -> None:
    """`context` brings the chunks before and after a hit, in order, within the file."""
    publish(connection, embedder, "a.txt", [f"chunk about topic{number}" for number in range(5)])
    model = embedding_models.model_id(connection, CARD)
    [hit] = search(connection, model, None, SearchQuery("topic1", 1, context=2))
    assert hit.before == ("chunk about topic0",)
    assert hit.after == ("chunk about topic2", "chunk about topic3")


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"source": "/documents"}, {"a/one.pdf", "a/two.txt", "b/one.pdf"}),
        ({"source": "/other"}, set()),
        ({"path": "a/"}, {"a/one.pdf", "a/two.txt"}),
        ({"path": "*/one.*"}, {"a/one.pdf", "b/one.pdf"}),
        ({"path": "?/two.txt"}, {"a/two.txt"}),
        ({"path": "a/one_pdf"}, set()),
        ({"path": "100%"}, set()),
        ({"path": "a'; DROP TABLE files; --"}, set()),
        ({"media_type": "application/pdf"}, {"a/one.pdf", "b/one.pdf"}),
        ({"media_type": "text/*"}, {"a/two.txt"}),
        ({"page_from": 2}, {"a/one.pdf", "a/two.txt", "b/one.pdf"}),
        ({"page_from": 3}, set()),
        ({"page_to": 1}, {"a/one.pdf", "a/two.txt", "b/one.pdf"}),
        ({"section": "STEAM"}, {"a/one.pdf"}),
        ({"section": "%"}, set()),
        ({"since": datetime.now(UTC) - timedelta(days=1)}, {"a/one.pdf", "a/two.txt", "b/one.pdf"}),
        ({"until": datetime.now(UTC) - timedelta(days=1)}, set()),
        ({"batch": "no-such-batch"}, set()),
        ({"path": "a/", "media_type": "application/pdf", "section": "care"}, {"a/one.pdf"}),
    ],
)
def test_scopes(connection: Connection, embedder: FakeEmbedder, scope: dict[str, Any], expected: set[str]) -> None:
    """Each field of a scope lets in what it says, for both arms alike."""
    section = [Section(0, 1, "Steam care", "Steam care", 1, 2)]
    publish(connection, embedder, "a/one.pdf", ["oven one", "oven two"], media_type="application/pdf", sections=section)
    publish(connection, embedder, "a/two.txt", ["oven three", "oven four"])
    publish(connection, embedder, "b/one.pdf", ["oven five", "oven six"], media_type="application/pdf")
    assert set(paths(found(connection, "oven", top=20, **scope))) == expected
    assert set(paths(found(connection, "", vector=VAGUE, top=20, **scope))) == expected


FILES = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c/d"]), st.lists(st.sampled_from(["oven", "roll"]), min_size=1, max_size=4)),
    min_size=1, max_size=6,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(files=FILES, folder=st.sampled_from(["a", "b", "c", "c/d", ""]), top=st.integers(1, 8))
def test_a_scope_never_comes_short(
    connection: Connection, files: list[tuple[str, list[str]]], folder: str, top: int
) -> None:
    """A scope gets as many of its nearest texts, in the same order, as an exact search of it has."""
    embedder, model, source = FakeEmbedder(), embedding_models.model_id(connection, CARD), f"/{uuid.uuid4()}"
    texts = []
    for number, (place, words) in enumerate(files):
        chunks = [f"{word} {source} {number} {at}" for at, word in enumerate(words)]
        publish(connection, embedder, f"{place}/{number}.txt", chunks, source=source)
        texts += chunks if f"{place}/".startswith(folder) else []
    vectors.ensure_index(connection, model, CARD.dimension)
    nearest = sorted(texts, key=lambda text: -float(embedder.embed([text])[0] @ VAGUE))
    hits = found(connection, "", vector=VAGUE, top=top, source=source, path=folder)
    assert [hit.text for hit in hits] == nearest[:top]


def test_the_index_goes_on(connection: Connection, embedder: FakeEmbedder) -> None:
    """Where a scope is too large for an exact search, the index goes on until it has enough that meet it."""
    take_few_for_many(connection, "nearest_texts")
    for number in range(40):
        publish(connection, embedder, f"{number % 8}/{number}.txt", [f"text {number} {at}" for at in range(25)])
    vectors.ensure_index(connection, embedding_models.model_id(connection, CARD), CARD.dimension)
    vectors.vacuum(connection)
    hits = found(connection, "", vector=VAGUE, top=100, path="3/")
    assert len(hits) == 100
    assert len(found(connection, "", vector=VAGUE, top=200, path="3/")) == 125, "all that there are"


def test_few_and_many_give_the_same(connection: Connection, embedder: FakeEmbedder) -> None:
    """Words are found alike whether the texts of a scope are read one by one or asked for by the index."""
    random = np.random.default_rng(3)
    vocabulary = [f"word{number}" for number in range(60)]
    for number in range(30):
        texts = [" ".join(random.choice(vocabulary, 12)) for _ in range(5)]
        publish(connection, embedder, f"{number % 3}/{number}.txt", texts)
    queries = [" ".join(random.choice(vocabulary, 4)) for _ in range(10)]
    one_by_one = [found(connection, query, top=10, path="1/") for query in queries]
    take_few_for_many(connection, "lexical_texts")
    assert [found(connection, query, top=10, path="1/") for query in queries] == one_by_one
    assert all(one_by_one)


def take_few_for_many(connection: Connection, function: str) -> None:
    """Make a function take every scope for one with many chunks."""
    definition = str(scalar(connection, "SELECT pg_get_functiondef(%s::regproc)", (function,)))
    assert "few constant integer := 10000" in definition
    connection.execute(definition.replace("integer := 10000", "integer := 0").encode())


def test_the_function_for_sql(filled: Connection, embedder: FakeEmbedder) -> None:
    """`search_chunks` gives other languages the same hits: by words, by an embedding, and in a scope."""
    vector = "[" + ",".join(map(str, embedder.embed([ROLLS])[0])) + "]"
    rows = filled.execute(
        "SELECT path, score FROM search_chunks('rolls on the shelf', %s::vector, 3)", (vector,)
    ).fetchall()
    hits = found(filled, "rolls on the shelf", vector=embedder.embed([ROLLS])[0], top=3)
    assert rows == [(hit.path, pytest.approx(hit.score)) for hit in hits]
    assert filled.execute("SELECT path, places FROM search_chunks('oven', path => 'bread*')").fetchall() == [
        ("bread.txt", 1)
    ]
    assert filled.execute("SELECT count(*) FROM search_chunks('oven', model => 'no such model')").fetchone() == (0,)
