"""Documents travel with a backup: from a folder or a bucket, into the same or another one, and nowhere else."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.errors import BackupRefused
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import Access
from ingest_pipeline.stages import documents
from ingest_pipeline.store.connection import Connection, store
from ingest_pipeline_tests.command import Command
from ingest_pipeline_tests.conftest import fresh_database
from ingest_pipeline_tests.documents import add_file
from ingest_pipeline_tests.pipeline import Pipeline
from ingest_pipeline_tests.servers import Seaweed, filesystem

TEXTS = {"a.txt": b"One text. " * 50, "sub/über uns.md": b"# Two\n\ntext\n", "sub/" + "long " * 40 + ".txt": b"Three."}


@pytest.fixture
def other_url(server: Any, template: str) -> Iterator[str]:
    """Another empty database."""
    with fresh_database(server, template) as url:
        yield url


@pytest.fixture
def pipeline(connection: Connection, settings: Settings) -> Iterator[Pipeline]:
    with Sandbox(memory_limit_bytes=512 * 1024**2) as sandbox:
        yield Pipeline(connection, settings, sandbox)


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(settings, monkeypatch, capsys)


def write_texts(folder: Path) -> None:
    """The documents, in a folder."""
    for path, text in TEXTS.items():
        (folder / path).parent.mkdir(exist_ok=True, parents=True)
        (folder / path).write_bytes(text)


def read_texts(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_folder_there_and_back(
    pipeline: Pipeline, source: Path, command: Command, other_url: str, tmp_path: Path
) -> None:
    """The documents come back to where they were; a second restore finds them there, and nothing is parsed again."""
    write_texts(source)
    (source / "out.txt").symlink_to("/etc/hostname")
    pipeline.ingest()
    [written] = command.json("backup", str(tmp_path / "b.tar"), "--with-documents")
    assert (written["documents"]["files"], written["documents"]["left_out"]) == (3, {"LinkLeavesSource": 1})
    (source / "out.txt").unlink()
    shutil.rmtree(source)
    [restored] = command.json("restore", str(tmp_path / "b.tar"), "--to", other_url, "--with-documents")
    assert (restored["documents"]["files"], restored["documents"]["unchanged"]) == (3, 0)
    assert read_texts(source) == TEXTS
    with store(other_url) as there, Sandbox(memory_limit_bytes=512 * 1024**2) as sandbox:
        assert Pipeline(there, pipeline.settings, sandbox).ingest() == (0, 0)
        there.execute("TRUNCATE files, batches, generations, models, attempts CASCADE")
    [again] = command.json("restore", str(tmp_path / "b.tar"), "--to", other_url, "--with-documents")
    assert (again["documents"]["files"], again["documents"]["unchanged"]) == (0, 3)


def test_documents_under_another_name(
    pipeline: Pipeline, source: Path, command: Command, other_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--source OLD=NEW` with documents: they are written there, and the ledger spells the folder as a source is."""
    write_texts(source)
    pipeline.ingest()
    command("backup", str(tmp_path / "b.tar"), "--with-documents")
    monkeypatch.chdir(tmp_path)
    naming = ("--source", f"{source}=./new/", "--with-documents")
    [restored] = command.json("restore", str(tmp_path / "b.tar"), "--to", other_url, *naming)
    assert restored["sources"] == {str(source): str(tmp_path / "new")}
    assert read_texts(tmp_path / "new") == TEXTS
    with store(other_url) as there:
        assert there.execute("SELECT DISTINCT source FROM files").fetchall() == [(str(tmp_path / "new"),)]


def test_into_another_folder(
    pipeline: Pipeline, source: Path, command: Command, other_url: str, tmp_path: Path
) -> None:
    """`--documents-to`: the sources are folders of that place from then on, and nothing is parsed again."""
    write_texts(source)
    pipeline.ingest()
    command("backup", str(tmp_path / "b.tar"), "--with-documents")
    place = tmp_path / "elsewhere"
    dry = command.json("restore", str(tmp_path / "b.tar"), "--to", other_url, "--documents-to", str(place), "--dry-run")
    assert not place.exists()
    [restored] = command.json("restore", str(tmp_path / "b.tar"), "--to", other_url, "--documents-to", str(place))
    moved = place / "documents"
    assert restored["sources"] == dry[0]["sources"] == {str(source): str(moved)}
    assert read_texts(moved) == TEXTS
    with store(other_url) as there, Sandbox(memory_limit_bytes=512 * 1024**2) as sandbox:
        assert Pipeline(there, replace(pipeline.settings, sources=(str(moved),)), sandbox).ingest() == (0, 0)
        assert there.execute("SELECT DISTINCT source, status FROM files").fetchall() == [(str(moved), "indexed")]


