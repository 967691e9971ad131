"""Buckets and lists of URLs: a real S3 server, answers that are cut, stalled, refused, or lie."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline import sources
from ingest_pipeline.errors import (
    BadSetting,
    FileChanged,
    FileCutShort,
    FileTooLarge,
    FileVanished,
    SourceUnavailable,
    UnreadableDocument,
)
from ingest_pipeline.models import RawFile
from ingest_pipeline.sources import Access
from ingest_pipeline.sources.spool import MEMORY_BYTES, spooled
from ingest_pipeline_tests.servers import SECRET_KEY, Answers, FaultProxy, Seaweed, filesystem, web_server

MANY = 10**9


def put(seaweed: Seaweed, bucket: str, **files: bytes) -> Any:
    """Objects in a bucket, by key (`__` for `/`)."""
    store = filesystem(seaweed.endpoint)
    for key, content in files.items():
        store.call_s3("put_object", Bucket=bucket, Key=key.replace("__", "/"), Body=content)
    return store


@pytest.fixture
def access(seaweed: Seaweed, tmp_path: Path) -> Access:
    return Access(s3_endpoint=seaweed.endpoint, spool_folder=tmp_path / "spool", stall_seconds=2, patience_seconds=4)


@pytest.fixture
def proxy(seaweed: Seaweed) -> Iterator[FaultProxy]:
    proxy = FaultProxy(seaweed.port)
    yield proxy
    proxy.close()


@pytest.fixture
def faulty(access: Access, proxy: FaultProxy) -> Access:
    """The same bucket, behind the proxy."""
    return Access(proxy.endpoint, access.spool_folder, access.stall_seconds, access.patience_seconds)


def raw(source: str, path: str, content: bytes, etag: str = "") -> RawFile:
    """A file as a batch would ask for it."""
    return RawFile(1, source, path, hashlib.sha256(content).hexdigest(), len(content), 0, "text/plain", etag=etag)


def test_a_bucket_is_listed_below_its_prefix(seaweed: Seaweed, bucket: str, access: Access) -> None:
    """Every object with its ETag; hidden names, folder marks and other prefixes are not documents."""
    store = put(seaweed, bucket, docs__a=b"1", docs__b__c=b"22", other=b"3", docs__b__d=b"4")
    for key in ("docs/.hidden", "docs/.git/config", "docs/folder/", "docs/пісня 歌.txt", "docs/two\nlines.txt"):
        store.call_s3("put_object", Bucket=bucket, Key=key, Body=b"")
    found = {file.path: file for file in sources.list_files(f"s3://{bucket}/docs", access)}
    assert set(found) == {"a", "b/c", "b/d", "пісня 歌.txt", "two\nlines.txt"}
    assert found["b/c"].size_bytes == 2
    assert found["a"].etag == hashlib.md5(b"1").hexdigest()
    assert found["a"].modified_ns > 0


def test_a_listing_goes_on_after_a_thousand_keys(
    seaweed: Seaweed, bucket: str, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page after page, none twice, none left out."""
    monkeypatch.setattr("ingest_pipeline.sources.s3.LIST_KEYS", 7)
    put(seaweed, bucket, **{f"d__{number:03}.txt": b"x" for number in range(25)})
    found = [file.path for file in sources.list_files(f"s3://{bucket}", access)]
    assert found == [f"d/{number:03}.txt" for number in range(25)]


def test_a_bucket_that_is_not_there_is_a_bad_setting(bucket: str, access: Access) -> None:
    """One line for the operator, and nothing is deleted from the ledger."""
    with pytest.raises(BadSetting, match="no-such-bucket"):
        list(sources.list_files("s3://no-such-bucket-at-all/x", access))


