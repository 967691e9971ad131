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
from ingest_pipeline.sources import Access, canonical_source, canonical_sources, local, open_version, verify_version
from ingest_pipeline.sources.hashing import READ_BYTES, hash_pieces, pieces_of
from ingest_pipeline.sources.local import list_files, open_file


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


def paths(folder: Path) -> list[str]:
    """What is listed without a refusal."""
    return [found.path for found in list_files(str(folder)) if found.refusal is None]


def refusals(folder: Path) -> dict[str, str]:
    """What is listed with a refusal, and why."""
    return {found.path: found.refusal for found in list_files(str(folder)) if found.refusal is not None}


def raw_file(folder: Path, path: str) -> RawFile:
    """A file as the ledger knows it, true at this moment."""
    target = folder / path
    facts = target.stat()
    return RawFile(
        file_id=1,
        source=str(folder),
        path=path,
        version=hashlib.sha256(target.read_bytes()).hexdigest(),
        size_bytes=facts.st_size,
        modified_ns=facts.st_mtime_ns,
        media_type="text/plain",
    )


def test_an_empty_folder_has_no_files(tmp_path: Path) -> None:
    """Nothing, and no error."""
    assert list(list_files(str(tmp_path))) == []


def test_files_come_sorted_within_each_folder(tmp_path: Path) -> None:
    """By the bytes of their names, so that every machine lists alike."""
    for name in ("b.txt", "a.txt", "B.txt", "é.txt", "10.txt", "9.txt"):
        write(tmp_path, name)
    assert paths(tmp_path) == ["10.txt", "9.txt", "B.txt", "a.txt", "b.txt", "é.txt"]


def test_nested_folders_are_walked_in_their_place(tmp_path: Path) -> None:
    """A path is relative to the source, with `/` between its parts."""
    for path in ("b/2.txt", "b/1.txt", "a.txt", "c/d/e/f.txt", "empty/.keep"):
        write(tmp_path, path)
    assert paths(tmp_path) == ["a.txt", "b/1.txt", "b/2.txt", "c/d/e/f.txt"]


def test_a_listed_file_has_its_size_and_time(tmp_path: Path) -> None:
    """Cheap facts only, and exactly those of the file system."""
    target = write(tmp_path, "a.txt", b"12345")
    os.utime(target, ns=(1, 1_700_000_000_123_456_789))
    assert list(list_files(str(tmp_path))) == [ListedFile("a.txt", 5, 1_700_000_000_123_456_789, None)]


def test_an_empty_file_is_listed(tmp_path: Path) -> None:
    """It is there: what to say of it is the parser's business."""
    write(tmp_path, "a.txt", b"")
    assert paths(tmp_path) == ["a.txt"]


def test_hidden_names_are_left_out(tmp_path: Path) -> None:
    """Files and whole folders whose name begins with a dot."""
    for path in (".git/config", ".DS_Store", "a/.cache/x.txt", "a/b.txt"):
        write(tmp_path, path)
    assert paths(tmp_path) == ["a/b.txt"]
    assert refusals(tmp_path) == {}


@pytest.mark.parametrize(
    "name",
    ["无骨鸡爪.md", "é́.txt", "emoji 😀.txt", "a\nb.txt", " lead and trail ", "-rf", "%41.txt", "a\\b.txt"],
)
def test_a_strange_name_is_listed_and_opened_as_it_is(tmp_path: Path, name: str) -> None:
    """Scripts, spaces, a newline, what looks like an option: all of them are names."""
    write(tmp_path, f"folder/{name}", b"inside")
    assert paths(tmp_path) == [f"folder/{name}"]
    with open_file(str(tmp_path), f"folder/{name}") as stream:
        assert stream.read() == b"inside"


