"""What an attacker found before anybody else did: each of these once lost text, blamed the wrong one, or hung."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.errors import BadSetting, FileVanished, SourceUnavailable, TooManyPages, UnreadableDocument
from ingest_pipeline.models import Gap
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.fold import ParseFold
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.parsing.sandbox.steps import events_in_steps
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import Access, source_of
from ingest_pipeline.sources.bucket import Bucket
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.documents import status_of
from ingest_pipeline_tests.parsers import parse_named
from ingest_pipeline_tests.pipeline import Pipeline
from ingest_pipeline_tests.servers import Answers, web_server

QUICK = Access(stall_seconds=2, patience_seconds=2)


@pytest.fixture
def pipeline(connection: Connection, settings: Settings) -> Iterator[Pipeline]:
    with Sandbox(memory_limit_bytes=512 * 1024**2) as sandbox:
        yield Pipeline(connection, settings, sandbox)


def read(content: bytes, name: str, **asked: Any) -> tuple[str, list[Gap], list[str]]:
    """Text, gaps and warnings of a file, in this process."""
    parsed = parse_named(name, content, **asked)
    return "\n".join(parsed.texts), parsed.gaps, parsed.warnings


def test_many_comments_do_not_hold_the_catalog() -> None:
    """A pattern with two ways to read each comment took a week over forty."""
    began = time.monotonic()
    assert detect.media_type("notes.md", b"<!-- todo -->\n" * 250 + b"# Notes\n") == detect.MARKDOWN
    assert detect.media_type("a", b"<!-- x -->" * 150 + b"<html>") == detect.HTML
    assert time.monotonic() - began < 0.5


def test_a_time_that_no_number_holds_is_kept(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """The year 2286 is more nanoseconds than a bigint."""
    (source / "a.txt").write_text("words " * 50)
    os.utime(source / "a.txt", (10**10, 10**10))
    pipeline.ingest()
    assert status_of(connection, "a.txt") == ("indexed", None)
    assert pipeline.scan().hashed_bytes == 0


def test_a_file_that_was_touched_while_it_waited_is_taken_up_again(
    pipeline: Pipeline, source: Path, connection: Connection
) -> None:
    """The same bytes under another time are no reason to fail for ever."""
    (source / "a.txt").write_text("words " * 50)
    pipeline.scan()
    [key] = pipeline.seal().batches
    os.utime(source / "a.txt", (1, 1))
    pipeline.chunk(pipeline.run(key))
    assert status_of(connection, "a.txt") == ("failed", "FileChanged")
    pipeline.ingest()
    assert status_of(connection, "a.txt") == ("indexed", None)


def test_a_list_may_say_anything() -> None:
    """Passwords, NULs, hosts that are none, odd encodings: a refusal by name, no crash, no secret."""
    lines = ["a.txt", "http://bob:S3cretPw@host/x.txt", "http://..../x", "http://[bad/x", "./p:q.txt"]
    pages = {"/a.txt": b"one", "/p:q.txt": b"two", "/binary": b"a.txt\nb\x00c.txt\n", "/pdf": b"%PDF-1.7\n"}
    with web_server(pages) as (url, _):
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            pages["/list"] = "\r\n".join(lines).encode(encoding)
            found = {file.path: file for file in source_of(f"{url}/list", QUICK).files()}
            assert found["a.txt"].refusal is None
            assert "S3cretPw" not in str(found)
            assert len(found) == len(lines)
            assert sum(file.refusal is None for file in found.values()) == 2
        for other in ("binary", "pdf"):
            with pytest.raises(BadSetting, match="not a document"):
                list(source_of(f"{url}/{other}", QUICK).files())


def test_a_first_packet_of_three_bytes_decides_nothing() -> None:
    """What a file is, is told by 4 KiB, however they come."""

    def slow(handler: Answers, body: bool) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "5000")
        handler.end_headers()
        if body:
            handler.wfile.write(b"%PD")
            handler.wfile.flush()
            time.sleep(0.3)
            handler.wfile.write(b"F-1.7\n" + bytes(4991))

    with web_server({"/a": slow}) as (url, _):
        assert source_of(f"{url}/list", QUICK).read_head("a").startswith(b"%PDF-1.7")
        assert source_of(f"{url}/list", QUICK).read_version("a", max_bytes=10**6)[1:] == (
            5000,
            b"%PDF-1.7\n" + bytes(4087),
        )


def test_a_server_without_lengths_makes_no_bombs(pipeline: Pipeline, connection: Connection) -> None:
    """The size that counts is that of the bytes that came."""

    def chunked(handler: Answers, body: bool) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        if body:
            handler.wfile.write(b"some words of an honest text\n" * 200_000)
        handler.close_connection = True

    with web_server({"/list": b"a.txt\n", "/a.txt": chunked}) as (url, _):
        pipeline.settings = replace(pipeline.settings, sources=(f"{url}/list",))
        pipeline.ingest()
    assert status_of(connection, "a.txt") == ("indexed", None)
    row = connection.execute("SELECT size_bytes FROM files").fetchone()
    assert row == (5_800_000,)


def test_an_error_page_in_a_lists_place_deletes_nothing(pipeline: Pipeline, connection: Connection) -> None:
    """It names no document, or only what lies elsewhere."""
    pages: dict[str, Any] = {"/list": b"a.txt\n", "/a.txt": b"one two three " * 20}
    with web_server(pages) as (url, _):
        pipeline.settings = replace(pipeline.settings, sources=(f"{url}/list",))
        pipeline.ingest()
        pages["/list"] = b"<html>down for maintenance <a href='//elsewhere.test/'>more</a></html>"
        with pytest.raises(SourceUnavailable, match="names no document"):
            pipeline.scan()
    assert status_of(connection, "a.txt") == ("indexed", None)


def test_one_dead_document_does_not_hold_a_whole_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused by name; three in a row are the server's fault."""

    def dead(handler: Answers, body: bool) -> None:
        handler.send_response(500)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    access = Access(stall_seconds=2, patience_seconds=0)
    pages: dict[str, Any] = {
        "/list": b"a\ndead\nz\n",
        "/a": b"1",
        "/z": b"2",
        "/dead": dead,
        "/dead2": dead,
        "/dead3": dead,
    }
    with web_server(pages) as (url, _):
        found = {file.path: file.refusal for file in source_of(f"{url}/list", access).files()}
        assert (found["a"], found["z"]) == (None, None)
        assert "500" in str(found["dead"])
        assert isinstance(found["dead"], UnreadableDocument)
        pages["/list"] = b"dead\ndead2\ndead3\n"
        with pytest.raises(SourceUnavailable):
            list(source_of(f"{url}/list", access).files())


