"""A folder becomes its files, whatever lies in it; a file becomes the stream of bytes that was promised."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_pipeline.errors import (
    BadSetting,
    FileChanged,
    FileTooLarge,
    FileVanished,
    LinkLeavesSource,
    SourceUnavailable,
    UnreadableDocument,
)
from ingest_pipeline.models import ListedFile, RawFile
from ingest_pipeline.sources import canonical_source, canonical_sources, folder
from ingest_pipeline.sources.folder import Folder, open_file
from ingest_pipeline.sources.hashing import READ_BYTES, hash_pieces, pieces_of


def hash_stream(stream: io.BytesIO, *, name: str, max_bytes: int) -> tuple[str, int, bytes]:
    """Hash, length and head of a stream."""
    return hash_pieces(pieces_of(stream, name), name=name, max_bytes=max_bytes)


class PiecewiseStream(io.BytesIO):
    """A stream that remembers how it was read."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.asked: list[int] = []

    def read(self, size: int | None = -1) -> bytes:
        self.asked.append(-1 if size is None else size)
        return super().read(size)


class BrokenDisk(io.BytesIO):
    """A stream whose second read fails, as on a bad sector."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise OSError(5, "Input/output error")
        return super().read(size)


def write(folder: Path, path: str, content: bytes = b"text") -> Path:
    """Write a file, with the folders above it."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def list_files(folder: Path) -> Iterator[ListedFile]:
    """What is listed."""
    return Folder(str(folder)).files()


def paths(folder: Path) -> list[str]:
    """What is listed without a refusal."""
    return [file.path for file in list_files(folder) if file.refusal is None]


def refusals(folder: Path) -> dict[str, str]:
    """What is listed with a refusal, and why."""
    return {file.path: str(file.refusal) for file in list_files(folder) if file.refusal is not None}


def raw_file(folder: Path, path: str) -> RawFile:
    """A file as the ledger knows it, true at this moment."""
    target = folder / path
    status = target.stat()
    return RawFile(
        file_id=1,
        source=str(folder),
        path=path,
        version=hashlib.sha256(target.read_bytes()).hexdigest(),
        size_bytes=status.st_size,
        revision=f"{status.st_size} {status.st_mtime_ns}",
        media_type="text/plain",
    )


def test_empty_folder(tmp_path: Path) -> None:
    """An empty folder has no files, and is no error."""
    assert list(list_files(tmp_path)) == []


def test_order(tmp_path: Path) -> None:
    """Files come sorted by the bytes of their names, so that every machine lists alike."""
    for name in ("b.txt", "a.txt", "B.txt", "é.txt", "10.txt", "9.txt"):
        write(tmp_path, name)
    assert paths(tmp_path) == ["10.txt", "9.txt", "B.txt", "a.txt", "b.txt", "é.txt"]


def test_nested_folders(tmp_path: Path) -> None:
    """A path is relative to the source, with `/` between its parts; folders are walked in their place."""
    for path in ("b/2.txt", "b/1.txt", "a.txt", "c/d/e/f.txt", "empty/.keep"):
        write(tmp_path, path)
    assert paths(tmp_path) == ["a.txt", "b/1.txt", "b/2.txt", "c/d/e/f.txt"]


def test_listed_file(tmp_path: Path) -> None:
    """A listed file has the size and the revision of the file system, and nothing was read."""
    target = write(tmp_path, "a.txt", b"12345")
    os.utime(target, ns=(1, 1_700_000_000_123_456_789))
    assert list(list_files(tmp_path)) == [ListedFile("a.txt", 5, "5 1700000000123456789")]


def test_empty_file(tmp_path: Path) -> None:
    """An empty file is listed: what to say of it is the parser's business."""
    write(tmp_path, "a.txt", b"")
    assert paths(tmp_path) == ["a.txt"]


def test_hidden_names(tmp_path: Path) -> None:
    """Files and whole folders whose name begins with a dot are left out."""
    for path in (".git/config", ".DS_Store", "a/.cache/x.txt", "a/b.txt"):
        write(tmp_path, path)
    assert paths(tmp_path) == ["a/b.txt"]
    assert refusals(tmp_path) == {}


