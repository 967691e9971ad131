"""What is backed up comes back elsewhere as it was; what is damaged, newer or in the way is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from ingest_pipeline.cli.main import main
from ingest_pipeline.errors import BackupRefused
from ingest_pipeline.instance.home import open_instance
from ingest_pipeline.instance.names import HOST_TAG
from ingest_pipeline.instance.reconcile import has_ended
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.search_models import SearchQuery
from ingest_pipeline.settings import Settings
from ingest_pipeline.store import backup as store_backup
from ingest_pipeline.store import backup_file, batches, migrate, vectors
from ingest_pipeline.store.backup_file import opened_backup
from ingest_pipeline.store.connection import Connection, store
from ingest_pipeline.store.search import search
from ingest_pipeline_tests.command import Command
from ingest_pipeline_tests.conftest import FakeEmbedder
from ingest_pipeline_tests.documents import count, status_of
from ingest_pipeline_tests.launching import make_run, reloaded
from ingest_pipeline_tests.pipeline import Pipeline
from ingest_pipeline_tests.plain_postgres import PASSWORD, QUOTED, PlainPostgres, plain_server

TEXT = "The quick brown fox jumps over the lazy dog. "


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainPostgres]:
    """One plain server for all tests."""
    with plain_server(tmp_path_factory.mktemp("plain") / "server") as server:
        yield server


@pytest.fixture
def pipeline(connection: Connection, settings: Settings) -> Iterator[Pipeline]:
    with Sandbox(memory_limit_bytes=512 * 1024**2) as sandbox:
        yield Pipeline(connection, settings, sandbox)


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(settings, monkeypatch, capsys)


@pytest.fixture
def filled(pipeline: Pipeline, source: Path, connection: Connection) -> Pipeline:
    """Three documents, one of them in a folder, are searchable; one failed; the index is made."""
    (source / "a.txt").write_text(TEXT * 20)
    (source / "пісня 歌.md").write_text(f"# Title\n\n{TEXT * 5}\\. \\N \t tab")
    (source / "sub").mkdir()
    (source / "sub" / "b.txt").write_text("Another text, about steam boxes. " * 30)
    (source / "empty.pdf").write_bytes(b"%PDF-1.4")
    pipeline.ingest()
    vectors.ensure_index(connection, pipeline.model, 8)
    return pipeline


def shown(connection: Connection) -> list[tuple[Any, ...]]:
    """What readers see."""
    return connection.execute(
        "SELECT source, path, version, ordinal, text, embedding::text, section_path FROM searchable_chunks"
        " ORDER BY 1, 2, 4"
    ).fetchall()


def hits(connection: Connection) -> list[tuple[str, str, float]]:
    """What a search answers."""
    model = connection.execute("SELECT model_id FROM models").fetchone()
    vector = FakeEmbedder().embed([TEXT])[0]
    found = search(connection, model[0] if model else 0, vector, SearchQuery("fox", 5))
    return [(hit.path, hit.text, hit.score) for hit in found]


def by_sql(connection: Connection) -> list[tuple[Any, ...]]:
    """What the function in `public` answers to a program that has no schema of ours in sight."""
    with connection.transaction():
        connection.execute("SET LOCAL search_path = pg_catalog")
        vector = str([float(number) for number in FakeEmbedder().embed([TEXT])[0]])
        asked = "SELECT path, text, score FROM public.search_chunks('fox', %s, 5)"
        return connection.execute(asked, (vector,)).fetchall()


def test_backup_into_a_plain_server(
    filled: Pipeline, command: Command, plain: PlainPostgres, tmp_path: Path, connection: Connection
) -> None:
    """A role that is no superuser restores; pgvector is in another schema there; every reader sees the same."""
    [written] = command.json("backup", str(tmp_path / "b.tar"))
    url = plain.database("moved")
    [restored] = command.json("restore", str(tmp_path / "b.tar"), "--to", url)
    assert restored["counts"] == written["counts"]
    assert restored["counts"]["ingest.files"] == 4
    assert (restored["restored"], restored["database"]) == (True, f"127.0.0.1:{plain.port}/moved")
    with store(url) as there:
        assert shown(there) == shown(connection) != []
        assert hits(there) == hits(connection) != []
        assert by_sql(there) == by_sql(connection) != []
        assert there.execute("SELECT path, status, error FROM file_status ORDER BY 1").fetchall() == (
            connection.execute("SELECT path, status, error FROM file_status ORDER BY 1").fetchall()
        )
        assert "hnsw" in str(there.execute("SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%hnsw%'").fetchone())
        assert there.execute("SELECT nextval('batch_numbers')").fetchone() == (2,)


@pytest.mark.parametrize("place", ["public", "ingest"])
def test_pgvector_in_other_schemas(
    place: str, filled: Pipeline, command: Command, plain: PlainPostgres, tmp_path: Path, connection: Connection
) -> None:
    """The extension may be in `public`, or in our own schema, made by an administrator."""
    command("backup", str(tmp_path / "b.tar"))
    url = plain.database(f"vector-in-{place}", extension_in=place)
    if place == "ingest":
        with psycopg.connect(plain.admin, dbname="vector-in-ingest", autocommit=True) as admin:
            admin.execute("ALTER SCHEMA ingest OWNER TO app")
    command("restore", str(tmp_path / "b.tar"), "--to", url)
    with store(url) as there:
        assert shown(there) == shown(connection)


def test_a_backup_of_a_restored_one(
    filled: Pipeline, command: Command, plain: PlainPostgres, tmp_path: Path, connection: Connection
) -> None:
    """There and back: from a plain server, by a role that owns the database only, into an embedded one."""
    first, second = tmp_path / "1.tar", tmp_path / "2.tar"
    command("backup", str(first))
    url = plain.database("between")
    command("restore", str(first), "--to", url)
    command.patch.setenv("INGEST_DATABASE_URL", url)
    command("backup", str(second))
    command.patch.delenv("INGEST_DATABASE_URL")
    command.patch.setenv("INGEST_HOME", str(tmp_path / "home2"))
    try:
        dry = command.json("restore", str(second), "--dry-run")
        assert not (tmp_path / "home2" / "postgres").exists()
        [restored] = command.json("restore", str(second))
        assert restored["counts"] == dry[0]["counts"]
        with store(command("db", "url").strip()) as there:
            assert shown(there) == shown(connection)
    finally:
        command("db", "stop")


def test_no_password_is_shown(
    filled: Pipeline, command: Command, plain: PlainPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the arguments of pg_dump and pg_restore nor in what is printed, nor in the file."""
    arguments: list[str] = []
    popen = subprocess.Popen

    def noted(command: list[str], **more: Any) -> Any:
        arguments.extend(map(str, command))
        return popen(command, **more)

    monkeypatch.setattr(subprocess, "Popen", noted)
    command("backup", str(tmp_path / "1.tar"))
    url = plain.database("secretive")
    text = command("restore", str(tmp_path / "1.tar"), "--to", url)
    command.patch.setenv("INGEST_DATABASE_URL", url)
    text += command("backup", str(tmp_path / "2.tar"))
    text += command.mistake("restore", str(tmp_path / "2.tar"), code=1)
    text += command.mistake("restore", str(tmp_path / "2.tar"), "--to", url.replace("app:", "app:wrong-"), code=1)
    text += command.mistake(
        "restore", str(tmp_path / "2.tar"), "--to", f"postgresql://app:{QUOTED}@127.0.0.1:5/z?nonsense=1"
    )
    assert any("pg_dump" in argument for argument in arguments)
    with opened_backup(tmp_path / "2.tar") as backup:
        text += json.dumps(backup.manifest)
    assert not [secret for secret in (PASSWORD, QUOTED) if secret in text + " ".join(arguments)]


