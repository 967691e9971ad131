"""Documents of every format through the whole pipeline: each is searchable by what is in it, or says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import pytest

from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection, store
from ingest_pipeline.store.server import EmbeddedServer
from ingest_pipeline_tests.conftest import fresh_database
from ingest_pipeline_tests.contents import rows_of, squeezed, text_of
from ingest_pipeline_tests.documents import status_of
from ingest_pipeline_tests.made import epub, office, pdf, records
from ingest_pipeline_tests.made.catalogue import CATALOGUE, Made, content_of
from ingest_pipeline_tests.made.words import UKRAINIAN
from ingest_pipeline_tests.parsers import detect, parse_named
from ingest_pipeline_tests.pipeline import Pipeline
from ingest_pipeline_tests.servers import Seaweed, filesystem

ENDS: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "a text named so.pdf": (lambda: UKRAINIAN.encode(), None),
    "unknown.fuzz": (pdf.book, None),
    "no bytes.pdf": (lambda: b"", "NoText"),
    "space alone.txt": (lambda: b" \n\t ", "NoText"),
    "a scan.pdf": (lambda: pdf.scan(3), "NoText"),
    "pictures.docx": (lambda: office.word("<w:p><w:r><w:drawing/></w:r></w:p>"), "NoText"),
    "locked.pdf": (lambda: pdf.locked("AES-256", user="secret"), "EncryptedDocument"),
    "locked old.pdf": (lambda: pdf.locked("RC4-40", user="secret"), "EncryptedDocument"),
    "locked.docx": (lambda: office.ole("EncryptionInfo", "EncryptedPackage"), "EncryptedDocument"),
    "of 2003.doc": (lambda: office.ole("WordDocument"), "UnsupportedFormat"),
    "a bare.zip": (lambda: office.zipped({"hello.txt": "words"}), "UnsupportedFormat"),
    "packed twice.gz": (lambda: records.packed(records.packed(b"words")), "UnsupportedFormat"),
    "a picture.txt": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(99), "UnsupportedFormat"),
    "no page.pdf": (pdf.missing_kid, "UnreadableDocument"),
    "no catalog.pdf": (lambda: pdf.UNREADABLE["no document catalog"](), "UnreadableDocument"),
    "truncated.docx": (lambda: office.written_word()[:5000], "UnreadableDocument"),
    "truncated.epub": (lambda: content_of("modern.epub")[:900], "UnreadableDocument"),
    "no words.json": (lambda: b"no json", "UnreadableDocument"),
    "a bomb.epub": (lambda: epub.book({"a.xhtml": b"<p>" + b"word " * 4_000_000}), "TooMuchText"),
}
"""A document that is no ordinary one, and the reason of its failure; None: it is read."""


@cache
def made_files() -> dict[str, bytes]:
    """All of them by name."""
    ordinary = {made.name: content_of(made.name) for made in CATALOGUE}
    return ordinary | {name: make() for name, (make, _) in ENDS.items()}


@pytest.fixture(scope="module")
def ingested(server: EmbeddedServer, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A store that holds all of them; the model is a fake, the rest is not."""
    folder, home = tmp_path_factory.mktemp("documents"), tmp_path_factory.mktemp("home")
    for name, content in made_files().items():
        (folder / name).write_bytes(content)
    with fresh_database(server, template) as url, store(url) as connection:
        settings = replace(Settings(), sources=(str(folder),), home=home, database_url=url)
        with Sandbox(memory_limit_bytes=512 * 1024**2, page_seconds=20) as sandbox:
            Pipeline(connection, settings, sandbox).ingest()
        yield connection


@pytest.mark.parametrize("made", CATALOGUE, ids=[made.name for made in CATALOGUE])
def test_parser(made: Made) -> None:
    """A document is recognized, and its parser finds its words, its title, its headings and its last page."""
    content = content_of(made.name)
    assert detect.media_type(made.name, content[: detect.HEAD_BYTES]) == made.media_type
    found = parse_named(made.name, content)
    for phrase in made.phrases:
        assert squeezed(phrase) in squeezed(found.text)
    assert (found.title, found.pages[-1].number, found.gaps) == (made.title, made.pages, [])
    headings = iter(found.outline)
    assert all(heading in headings for heading in made.headings), found.outline


@pytest.mark.parametrize("made", CATALOGUE, ids=[made.name for made in CATALOGUE])
def test_searchable(ingested: Connection, made: Made) -> None:
    """What a reader finds in a document is in its chunks."""
    assert status_of(ingested, made.name) == ("indexed", None)
    for phrase in made.phrases:
        assert squeezed(phrase) in text_of(ingested, made.name)


@pytest.mark.parametrize("name", ENDS)
def test_end(ingested: Connection, name: str) -> None:
    """A document that is no ordinary one is read as far as it can be, or fails with the right reason."""
    reason = ENDS[name][1]
    assert status_of(ingested, name) == (("failed", reason) if reason else ("indexed", None))
    assert bool(text_of(ingested, name)) == (reason is None)


def test_scan_needs_ocr(ingested: Connection) -> None:
    """A scan says what is missing, other documents without text do not."""
    rows = ingested.execute("SELECT path, message FROM file_status WHERE error = 'NoText'").fetchall()
    assert {path: "OCR" in message for path, message in rows} == {
        "a scan.pdf": True, "no bytes.pdf": False, "space alone.txt": False, "pictures.docx": False,
    }  # fmt: skip


def test_all_are_accounted_for(ingested: Connection) -> None:
    """Each file is searchable or failed with a reason; nothing is left over."""
    rows = ingested.execute("SELECT path, status, error FROM file_status").fetchall()
    assert {path for path, _, _ in rows} == {made.name for made in CATALOGUE} | set(ENDS)
    assert {status for _, status, _ in rows} == {"indexed", "failed"}
    assert all(error for _, status, error in rows if status == "failed")


def test_bucket(
    ingested: Connection,
    connection: Connection,
    settings: Settings,
    seaweed: Seaweed,
    bucket: str,
) -> None:
    """The same documents from a bucket give the same rows as from a folder, and a second run finds nothing to do."""
    files = filesystem(seaweed.endpoint)
    for name, content in made_files().items():
        files.call_s3("put_object", Bucket=bucket, Key=f"made/{name}", Body=content)
    there = replace(settings, sources=(f"s3://{bucket}/made",), s3_endpoint=seaweed.endpoint)
    with Sandbox(memory_limit_bytes=512 * 1024**2, page_seconds=20) as sandbox:
        pipeline = Pipeline(connection, there, sandbox)
        pipeline.ingest()
        assert pipeline.ingest() == (0, 0)
    assert rows_of(connection) == rows_of(ingested)
    assert not list((settings.home / "spool").glob("*"))