@pytest.mark.parametrize(
    "name",
    ["无骨鸡爪.md", "é́.txt", "emoji 😀.txt", "a\nb.txt", " lead and trail ", "-rf", "%41.txt", "a\\b.txt"],
)
def test_unusual_name(tmp_path: Path, name: str) -> None:
    """Scripts, spaces, a newline, what looks like an option: all of them are listed and opened as they are."""
    write(tmp_path, f"folder/{name}", b"inside")
    assert paths(tmp_path) == [f"folder/{name}"]
    with open_file(tmp_path, f"folder/{name}") as stream:
        assert stream.read() == b"inside"


def test_name_not_utf8(tmp_path: Path) -> None:
    """A name that is not UTF-8 is refused in a form that Postgres takes, and its neighbours are listed."""
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"x")
    write(tmp_path, "b.txt")
    found = {item.path: item for item in list_files(tmp_path)}
    assert found["caf\\xe9.txt"].refusal is not None
    assert "UTF-8" in str(found["caf\\xe9.txt"].refusal)
    assert found["b.txt"].refusal is None
    for path in found:
        path.encode("utf-8")


def test_folder_name_not_utf8(tmp_path: Path) -> None:
    """Each file in a folder whose name is not UTF-8 is refused: none is lost silently."""
    folder = tmp_path / os.fsdecode(b"\xff\xfe")
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"x")
    (folder / "b.txt").write_bytes(b"x")
    assert sorted(refusals(tmp_path)) == ["\\xff\\xfe/a.txt", "\\xff\\xfe/b.txt"]


def test_two_names_not_utf8(tmp_path: Path) -> None:
    """Two names that are not UTF-8 are shown as two different names."""
    (tmp_path / os.fsdecode(b"\xe9")).write_bytes(b"x")
    (tmp_path / os.fsdecode(b"\xe8")).write_bytes(b"x")
    assert len(refusals(tmp_path)) == 2


def test_link_to_file(tmp_path: Path) -> None:
    """A link to a file inside the source is listed with the size of that file."""
    write(tmp_path, "real.txt", b"12345")
    (tmp_path / "link.txt").symlink_to("real.txt")
    found = {item.path: item.size_bytes for item in list_files(tmp_path)}
    assert found == {"real.txt": 5, "link.txt": 5}


def test_link_to_folder(tmp_path: Path) -> None:
    """Files behind a link to a folder are listed once, and a circle of links does not hold the walk."""
    write(tmp_path, "real/a.txt")
    (tmp_path / "linked").symlink_to("real")
    (tmp_path / "real" / "up").symlink_to("..")
    assert paths(tmp_path) == ["real/a.txt"]
    assert refusals(tmp_path) == {}


def test_link_leaves(tmp_path: Path) -> None:
    """A link that leaves the source is refused: to a file or to a folder, relative or absolute."""
    write(tmp_path, "secret/passwd", b"secret")
    source = tmp_path / "source"
    source.mkdir()
    (source / "absolute.txt").symlink_to(tmp_path / "secret" / "passwd")
    (source / "relative.txt").symlink_to("../secret/passwd")
    (source / "folder").symlink_to(tmp_path / "secret")
    assert sorted(refusals(source)) == ["absolute.txt", "folder", "relative.txt"]
    assert {type(file.refusal) for file in list_files(source)} == {LinkLeavesSource}
    assert paths(source) == []


def test_link_leaves_by_link(tmp_path: Path) -> None:
    """A link is refused by where the chain of links ends."""
    write(tmp_path, "outside.txt")
    source = tmp_path / "source"
    source.mkdir()
    (source / "one").symlink_to("two")
    (source / "two").symlink_to(tmp_path / "outside.txt")
    assert sorted(refusals(source)) == ["one", "two"]


def test_link_to_sibling(tmp_path: Path) -> None:
    """`/data-old` is not inside `/data`."""
    write(tmp_path, "data-old/a.txt")
    source = tmp_path / "data"
    source.mkdir()
    (source / "a.txt").symlink_to(tmp_path / "data-old" / "a.txt")
    assert list(refusals(source)) == ["a.txt"]


