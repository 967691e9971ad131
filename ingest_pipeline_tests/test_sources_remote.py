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
from ingest_pipeline.sources import Access, canonical_source, source_of
from ingest_pipeline.sources.bucket import Bucket
from ingest_pipeline.sources.download import downloaded
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


def sha256(content: bytes) -> str:
    """The version of these bytes."""
    return hashlib.sha256(content).hexdigest()


def raw(source: str, path: str, content: bytes, revision: str = "") -> RawFile:
    """A file as a batch would request it."""
    return RawFile(1, source, path, sha256(content), len(content), revision, "text/plain")


def revisions(source: str, access: Access) -> dict[str, str]:
    """What the source says of each file."""
    return {file.path: file.revision for file in source_of(source, access).files()}


def test_bucket_listing(seaweed: Seaweed, bucket: str, access: Access) -> None:
    """Every object below the prefix is listed with its revision; hidden names and folder marks are no documents."""
    store = put(seaweed, bucket, docs__a=b"1", docs__b__c=b"22", other=b"3", docs__b__d=b"4")
    for key in ("docs/.hidden", "docs/.git/config", "docs/folder/", "docs/пісня 歌.txt", "docs/two\nlines.txt"):
        store.call_s3("put_object", Bucket=bucket, Key=key, Body=b"")
    found = {file.path: file for file in source_of(f"s3://{bucket}/docs", access).files()}
    assert set(found) == {"a", "b/c", "b/d", "пісня 歌.txt", "two\nlines.txt"}
    assert found["b/c"].size_bytes == 2
    etag, size, seconds = found["a"].revision.split()
    assert (etag, size) == (hashlib.md5(b"1").hexdigest(), "1")
    assert abs(time.time() - int(seconds)) < 600


