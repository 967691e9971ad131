"""A folder, a bucket, a list of URLs and a source of a test's own behave alike behind the protocol `Source`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from ingest_pipeline.errors import BadSetting, FileChanged, FileTooLarge, FileVanished
from ingest_pipeline.models import RawFile
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.schemes import SCHEMES
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import Access, Source, canonical_source, source_of
from ingest_pipeline.sources.base import Uploads
from ingest_pipeline.sources.registry import uploads_of
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests import toy_source
from ingest_pipeline_tests.documents import status_of
from ingest_pipeline_tests.pipeline import Pipeline
from ingest_pipeline_tests.servers import Seaweed, filesystem, web_server

MANY = 10**9
LONG = bytes(range(256)) * 1200  # longer than one piece


class Place(Protocol):
    """Where the files of a source are, as its owner sees them."""

    name: str

    def write(self, path: str, content: bytes) -> None:
        """Make or replace a file."""

    def remove(self, path: str) -> None:
        """Remove a file."""


@dataclass
class FolderPlace:
    """A folder of the disk."""

    name: str

    def write(self, path: str, content: bytes) -> None:
        target = Path(self.name, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def remove(self, path: str) -> None:
        Path(self.name, path).unlink()


@dataclass
class BucketPlace:
    """A prefix of a bucket on a real S3 server."""

    name: str
    store: Any

    def write(self, path: str, content: bytes) -> None:
        bucket, _, prefix = self.name.removeprefix("s3://").partition("/")
        self.store.call_s3("put_object", Bucket=bucket, Key=f"{prefix}/{path}", Body=content)

    def remove(self, path: str) -> None:
        bucket, _, prefix = self.name.removeprefix("s3://").partition("/")
        self.store.call_s3("delete_object", Bucket=bucket, Key=f"{prefix}/{path}")


@dataclass
class ListPlace:
    """A list of URLs on a web server; what is removed stays in the list."""

    name: str
    pages: dict[str, Any]

    def write(self, path: str, content: bytes) -> None:
        self.pages[f"/docs/{path}"] = content
        named = sorted(page.removeprefix("/docs/") for page in self.pages if page != "/docs/list.txt")
        self.pages["/docs/list.txt"] = "\n".join(named).encode()

    def remove(self, path: str) -> None:
        del self.pages[f"/docs/{path}"]


@dataclass
class ToyPlace:
    """A dictionary in memory."""

    name: str

    def write(self, path: str, content: bytes) -> None:
        files = toy_source.FILES[self.name]
        files[path] = (files.get(path, (0, b""))[0] + 1, content)

    def remove(self, path: str) -> None:
        del toy_source.FILES[self.name][path]


@pytest.fixture
def access(seaweed: Seaweed, tmp_path: Path) -> Access:
    return Access(s3_endpoint=seaweed.endpoint, spool_folder=tmp_path / "spool", stall_seconds=2, patience_seconds=4)


@pytest.fixture(params=["folder", "bucket", "url_list", "toy"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, seaweed: Seaweed, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """An empty place of each kind."""
    if request.param == "folder":
        (tmp_path / "docs").mkdir()
        yield FolderPlace(str(tmp_path / "docs"))
    elif request.param == "bucket":
        yield BucketPlace(f"s3://{bucket}/docs", filesystem(seaweed.endpoint))
    elif request.param == "url_list":
        pages: dict[str, Any] = {}
        with web_server(pages) as (url, _):
            yield ListPlace(f"{url}/docs/list.txt", pages)
    else:
        monkeypatch.setitem(SCHEMES, "toy", toy_source.SCHEME)
        monkeypatch.setitem(toy_source.FILES, "toy://documents", {})
        yield ToyPlace("toy://documents")


@pytest.fixture
def source(place: Place, access: Access) -> Source:
    return source_of(canonical_source(place.name), access)


def sealed(source: Source, path: str, content: bytes) -> RawFile:
    """The file as a batch is sealed with it."""
    [revision] = [file.revision for file in source.files() if file.path == path]
    version = hashlib.sha256(content).hexdigest()
    return RawFile(1, source.name, path, version, len(content), revision, "text/plain")


def test_list(place: Place, source: Source) -> None:
    """Every file is listed once with path, size and a revision, under the canonical name of the source."""
    place.write("a.txt", b"one")
    place.write("sub/b.txt", b"three")
    assert source.name == place.name
    files = list(source.files())
    assert [(file.path, file.size_bytes) for file in files] == [("a.txt", 3), ("sub/b.txt", 5)]
    assert [file.refusal for file in files] == [None, None]
    assert all(file.revision for file in files)


def test_revision(place: Place, source: Source) -> None:
    """A revision stays while the file stays, and is another after the file was written with other bytes."""
    place.write("a.txt", b"old bytes")
    before = [file.revision for file in source.files()]
    assert [file.revision for file in source.files()] == before
    place.write("a.txt", b"new bytes, and more")  # two writes may have one time
    assert [file.revision for file in source.files()] != before


def test_read_version(place: Place, source: Source) -> None:
    """The version is the SHA-256 of all bytes; the head is the first 4 KiB."""
    place.write("a.txt", LONG)
    assert source.read_version("a.txt", max_bytes=MANY) == (hashlib.sha256(LONG).hexdigest(), len(LONG), LONG[:4096])
    assert source.read_head("a.txt") == LONG[:4096]


def test_verify(place: Place, source: Source) -> None:
    """A file that is as it was sealed passes; other bytes of the same length are FileChanged."""
    place.write("a.txt", b"sealed")
    file = sealed(source, "a.txt", b"sealed")
    source.verify(file, max_bytes=MANY)
    place.write("a.txt", b"edited")
    with pytest.raises(FileChanged, match=r"a\.txt: changed"):
        source.verify(file, max_bytes=MANY)


def test_verify_rewritten(place: Place, source: Source) -> None:
    """The same bytes written again are the same version, whatever became of the revision."""
    place.write("a.txt", b"sealed")
    file = replace(sealed(source, "a.txt", b"sealed"), revision="another")
    place.write("a.txt", b"sealed")
    source.verify(file, max_bytes=MANY)
    assert source.read_version("a.txt", max_bytes=MANY)[0] == file.version


def test_open_version(place: Place, source: Source) -> None:
    """A version is opened from its first byte by a real descriptor that cannot write."""
    place.write("a.txt", LONG)
    file = sealed(source, "a.txt", LONG)
    with source.open_version(file, max_bytes=MANY) as stream:
        assert stream.read() == LONG
        assert os.pread(stream.fileno(), 256, 256) == bytes(range(256))
        source.refuse_changed(stream, file)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(stream.fileno(), b"x")
    assert stream.closed


def test_open_changed(place: Place, source: Source) -> None:
    """Bytes other than the sealed ones are never opened."""
    place.write("a.txt", b"sealed")
    file = sealed(source, "a.txt", b"sealed")
    place.write("a.txt", b"edited, and longer")  # two writes may have one time
    with pytest.raises(FileChanged), source.open_version(file, max_bytes=MANY):
        pytest.fail("another version was opened")


def test_vanished(place: Place, source: Source) -> None:
    """A file that was listed and is gone is FileVanished, whatever is asked of it."""
    place.write("a.txt", b"sealed")
    file = sealed(source, "a.txt", b"sealed")
    place.remove("a.txt")
    with pytest.raises(FileVanished, match=r"a\.txt: no longer there"):
        source.read_version("a.txt", max_bytes=MANY)
    with pytest.raises(FileVanished):
        source.read_head("a.txt")
    with pytest.raises(FileVanished):
        source.verify(file, max_bytes=MANY)
    with pytest.raises(FileVanished), source.open_version(file, max_bytes=MANY):
        pytest.fail("nothing was there to open")


def test_too_large(place: Place, source: Source) -> None:
    """A file over the limit is FileTooLarge when it is read, and when it grew after it was sealed."""
    place.write("a.txt", b"12345")
    file = sealed(source, "a.txt", b"12345")
    assert source.read_version("a.txt", max_bytes=5)[1] == 5
    with pytest.raises(FileTooLarge, match="INGEST_MAX_FILE_SIZE"):
        source.read_version("a.txt", max_bytes=4)
    place.write("a.txt", b"123456")
    with pytest.raises(FileTooLarge):
        source.verify(file, max_bytes=5)


def test_ingest(place: Place, access: Access, connection: Connection, settings: Settings) -> None:
    """From listing to search: an unchanged file is read once, a changed one again."""
    place.write("a.txt", b"some words " * 40)
    place.write("b.txt", b"other words " * 40)
    there = replace(settings, sources=(place.name,), s3_endpoint=access.s3_endpoint)
    with Sandbox(memory_limit_bytes=512 * 1024**2) as sandbox:
        pipeline = Pipeline(connection, there, sandbox)
        assert pipeline.ingest()[0] == 2
        again = pipeline.scan()
        place.write("a.txt", b"new words " * 40)
        changed = pipeline.scan()
    assert (again.listed, again.hashed_bytes, again.changed) == (2, 0, 0)
    assert (changed.listed, changed.hashed_bytes, changed.changed) == (2, 400, 1)
    assert status_of(connection, "b.txt") == ("indexed", None)


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_uploads(kind: str, tmp_path: Path, seaweed: Seaweed, bucket: str, access: Access) -> None:
    """A folder and a bucket take files, and list what they took."""
    name = str(tmp_path) if kind == "folder" else f"s3://{bucket}/docs"
    uploads: Uploads = uploads_of(name, access)
    uploads.add("sub/a.txt", iter([b"one ", b"two"]), replace=False)
    assert source_of(name, access).read_head("sub/a.txt") == b"one two"
    assert [file.path for file in source_of(name, access).files()] == ["sub/a.txt"]


def test_no_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of source whose module has no `open_uploads` takes no files."""
    monkeypatch.setitem(SCHEMES, "toy", toy_source.SCHEME)
    for name in ("toy://documents", "https://host/list.txt"):
        with pytest.raises(BadSetting, match="takes no files"):
            uploads_of(name, Access())


def test_unknown_kind() -> None:
    """A scheme that no module reads is a setting that cannot be used."""
    with pytest.raises(BadSetting, match="INGEST_SOURCES"):
        source_of("toy://documents", Access())