def test_source_is_link(tmp_path: Path) -> None:
    """Links inside a source that is a link itself are followed."""
    write(tmp_path, "real/a.txt")
    (tmp_path / "real" / "b.txt").symlink_to("a.txt")
    (tmp_path / "alias").symlink_to("real")
    assert paths(tmp_path / "alias") == ["a.txt", "b.txt"]


def test_broken_link(tmp_path: Path) -> None:
    """A link that points to nothing is refused, not left out."""
    (tmp_path / "link.txt").symlink_to("nowhere.txt")
    assert refusals(tmp_path) == {"link.txt": f"{tmp_path}/link.txt: the link points to nothing"}


def test_link_to_itself(tmp_path: Path) -> None:
    """A loop of links is a refusal of that name, and no error of the walk."""
    (tmp_path / "loop").symlink_to("loop")
    write(tmp_path, "z.txt")
    assert list(refusals(tmp_path)) == ["loop"]
    assert paths(tmp_path) == ["z.txt"]


def test_pipe(tmp_path: Path) -> None:
    """A pipe is refused: neither listing nor opening waits for it."""
    os.mkfifo(tmp_path / "pipe")
    assert refusals(tmp_path) == {"pipe": f"{tmp_path}/pipe: not a regular file"}
    with pytest.raises(UnreadableDocument, match="not a regular file"), open_file(tmp_path, "pipe"):
        pass


def test_source_gone(tmp_path: Path) -> None:
    """A source that is gone is unavailable: an unmounted disk must not look like an empty folder."""
    with pytest.raises(SourceUnavailable, match="No such file"):
        list(list_files(tmp_path / "gone"))


def test_folder_gone_while_walked(tmp_path: Path) -> None:
    """A folder that goes while it is walked makes the source unavailable: what was not seen was not deleted."""
    write(tmp_path, "a.txt")
    write(tmp_path, "b/c.txt")
    walk = list_files(tmp_path)
    assert next(walk).path == "a.txt"
    (tmp_path / "b" / "c.txt").unlink()
    (tmp_path / "b").rmdir()
    with pytest.raises(SourceUnavailable):
        list(walk)


def test_folder_without_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without rights makes the source unavailable, also when everything else can be read."""
    write(tmp_path, "a.txt")
    write(tmp_path, "closed/b.txt")
    really = os.scandir

    def scandir(folder: Path) -> Iterator[os.DirEntry[str]]:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied")
        return really(folder)

    monkeypatch.setattr(folder.os, "scandir", scandir)
    with pytest.raises(SourceUnavailable, match=r"closed: Permission denied"):
        list(list_files(tmp_path))


def test_lazy_walk(tmp_path: Path) -> None:
    """The first file comes before the last folder is opened."""
    write(tmp_path, "a.txt")
    write(tmp_path, "z/b.txt")
    walk = list_files(tmp_path)
    assert next(walk).path == "a.txt"
    write(tmp_path, "z/c.txt")
    assert [found.path for found in walk] == ["z/b.txt", "z/c.txt"]


def test_spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`./docs`, `docs/`, the absolute path and the file URL are the same rows in the ledger."""
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = str(tmp_path / "docs")
    spellings = [
        "docs",
        "./docs",
        "docs/",
        "docs//",
        "./x/../docs",
        "~/docs",
        expected,
        f"{expected}/",
        f"file://{expected}",
    ]
    assert {spelling: canonical_source(spelling) for spelling in spellings} == dict.fromkeys(spellings, expected)
    assert canonical_sources(spellings) == [expected]


def test_sources_in_order(tmp_path: Path) -> None:
    """Each source is kept once, in the order given."""
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
    names = [str(tmp_path / "b"), str(tmp_path / "a"), f"{tmp_path}/b/"]
    assert canonical_sources(names) == [str(tmp_path / "b"), str(tmp_path / "a")]


def test_special_characters(tmp_path: Path) -> None:
    """Spaces, percent signs and question marks in a folder's name are no URL."""
    for name in ("my docs", "100%20", "what?", "a#b", "无骨"):
        (tmp_path / name).mkdir()
        assert canonical_source(str(tmp_path / name)) == str(tmp_path / name)


