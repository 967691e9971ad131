"""`ingest add`: streamed, within the limit, whole or not at all, in a folder as in a bucket."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_pipeline.errors import BadSetting, ConfigurationError, FileTooLarge, UploadRefused
from ingest_pipeline.memory.process import peak_memory_bytes, reset_peak
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import Access, source_of
from ingest_pipeline.sources.upload import add_file
from ingest_pipeline.stages.uploads import add_files
from ingest_pipeline_tests.servers import Seaweed

MANY = 10**9


def add(source: Path | str, name: str, content: bytes, *, access: Access | None = None, **more: bool) -> int:
    return add_file(str(source), name, io.BytesIO(content), access or Access(), max_bytes=1000, **more)


def names(source: Path | str, access: Access | None = None) -> list[str]:
    return [file.path for file in source_of(str(source), access or Access()).files()]


def test_add(tmp_path: Path) -> None:
    """A file is there as it was given, with the folders above it; nothing else is left."""
    assert add(tmp_path, "reports/2026/пісня.txt", b"words") == 5
    assert (tmp_path / "reports" / "2026" / "пісня.txt").read_bytes() == b"words"
    assert names(tmp_path) == ["reports/2026/пісня.txt"]
    assert len(list((tmp_path / "reports" / "2026").iterdir())) == 1


def test_taken_name(tmp_path: Path) -> None:
    """A taken name is refused unless `replace` is on: nobody's document disappears by accident."""
    add(tmp_path, "a.txt", b"old")
    with pytest.raises(UploadRefused, match="--replace"):
        add(tmp_path, "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    add(tmp_path, "a.txt", b"new", replace=True)
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_too_large(tmp_path: Path) -> None:
    """A file over the limit is refused while it comes, and leaves nothing."""
    with pytest.raises(FileTooLarge):
        add(tmp_path, "a.txt", bytes(1001))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "../a", "a/../../b", "/etc/x", "a//b", ".hidden", "a/.git/x", "a\x00b"])
def test_refused_name(tmp_path: Path, name: str) -> None:
    """A name that leaves the source or is hidden is refused before anything is written."""
    with pytest.raises(UploadRefused):
        add(tmp_path, name, b"x")
    assert list(tmp_path.iterdir()) == []


def test_link_leaves(tmp_path: Path) -> None:
    """A link that leaves the source is not followed, also not for a folder on the way."""
    (tmp_path / "source").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "source" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(UploadRefused, match="link"):
        add(tmp_path / "source", "link/a.txt", b"x")
    assert list((tmp_path / "outside").iterdir()) == []


def test_half_written(tmp_path: Path) -> None:
    """A file that is half written has a hidden name, and is not listed."""
    seen: list[list[str]] = []

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            seen.append(names(tmp_path))
            return super().read(3)

    add_file(str(tmp_path), "a.txt", Slow(b"some words"), Access(), max_bytes=1000)
    assert len(seen) > 3
    assert all(found == [] for found in seen)


def test_same_name_at_once(tmp_path: Path) -> None:
    """Of three uploads of one name at once one wins, and the file is that one, whole."""
    ends: list[str] = []

    def upload(letter: bytes) -> None:
        try:
            add_file(str(tmp_path), "a.txt", io.BytesIO(letter * 900_000), Access(), max_bytes=MANY)
            ends.append("added")
        except UploadRefused:
            ends.append("refused")

    threads = [threading.Thread(target=upload, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["added", "refused", "refused"]
    assert len(set((tmp_path / "a.txt").read_bytes())) == 1
    assert names(tmp_path) == ["a.txt"]


def test_memory(tmp_path: Path) -> None:
    """An upload of 50 MB costs no more memory than a small one: 256 KiB at a time."""
    big = tmp_path / "big.bin"
    with big.open("wb") as stream:
        for _ in range(50):
            stream.write(os.urandom(1024**2))
    (tmp_path / "source").mkdir()
    reset_peak()
    before = peak_memory_bytes()
    with big.open("rb") as stream:
        add_file(str(tmp_path / "source"), "big.bin", stream, Access(), max_bytes=MANY)
    assert peak_memory_bytes() - before < 4 * 1024**2


def test_bucket(seaweed: Seaweed, bucket: str, tmp_path: Path) -> None:
    """A bucket takes files whole or not at all: small, in parts, too large, taken."""
    access, source = Access(seaweed.endpoint, tmp_path, 10, 10), f"s3://{bucket}/docs"
    content = os.urandom(12 * 1024**2)
    add_file(source, "big.bin", io.BytesIO(content), access, max_bytes=MANY)
    add_file(source, "sub/small ü.txt", io.BytesIO(b"x"), access, max_bytes=MANY)
    assert sorted(names(source, access)) == ["big.bin", "sub/small ü.txt"]
    with pytest.raises(FileTooLarge):
        add_file(source, "huge.bin", io.BytesIO(bytes(20 * 1024**2)), access, max_bytes=11 * 1024**2)
    with pytest.raises(UploadRefused):
        add_file(source, "big.bin", io.BytesIO(b"y"), access, max_bytes=MANY)
    assert sorted(names(source, access)) == ["big.bin", "sub/small ü.txt"]
    versions = [
        source_of(source, access).read_version(name, max_bytes=MANY)[0] for name in ("big.bin", "sub/small ü.txt")
    ]
    assert versions == [hashlib.sha256(content).hexdigest(), hashlib.sha256(b"x").hexdigest()]


def test_url_list() -> None:
    """A list of URLs takes no files."""
    with pytest.raises(BadSetting):
        add("https://host/list.txt", "a.txt", b"x")


def test_several_files(tmp_path: Path) -> None:
    """One refused file stops no other; standard input needs a name; a source must be said."""
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    settings = replace(Settings(), sources=(str(source),))
    common = {"name": None, "replace": False, "stdin": io.BytesIO(b"piped")}
    files = [str(tmp_path / name) for name in ("a.txt", "none.txt", "b.txt")] + ["-"]
    added = list(add_files(files, to=None, settings=settings, **common))  # type: ignore[arg-type]
    assert [(one.name, one.error is None) for one in added] == [
        ("a.txt", True), ("none.txt", False), ("b.txt", True), ("-", False),
    ]  # fmt: skip
    piped = add_files(["-"], to=str(source), settings=settings, **{**common, "name": "c.txt"})  # type: ignore[arg-type]
    assert next(piped).size_bytes == 5
    with pytest.raises(ConfigurationError, match="--to"):
        next(add_files(files, to=None, settings=Settings(), **common))  # type: ignore[arg-type]