def test_a_path_leads_back_to_the_document_that_was_named() -> None:
    """Where a short name would lead elsewhere, the whole URL is the name."""
    pages = {
        "/docs/list": b"//c.txt\n/docs//c.txt\nc.txt\n",
        "/docs//c.txt": b"right",
        "/c.txt": b"wrong",
        "/docs/c.txt": b"plain",
    }
    with web_server(pages) as (url, _):
        found = [file.path for file in source_of(f"{url}/docs/list", QUICK).files() if file.refusal is None]
        heads = {source_of(f"{url}/docs/list", QUICK).read_head(path) for path in found}
    assert heads == {b"right", b"plain"}


def test_a_link_that_is_signed_for_get_alone_is_read() -> None:
    """HEAD says 403, GET says 200."""

    def signed(handler: Answers, body: bool) -> None:
        handler.send_response(200 if body else 403)
        handler.send_header("Content-Length", "3")
        handler.end_headers()
        if body:
            handler.wfile.write(b"one")

    with web_server({"/list": b"a\n", "/a": signed}) as (url, _):
        assert [file.refusal for file in source_of(f"{url}/list", QUICK).files()] == [None]
        assert source_of(f"{url}/list", QUICK).read_head("a") == b"one"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ExpiredToken", BadSetting), ("InvalidAccessKeyId", BadSetting), ("RequestTimeTooSkewed", BadSetting),
        ("NoSuchBucket", BadSetting), ("Throttling", SourceUnavailable), ("KMS.DisabledException", SourceUnavailable),
        ("AccessDenied", UnreadableDocument), ("NoSuchKey", FileVanished),
    ],
)  # fmt: skip
def test_what_is_wrong_with_credentials_is_no_keys_fault(
    code: str, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As s3fs translates S3's own words, whatever kind of error it makes of them."""
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    def refused(*_: Any, **__: Any) -> Any:
        error = ClientError({"Error": {"Code": code, "Message": "no"}}, "GetObject")
        raise translate_boto_error(error) from error

    bucket = Bucket("s3://bucket", Access(s3_endpoint="http://127.0.0.1:9", patience_seconds=0))
    monkeypatch.setattr(bucket._files, "call_s3", refused)
    with pytest.raises(expected):
        bucket.head("a")


@pytest.mark.parametrize(
    ("content", "name", "kept"),
    [
        (b"column 2,\nLOST,kept\n", "a.csv", ["LOST", "kept"]),
        (b"price,price 3,price\n1 EUR,LOST,3 EUR\n", "a.csv", ["1 EUR", "LOST", "3 EUR"]),
        (b"a,column 3\nx,LOST,z\n", "a.csv", ["x", "LOST", "z"]),
        (b'"Full\nname",City\nAnn,Rome\n', "a.csv", ["Full name: Ann", "City: Rome"]),
        (b"\n\nname;city\nAnn;Rome\n", "a.csv", ["name: Ann", "city: Rome"]),
        (b"<h1>LOST ONE <h2>two</h2></h1>", "a.html", ["LOST ONE", "two"]),
        (b"From: a\nContent-Type: multipart/mixed\n\nThe whole text is here\n", "a.eml", ["The whole text is here"]),
        (b"Content-Type: message/rfc822\n\nSubject: inner\n\ninner text\n", "a.eml", ["inner text"]),
        (b"Content-Type: text/enriched\n\nrich words\n", "a.eml", ["rich words"]),
        ("これはテストです。日本語".encode("iso2022_jp"), "a.txt", ["これはテストです"]),
        (b"<html><p>" + "これはテストです".encode("iso2022_jp"), "a.html", ["これはテストです"]),
        (b"Le petit caf\xe9", "a.txt", ["Le petit café"]),
        (b"Every PDF begins with %PDF-1.7, they say.", "a.txt", ["they say"]),
        (b'{"a": ' + b"[" * 300 + b"1" + b"]" * 300 + b"}\n" + b'{"a": "kept"}', "a.jsonl", ["a: kept"]),
        (b'{"title": "T"}\n{"other": "LOST"}', "a.jsonl", ["T", "LOST"]),
    ],
)
def test_no_text_is_lost(content: bytes, name: str, kept: list[str]) -> None:
    """Each of these was once shorter than what somebody had written."""
    text, _, _ = read(content, name, record_text="{title}" if "title" in str(content) else "")
    assert [part for part in kept if part not in text] == []


def test_a_row_that_is_cut_is_a_gap() -> None:
    """Five fields of 900 kB are a line of over four million characters."""
    row = ",".join(["x" * 900_000] * 5)
    text, gaps, _ = read(f"a,b,c,d,e\n{row}THE END\n1,2,3,4,5\n".encode(), "a.csv")
    assert "a: 1" in text
    assert len(gaps) == 1


def test_ten_thousand_columns_take_no_minute() -> None:
    """Looking for a name among those before it is a square."""
    began = time.monotonic()
    read((",".join(["x"] * 32_000) + "\n" + ",".join(["1"] * 32_000)).encode(), "a.csv")
    assert time.monotonic() - began < 5


def test_one_broken_message_does_not_end_a_mailbox() -> None:
    """Its neighbours are read; a sentence that begins with From is no new message."""
    good = b"From a@b Mon Sep 17 00:00:00 2001\nSubject: %d\n\nbody %d\n\nFrom the first day on\nNote: this\n\n"
    bad = b"From a@b Mon Sep 17 00:00:00 2001\nContent-Disposition: attachment; filename*\n\nwords\n\n"
    text, gaps, _ = read(b"\xef\xbb\xbf" + good % (1, 1) + bad + good % (2, 2), "a.mbox")
    assert all(part in text for part in ("body 1", "body 2", "From the first day on", "Note: this"))
    assert "words" in text or [gap.page_from for gap in gaps] == [2]


def test_a_heading_full_of_signs_takes_no_minute() -> None:
    """`# # # … x` was read in as many ways as it has signs."""
    began = time.monotonic()
    text, _, _ = read((("# " * 10_000 + "x\n") * 5).encode(), "a.md")
    assert text.count("x") == 5
    assert time.monotonic() - began < 2


def test_a_file_of_nothing_but_torn_records_ends_soon(tmp_path: Path) -> None:
    """Gaps are pages: over the limit they are too many, and not a child for each."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b"x\n" * 4000)
    with Sandbox(memory_limit_bytes=512 * 1024**2) as box, path.open("rb") as stream:
        request = ParseRequest(path.name, detect.JSONL, max_pages=20)
        with pytest.raises(TooManyPages):
            list(ParseFold().pages_of(events_in_steps(box, stream, request)))
        parsed = ParseFold()
        list(parsed.pages_of(events_in_steps(box, stream, replace(request, max_pages=1000))))
    assert parsed.gaps == [Gap(1, 1, parsed.gaps[0].reason), *parsed.gaps[1:]]
    assert parsed.gaps[-1].page_to == 41


def test_a_section_is_the_innermost_that_begins_a_page(
    pipeline: Pipeline, source: Path, connection: Connection
) -> None:
    """A title with its first chapter right below it does not take the chapter's text."""
    (source / "a.md").write_text(
        f"# Title\n\n## Chapter one\n\n{'words ' * 100}\n\n## Chapter two\n\n{'more ' * 100}\n"
    )
    pipeline.ingest()
    rows = connection.execute("SELECT DISTINCT section_path FROM searchable_chunks ORDER BY section_path")
    assert [path for (path,) in rows] == ["Title › Chapter one", "Title › Chapter two"]