@pytest.mark.parametrize("name", ["ftp://host/docs", "s3://", "https://", "memory://x"])
def test_unsupported_url(name: str) -> None:
    """A URL that is not supported is a bad setting before anything is listed, with the variable's name."""
    with pytest.raises(BadSetting, match="INGEST_SOURCES"):
        canonical_source(name)


def test_no_folder(tmp_path: Path) -> None:
    """A file, or a folder that is not there, is a bad setting."""
    write(tmp_path, "a.txt")
    for name in ("a.txt", "missing"):
        with pytest.raises(BadSetting, match="an existing folder"):
            canonical_source(str(tmp_path / name))


def test_hash() -> None:
    """Digest, length and first bytes come from reads of 256 KiB."""
    content = os.urandom(3 * READ_BYTES + 17)
    stream = PiecewiseStream(content)
    version, length, head = hash_stream(stream, name="n", max_bytes=10 * READ_BYTES)
    assert version == hashlib.sha256(content).hexdigest()
    assert length == len(content)
    assert head == content[:4096]
    assert set(stream.asked) == {READ_BYTES}


def test_hash_of_nothing() -> None:
    """The version of an empty stream is the SHA-256 of nothing."""
    assert hash_stream(io.BytesIO(), name="n", max_bytes=1) == (hashlib.sha256().hexdigest(), 0, b"")


def test_size_at_limit() -> None:
    """The limit is the largest size that is allowed."""
    assert hash_stream(io.BytesIO(b"12345"), name="n", max_bytes=5)[1] == 5


def test_size_over_limit() -> None:
    """A file that grew over the limit after it was listed is not read to its end."""
    stream = PiecewiseStream(bytes(20 * READ_BYTES))
    with pytest.raises(FileTooLarge, match="INGEST_MAX_FILE_SIZE"):
        hash_stream(stream, name="n", max_bytes=2 * READ_BYTES)
    assert len(stream.asked) == 3


def test_failed_read() -> None:
    """A disk that refuses a read makes the file unreadable; the message names the file and the cause."""
    with pytest.raises(UnreadableDocument, match="some-name: reading failed: Input/output error"):
        hash_stream(BrokenDisk(bytes(READ_BYTES * 2)), name="some-name", max_bytes=10 * READ_BYTES)


def test_descriptor(tmp_path: Path) -> None:
    """A file is opened by a real descriptor, which the sandbox hands to its child; afterwards it is closed."""
    write(tmp_path, "a/b.txt", b"inside")
    with open_file(tmp_path, "a/b.txt") as stream:
        assert os.pread(stream.fileno(), 6, 0) == b"inside"
        assert os.get_inheritable(stream.fileno()) is False
    assert stream.closed


def test_open_vanished(tmp_path: Path) -> None:
    """A file that is gone is FileVanished when it is opened."""
    with pytest.raises(FileVanished, match=r"a\.txt"), open_file(tmp_path, "a.txt"):
        pass


def test_folder_became_file(tmp_path: Path) -> None:
    """`a/b.txt` where `a` is now a file is gone, or unreadable, but typed."""
    write(tmp_path, "a")
    with pytest.raises((FileVanished, UnreadableDocument)), open_file(tmp_path, "a/b.txt"):
        pass


def test_open_folder(tmp_path: Path) -> None:
    """A folder in the file's place is refused."""
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(UnreadableDocument), open_file(tmp_path, "a.txt"):
        pass


@pytest.mark.parametrize("path", ["link.txt", "folder/passwd", "../secret/passwd", "/etc/passwd"])
def test_no_way_out(tmp_path: Path, path: str) -> None:
    """A link, a linked folder, dots, an absolute path: none is opened outside the source."""
    write(tmp_path, "secret/passwd")
    source = tmp_path / "source"
    source.mkdir()
    (source / "link.txt").symlink_to(tmp_path / "secret" / "passwd")
    (source / "folder").symlink_to(tmp_path / "secret")
    with pytest.raises(LinkLeavesSource), open_file(source, path):
        pass


def test_open_link(tmp_path: Path) -> None:
    """A link inside the source is opened, as it was listed."""
    write(tmp_path, "real.txt", b"inside")
    (tmp_path / "link.txt").symlink_to("real.txt")
    with open_file(tmp_path, "link.txt") as stream:
        assert stream.read() == b"inside"