def test_wrong_credentials_are_a_bad_setting_and_never_shown(
    bucket: str, access: Access, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also not in the logs."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with caplog.at_level(logging.INFO), pytest.raises(BadSetting) as caught:
        list(sources.list_files(f"s3://{bucket}", Access(access.s3_endpoint + "/", access.spool_folder, 2.5, 4)))
    assert "wrong-secret" not in str(caught.value) + caplog.text


def test_a_download_is_hashed_and_read_only(seaweed: Seaweed, bucket: str, access: Access) -> None:
    """The parser gets a real descriptor that it cannot write by."""
    content = os.urandom(700_000)
    put(seaweed, bucket, a=content)
    source = f"s3://{bucket}"
    assert sources.read_version(source, "a", access, max_bytes=MANY)[0] == hashlib.sha256(content).hexdigest()
    assert sources.read_head(source, "a", access) == content[:4096]
    with sources.open_version(raw(source, "a", content), access, max_bytes=MANY) as stream:
        assert stream.read() == content
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(stream.fileno(), b"x")


@pytest.mark.parametrize("size", [MEMORY_BYTES - 1, MEMORY_BYTES + 1, 3 * MEMORY_BYTES])
def test_a_large_download_lies_on_disk_and_leaves_nothing(tmp_path: Path, size: int) -> None:
    """In memory up to 10 MiB; beyond it in the spool folder, without a name."""
    content = os.urandom(1024) * (size // 1024 + 1)
    pieces = (content[start : start + 256 * 1024] for start in range(0, size, 256 * 1024))
    with spooled(pieces, name="n", max_bytes=MANY, folder=tmp_path / "spool") as (stream, version):
        written = stream.read()
        on_disk = str(Path(f"/proc/self/fd/{stream.fileno()}").readlink()).startswith(str(tmp_path))
        assert on_disk == (len(written) > MEMORY_BYTES)
        assert version == hashlib.sha256(written).hexdigest()
    assert not list((tmp_path / "spool").glob("*"))


def test_a_file_over_the_limit_is_stopped_while_it_comes(
    seaweed: Seaweed, bucket: str, faulty: Access, proxy: FaultProxy
) -> None:
    """What was said of its size before does not count."""
    put(seaweed, bucket, big=bytes(30 * 1024**2))
    with pytest.raises(FileTooLarge):
        sources.read_version(f"s3://{bucket}", "big", faulty, max_bytes=1024**2)
    assert proxy.faults.passed < 8 * 1024**2


def test_a_cut_download_goes_on_where_it_was(seaweed: Seaweed, bucket: str, faulty: Access, proxy: FaultProxy) -> None:
    """Three cuts, each further on: the right bytes, and none asked for twice."""
    content = os.urandom(3_000_000)
    put(seaweed, bucket, a=content)
    proxy.faults.cuts = [700_000, 900_000, 400_000]
    assert sources.read_version(f"s3://{bucket}", "a", faulty, max_bytes=MANY)[0] == hashlib.sha256(content).hexdigest()
    assert proxy.faults.connections >= 4
    assert proxy.faults.passed < 1.5 * len(content)


def test_a_stalled_download_goes_on(seaweed: Seaweed, bucket: str, faulty: Access, proxy: FaultProxy) -> None:
    """A connection that stays open and says nothing is given up, not waited for."""
    content = os.urandom(2_000_000)
    put(seaweed, bucket, a=content)
    proxy.faults.stall_after = 1_000_000
    threading.Timer(1.0, lambda: setattr(proxy.faults, "stall_after", None)).start()
    began = time.monotonic()
    assert sources.read_version(f"s3://{bucket}", "a", faulty, max_bytes=MANY)[0] == hashlib.sha256(content).hexdigest()
    assert time.monotonic() - began < 20


def test_an_answer_that_is_always_cut_is_that_files_failure(
    seaweed: Seaweed, bucket: str, faulty: Access, proxy: FaultProxy
) -> None:
    """The server answers: its neighbours can be read."""
    put(seaweed, bucket, a=os.urandom(2_000_000))
    proxy.faults.cuts = [1000] * 50
    with pytest.raises(FileCutShort, match="a: the server breaks off"):
        sources.read_version(f"s3://{bucket}", "a", faulty, max_bytes=MANY)


def test_a_server_that_stays_away_is_no_files_fault(bucket: str, faulty: Access, proxy: FaultProxy) -> None:
    """Nothing can be judged; whoever scans stops."""
    proxy.faults.refuse = True
    began = time.monotonic()
    with pytest.raises(SourceUnavailable):
        list(sources.list_files(f"s3://{bucket}", faulty))
    assert 4 <= time.monotonic() - began < 20


def test_an_object_that_changes_while_it_is_read_is_not_mixed(
    seaweed: Seaweed, bucket: str, faulty: Access, proxy: FaultProxy
) -> None:
    """After a cut the rest must be of the same version."""
    put(seaweed, bucket, a=b"a" * 2_000_000)
    pieces = sources._pieces(f"s3://{bucket}", "a", faulty)
    proxy.faults.cuts = [900_000]
    with pieces as stream, pytest.raises(FileChanged):
        for number, _ in enumerate(stream):
            if number == 0:
                put(seaweed, bucket, a=b"b" * 2_000_000)


def test_an_object_that_is_gone_has_vanished(seaweed: Seaweed, bucket: str, access: Access) -> None:
    """Looked at, or read."""
    for ask in (
        lambda: sources.read_version(f"s3://{bucket}", "none", access, max_bytes=MANY),
        lambda: sources.verify_version(raw(f"s3://{bucket}", "none", b""), access, max_bytes=MANY),
    ):
        with pytest.raises(FileVanished):
            ask()


def test_a_new_version_in_the_bucket_is_noticed(seaweed: Seaweed, bucket: str, access: Access) -> None:
    """By its ETag when the batch begins, by its bytes when it is read."""
    put(seaweed, bucket, a=b"old")
    source, old = f"s3://{bucket}", hashlib.md5(b"old").hexdigest()
    sources.verify_version(raw(source, "a", b"old", etag=old), access, max_bytes=MANY)
    put(seaweed, bucket, a=b"new")
    with pytest.raises(FileChanged):
        sources.verify_version(raw(source, "a", b"old", etag=old), access, max_bytes=MANY)
    with pytest.raises(FileChanged), sources.open_version(raw(source, "a", b"old"), access, max_bytes=MANY):
        pytest.fail("another version was opened")


@pytest.mark.parametrize(
    "text", ["s3://key:hunter2@bucket/x", "https://user:hunter2@host/list.txt", "http://hunter2@host/"]
)
def test_a_password_in_a_url_is_refused_and_not_shown(text: str) -> None:
    """The ledger would keep it for ever."""
    with pytest.raises(BadSetting) as caught:
        sources.canonical_source(text)
    assert "hunter2" not in str(caught.value)
    assert SECRET_KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket", "s3://bucket"),
        ("https://host/docs/", "https://host/docs/"),
        ("https://host/list.txt", "https://host/list.txt"),
    ],
)
def test_a_remote_source_has_one_spelling(text: str, canonical: str) -> None:
    """A slash at the end matters to the web and not to a bucket."""
    assert sources.canonical_source(text) == canonical