def test_bucket_pages(seaweed: Seaweed, bucket: str, access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing goes on page after page: no key twice, none left out."""
    monkeypatch.setattr("ingest_pipeline.sources.bucket.LIST_KEYS", 7)
    put(seaweed, bucket, **{f"d__{number:03}.txt": b"x" for number in range(25)})
    found = [file.path for file in source_of(f"s3://{bucket}", access).files()]
    assert found == [f"d/{number:03}.txt" for number in range(25)]


def test_missing_bucket(bucket: str, access: Access) -> None:
    """A bucket that is not there is a bad setting: one line for the operator, and nothing is deleted."""
    with pytest.raises(BadSetting, match="no-such-bucket"):
        list(source_of("s3://no-such-bucket-at-all/x", access).files())


def test_wrong_credentials(
    bucket: str, access: Access, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Wrong credentials are a bad setting, and are shown neither in the message nor in the logs."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with caplog.at_level(logging.INFO), pytest.raises(BadSetting) as caught:
        list(source_of(f"s3://{bucket}", Access(access.s3_endpoint + "/", access.spool_folder, 2.5, 4)).files())
    assert "wrong-secret" not in str(caught.value) + caplog.text


def test_download(seaweed: Seaweed, bucket: str, access: Access) -> None:
    """A download is hashed, and the parser gets a real descriptor that it cannot write by."""
    content = os.urandom(700_000)
    put(seaweed, bucket, a=content)
    source = source_of(f"s3://{bucket}", access)
    assert source.read_version("a", max_bytes=MANY)[0] == sha256(content)
    assert source.read_head("a") == content[:4096]
    with source.open_version(raw(source.name, "a", content), max_bytes=MANY) as stream:
        assert stream.read() == content
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(stream.fileno(), b"x")


@pytest.mark.parametrize("size", [MEMORY_BYTES - 1, MEMORY_BYTES + 1, 3 * MEMORY_BYTES])
def test_spool(tmp_path: Path, size: int) -> None:
    """A download is in memory up to 10 MiB, beyond it in the spool folder without a name, and leaves nothing."""
    content = os.urandom(1024) * (size // 1024 + 1)
    pieces = (content[start : start + 256 * 1024] for start in range(0, size, 256 * 1024))
    with spooled(pieces, name="n", max_bytes=MANY, folder=tmp_path / "spool") as (stream, version):
        written = stream.read()
        on_disk = str(Path(f"/proc/self/fd/{stream.fileno()}").readlink()).startswith(str(tmp_path))
        assert on_disk == (len(written) > MEMORY_BYTES)
        assert version == hashlib.sha256(written).hexdigest()
    assert not list((tmp_path / "spool").glob("*"))


def test_over_limit(seaweed: Seaweed, bucket: str, faulty: Access, proxy: FaultProxy) -> None:
    """A file over the limit is stopped while it comes, whatever was said of its size before."""
    put(seaweed, bucket, big=bytes(30 * 1024**2))
    with pytest.raises(FileTooLarge):
        source_of(f"s3://{bucket}", faulty).read_version("big", max_bytes=1024**2)
    assert proxy.faults.passed < 8 * 1024**2


def test_cut_download(seaweed: Seaweed, bucket: str, faulty: Access, proxy: FaultProxy) -> None:
    """A download goes on after three cuts: the right bytes, and none requested twice."""
    content = os.urandom(3_000_000)
    put(seaweed, bucket, a=content)
    proxy.faults.cuts = [700_000, 900_000, 400_000]
    assert source_of(f"s3://{bucket}", faulty).read_version("a", max_bytes=MANY)[0] == sha256(content)
    assert proxy.faults.connections >= 4
    assert proxy.faults.passed < 1.5 * len(content)


def test_stalled_download(seaweed: Seaweed, bucket: str, faulty: Access, proxy: FaultProxy) -> None:
    """A connection that stays open and says nothing is given up, and the download goes on."""
    content = os.urandom(2_000_000)
    put(seaweed, bucket, a=content)
    proxy.faults.stall_after = 1_000_000
    threading.Timer(1.0, lambda: setattr(proxy.faults, "stall_after", None)).start()
    began = time.monotonic()
    assert source_of(f"s3://{bucket}", faulty).read_version("a", max_bytes=MANY)[0] == sha256(content)
    assert time.monotonic() - began < 20


def test_always_cut(seaweed: Seaweed, bucket: str, faulty: Access, proxy: FaultProxy) -> None:
    """A response that is always cut is the failure of that file: its neighbours can be read."""
    put(seaweed, bucket, a=os.urandom(2_000_000))
    proxy.faults.cuts = [1000] * 50
    with pytest.raises(FileCutShort, match="a: the server breaks off"):
        source_of(f"s3://{bucket}", faulty).read_version("a", max_bytes=MANY)


def test_unavailable_server(bucket: str, faulty: Access, proxy: FaultProxy) -> None:
    """A server that stays unavailable is no file's fault: the source is unavailable."""
    proxy.faults.refuse = True
    began = time.monotonic()
    with pytest.raises(SourceUnavailable):
        list(source_of(f"s3://{bucket}", faulty).files())
    assert 4 <= time.monotonic() - began < 20


def test_changed_while_read(seaweed: Seaweed, bucket: str, faulty: Access, proxy: FaultProxy) -> None:
    """After a cut the rest must be of the same version."""
    put(seaweed, bucket, a=b"a" * 2_000_000)
    pieces = downloaded(Bucket(f"s3://{bucket}", faulty), "a", faulty)
    proxy.faults.cuts = [900_000]
    with pytest.raises(FileChanged):
        for number, _ in enumerate(pieces):
            if number == 0:
                put(seaweed, bucket, a=b"b" * 2_000_000)


def test_object_vanished(seaweed: Seaweed, bucket: str, access: Access) -> None:
    """An object that is gone is FileVanished when it is verified or read."""
    source = source_of(f"s3://{bucket}", access)
    with pytest.raises(FileVanished):
        source.read_version("none", max_bytes=MANY)
    with pytest.raises(FileVanished):
        source.verify(raw(source.name, "none", b""), max_bytes=MANY)


def test_object_changed(seaweed: Seaweed, bucket: str, access: Access) -> None:
    """A new version is noticed when the batch begins, and when it is read."""
    put(seaweed, bucket, a=b"old")
    source = source_of(f"s3://{bucket}", access)
    file = raw(source.name, "a", b"old", revisions(source.name, access)["a"])
    source.verify(file, max_bytes=MANY)
    put(seaweed, bucket, a=b"new")
    with pytest.raises(FileChanged):
        source.verify(file, max_bytes=MANY)
    with pytest.raises(FileChanged), source.open_version(file, max_bytes=MANY):
        pytest.fail("another version was opened")


@pytest.mark.parametrize(
    "text", ["s3://key:hunter2@bucket/x", "https://user:hunter2@host/list.txt", "http://hunter2@host/"]
)
def test_password_in_url(text: str) -> None:
    """A password in a URL is refused and not shown: the ledger would keep it for ever."""
    with pytest.raises(BadSetting) as caught:
        canonical_source(text)
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
def test_canonical_url(text: str, canonical: str) -> None:
    """A slash at the end matters to the web and not to a bucket."""
    assert canonical_source(text) == canonical


QUICK = Access(stall_seconds=2, patience_seconds=10)


def test_url_list() -> None:
    """A list names relative and whole URLs; comments are left out, a missing document is refused by name."""
    pages: dict[str, Any] = {"/docs/a.txt": b"one", "/b%20c.txt": b"two"}
    with web_server(pages) as (url, _):
        pages["/docs/list.txt"] = f"# ours\na.txt\n\n{url}/b%20c.txt\nnone.txt\nmailto:x\n".encode()
        found = {file.path: file for file in source_of(f"{url}/docs/list.txt", QUICK).files()}
        assert set(found) == {"a.txt", f"{url}/b%20c.txt", "none.txt", "mailto:x"}
        assert "not a URL" in str(found["mailto:x"].refusal)
        assert found["a.txt"].size_bytes == 3
        assert found["a.txt"].revision
        assert "no such document" in str(found["none.txt"].refusal)
        assert source_of(f"{url}/docs/list.txt", QUICK).read_head("a.txt") == b"one"
        assert source_of(f"{url}/docs/list.txt", QUICK).read_head(f"{url}/b%20c.txt") == b"two"


def test_documents_are_asked_for_at_once() -> None:
    """A list of 64 documents on a server that takes 50 ms for each is read in a fraction of their 3.2 seconds."""

    def slow(handler: Answers, body: bool) -> None:
        time.sleep(0.05)
        handler.send_response(200)
        handler.send_header("Content-Length", "3")
        handler.end_headers()

    names = [f"{number:02}.txt" for number in range(64)]
    pages: dict[str, Any] = {f"/{name}": slow for name in names} | {"/list.txt": "\n".join(names).encode()}
    with web_server(pages) as (url, _):
        began = time.monotonic()
        assert [file.path for file in source_of(f"{url}/list.txt", QUICK).files()] == names
        assert time.monotonic() - began < 1.6


def index(*targets: str) -> bytes:
    """An index page as web servers make them."""
    return b"<html>" + b"".join(b'<a href="%s">x</a>' % target.encode() for target in targets) + b"</html>"


def test_index_page() -> None:
    """Folders below an index page are followed once; parents, other hosts and sorting links are not."""
    pages: dict[str, Any] = {
        "/docs/": index("../", "?C=N;O=D", "a.txt", "sub/"),
        "/docs/sub/": index("/docs/", "b.txt#x", "http://elsewhere.test/c"),
        "/docs/a.txt": b"one",
        "/docs/sub/b.txt": b"two",
    }
    with web_server(pages) as (url, asked):
        assert [file.path for file in source_of(f"{url}/docs/", QUICK).files()] == ["a.txt", "sub/b.txt"]
        assert [path for method, path, _ in asked if method == "GET"] == ["/docs/", "/docs/sub/"]


def test_missing_list() -> None:
    """A list that is not there is a bad setting, and not an empty source, which would delete every file."""
    with web_server({}) as (url, _), pytest.raises(BadSetting, match="list of documents"):
        list(source_of(f"{url}/list.txt", QUICK).files())


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


def test_wrong_length() -> None:
    """More than the stated length never comes through; less is a cut, not a short document."""
    pages: dict[str, Any] = {"/more": lying(10, 5000), "/less": lying(5000, 10), "/endless": endless}
    with web_server(pages) as (url, _):
        with contextlib.suppress(FileCutShort):  # by chance of packets the surplus is seen before the end, or after it
            assert len(source_of(f"{url}/list", QUICK).read_head("more")) == 10
        with pytest.raises(FileCutShort):
            source_of(f"{url}/list", QUICK).read_version("less", max_bytes=MANY)
        with pytest.raises(FileTooLarge):
            source_of(f"{url}/list", QUICK).read_version("endless", max_bytes=3 * 1024**2)


def test_busy_server() -> None:
    """A document is requested again after 503, twice, and then read."""
    left = [503, 503]

    def busy(handler: Answers, body: bool) -> None:
        handler.send_response(left.pop() if left else 200)
        handler.send_header("Content-Length", "3")
        handler.end_headers()
        if body:
            handler.wfile.write(b"one")

    with web_server({"/a": busy}) as (url, asked):
        assert source_of(f"{url}/list", QUICK).read_head("a") == b"one"
        assert len(asked) == 3


def test_forbidden_document() -> None:
    """A document that may not be read is the failure of that file."""

    def forbidden(handler: Answers, body: bool) -> None:
        handler.send_response(403)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with web_server({"/a": forbidden}) as (url, _), pytest.raises(UnreadableDocument, match="403"):
        source_of(f"{url}/list", QUICK).read_head("a")