def test_a_name_that_is_not_utf8_is_refused_with_a_name_that_can_be_stored(tmp_path: Path) -> None:
    """Postgres takes no such name: the file is reported in a readable form, and its neighbours are listed."""
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"x")
    write(tmp_path, "b.txt")
    found = {item.path: item for item in list_files(str(tmp_path))}
    assert found["caf\\xe9.txt"].refusal is not None
    assert "UTF-8" in str(found["caf\\xe9.txt"].refusal)
    assert found["b.txt"].refusal is None
    for path in found:
        path.encode("utf-8")


def test_a_folder_whose_name_is_not_utf8_refuses_each_file_in_it(tmp_path: Path) -> None:
    """None of them is lost silently."""
    folder = tmp_path / os.fsdecode(b"\xff\xfe")
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"x")
    (folder / "b.txt").write_bytes(b"x")
    assert sorted(refusals(tmp_path)) == ["\\xff\\xfe/a.txt", "\\xff\\xfe/b.txt"]


def test_two_names_that_are_not_utf8_stay_two_files(tmp_path: Path) -> None:
    """What is shown tells them apart."""
    (tmp_path / os.fsdecode(b"\xe9")).write_bytes(b"x")
    (tmp_path / os.fsdecode(b"\xe8")).write_bytes(b"x")
    assert len(refusals(tmp_path)) == 2


def test_a_link_to_a_file_inside_the_source_is_listed(tmp_path: Path) -> None:
    """With the facts of the file that it leads to."""
    write(tmp_path, "real.txt", b"12345")
    (tmp_path / "link.txt").symlink_to("real.txt")
    found = {item.path: item.size_bytes for item in list_files(str(tmp_path))}
    assert found == {"real.txt": 5, "link.txt": 5}


def test_a_link_to_a_folder_inside_lists_nothing_twice(tmp_path: Path) -> None:
    """Its files are listed where they are; a circle of links does not hold the walk."""
    write(tmp_path, "real/a.txt")
    (tmp_path / "linked").symlink_to("real")
    (tmp_path / "real" / "up").symlink_to("..")
    assert paths(tmp_path) == ["real/a.txt"]
    assert refusals(tmp_path) == {}


def test_a_link_that_leaves_the_source_is_refused(tmp_path: Path) -> None:
    """To a file or to a folder, relative or absolute."""
    write(tmp_path, "secret/passwd", b"secret")
    source = tmp_path / "source"
    source.mkdir()
    (source / "absolute.txt").symlink_to(tmp_path / "secret" / "passwd")
    (source / "relative.txt").symlink_to("../secret/passwd")
    (source / "folder").symlink_to(tmp_path / "secret")
    assert sorted(refusals(source)) == ["absolute.txt", "folder", "relative.txt"]
    assert all("leaves its source" in reason for reason in refusals(source).values())
    assert paths(source) == []


def test_a_link_by_way_of_a_link_that_leaves_is_refused(tmp_path: Path) -> None:
    """It is the end of the chain that counts."""
    write(tmp_path, "outside.txt")
    source = tmp_path / "source"
    source.mkdir()
    (source / "one").symlink_to("two")
    (source / "two").symlink_to(tmp_path / "outside.txt")
    assert sorted(refusals(source)) == ["one", "two"]


def test_a_source_beside_another_of_the_same_beginning_is_outside(tmp_path: Path) -> None:
    """`/data-old` is not inside `/data`."""
    write(tmp_path, "data-old/a.txt")
    source = tmp_path / "data"
    source.mkdir()
    (source / "a.txt").symlink_to(tmp_path / "data-old" / "a.txt")
    assert list(refusals(source)) == ["a.txt"]


def test_links_inside_a_source_that_is_a_link_itself_are_followed(tmp_path: Path) -> None:
    """The source's own spelling does not matter."""
    write(tmp_path, "real/a.txt")
    (tmp_path / "real" / "b.txt").symlink_to("a.txt")
    (tmp_path / "alias").symlink_to("real")
    assert paths(tmp_path / "alias") == ["a.txt", "b.txt"]