def test_manifest_says_what_is_in_it(filled: Pipeline, command: Command, tmp_path: Path) -> None:
    """Schema, versions, models, sources, counts, SHA-256; any tar program unpacks it, pg_restore reads the dump."""
    command("backup", str(tmp_path / "b.tar"))
    with tarfile.open(tmp_path / "b.tar") as tar:
        assert tar.getnames() == ["ingest.dump", "views.sql", "manifest.json"]
        manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        tar.extractall(tmp_path, filter="data")
    assert manifest["migrations"] == [name for name, _ in migrate.migrations()]
    assert manifest["models"][0]["identity"] == "f" * 64
    assert manifest["models"][0]["vectors"] == manifest["counts"]["ingest.embeddings"] > 0
    assert [source["files"] for source in manifest["sources"]] == [4]
    assert manifest["pgvector"]["schema"] == "ingest"
    digest = subprocess.run(["sha256sum", tmp_path / "ingest.dump"], capture_output=True, text=True, check=True)
    assert manifest["members"][0]["sha256"] == digest.stdout.split()[0]
    listed = subprocess.run(
        [store_backup.dump.postgres_program("pg_restore"), "--list", tmp_path / "ingest.dump"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "TABLE DATA ingest chunks" in listed.stdout


def test_every_damage_is_refused(filled: Pipeline, command: Command, plain: PlainPostgres, tmp_path: Path) -> None:
    """A bit that flipped anywhere, padding included, and a file that ends early: exit code 1, nothing is restored."""
    command("backup", str(tmp_path / "b.tar"), "--with-documents")
    whole, damaged = (tmp_path / "b.tar").read_bytes(), tmp_path / "damaged.tar"
    url = plain.database("untouched")
    places = {0, 100, 512, len(whole) // 3, len(whole) // 2, len(whole) - 1, *range(5, len(whole), len(whole) // 60)}
    for place in places:
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert str(damaged) in command.mistake("restore", str(damaged), "--to", url, code=1), place
    for length in (0, 1, 600, len(whole) // 2, len(whole) - 1):
        damaged.write_bytes(whole[:length])
        assert str(damaged) in command.mistake("restore", str(damaged), "--to", url, code=1), length
    damaged.write_bytes(whole + b"x")
    assert "behind its end" in command.mistake("restore", str(damaged), "--to", url, code=1)
    with psycopg.connect(url) as there:
        assert there.execute("SELECT to_regclass('ingest.files')").fetchone() == (None,)


def test_only_into_an_empty_database(
    filled: Pipeline, command: Command, tmp_path: Path, connection: Connection
) -> None:
    """Rows are in the way; empty tables of a first command are not."""
    file = tmp_path / "b.tar"
    command("backup", str(file))
    assert "not empty" in command.mistake("restore", str(file), code=1)
    assert "not empty" in command.mistake("restore", str(file), "--dry-run", code=1)
    before = shown(connection)
    connection.execute("TRUNCATE files, batches, generations, models, attempts CASCADE")
    [restored] = command.json("restore", str(file))
    assert restored["restored"]
    assert shown(connection) == before != []


def test_a_newer_schema_is_refused(filled: Pipeline, command: Command, tmp_path: Path, connection: Connection) -> None:
    """It says which version to upgrade to; an existing file is never replaced."""
    connection.execute("INSERT INTO migrations (name) VALUES ('9999_future.sql')")
    command("backup", str(tmp_path / "b.tar"))
    message = command.mistake("restore", str(tmp_path / "b.tar"), "--dry-run", code=1)
    assert "9999_future.sql" in message
    assert "replaces none" in command.mistake("backup", str(tmp_path / "b.tar"), code=1)


def test_an_older_schema_is_migrated(
    empty_url: str, command: Command, plain: PlainPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup of the first release comes back, and gets what it lacks."""
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "migrations", lambda real=migrate.migrations: real()[:1])
        migrate.migrate(empty_url)
    with psycopg.connect(empty_url) as connection:
        connection.execute("INSERT INTO ingest.files (source, path, size_bytes, modified_ns, media_type, status) "
                           "VALUES ('/d', 'a.txt', 5, 7, 'text/plain', 'synced')")  # fmt: skip
    command.patch.setenv("INGEST_DATABASE_URL", empty_url)
    command("backup", str(tmp_path / "b.tar"))
    url = plain.database("older")
    [restored] = command.json("restore", str(tmp_path / "b.tar"), "--to", url)
    assert restored["migrations"] == [name for name, _ in migrate.migrations()[1:]]
    with psycopg.connect(url) as there:
        assert there.execute("SELECT path, revision FROM ingest.files").fetchall() == [("a.txt", "5 7")]


def test_a_killed_backup_is_no_backup(filled: Pipeline, command: Command, tmp_path: Path) -> None:
    """Kill -9 in the middle of the dump leaves `FILE.partial`, which nothing accepts; the next backup replaces it."""
    script = """
import sys, time
from ingest_pipeline.store import backup_file
write = backup_file.MemberWriter.write
def slow(self, data):
    write(self, data)
    self._file.flush()
    print("writing", flush=True)
    time.sleep(60)
backup_file.MemberWriter.write = slow
from ingest_pipeline.cli.main import main
main(["backup", sys.argv[1]])
"""
    file, partial = tmp_path / "b.tar", tmp_path / "b.tar.partial"
    with subprocess.Popen([sys.executable, "-c", script, str(file)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        assert "another backup" in command.mistake("backup", str(file), code=1)
        os.kill(process.pid, signal.SIGKILL)
    assert not file.exists()
    assert "not a whole one" in command.mistake("restore", str(partial), "--dry-run", code=1)
    command("backup", str(file))
    assert (file.exists(), partial.exists(), file.stat().st_mode & 0o777) == (True, False, 0o600)


def test_a_failed_backup_leaves_nothing(
    filled: Pipeline, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk and a pg_dump that fails are one line each, and no file."""

    def full(self: backup_file.MemberWriter, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(backup_file.MemberWriter, "write", full)
        assert "No space left" in command.mistake("backup", str(tmp_path / "b.tar"), code=1)
    with monkeypatch.context() as patch:
        patch.setattr(store_backup.dump, "DUMP_OPTIONS", ("--format=custom", "--compress=lz4"))
        assert "pg_dump failed" in command.mistake("backup", str(tmp_path / "b.tar"), code=1)
    assert "no folder" in command.mistake("backup", str(tmp_path / "none" / "b.tar"), code=1)
    assert list(tmp_path.glob("b.tar*")) == []


def test_a_killed_restore_leaves_nothing(
    filled: Pipeline, command: Command, plain: PlainPostgres, tmp_path: Path
) -> None:
    """Kill -9 after the data, before the commit: the database is empty, and the same command restores it."""
    file = tmp_path / "b.tar"
    command("backup", str(file))
    url = plain.database("interrupted")
    script = """
import sys, time
from ingest_pipeline.store import backup
def wait(connection, counts):
    print(backup.row_counts(connection)["ingest.chunks"], flush=True)
    time.sleep(60)
backup.refuse_other_counts = wait
from ingest_pipeline.cli.main import main
main(["restore", sys.argv[1], "--to", sys.argv[2]])
"""
    arguments = [sys.executable, "-c", script, str(file), url]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        os.kill(process.pid, signal.SIGKILL)
    [restored] = command.json("restore", str(file), "--to", url)
    assert restored["restored"]


def test_counts_are_compared(filled: Pipeline, command: Command, plain: PlainPostgres, tmp_path: Path) -> None:
    """A table with other counts than the manifest says undoes the restore."""
    file, url = tmp_path / "b.tar", plain.database("miscounted")
    content_of = store_backup.content_of

    def wrong(connection: Connection) -> dict[str, Any]:
        content = content_of(connection)
        return content | {"counts": content["counts"] | {"ingest.files": 5}}

    command.patch.setattr(store_backup, "content_of", wrong)
    command("backup", str(file))
    message = command.mistake("restore", str(file), "--to", url, code=1)
    assert message.startswith("ingest.files has 4 rows after the restore, the manifest says 5")
    with psycopg.connect(url) as there:
        assert there.execute("SELECT to_regclass('ingest.files')").fetchone() == (None,)


def test_runs_at_work_wait_after_it(pipeline: Pipeline, source: Path, command: Command, plain: PlainPostgres,
                                    tmp_path: Path) -> None:  # fmt: skip
    """A batch whose run was at work when the backup was taken waits, and no kill is attributed to its file."""
    (source / "a.txt").write_text(TEXT)
    pipeline.scan()
    [key] = pipeline.seal().batches
    run = pipeline.run(key)
    batches.begin_batch(pipeline.connection, key, run.run_id)
    pipeline.connection.execute("UPDATE files SET status = 'processing'")
    command("backup", str(tmp_path / "b.tar"))
    url = plain.database("waiting")
    [restored] = command.json("restore", str(tmp_path / "b.tar"), "--to", url)
    assert restored["waiting_batches"] == 1
    with store(url) as there:
        assert status_of(there, "a.txt") == ("synced", None)
        assert there.execute("SELECT status, failures FROM batches").fetchone() == ("waiting", 0)
        assert there.execute("SELECT kills FROM files").fetchone() == (0,)


def test_runs_at_work_have_ended(
    pipeline: Pipeline, command: Command, plain: PlainPostgres, tmp_path: Path, settings: Settings
) -> None:
    """A run that another machine was at work on has ended here: it holds up no batch until that machine is given up."""
    with open_instance(settings) as instance:
        run = make_run(instance, "b", status=dg.DagsterRunStatus.STARTED)
        instance.add_run_tags(run.run_id, {HOST_TAG: "laptop/0123456789ab"})
        assert not has_ended(instance, reloaded(instance, run))
        command("backup", str(tmp_path / "b.tar"))
    url = plain.database("ended")
    command("restore", str(tmp_path / "b.tar"), "--to", url)
    command.patch.setenv("INGEST_DATABASE_URL", url)
    with open_instance(replace(settings, database_url=url)) as instance:
        assert has_ended(instance, reloaded(instance, run))
        assert reloaded(instance, run).status == dg.DagsterRunStatus.FAILURE


def test_another_name_parses_nothing(
    filled: Pipeline, command: Command, plain: PlainPostgres, tmp_path: Path, source: Path, settings: Settings
) -> None:
    """A source has another name here: by --source its files are the same; without, they are known by their hash."""
    command("backup", str(tmp_path / "b.tar"))
    moved = source.rename(tmp_path / "moved")
    renamed, plainly = plain.database("renamed"), plain.database("not-renamed")
    command("restore", str(tmp_path / "b.tar"), "--to", renamed, "--source", f"{source}={moved}")
    command("restore", str(tmp_path / "b.tar"), "--to", plainly)
    for url, files in ((renamed, 4), (plainly, 8)):
        with store(url) as there, Sandbox(memory_limit_bytes=512 * 1024**2) as sandbox:
            chunks = count(there, "chunks")
            assert Pipeline(there, replace(settings, sources=(str(moved),)), sandbox).ingest() == (0, 0)
            assert (count(there, "files"), count(there, "chunks")) == (files, chunks)
    assert "the backup has the sources" in command.mistake(
        "restore", str(tmp_path / "b.tar"), "--to", renamed, "--source", "/x=/y"
    )
    assert "OLD=NEW" in command.mistake("restore", str(tmp_path / "b.tar"), "--source", "nonsense")


def test_names_change_places(connection: Connection) -> None:
    """Sources may take each other's names: no file of one ends in the other, and equal paths are in nobody's way."""
    for source in ("/data", "/data2"):
        for path in ("README.md", source[1:]):
            connection.execute(
                "INSERT INTO files (source, path, size_bytes, media_type, status, message)"
                " VALUES (%s, %s, 1, 'x', 'failed', %s)", (source, path, source),
            )  # fmt: skip
    for names in ({"/data": "/data2", "/data2": "/data3"}, {"/data2": "/data3", "/data3": "/data2"}):
        store_backup.rename_sources(connection, names)
    rows = connection.execute("SELECT DISTINCT message, source FROM files ORDER BY 1").fetchall()
    assert rows == [("/data", "/data3"), ("/data2", "/data2")]


def test_dry_run_of_a_backup(filled: Pipeline, command: Command, tmp_path: Path) -> None:
    """It says what would be written and writes nothing."""
    [row] = command.json("backup", str(tmp_path / "b.tar"), "--dry-run", "--with-documents")
    assert (row["written"], row["documents"]["files"], row["counts"]["ingest.files"]) == (False, 4, 4)
    assert row["size_bytes"] > row["documents"]["size_bytes"] > 0
    assert "would write" in command("backup", str(tmp_path / "b.tar"), "--dry-run")
    assert list(tmp_path.glob("b.tar*")) == []


def test_nothing_to_back_up(empty_url: str, command: Command, tmp_path: Path) -> None:
    """A database without a ledger is refused, in one line."""
    command.patch.setenv("INGEST_DATABASE_URL", empty_url)
    assert "nothing to back up" in command.mistake("backup", str(tmp_path / "b.tar"), code=1)


def test_a_database_in_use_is_refused(
    filled: Pipeline, command: Command, tmp_path: Path, connection: Connection, url: str
) -> None:
    """Somebody who reads empty tables of the target is not waited for for ever."""
    command("backup", str(tmp_path / "b.tar"))
    connection.execute("TRUNCATE files, batches, generations, models, attempts CASCADE")
    command.patch.setattr(store_backup, "LOCK_SECONDS", 1)
    with psycopg.connect(url) as reader:
        reader.execute("SELECT FROM ingest.files")
        assert "in use" in command.mistake("restore", str(tmp_path / "b.tar"), code=1)
    assert command.json("restore", str(tmp_path / "b.tar"))[0]["restored"]


def test_no_pgvector_is_refused(filled: Pipeline, command: Command, plain: PlainPostgres, tmp_path: Path) -> None:
    """A role that may not create the extension is told who may; a role without rights, what it needs."""
    command("backup", str(tmp_path / "b.tar"))
    url = plain.database("no-extension", extension_in=None)
    assert "no pgvector extension" in command.mistake("restore", str(tmp_path / "b.tar"), "--to", url)
    with psycopg.connect(plain.admin, dbname="no-extension", autocommit=True) as admin:
        assert admin.execute("SELECT to_regnamespace('ingest')").fetchone() == (None,)
        admin.execute('ALTER DATABASE "no-extension" OWNER TO postgres')
    assert "may not create schemas" in command.mistake("restore", str(tmp_path / "b.tar"), "--to", url)


def test_a_newer_server_is_refused(
    filled: Pipeline, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pg_dump refuses a server of a later version; here it is one line that says what to upgrade."""
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 17.2'\n")
    old.chmod(0o755)
    monkeypatch.setattr(store_backup.dump, "postgres_program", lambda name: old)
    message = command.mistake("backup", str(tmp_path / "b.tar"))
    assert message.startswith("the server is PostgreSQL 18, the pg_dump that is installed here is of 17")


class Killing:
    """A file that kills its process before or after the n-th operation on it."""

    def __init__(self, file: Any, at: int) -> None:
        self._file, self._left = file, at

    def step(self) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, data: bytes) -> int:
        self.step()
        written: int = self._file.write(data)
        self._file.flush()
        self.step()
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def back_up_killed_at(at: int, file: Path) -> bool:
    """Back up in a child that is killed at its n-th step; return whether it was."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status)
    original, rename = backup_file.BackupWriter.__init__, Path.rename

    def begin(self: Any, path: Path, opened: Any, created_at: int) -> None:
        killing = Killing(opened, at)

        def renamed(source: Path, target: Path) -> Path:
            killing.step()
            ended = rename(source, target)
            killing.step()
            return ended

        Path.rename = renamed  # type: ignore[method-assign, assignment]
        original(self, path, killing, created_at)  # type: ignore[arg-type]

    backup_file.BackupWriter.__init__ = begin  # type: ignore[method-assign]
    try:
        main(["backup", str(file), "--with-documents"])
    finally:
        os._exit(0)


def is_whole(file: Path) -> bool:
    """Whether a restore would accept a file."""
    try:
        with opened_backup(file) as backup:
            backup.verify()
    except BackupRefused:
        return False
    return True


@pytest.mark.proof
def test_killed_at_every_step(filled: Pipeline, command: Command, tmp_path: Path, source: Path) -> None:
    """Kill -9 before and after each write and the renaming: a file of this name is whole, or is not there."""
    file, partial, at = tmp_path / "b.tar", tmp_path / "b.tar.partial", 1
    (source / "empty.pdf").unlink()
    while back_up_killed_at(at, file):
        assert not file.exists() or is_whole(file), at
        assert not is_whole(partial) or partial.read_bytes().count(b'"manifest_checksum"') == 1, at
        file.unlink(missing_ok=True)
        at += 1
    assert at > 25
    assert (is_whole(file), partial.exists()) == (True, False)