def test_a_bucket_there_and_back(
    pipeline: Pipeline, command: Command, other_url: str, tmp_path: Path, seaweed: Seaweed, bucket: str
) -> None:
    """From a bucket into the same bucket, emptied, and into a folder."""
    files, name = filesystem(seaweed.endpoint), f"s3://{bucket}/docs"
    big = os.urandom(12 * 1024**2)
    for path, text in {**TEXTS, "big.bin": big}.items():
        files.call_s3("put_object", Bucket=bucket, Key=f"docs/{path}", Body=text)
    pipeline.settings = replace(pipeline.settings, sources=(name,), s3_endpoint=seaweed.endpoint)
    pipeline.ingest()
    command.patch.setenv("INGEST_S3_ENDPOINT", seaweed.endpoint)
    [written] = command.json("backup", str(tmp_path / "b.tar"), "--with-documents")
    assert (written["documents"]["files"], written["documents"]["left_out"]) == (4, {})
    for path in (*TEXTS, "big.bin"):
        files.call_s3("delete_object", Bucket=bucket, Key=f"docs/{path}")
    [restored] = command.json("restore", str(tmp_path / "b.tar"), "--to", other_url, "--with-documents")
    assert restored["documents"]["files"] == 4
    body = files.call_s3("get_object", Bucket=bucket, Key="docs/big.bin")["Body"]
    assert hashlib.sha256(files.cat_file(f"{bucket}/docs/big.bin")).digest() == hashlib.sha256(big).digest()
    body.close()
    with store(other_url) as there:
        there.execute("TRUNCATE files, batches, generations, models, attempts CASCADE")
    command("restore", str(tmp_path / "b.tar"), "--to", other_url, "--documents-to", str(tmp_path / "out"))
    assert read_texts(tmp_path / "out" / "docs") == {**TEXTS, "big.bin": big}


def test_a_document_in_the_way_stays(
    pipeline: Pipeline, source: Path, command: Command, other_url: str, tmp_path: Path
) -> None:
    """A restore replaces no document: it says so, and ends with exit code 1; the rest is restored."""
    write_texts(source)
    pipeline.ingest()
    command("backup", str(tmp_path / "b.tar"), "--with-documents")
    (source / "a.txt").write_bytes(b"mine")
    ended = command.ended("restore", str(tmp_path / "b.tar"), "--to", other_url, "--with-documents")
    assert ended.code == 1
    assert "1 documents not copied: UploadRefused" in ended.out
    assert (source / "a.txt").read_bytes() == b"mine"
    with store(other_url) as there:
        assert there.execute("SELECT count(*) FROM searchable_chunks").fetchone() != (0,)


def test_no_documents_in_it(pipeline: Pipeline, source: Path, command: Command, other_url: str, tmp_path: Path) -> None:
    """Asking for documents that a backup has not is a mistake; a source that is away refuses the backup."""
    write_texts(source)
    pipeline.ingest()
    command("backup", str(tmp_path / "b.tar"))
    message = command.mistake("restore", str(tmp_path / "b.tar"), "--to", other_url, "--with-documents")
    assert "has no documents" in message
    shutil.rmtree(source)
    assert str(source) in command.mistake("backup", str(tmp_path / "c.tar"), "--with-documents", code=1)
    assert list(tmp_path.glob("c.tar*")) == []