def test_a_broken_link_is_refused(tmp_path: Path) -> None:
    """It is reported, not left out."""
    (tmp_path / "link.txt").symlink_to("nowhere.txt")
    assert refusals(tmp_path) == {"link.txt": "the link points to nothing"}


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    """A loop of links is a refusal of that name, and no error of the walk."""
    (tmp_path / "loop").symlink_to("loop")
    write(tmp_path, "z.txt")
    assert list(refusals(tmp_path)) == ["loop"]
    assert paths(tmp_path) == ["z.txt"]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """Neither listing nor opening hangs."""
    os.mkfifo(tmp_path / "pipe")
    assert refusals(tmp_path) == {"pipe": "not a regular file"}
    with pytest.raises(UnreadableDocument, match="not a regular file"), open_file(str(tmp_path), "pipe"):
        pass


def test_a_source_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    """An unmounted disk must not look like an empty folder."""
    with pytest.raises(SourceUnavailable, match="No such file"):
        list(list_files(str(tmp_path / "gone")))


def test_a_folder_that_goes_while_it_is_walked_makes_the_source_unavailable(tmp_path: Path) -> None:
    """What was not seen was not deleted."""
    write(tmp_path, "a.txt")
    write(tmp_path, "b/c.txt")
    walk = list_files(str(tmp_path))
    assert next(walk).path == "a.txt"
    (tmp_path / "b" / "c.txt").unlink()
    (tmp_path / "b").rmdir()
    with pytest.raises(SourceUnavailable):
        list(walk)


def test_a_folder_without_rights_makes_the_source_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when everything else can be read."""
    write(tmp_path, "a.txt")
    write(tmp_path, "closed/b.txt")
    really = os.scandir

    def scandir(folder: Path) -> Iterator[os.DirEntry[str]]:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied")
        return really(folder)

    monkeypatch.setattr(local.os, "scandir", scandir)
    with pytest.raises(SourceUnavailable, match=r"closed: Permission denied"):
        list(list_files(str(tmp_path)))


def test_the_walk_is_lazy(tmp_path: Path) -> None:
    """The first file comes before the last folder is opened."""
    write(tmp_path, "a.txt")
    write(tmp_path, "z/b.txt")
    walk = list_files(str(tmp_path))
    assert next(walk).path == "a.txt"
    write(tmp_path, "z/c.txt")
    assert [found.path for found in walk] == ["z/b.txt", "z/c.txt"]


def test_every_spelling_of_a_folder_is_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_sources_keep_their_order(tmp_path: Path) -> None:
    """Each once, in the order given."""
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
    names = [str(tmp_path / "b"), str(tmp_path / "a"), f"{tmp_path}/b/"]
    assert canonical_sources(names) == [str(tmp_path / "b"), str(tmp_path / "a")]


def test_a_folder_name_with_special_characters_is_a_folder(tmp_path: Path) -> None:
    """Spaces, percent signs and question marks are no URL."""
    for name in ("my docs", "100%20", "what?", "a#b", "无骨"):
        (tmp_path / name).mkdir()
        assert canonical_source(str(tmp_path / name)) == str(tmp_path / name)


@pytest.mark.parametrize("name", ["ftp://host/docs", "s3://", "https://", "memory://x"])
def test_a_source_that_is_no_local_folder_is_a_bad_setting(name: str) -> None:
    """Before anything is listed, with the variable's name, whether or not a driver is installed."""
    with pytest.raises(BadSetting, match="INGEST_SOURCES"):
        canonical_source(name)


def test_a_source_that_is_a_file_or_is_not_there_is_a_bad_setting(tmp_path: Path) -> None:
    """A source is a folder that exists."""
    write(tmp_path, "a.txt")
    for name in ("a.txt", "missing"):
        with pytest.raises(BadSetting, match="an existing folder"):
            canonical_source(str(tmp_path / name))


