"""What formats bring to the stages: sections, gaps and records through kills, passwords, buckets."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.errors import SourceUnavailable, StoreUnavailable
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages import chunks
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.documents import count, status_of
from ingest_pipeline_tests.pipeline import Pipeline
from ingest_pipeline_tests.servers import FaultProxy, Seaweed, filesystem


@pytest.fixture
def pipeline(connection: Connection, settings: Settings) -> Iterator[Pipeline]:
    with Sandbox(memory_limit_bytes=512 * 1024**2) as sandbox:
        yield Pipeline(connection, settings, sandbox)


def stored(connection: Connection) -> tuple[list[Any], list[Any], list[Any]]:
    """Chunks with their sections, sections, and gaps."""
    rows = connection.execute(
        "SELECT path, ordinal, text, page_from, section, section_path FROM searchable_chunks ORDER BY path, ordinal"
    )
    sections = connection.execute("SELECT * FROM document_sections ORDER BY path, section").fetchall()
    return rows.fetchall(), sections, connection.execute("SELECT path, gaps FROM file_status ORDER BY path").fetchall()


def write_book(source: Path) -> None:
    """A Markdown book of 60 nested sections, and a table with a damaged line in its first hundred."""
    parts = (f"{'#' * (1 + n % 3)} Section {n}\n\n{f'Words of section {n}. ' * 60}\n\n" for n in range(60))
    (source / "book.md").write_text("".join(parts))
    records = [f'{{"id": {n}, "text": "record number {n}"}}' for n in range(350)]
    records[4] = "torn"
    (source / "records.jsonl").write_text("\n".join(records))


def test_a_resumed_file_is_as_in_one_go(
    pipeline: Pipeline, source: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at its third write, twice: chunks, sections and gaps are the same as in one go."""
    monkeypatch.setattr(chunks, "WRITE_CHUNKS", 20)
    write_book(source)
    pipeline.scan()
    [key] = pipeline.seal().batches
    real, left = chunks.generations.write_chunks, [3, 4, 6, 10]

    def dying(*arguments: Any, **more: Any) -> None:
        real(*arguments, **more)
        left[0] -= 1
        if not left[0]:
            left.pop(0)
            raise StoreUnavailable("killed")

    monkeypatch.setattr(chunks.generations, "write_chunks", dying)
    kills = 0
    while True:
        run = pipeline.run(key)
        try:
            pipeline.chunk(run)
        except StoreUnavailable:
            kills += 1
            if len(left) == 1:
                monkeypatch.setattr(chunks.generations, "write_chunks", real)
            continue
        break
    assert kills == 3
    pipeline.embed(run)
    interrupted = stored(connection)
    assert [gap["reason"] for gap in dict(interrupted[2])["records.jsonl"]] == [
        "record 5: not JSON: invalid literal, expected 'true'"
    ]
    connection.execute("UPDATE files SET generation_id = NULL, status = 'synced', batch = NULL, fingerprint = NULL")
    connection.execute("DELETE FROM generations")
    pipeline.ingest()
    assert stored(connection) == interrupted


