"""The whole corpus through the whole pipeline: what somebody who read the files wrote down, file by file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection, store
from ingest_pipeline.store.server import EmbeddedServer
from ingest_pipeline_tests.conftest import WHOLE_PROOF, fresh_database
from ingest_pipeline_tests.contents import rows_of, squeezed, text_of
from ingest_pipeline_tests.expected_documents import BAD, NO_TEXT, PHRASES
from ingest_pipeline_tests.pipeline import Pipeline
from ingest_pipeline_tests.servers import Seaweed, filesystem

LISTS = ("MANIFEST.tsv", "PYPDF_SURVEY.tsv")  # about the corpus, and tables themselves


@pytest.fixture(scope="module")
def ingested(
    server: EmbeddedServer, template: str, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Connection]:
    """A store that holds all of it; the model is a fake, the rest is not."""
    home = tmp_path_factory.mktemp("corpus")
    with fresh_database(server, template) as url, store(url) as connection:
        settings = replace(Settings(), sources=(str(corpus),), home=home, database_url=url)
        with Sandbox(memory_limit_bytes=512 * 1024**2, page_seconds=20) as sandbox:
            Pipeline(connection, settings, sandbox).ingest()
        yield connection


def status_of(connection: Connection, path: str) -> tuple[str, str | None, str | None]:
    row = connection.execute("SELECT status, error, message FROM file_status WHERE path = %s", (path,)).fetchone()
    assert row is not None, f"{path} is not accounted for"
    return row[0], row[1], row[2]


def test_all_are_accounted_for(ingested: Connection, corpus: Path) -> None:
    """Each of the 213 is searchable or failed with a reason; nothing is left over."""
    rows = ingested.execute("SELECT path, status, error FROM file_status").fetchall()
    named = {line.split("\t")[0] for line in (corpus / "MANIFEST.tsv").read_text().splitlines()[1:]}
    assert len(named) == 213
    assert {path for path, _, _ in rows} == named | set(LISTS)
    assert {status for _, status, _ in rows} == {"indexed", "failed"}
    assert all(error for _, status, error in rows if status == "failed")
    assert set(PHRASES) | set(NO_TEXT) | set(BAD) == named


@pytest.mark.parametrize("path", sorted(PHRASES))
def test_searchable(ingested: Connection, path: str) -> None:
    """A phrase of an ordinary file, as somebody read it, is in its chunks."""
    assert status_of(ingested, path)[:2] == ("indexed", None)
    assert squeezed(PHRASES[path]) in text_of(ingested, path)


@pytest.mark.parametrize("path", NO_TEXT)
def test_without_text(ingested: Connection, path: str) -> None:
    """A scan says that it needs OCR; another file without text does not."""
    status, error, message = status_of(ingested, path)
    assert (status, error) == ("failed", "NoText")
    assert ("OCR" in str(message)) == path.endswith(".pdf")


@pytest.mark.parametrize("path", sorted(BAD))
def test_end(ingested: Connection, path: str) -> None:
    """A bad file is read as far as it can be, or fails with the right reason."""
    status, fact = BAD[path]
    assert status_of(ingested, path)[:2] == (status, None if status == "indexed" else fact)
    if status == "indexed":
        assert squeezed(str(fact)) in text_of(ingested, path)


@pytest.mark.proof
@pytest.mark.timeout(1200)
def test_bucket(
    ingested: Connection,
    server: EmbeddedServer,
    template: str,
    corpus: Path,
    seaweed: Seaweed,
    bucket: str,
    tmp_path: Path,
) -> None:
    """The corpus from SeaweedFS, which is killed twice and comes back, gives the same chunks as from a folder."""
    store_ = filesystem(seaweed.endpoint)
    for path in sorted(corpus.rglob("*")):
        if path.is_file() and not left_out(path):
            key = f"corpus/{path.relative_to(corpus)}"
            store_.call_s3("put_object", Bucket=bucket, Key=key, Body=path.read_bytes())
    with fresh_database(server, template) as url, store(url) as connection:
        there = replace(Settings(), sources=(f"s3://{bucket}/corpus",), home=tmp_path, database_url=url)
        kills = [threading.Timer(seconds, interrupted, args=(seaweed,)) for seconds in (3.0, 30.0)]  # scan, parsing
        with Sandbox(memory_limit_bytes=512 * 1024**2, page_seconds=20) as sandbox:
            pipeline = Pipeline(connection, replace(there, s3_endpoint=seaweed.endpoint), sandbox)
            for kill in kills:
                kill.start()
            pipeline.ingest()
            for kill in kills:
                kill.join()
            assert not list((tmp_path / "spool").glob("*"))
            assert pipeline.ingest() == (0, 0)
        same = {path: row for path, row in rows_of(ingested).items() if not left_out(corpus / path)}
        assert len(same) >= 213
        assert rows_of(connection) == same


def left_out(path: Path) -> bool:
    """Whether a file is left to `make proof`: two tables of 74,000 records take longer than all the rest."""
    return not WHOLE_PROOF and path.name in ("tate-simplified_artwork_data.csv", "corpus.jsonl.gz")


def interrupted(seaweed: Seaweed) -> None:
    """A server that is killed, stays away for some seconds and comes back."""
    seaweed.kill()
    time.sleep(3)
    seaweed.start()
