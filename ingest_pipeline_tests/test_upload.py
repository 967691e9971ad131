"""`ingest add`: streamed, within the limit, whole or not at all, in a folder as in a bucket."""

from __future__ import annotations

import io
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_pipeline.errors import BadSetting, ConfigurationError, FileTooLarge, UploadRefused
from ingest_pipeline.memory.process import peak_memory_bytes, reset_peak
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import Access, list_files, read_version
from ingest_pipeline.sources.upload import add_file
from ingest_pipeline.stages.uploads import add_files
from ingest_pipeline_tests.servers import Seaweed

MANY = 10**9


def add(source: Path | str, name: str, content: bytes, *, access: Access | None = None, **more: bool) -> int:
    return add_file(str(source), name, io.BytesIO(content), access or Access(), max_bytes=1000, **more)


def names(source: Path | str, access: Access | None = None) -> list[str]:
    return [file.path for file in list_files(str(source), access or Access())]


def test_a_file_is_there_as_it_was_given(tmp_path: Path) -> None:
    """With the folders above it; nothing else is left."""
    assert add(tmp_path, "reports/2026/пісня.txt", b"words") == 5
    assert (tmp_path / "reports" / "2026" / "пісня.txt").read_bytes() == b"words"
    assert names(tmp_path) == ["reports/2026/пісня.txt"]
    assert len(list((tmp_path / "reports" / "2026").iterdir())) == 1


def test_a_taken_name_is_refused_unless_replaced(tmp_path: Path) -> None:
    """Nobody's document disappears by accident."""
    add(tmp_path, "a.txt", b"old")
    with pytest.raises(UploadRefused, match="--replace"):
        add(tmp_path, "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"old"
    add(tmp_path, "a.txt", b"new", replace=True)
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_too_much_leaves_nothing(tmp_path: Path) -> None:
    """The limit is checked while it comes."""
    with pytest.raises(FileTooLarge):
        add(tmp_path, "a.txt", bytes(1001))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "../a", "a/../../b", "/etc/x", "a//b", ".hidden", "a/.git/x", "a\x00b"])
def test_a_name_that_leaves_the_source_or_hides_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything is written."""
    with pytest.raises(UploadRefused):
        add(tmp_path, name, b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leaves_the_source_is_not_followed(tmp_path: Path) -> None:
    """Also not for a folder on the way."""
    (tmp_path / "source").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "source" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(UploadRefused, match="link"):
        add(tmp_path / "source", "link/a.txt", b"x")
    assert list((tmp_path / "outside").iterdir()) == []


def test_nobody_lists_half_a_file(tmp_path: Path) -> None:
    """While it grows it has a hidden name."""
    seen: list[list[str]] = []

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            seen.append(names(tmp_path))
            return super().read(3)

    add_file(str(tmp_path), "a.txt", Slow(b"some words"), Access(), max_bytes=1000)
    assert len(seen) > 3
    assert all(found == [] for found in seen)


def test_of_two_uploads_of_one_name_one_wins(tmp_path: Path) -> None:
    """The other is told so; the file is one of the two, whole."""
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


def test_fifty_megabytes_cost_no_memory(tmp_path: Path) -> None:
    """What the upload report asked for: 256 KiB at a time."""
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


def test_a_bucket_takes_files_whole_or_not_at_all(seaweed: Seaweed, bucket: str, tmp_path: Path) -> None:
    """Small, large enough to go up in parts, too large, taken."""
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
    assert (
        read_version(source, "big.bin", access, max_bytes=MANY)[0]
        != read_version(source, "sub/small ü.txt", access, max_bytes=MANY)[0]
    )


def test_a_list_of_urls_takes_no_files() -> None:
    """It is somebody else's."""
    with pytest.raises(BadSetting):
        add("https://host/list.txt", "a.txt", b"x")


def test_one_refused_file_stops_no_other(tmp_path: Path) -> None:
    """Each has its own line; standard input needs a name; a source must be said."""
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