def test_a_stream_is_hashed_in_pieces() -> None:
    """Digest, length and first bytes come from reads of 256 KiB."""
    content = os.urandom(3 * READ_BYTES + 17)
    stream = PiecewiseStream(content)
    version, length, head = hash_stream(stream, name="n", max_bytes=10 * READ_BYTES)
    assert version == hashlib.sha256(content).hexdigest()
    assert length == len(content)
    assert head == content[:4096]
    assert set(stream.asked) == {READ_BYTES}


def test_an_empty_stream_has_a_version() -> None:
    """The SHA-256 of nothing."""
    assert hash_stream(io.BytesIO(), name="n", max_bytes=1) == (hashlib.sha256().hexdigest(), 0, b"")


def test_a_file_exactly_at_the_limit_is_hashed() -> None:
    """The limit is the largest size that is allowed."""
    assert hash_stream(io.BytesIO(b"12345"), name="n", max_bytes=5)[1] == 5


def test_a_file_larger_than_the_limit_is_refused_while_it_streams() -> None:
    """A file that grew after it was listed is not read to its end."""
    stream = PiecewiseStream(bytes(20 * READ_BYTES))
    with pytest.raises(FileTooLarge, match="INGEST_MAX_FILE_SIZE"):
        hash_stream(stream, name="n", max_bytes=2 * READ_BYTES)
    assert len(stream.asked) == 3


def test_a_disk_that_refuses_a_read_makes_the_file_unreadable() -> None:
    """The message names the file and the cause."""
    with pytest.raises(UnreadableDocument, match="some-name: reading failed: Input/output error"):
        hash_stream(BrokenDisk(bytes(READ_BYTES * 2)), name="some-name", max_bytes=10 * READ_BYTES)


def test_a_file_is_opened_by_a_real_descriptor(tmp_path: Path) -> None:
    """The sandbox hands it to the child; afterwards it is closed."""
    write(tmp_path, "a/b.txt", b"inside")
    with open_file(str(tmp_path), "a/b.txt") as stream:
        assert os.pread(stream.fileno(), 6, 0) == b"inside"
        assert os.get_inheritable(stream.fileno()) is False
    assert stream.closed


def test_a_file_that_is_gone_has_vanished(tmp_path: Path) -> None:
    """The next catalog settles it."""
    with pytest.raises(FileVanished, match=r"a\.txt"), open_file(str(tmp_path), "a.txt"):
        pass


def test_a_file_whose_folder_became_a_file_is_a_typed_error(tmp_path: Path) -> None:
    """`a/b.txt` where `a` is now a file: gone, or unreadable, but typed."""
    write(tmp_path, "a")
    with pytest.raises((FileVanished, UnreadableDocument)), open_file(str(tmp_path), "a/b.txt"):
        pass


def test_a_folder_is_not_a_document(tmp_path: Path) -> None:
    """A folder in the file's place is refused."""
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(UnreadableDocument), open_file(str(tmp_path), "a.txt"):
        pass


@pytest.mark.parametrize("path", ["link.txt", "folder/passwd", "../secret/passwd", "/etc/passwd"])
def test_no_path_leads_out_of_its_source(tmp_path: Path, path: str) -> None:
    """A link, a linked folder, dots, an absolute path: none is opened."""
    write(tmp_path, "secret/passwd")
    source = tmp_path / "source"
    source.mkdir()
    (source / "link.txt").symlink_to(tmp_path / "secret" / "passwd")
    (source / "folder").symlink_to(tmp_path / "secret")
    with pytest.raises(LinkLeavesSource), open_file(str(source), path):
        pass


def test_a_link_inside_the_source_is_opened(tmp_path: Path) -> None:
    """As it was listed."""
    write(tmp_path, "real.txt", b"inside")
    (tmp_path / "link.txt").symlink_to("real.txt")
    with open_file(str(tmp_path), "link.txt") as stream:
        assert stream.read() == b"inside"