def test_open_link_to_itself(tmp_path: Path) -> None:
    """A loop put in the file's place after the listing is a typed error on every Python."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UnreadableDocument), open_file(tmp_path, "loop"):
        pass


def test_file_without_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without rights is unreadable, and the message says why."""
    write(tmp_path, "a.txt")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folder.os, "open", refuse)
    with (
        pytest.raises(UnreadableDocument, match=r"a\.txt: cannot be opened: Permission denied"),
        open_file(tmp_path, "a.txt"),
    ):
        pass


def test_verify_touched(tmp_path: Path) -> None:
    """The same bytes under a new time are the same version."""
    target = write(tmp_path, "a.txt", b"sealed")
    file = raw_file(tmp_path, "a.txt")
    os.utime(target, ns=(5, 5))
    Folder(file.source).verify(file, max_bytes=100)
    assert target.read_bytes() == b"sealed"


def test_verify_changed(tmp_path: Path) -> None:
    """Other bytes of the same size and time have changed: the hash is what counts."""
    target = write(tmp_path, "a.txt", b"sealed")
    os.utime(target, ns=(1, 1))
    file = raw_file(tmp_path, "a.txt")
    target.write_bytes(b"edited")
    os.utime(target, ns=(1, 1))
    with pytest.raises(FileChanged, match=r"a\.txt"):
        Folder(file.source).verify(file, max_bytes=100)


def test_verify_too_large(tmp_path: Path) -> None:
    """A file that grew over the limit is too large to verify."""
    target = write(tmp_path, "a.txt", b"sealed")
    file = raw_file(tmp_path, "a.txt")
    target.write_bytes(b"x" * 101)
    with pytest.raises(FileTooLarge):
        Folder(file.source).verify(file, max_bytes=100)


def test_verify_vanished(tmp_path: Path) -> None:
    """A file that is gone is FileVanished when it is verified."""
    target = write(tmp_path, "a.txt", b"sealed")
    file = raw_file(tmp_path, "a.txt")
    target.unlink()
    with pytest.raises(FileVanished):
        Folder(file.source).verify(file, max_bytes=100)


def test_open_unchanged(tmp_path: Path) -> None:
    """The bytes of an unchanged version come from the start."""
    write(tmp_path, "a.txt", b"sealed")
    file = raw_file(tmp_path, "a.txt")
    with Folder(file.source).open_version(file, max_bytes=10**9) as stream:
        assert stream.read() == b"sealed"


@pytest.mark.parametrize("change", ["size", "time"])
def test_open_touched(tmp_path: Path, change: str) -> None:
    """A version whose size or time moved before it was opened is not read."""
    target = write(tmp_path, "a.txt", b"sealed")
    os.utime(target, ns=(5, 5))
    file = raw_file(tmp_path, "a.txt")
    if change == "size":
        target.write_bytes(b"sealed!")
        os.utime(target, ns=(5, 5))
    else:
        os.utime(target, ns=(6, 6))
    with pytest.raises(FileChanged), Folder(file.source).open_version(file, max_bytes=10**9):
        pytest.fail("the body ran on changed bytes")


def test_written_while_read(tmp_path: Path) -> None:
    """A version that is written to while it is read has changed: what was read is not to be trusted."""
    target = write(tmp_path, "a.txt", b"sealed")
    file = raw_file(tmp_path, "a.txt")
    read = b""
    with pytest.raises(FileChanged), Folder(file.source).open_version(file, max_bytes=10**9) as stream:
        read = stream.read()
        with target.open("ab") as writer:
            writer.write(b" and more")
    assert read == b"sealed"


def test_replaced_while_read(tmp_path: Path) -> None:
    """A rename over the file changes the name, not the open bytes."""
    write(tmp_path, "a.txt", b"sealed")
    file = raw_file(tmp_path, "a.txt")
    with Folder(file.source).open_version(file, max_bytes=10**9) as stream:
        write(tmp_path, "b.txt", b"newer!").replace(tmp_path / "a.txt")
        assert stream.read() == b"sealed"