QUICK = Access(stall_seconds=2, patience_seconds=10)


def test_a_list_of_urls_names_its_documents() -> None:
    """Relative and whole URLs, comments left out, a document that is not there refused by name."""
    pages: dict[str, Any] = {"/docs/a.txt": b"one", "/b%20c.txt": b"two"}
    with web_server(pages) as (url, _):
        pages["/docs/list.txt"] = f"# ours\na.txt\n\n{url}/b%20c.txt\nnone.txt\nmailto:x\n".encode()
        found = {file.path: file for file in sources.list_files(f"{url}/docs/list.txt", QUICK)}
        assert set(found) == {"a.txt", f"{url}/b%20c.txt", "none.txt", "mailto:x"}
        assert "not a URL" in str(found["mailto:x"].refusal)
        assert found["a.txt"].size_bytes == 3
        assert found["a.txt"].etag
        assert "no such document" in str(found["none.txt"].refusal)
        assert sources.read_head(f"{url}/docs/list.txt", "a.txt", QUICK) == b"one"
        assert sources.read_head(f"{url}/docs/list.txt", f"{url}/b%20c.txt", QUICK) == b"two"


def index(*targets: str) -> bytes:
    """An index page as web servers make them."""
    return b"<html>" + b"".join(b'<a href="%s">x</a>' % target.encode() for target in targets) + b"</html>"


