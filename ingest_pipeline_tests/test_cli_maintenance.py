"""`ingest errors`, `reset`, `cleanup` and `forget`: what they print, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ingest_pipeline.instance import maintenance
from ingest_pipeline.instance.names import BATCHES
from ingest_pipeline.store import batches
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.command import Command
from ingest_pipeline_tests.documents import SOURCE, add_file, seal, status_of
from ingest_pipeline_tests.test_cli_commands import command, failed_file, launched  # noqa: F401


def test_errors(command: Command, connection: Connection) -> None:  # noqa: F811
    """Each reason is a paragraph: how many, an example with its message, what to do, and the command that does it."""
    assert command("errors") == "nothing failed\n"
    for path in ("a.pdf", "b.pdf"):
        failed_file(connection, path, f"{SOURCE}/{path}: there is no text")
    assert command("errors").splitlines() == [
        "2 files: NoText",
        f"    example      {SOURCE}/a.pdf: there is no text",
        "    what to do   run OCR on scans, and replace the file; remove empty ones",
        "    then         ingest run",
    ]
    [row] = command.json("errors")
    assert list(row) == ["kind", "reason", "count", "example", "message", "advice", "command"]


def test_reset(command: Command, connection: Connection) -> None:  # noqa: F811
    """A reset says what becomes of how many files; a dry run that nothing was changed."""
    for path in ("a.pdf", "b.pdf"):
        failed_file(connection, path, "x")
    assert command("reset", "--failed", "--dry-run") == "2 files: to be tried again\nnothing was changed: --dry-run\n"
    assert status_of(connection, "a.pdf") == ("failed", "NoText")
    [row] = command.json("reset", "a.pdf")
    assert (row["path"], row["action"], row["dry_run"]) == ("a.pdf", "try again", False)
    assert status_of(connection, "a.pdf") == ("synced", None)
    assert command("reset", "--reason", "NoText") == "1 file: to be tried again\n`ingest run` goes on with them\n"
    assert command("reset", "--failed") == "no file to reset\n"


def test_reset_mistakes(command: Command, connection: Connection) -> None:  # noqa: F811
    """Without a selection it is a usage error; a path that is not there is named, the others are reset."""
    failed_file(connection, "a.pdf", "x")
    assert command.mistake("reset").startswith("say what to reset: --failed, --stuck, --reason R, or paths")
    ended = command.ended("reset", "a.pdf", "nowhere.pdf")
    assert ended.code == 1
    assert ended.err == "ingest: nowhere.pdf: no file of the ledger has this path; `ingest files` lists them\n"
    assert status_of(connection, "a.pdf") == ("synced", None)


@pytest.mark.parametrize(
    "arguments",
    [["reset", ""], ["reset", "--reason", " "], ["reset", "\udcff"], ["forget", "\udcff.md"], ["autopsy", "\udcff.md"],
     ["forget", ""], ["memory", "--run", "\udcff"], ["memory", "--batch", "\udcff"],
     ["process", "--max-files", "9" * 30], ["retention", "--days", "9" * 12]],
)  # fmt: skip
def test_odd_arguments(command: Command, connection: Connection, arguments: list[str]) -> None:  # noqa: F811
    """A name that is empty or not UTF-8, or a number that is too high, is a usage error, and nothing is reset."""
    failed_file(connection, "a.pdf", "x")
    assert command.ended(*arguments).code == 2
    assert status_of(connection, "a.pdf") == ("failed", "NoText")


@pytest.mark.parametrize("arguments", [["backup"], ["autopsy", "a.pdf", "--out"]])
def test_name_too_long(command: Command, connection: Connection, arguments: list[str]) -> None:  # noqa: F811
    """A file name that no file system takes is a message, and no traceback."""
    failed_file(connection, "a.pdf", "x")
    assert "File name too long" in command.ended(*arguments, "x" * 300).err


@pytest.mark.parametrize("arguments", [["files"], ["cleanup"], ["forget", "x"], ["process"], ["metrics"]])
def test_unusable_home(command: Command, tmp_path: Path, arguments: list[str]) -> None:  # noqa: F811
    """A home in which nothing can be written is a message that names it, and no traceback."""
    (tmp_path / "file").write_text("")
    command.patch.setenv("INGEST_HOME", str(tmp_path / "file" / "home"))
    command.patch.delenv("INGEST_DATABASE_URL")
    message = command.mistake(*arguments)
    assert str(tmp_path / "file") in message and "Not a directory" in message and "doctor" in message


def test_reset_stuck(launched: Command, connection: Connection) -> None:  # noqa: F811
    """A run that nobody knows of any more is reconciled first: its file waits again."""
    add_file(connection, "a.txt", scan=0)
    key = seal(connection)
    batches.begin_batch(connection, key, "a run of another machine")
    connection.execute("UPDATE files SET status = 'processing'")
    assert launched("reset", "--stuck") == "no file to reset\n"
    assert [batch.status for batch in batches.list_batches(connection)] == ["waiting"]
    assert status_of(connection, "a.txt") == ("synced", None)


def test_cleanup(launched: Command, connection: Connection) -> None:  # noqa: F811
    """What is wrong is exit code 1 until it was repaired, with an example and what the repair does."""
    assert launched("cleanup").startswith("nothing to clean up")
    add_file(connection, "a.txt", scan=0)
    connection.execute("UPDATE files SET status = 'processing'")
    ended = launched.ended("cleanup")
    assert (ended.code, ended.out.splitlines()) == (
        1,
        [
            "damage   unfinished files belong to no batch at work: 1",
            f"         for example {SOURCE}/a.txt",
            "         with --auto-fix: they wait for a new batch",
        ],
    )
    assert status_of(connection, "a.txt")[0] == "processing"
    [row] = launched.json("cleanup", "--auto-fix")
    assert (row["kind"], row["severity"], row["count"], row["repaired"]) == ("stuck_files", "damage", 1, True)
    assert status_of(connection, "a.txt")[0] == "synced"
    assert launched.ended("cleanup").code == 0


def test_partitions(launched: Command, connection: Connection) -> None:  # noqa: F811
    """A batch that waits becomes a partition; a partition that is no batch goes; a run that is lost is reconciled."""
    from ingest_pipeline.instance.home import open_instance

    add_file(connection, "a.txt", scan=0)
    lost = seal(connection)
    batches.begin_batch(connection, lost, "lost")
    add_file(connection, "b.txt", scan=0)
    key = seal(connection)
    with open_instance(launched.settings) as instance:
        instance.add_dynamic_partitions(BATCHES, ["20200101-000001-gone"])
        ended = launched.ended("cleanup", "--json")
        kinds = {row["kind"]: row["count"] for row in map(json.loads, ended.out.splitlines())}
        assert (ended.code, kinds) == (1, {"ended_runs": 1, "partitions_missing": 1, "partitions_unknown": 1})
        assert [batch.status for batch in batches.list_batches(connection)] == ["running", "waiting"]
        launched("cleanup", "--auto-fix")
        assert {*instance.get_dynamic_partitions(BATCHES)} == {lost, key}
    assert [batch.status for batch in batches.list_batches(connection)] == ["waiting", "waiting"]
    assert launched.ended("cleanup").code == 0


def test_sealed_meanwhile(
    launched: Command,  # noqa: F811
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch that is sealed while cleanup looks keeps its partition: it is no unknown one."""
    from ingest_pipeline.instance.home import open_instance

    add_file(connection, "a.txt", scan=0)
    listed, keys = batches.list_batches, list[str]()
    with open_instance(launched.settings) as instance:
        read = instance.get_dynamic_partitions

        def seal_meanwhile() -> None:
            if not keys:
                keys.append(seal(connection))
                instance.add_dynamic_partitions(BATCHES, keys)

        def list_batches(*args: Any, **options: Any) -> Any:
            result = listed(*args, **options)
            seal_meanwhile()
            return result

        def partitions(name: str) -> Any:
            result = read(name)
            seal_meanwhile()
            return result

        monkeypatch.setattr(batches, "list_batches", list_batches)
        monkeypatch.setattr(instance, "get_dynamic_partitions", partitions)
        assert maintenance._unknown_partitions(instance, connection) == []
    assert len(keys) == 1