def test_a_link_to_itself_cannot_be_opened(tmp_path: Path) -> None:
    """A loop put in the file's place after the listing is a typed error on every Python."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UnreadableDocument), open_file(str(tmp_path), "loop"):
        pass


def test_a_file_without_rights_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says why."""
    write(tmp_path, "a.txt")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(local.os, "open", refuse)
    with (
        pytest.raises(UnreadableDocument, match=r"a\.txt: cannot be opened: Permission denied"),
        open_file(str(tmp_path), "a.txt"),
    ):
        pass


def test_a_file_with_the_sealed_bytes_is_verified(tmp_path: Path) -> None:
    """The same bytes under a new time are the same version."""
    target = write(tmp_path, "a.txt", b"sealed")
    file = raw_file(tmp_path, "a.txt")
    os.utime(target, ns=(5, 5))
    verify_version(file, Access(), max_bytes=100)
    assert target.read_bytes() == b"sealed"


def test_other_bytes_of_the_same_size_and_time_have_changed(tmp_path: Path) -> None:
    """The hash is what counts."""
    target = write(tmp_path, "a.txt", b"sealed")
    file = raw_file(tmp_path, "a.txt")
    target.write_bytes(b"edited")
    os.utime(target, ns=(file.modified_ns, file.modified_ns))
    with pytest.raises(FileChanged, match=r"a\.txt"):
        verify_version(file, Access(), max_bytes=100)


def test_a_file_that_grew_over_the_limit_is_too_large_to_verify(tmp_path: Path) -> None:
    """As for hashing."""
    target = write(tmp_path, "a.txt", b"sealed")
    file = raw_file(tmp_path, "a.txt")
    target.write_bytes(b"x" * 101)
    with pytest.raises(FileTooLarge):
        verify_version(file, Access(), max_bytes=100)


def test_a_file_that_is_gone_cannot_be_verified(tmp_path: Path) -> None:
    """As for opening."""
    target = write(tmp_path, "a.txt", b"sealed")
    file = raw_file(tmp_path, "a.txt")
    target.unlink()
    with pytest.raises(FileVanished):
        verify_version(file, Access(), max_bytes=100)


def test_an_unchanged_version_is_opened(tmp_path: Path) -> None:
    """Its bytes come from the start."""
    write(tmp_path, "a.txt", b"sealed")
    with open_version(raw_file(tmp_path, "a.txt"), Access(), max_bytes=10**9) as stream:
        assert stream.read() == b"sealed"


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_version_that_was_touched_before_opening_has_changed(tmp_path: Path, change: str) -> None:
    """Cheap facts moved: nothing is read."""
    target = write(tmp_path, "a.txt", b"sealed")
    file = raw_file(tmp_path, "a.txt")
    if change == "size":
        target.write_bytes(b"sealed!")
        os.utime(target, ns=(file.modified_ns, file.modified_ns))
    else:
        os.utime(target, ns=(file.modified_ns + 1, file.modified_ns + 1))
    with pytest.raises(FileChanged), open_version(file, Access(), max_bytes=10**9):
        pytest.fail("the body ran on changed bytes")


def test_a_version_that_is_written_to_while_it_is_read_has_changed(tmp_path: Path) -> None:
    """The pages that were read are not to be trusted."""
    target = write(tmp_path, "a.txt", b"sealed")
    file = raw_file(tmp_path, "a.txt")
    read = b""
    with pytest.raises(FileChanged), open_version(file, Access(), max_bytes=10**9) as stream:
        read = stream.read()
        with target.open("ab") as writer:
            writer.write(b" and more")
    assert read == b"sealed"


def test_a_version_that_is_replaced_while_it_is_read_stays_itself(tmp_path: Path) -> None:
    """An atomic rename changes the name, not the open bytes."""
    write(tmp_path, "a.txt", b"sealed")
    file = raw_file(tmp_path, "a.txt")
    with open_version(file, Access(), max_bytes=10**9) as stream:
        write(tmp_path, "b.txt", b"newer!").replace(tmp_path / "a.txt")
        assert stream.read() == b"sealed"