def tar_of(*members: tarfile.TarInfo) -> io.BytesIO:
    """A tar of these members, without data."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    written.seek(0)
    return written


@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "/etc/passwd",
        "docs/../../a",
        "docs//etc/passwd",
        "docs/.ssh/key",
        "docs/./a",
        "docs",
        "other/a",
        "docs/",
    ],
)
def test_hostile_names_are_refused(name: str) -> None:
    """Names that leave their source, are absolute, hidden, or of another source."""
    with (
        tarfile.open(fileobj=tar_of(tarfile.TarInfo("docs/good"), tarfile.TarInfo(name))) as tar,
        pytest.raises(BackupRefused, match="nothing is restored"),
    ):
        documents.refuse_hostile(tar, {"docs": "/documents"})


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_hostile_members_are_refused(kind: bytes) -> None:
    """Links, pipes, devices and folders."""
    member = tarfile.TarInfo("docs/a")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(fileobj=tar_of(member)) as tar, pytest.raises(BackupRefused, match="nothing is restored"):
        documents.refuse_hostile(tar, {"docs": "/documents"})


def test_a_link_in_the_way(tmp_path: Path) -> None:
    """A link in the target that leaves it is not followed."""
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "sub").symlink_to(tmp_path)
    member = tarfile.TarInfo("docs/sub/a")
    with tarfile.open(fileobj=tar_of(member)) as tar:
        copied = documents.read_documents(tar, {"docs": str(tmp_path / "target")}, [], Access())
    assert (copied.files, copied.left_out) == (0, {"UploadRefused": 1})
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("folder", ["..", ".", ""])
def test_hostile_folders_are_refused(
    pipeline: Pipeline, source: Path, command: Command, other_url: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, folder: str,
) -> None:  # fmt: skip
    """A backup that somebody made by hand writes nothing beside the place of documents."""
    write_texts(source)
    pipeline.ingest()
    with monkeypatch.context() as patched:
        patched.setattr("ingest_pipeline.stages.backup.folder_names", lambda sources: {folder: sources[0]})
        command("backup", str(tmp_path / "b.tar"), "--with-documents")
    place = tmp_path / "deep" / "place"
    wanted = ["restore", str(tmp_path / "b.tar"), "--to", other_url, "--documents-to", str(place)]
    assert "leaves the place of documents" in command.mistake(*wanted, code=1)
    assert not place.parent.exists()


def test_written_to_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that becomes shorter while it is copied is noted as torn, and not restored; the others are."""
    write_texts(tmp_path)
    original = documents._Exactly.read

    def shortens(self: Any, size: int) -> bytes:
        (tmp_path / "a.txt").write_bytes(b"s")
        return original(self, size)

    written = io.BytesIO()
    with monkeypatch.context() as patch, tarfile.open(fileobj=written, mode="w|") as tar:
        patch.setattr(documents._Exactly, "read", shortens)
        copied = documents.write_documents(
            tar, {"docs": str(tmp_path)}, lambda name, files: [(file, "") for file in files], Access()
        )
    assert (copied.files, copied.left_out, copied.torn) == (2, {"FileChanged": 1}, ["docs/a.txt"])
    written.seek(0)
    (tmp_path / "out").mkdir()
    with tarfile.open(fileobj=written, mode="r:") as tar:
        back = documents.read_documents(tar, {"docs": str(tmp_path / "out")}, copied.torn, Access())
    assert (back.files, sorted(read_texts(tmp_path / "out"))) == (2, sorted(TEXTS)[1:])


def test_folders_have_their_own_names() -> None:
    """Two sources of one name get two folders; a list of URLs takes no files and has none."""
    names = ["/a/docs", "/b/docs", "s3://bucket/docs", "http://x/list.txt", "/c/.hidden"]
    assert documents.folder_names(names) == {
        "docs": "/a/docs", "docs-2": "/b/docs", "docs-3": "s3://bucket/docs", "hidden": "/c/.hidden",
    }  # fmt: skip


def test_lists_of_urls_are_named(connection: Connection, command: Command, tmp_path: Path) -> None:
    """Their documents are not copied, and the command says so."""
    add_file(connection, "http://127.0.0.1:1/a.pdf", source="http://127.0.0.1:1/list.txt")
    assert "not copied: http://127.0.0.1:1/list.txt" in command("backup", str(tmp_path / "b.tar"), "--with-documents")


def test_ignored_documents_stay_behind(
    pipeline: Pipeline, source: Path, command: Command, connection: Connection, tmp_path: Path
) -> None:
    """What `ingest forget --and-ignore` keeps out is in no backup, though the source holds it."""
    write_texts(source)
    pipeline.ingest()
    command("forget", str(source / "a.txt"), "--and-ignore")
    [written] = command.json("backup", str(tmp_path / "b.tar"), "--with-documents")
    assert (written["documents"]["files"], written["documents"]["left_out"]) == (2, {"ignored": 1})
    assert b"One text" not in (tmp_path / "b.tar").read_bytes()