def test_forget(launched: Command, connection: Connection) -> None:  # noqa: F811
    """The receipt is a table of rows before and after, and says whether the document comes back."""
    source = Path(launched.settings.sources[0])
    (source / "a.txt").write_text("A text.")
    launched("run")
    assert f"{source}/a.txt: would be erased" in launched("forget", "a.txt", "--dry-run")
    lines = launched("forget", "a.txt").splitlines()
    assert lines[0] == f"{source}/a.txt: erased"
    assert lines[2].split() == ["files", "1", "0", "0"]
    assert lines[-1] == "its source still holds it: the next catalog run brings it back; --and-ignore keeps it out"
    assert launched.mistake("forget", "a.txt").startswith("a.txt: no file of the ledger has this path")


def test_forget_and_ignore(launched: Command, connection: Connection) -> None:  # noqa: F811
    """An ignored document stays out until it is admitted; to admit what was not ignored is exit code 1."""
    source = Path(launched.settings.sources[0])
    (source / "a.txt").write_text("A text.")
    launched("run")
    [row] = launched.json("forget", "a.txt", "--and-ignore")
    assert (row["ignored"], row["is_in_source"], row["after"]["chunks"]) == (True, True, 0)
    launched("run")
    assert launched.json("status")[0]["files"]["indexed"] == 0
    assert launched("forget", "--stop-ignoring", "a.txt") == "a.txt: not ignored any more\n"
    assert launched.ended("forget", "--stop-ignoring", "a.txt").code == 1
    launched("run")
    assert launched.json("status")[0]["files"]["indexed"] == 1
    assert "goes with no other option" in launched.mistake("forget", "a.txt", "--stop-ignoring", "--and-ignore")


@pytest.mark.parametrize(
    ("job", "config"),
    [
        ("ingest_cleanup", {"clean_up": {"config": {"auto_fix": True}}}),
        ("ingest_reset", {"reset_files": {"config": {"failed": True}}}),
    ],
)
def test_jobs(launched: Command, connection: Connection, job: str, config: dict[str, object]) -> None:  # noqa: F811
    """The jobs of the UI do what the commands do."""
    from ingest_pipeline.definitions import defs

    failed_file(connection, "a.pdf", "x")
    connection.execute("UPDATE files SET status = 'failed', batch = NULL")
    connection.execute("UPDATE batches SET status = 'waiting'")
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def(job).execute_in_process(run_config={"ops": config}, instance=instance)
    assert result.success
    if job == "ingest_reset":
        assert status_of(connection, "a.pdf") == ("synced", None)
    else:
        assert [batch.status for batch in batches.list_batches(connection)] == ["done"]
