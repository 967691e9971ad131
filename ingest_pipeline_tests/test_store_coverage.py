"""What an answer covers is counted from the ledger, exactly, in every scope."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_pipeline.search_models import Coverage, SearchQuery, SearchScope
from ingest_pipeline.store import embedding_models, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.coverage import coverage
from ingest_pipeline_tests.conftest import CARD, FakeEmbedder
from ingest_pipeline_tests.documents import add_file
from ingest_pipeline_tests.filling import publish

STATUSES = ("synced", "processing", "processed", "indexed", "failed", "deleted")
FILES = st.lists(
    st.tuples(
        st.sampled_from(["/one", "/two"]), st.sampled_from(["a/", "b/"]), st.sampled_from(STATUSES), st.booleans(),
        st.integers(0, 3),
    ),
    max_size=12,
)  # fmt: skip


def covered(connection: Connection, text: str = "", *, model: int | None = None, **scope: Any) -> Coverage:
    return coverage(connection, SearchQuery(text, 5, SearchScope(**scope)), model=model)


def test_an_empty_store_covers_nothing(connection: Connection) -> None:
    """No file, no count, no name."""
    assert covered(connection, "words") == Coverage()


def test_failed_names_that_match(connection: Connection) -> None:
    """Failed files whose names have a word of the query are named, three at most; others are only counted."""
    for number in range(5):
        add_file(connection, f"invoices/2024-{number}.pdf")
    add_file(connection, "menu.pdf")
    connection.execute("UPDATE files SET status = 'failed', error = 'NoText'")
    counted = covered(connection, "Where are the invoices of the bakery?")
    assert (counted.files, counted.failed, counted.failed_matching) == (6, 6, 5)
    assert counted.failed_names == ("invoices/2024-0.pdf", "invoices/2024-1.pdf", "invoices/2024-2.pdf")
    assert "5 failed files' names match your words (invoices/2024-0.pdf, " in counted.sentence
    assert covered(connection, "the of and").failed_matching == 0


def test_deferred_files_are_not_searched(connection: Connection, embedder: FakeEmbedder) -> None:
    """A file whose vectors are made on demand is shown, and not searchable yet; nor is one under another model."""
    publish(connection, embedder, "a.txt", ["one"])
    publish(connection, embedder, "b.txt", ["two"])
    model, other = (embedding_models.model_id(connection, card) for card in (CARD, CARD_OF_OTHER))
    assert (covered(connection).searched, covered(connection, model=model).searched) == (2, 2)
    assert covered(connection, model=other).searched == 0
    generation = connection.execute("SELECT generation_id FROM files WHERE path = 'b.txt'").fetchone()
    assert generation is not None
    connection.execute("DELETE FROM generation_models WHERE generation_id = %s", generation)
    connection.execute("DELETE FROM embeddings USING chunks WHERE generation_id = %s AND "
                       "embeddings.text_hash = chunks.text_hash", generation)  # fmt: skip
    vectors.defer_texts(connection, model, generation[0])
    counted = covered(connection)
    assert (counted.files, counted.searched, counted.waiting) == (2, 1, 1)


CARD_OF_OTHER = CARD.__class__("other", "e" * 64, 4, 100, tokenizer="t" * 64)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(files=FILES, scope=st.sampled_from([{}, {"source": "/one"}, {"path": "a/"}, {"source": "/two", "path": "*/1*"}]))
def test_counts_are_exact(
    connection: Connection, embedder: FakeEmbedder, files: list[Any], scope: dict[str, str]
) -> None:
    """Every count is that of the rows of the ledger, one by one."""
    connection.execute("TRUNCATE files, generations, batches CASCADE")
    expected = dict.fromkeys(("files", "searched", "waiting", "failed", "outdated", "pages", "gaps"), 0)
    for number, (source, folder, status, shown, gaps) in enumerate(files):
        path = f"{folder}{number}.txt"
        publish(connection, embedder, path, [f"text {source} {path}"], source=source)
        shown = (shown or status == "indexed") and status != "deleted"
        gap = json.dumps([{"page_from": 2, "page_to": 2 + at, "reason": "r"} for at in range(gaps)])
        connection.execute(
            "UPDATE files SET status = %s, gaps = %s, generation_id = CASE WHEN %s THEN generation_id END"
            " WHERE source = %s AND path = %s",
            (status, gap, shown, source, path),
        )
        if status == "deleted" or not _is_in(scope, source, path):
            continue
        expected["files"] += 1
        expected["searched"] += shown
        expected["failed"] += not shown and status == "failed"
        expected["waiting"] += not shown and status != "failed"
        expected["outdated"] += shown and status != "indexed"
        expected["gaps"] += shown and gaps > 0
        expected["pages"] += sum(range(1, gaps + 1)) if shown else 0
    counted = covered(connection, **scope)
    assert counted == Coverage(
        expected["files"], expected["searched"], expected["waiting"], expected["failed"], expected["outdated"],
        expected["pages"], expected["gaps"],
    )  # fmt: skip


def _is_in(scope: dict[str, str], source: str, path: str) -> bool:
    matches = (
        path.split("/")[1].startswith("1") if "*" in scope.get("path", "") else path.startswith(scope.get("path", ""))
    )
    return matches and scope.get("source", source) == source


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        (Coverage(1, 1), "searched 1 of 1 file in this scope"),
        (Coverage(3, 1, 1, 1, 1, 1, 1), "searched 1 of 3 files in this scope; 1 not searchable yet; 1 failed; "
                                        "1 in an older version; 1 unreadable page in 1 file"),
        (Coverage(1, 0, 0, 1, failed_matching=1, failed_names=("a",)),
         "searched 0 of 1 file in this scope; 1 failed; 1 failed file's name matches your words (a)"),
    ],
)  # fmt: skip
def test_the_sentence(counts: Coverage, sentence: str) -> None:
    """The counts for people; what is zero is not said."""
    assert counts.sentence == sentence