def test_an_index_page_is_walked_below_itself() -> None:
    """Folders below are followed, once; parents, other hosts and sorting links are not."""
    pages: dict[str, Any] = {
        "/docs/": index("../", "?C=N;O=D", "a.txt", "sub/"),
        "/docs/sub/": index("/docs/", "b.txt#x", "http://elsewhere.test/c"),
        "/docs/a.txt": b"one",
        "/docs/sub/b.txt": b"two",
    }
    with web_server(pages) as (url, asked):
        assert [file.path for file in sources.list_files(f"{url}/docs/", QUICK)] == ["a.txt", "sub/b.txt"]
        assert [path for method, path, _ in asked if method == "GET"] == ["/docs/", "/docs/sub/"]


def test_a_list_that_is_not_there_is_a_bad_setting() -> None:
    """And not an empty source, which would delete every file from the ledger."""
    with web_server({}) as (url, _), pytest.raises(BadSetting, match="list of documents"):
        list(sources.list_files(f"{url}/list.txt", QUICK))


def lying(said: int, sent: int) -> Any:
    """An answer that says one length and sends another."""

    def answer(handler: Answers, body: bool) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(said))
        handler.end_headers()
        if body:
            handler.wfile.write(b"x" * sent)
        handler.close_connection = True

    return answer


def endless(handler: Answers, body: bool) -> None:
    """An answer without a length that does not end."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while body:
        try:
            handler.wfile.write(bytes(65536))
        except OSError:
            break
    handler.close_connection = True


def test_a_lying_length_is_caught_while_streaming() -> None:
    """More than was said never comes through; less is a cut, not a short document."""
    pages: dict[str, Any] = {"/more": lying(10, 5000), "/less": lying(5000, 10), "/endless": endless}
    with web_server(pages) as (url, _):
        with contextlib.suppress(FileCutShort):  # by chance of packets the surplus is seen before the end, or after it
            assert len(sources.read_head(f"{url}/list", "more", QUICK)) == 10
        with pytest.raises(FileCutShort):
            sources.read_version(f"{url}/list", "less", QUICK, max_bytes=MANY)
        with pytest.raises(FileTooLarge):
            sources.read_version(f"{url}/list", "endless", QUICK, max_bytes=3 * 1024**2)


def test_a_server_that_is_busy_is_asked_again() -> None:
    """503 twice, then the document."""
    left = [503, 503]

    def busy(handler: Answers, body: bool) -> None:
        handler.send_response(left.pop() if left else 200)
        handler.send_header("Content-Length", "3")
        handler.end_headers()
        if body:
            handler.wfile.write(b"one")

    with web_server({"/a": busy}) as (url, asked):
        assert sources.read_head(f"{url}/list", "a", QUICK) == b"one"
        assert len(asked) == 3


def test_what_may_not_be_read_is_that_files_failure() -> None:
    """401 and its like will be the same tomorrow."""

    def forbidden(handler: Answers, body: bool) -> None:
        handler.send_response(403)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with web_server({"/a": forbidden}) as (url, _), pytest.raises(UnreadableDocument, match="403"):
        sources.read_head(f"{url}/list", "a", QUICK)