def test_sections_have_pages_and_chunks(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """Each chunk names the section that it begins in; a section, its pages."""
    text = "words " * 100
    (source / "a.md").write_text(f"# One\n\n{text}\n\n## Two\n\n{text}\n\n# Three\n\n{text}\n")
    pipeline.ingest()
    rows, sections, _ = stored(connection)
    assert [section[3:] for section in sections] == [
        (0, 1, "One", "One", 1, 2), (1, 2, "Two", "One › Two", 2, 2), (2, 1, "Three", "Three", 3, 3),
    ]  # fmt: skip
    assert [row[5] for row in rows if row[2].startswith("#")] == ["One", "One › Two", "Three"]


def test_only_changed_records_are_embedded(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """Vectors belong to texts: one edited row is one text."""
    rows = [f"{number},title {number},text of {number}" for number in range(120)]
    (source / "a.csv").write_text("id,title,text\n" + "\n".join(rows))
    assert pipeline.ingest() == (1, 120)
    rows[50] = "50,another title,text of 50"
    (source / "a.csv").write_text("id,title,text\n" + "\n".join([*rows, "200,new,row"]))
    assert pipeline.ingest() == (1, 2)
    assert count(connection, "searchable_chunks") == 121
    assert {row[0] for row in connection.execute("SELECT heading FROM searchable_chunks")} >= {"50", "200"}


def test_a_password_opens_a_locked_pdf(
    pipeline: Pipeline, source: Path, corpus: Path, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """A locked PDF is tried again when there is a new password, and only then; the password is nowhere to be found."""
    caplog.set_level("DEBUG")
    (source / "a.pdf").write_bytes((corpus / "bad" / "libreoffice-writer-password.pdf").read_bytes())
    pipeline.ingest()
    assert status_of(connection, "a.pdf") == ("failed", "EncryptedDocument")
    assert pipeline.seal().batches == ()
    pipeline.settings = replace(pipeline.settings, pdf_passwords=("wrong-one",))
    pipeline.ingest()
    assert status_of(connection, "a.pdf") == ("failed", "EncryptedDocument")
    pipeline.scan()
    assert pipeline.seal().batches == ()
    pipeline.settings = replace(pipeline.settings, pdf_passwords=("wrong-one", "openpassword"))
    pipeline.ingest()
    assert status_of(connection, "a.pdf") == ("indexed", None)
    kept = str(connection.execute("SELECT f.*, a.* FROM files f JOIN attempts a USING (file_id)").fetchall())
    assert "openpassword" not in kept + caplog.text


def test_a_name_that_lies_is_a_warning(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """The bytes are read for what they are."""
    (source / "a.pdf").write_text("Plain words in a file that is called a PDF.")
    pipeline.ingest()
    assert status_of(connection, "a.pdf") == ("indexed", None)
    [(warnings,)] = connection.execute("SELECT warnings FROM file_status").fetchall()
    assert warnings == ["named like application/pdf, but holds text/plain: read as that"]


def test_a_printed_page_number_is_kept(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """Roman numerals in front, numbers that start again at 1."""
    from pypdf import PdfReader, PdfWriter
    from pypdf.constants import PageLabelStyle

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(three_pages())))
    writer.set_page_label(0, 1, style=PageLabelStyle.LOWERCASE_ROMAN)
    writer.set_page_label(2, 2, style=PageLabelStyle.DECIMAL)
    writer.write(source / "a.pdf")
    pipeline.ingest()
    rows = connection.execute(
        "SELECT DISTINCT page_from, page_label FROM searchable_chunks ORDER BY page_from"
    ).fetchall()
    assert rows == [(1, "i"), (2, "ii"), (3, "1")]


def three_pages() -> bytes:
    """A PDF of three pages with a line each."""
    from ingest_pipeline_tests.test_long_documents import long_pdf

    return long_pdf(3)


@pytest.fixture
def there(pipeline: Pipeline, seaweed: Seaweed, bucket: str) -> Pipeline:
    """The pipeline, its source a bucket."""
    pipeline.settings = replace(pipeline.settings, sources=(f"s3://{bucket}",), s3_endpoint=seaweed.endpoint)
    return pipeline


def test_an_unchanged_bucket_is_not_read(
    there: Pipeline, seaweed: Seaweed, bucket: str, connection: Connection
) -> None:
    """The second scan reads no byte; a new version and a deletion are noticed."""
    store = filesystem(seaweed.endpoint)
    for key, text in {"a.txt": "one " * 100, "b.txt": "two " * 100}.items():
        store.call_s3("put_object", Bucket=bucket, Key=key, Body=text.encode())
    assert there.ingest()[0] == 2
    counts = there.scan()
    assert (counts.listed, counts.hashed_bytes) == (2, 0)
    store.call_s3("put_object", Bucket=bucket, Key="a.txt", Body=b"three " * 100)
    store.call_s3("delete_object", Bucket=bucket, Key="b.txt")
    counts = there.scan()
    assert (counts.changed, counts.deleted) == (1, 1)
    assert count(connection, "searchable_chunks") > 0


def test_an_unlisted_bucket_deletes_nothing(
    there: Pipeline, seaweed: Seaweed, bucket: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is away deletes nothing and fails no file."""
    filesystem(seaweed.endpoint).call_s3("put_object", Bucket=bucket, Key="a.txt", Body=b"one " * 100)
    there.ingest()
    proxy = FaultProxy(seaweed.port)
    proxy.faults.refuse = True
    there.settings = replace(there.settings, s3_endpoint=proxy.endpoint)
    monkeypatch.setattr("ingest_pipeline.sources.download.Patience.wait", refused)
    with pytest.raises(SourceUnavailable):
        there.scan()
    proxy.close()
    assert status_of(connection, "a.txt") == ("indexed", None)


def refused(self: object, error: Exception, what: str) -> None:
    """No patience at all."""
    raise SourceUnavailable(what)


@pytest.mark.parametrize(
    ("name", "limit", "raised", "error"),
    [
        ("a.txt", {"max_pages": 1}, {"max_pages": 9}, "TooManyPages"),
        ("a.txt", {"page_seconds": 1e-9}, {"page_seconds": 30.0}, "ParserTimedOut"),
    ],
)
def test_raised_limit_is_another_try(
    pipeline: Pipeline, source: Path, connection: Connection, name: str, limit: dict[str, Any], raised: dict[str, Any],
    error: str,
) -> None:  # fmt: skip
    """A file that failed at a limit is taken up by the next catalog run once the setting is raised, and not before."""
    (source / name).write_text("".join(f"line number {number}\n" for number in range(400_000)))
    generous, pipeline.settings = pipeline.settings, replace(pipeline.settings, **limit)
    with Sandbox(memory_limit_bytes=2**29, page_seconds=pipeline.settings.page_seconds) as pipeline.sandbox:
        pipeline.ingest()
        assert status_of(connection, name) == ("failed", error)
        pipeline.ingest()
        assert connection.execute("SELECT attempts FROM files").fetchone() == (1,)
    pipeline.settings = replace(generous, **(raised | {"max_pages": 2000}))
    with Sandbox(memory_limit_bytes=2**29) as pipeline.sandbox:
        pipeline.scan()
    assert status_of(connection, name) == ("synced", None)
