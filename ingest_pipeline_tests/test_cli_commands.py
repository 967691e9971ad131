"""Every command in this process: what it prints for people, empty states, refusals and exit codes."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from ingest_pipeline.cli import run as run_module
from ingest_pipeline.cli.run import run_headless, settings_of_runs
from ingest_pipeline.defs import resources
from ingest_pipeline.errors import ConfigurationError, ErrorBudgetSpent, NoText, SourceUnavailable, StoreUnavailable
from ingest_pipeline.instance import home, services
from ingest_pipeline.instance.headless import HeadlessResult
from ingest_pipeline.instance.progress import Progress
from ingest_pipeline.models import Gap
from ingest_pipeline.planning.remaining import WorkState
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages import query_models
from ingest_pipeline.store import batches, ledger
from ingest_pipeline.store import files as store_files
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.ledger import AttemptCost
from ingest_pipeline.store.server import EmbeddedServer
from ingest_pipeline_tests.command import Command
from ingest_pipeline_tests.conftest import FakeEmbedder
from ingest_pipeline_tests.documents import add_file, files_of, seal

MIB = 1024**2
PROGRESS = Progress(3, 8, WorkState(1000, 250), WorkState(), 2, 1, 1234, 30.0)


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(settings, monkeypatch, capsys)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command with an empty source and a database that nobody can reach: for what must not ask for one."""
    (tmp_path / "documents").mkdir()
    nowhere = "postgresql://nobody:hunter2@127.0.0.1:1/none"
    settings = replace(Settings(), sources=(str(tmp_path / "documents"),), home=tmp_path / "home", database_url=nowhere)
    return Command(settings, monkeypatch, capsys)


@pytest.fixture
def launched(command: Command, ample_memory: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """`ingest run` with an instance in memory whose launcher runs each run at once, and a fake model."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(home, "open_instance", lambda settings: nullcontext(instance))
        monkeypatch.setattr(resources, "load_embedder", lambda *names, **more: FakeEmbedder(384))
        monkeypatch.setattr(query_models, "load_query_embedder", lambda *names, **more: FakeEmbedder(384))
        yield command


def fake_run(monkeypatch: pytest.MonkeyPatch, work: Callable[..., str | None]) -> None:
    """`ingest run` does this instead, and ends with what it returns as the reason."""

    def run(*arguments: Any) -> HeadlessResult:
        stopped = work(*arguments[:3])  # without what is to be done
        return HeadlessResult(since=None, stopped=stopped, incomplete=str(stopped).startswith("TokenLimitReached"))

    monkeypatch.setattr(run_module, "run_headless", run)


def failed_file(connection: Connection, path: str, message: str) -> None:
    """A file that a batch has failed."""
    add_file(connection, path)
    file = files_of(connection, seal(connection))[path]
    store_files.refuse_file(connection, file.file_id, NoText(message), fingerprint="f")


def measured(connection: Connection, peaks: dict[str, int]) -> str:
    """Indexed files of one batch, each with the peak that its parser had; the batch's run peaked at 600 MiB."""
    for path in peaks:
        add_file(connection, path, version=path)
    key = seal(connection)
    batches.begin_batch(connection, key, "run1")
    for path, file in files_of(connection, key).items():
        ledger.open_attempt(connection, file, batch=key, run_id="run1", stage="chunks")
        cost = AttemptCost(pages=1, parse_seconds=0.5, parse_peak_bytes=peaks[path])
        ledger.close_attempt(connection, file, run_id="run1", cost=cost)
    connection.execute("UPDATE files SET status = 'indexed'")
    batches.record_peak(connection, key, 600 * MIB)
    return key


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["files", "--status", "lost"],
        ["search"],
        ["search", "words", "--top", "0"],
        ["search", "words", "--top", "1.5"],
        ["search", "words", "--top", "²"],
        ["search", "  "],
        ["search", "words", "--pages", "9-3"],
        ["search", "words", "--pages", "x"],
        ["search", "words", "--since", "yesterday"],
        ["search", "words", "--since", "9999-12-31T23:59-23:59"],
        ["db"],
        ["db", "drop"],
        ["db", "url", "--json"],
        ["ui", "--json"],
        ["add"],
        ["status", "extra"],
        ["memory", "--plot"],
    ],
)
def test_bad_usage_is_code_2(offline: Command, arguments: list[str]) -> None:
    """What argparse refuses ends with its usage, nothing on stdout, and code 2."""
    ended = offline.ended(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("usage: ingest")


@pytest.mark.parametrize("name", ["run", "add", "ui", "status", "files", "search", "plan", "memory", "db"])
def test_every_command_has_help(offline: Command, name: str) -> None:
    """`--help` of each command ends with 0 and starts with its usage; the main help lists it."""
    assert offline(name, "--help").startswith(f"usage: ingest {name}")
    assert f"\n    {name} " in offline("--help")


@pytest.mark.parametrize("arguments", [["status"], ["files"], ["plan"], ["memory"], ["run"], ["db", "url"]])
def test_bad_setting_is_one_line(offline: Command, arguments: list[str]) -> None:
    """A value that cannot be used is named by every command, with code 2."""
    offline.patch.setenv("INGEST_RUN_MEMORY", "lots")
    assert offline.mistake(*arguments).startswith("INGEST_RUN_MEMORY='lots': expected a size")


def test_a_missing_entity_model_is_one_line(offline: Command) -> None:
    """Before anything is started: what to install, with code 2."""
    offline.patch.setenv("INGEST_ENTITY_MODEL", "no_such_model")
    line = offline.mistake("run")
    assert line.startswith("INGEST_ENTITY_MODEL='no_such_model': expected an installed spaCy model")
    assert "pip install 'ingest-pipeline[entities]'" in line


def test_database_down_is_code_1(offline: Command) -> None:
    """A Postgres that is not there is one line with what to do."""
    line = offline.mistake("status", code=1)
    assert line.startswith("Postgres: ")
    assert line.endswith("is it running? `ingest db start`")


def test_password_is_never_shown(offline: Command) -> None:
    """The message about a database that cannot be reached does not hold its password."""
    assert "hunter2" not in offline.mistake("files", code=1)


def test_new_database_is_migrated(command: Command, empty_url: str) -> None:
    """Any command makes the schema that is missing."""
    command.patch.setenv("INGEST_DATABASE_URL", empty_url)
    assert command("status").startswith("files       synced 0")


def test_status_for_people(command: Command, connection: Connection) -> None:
    """Counts by status of what is in the ledger."""
    failed_file(connection, "a.txt", "nothing in it")
    add_file(connection, "b.txt")
    lines = command("status").splitlines()
    assert lines[0] == "files       synced 1  processing 0  processed 0  indexed 0  failed 1  deleted 0"
    assert lines[1] == "batches     waiting 1  running 0  done 0  failed 0"
    assert lines[2:4] == ["chunks      0", "embeddings  0  by all-MiniLM-L6-v2"]
    assert lines[4].startswith("memory      1.0 GiB for a run, ")


def test_files_of_an_empty_ledger(command: Command) -> None:
    """The head of the table, alone."""
    [head] = command("files").splitlines()
    assert head.startswith("status     file")


def test_files_show_reasons_and_gaps(command: Command, connection: Connection) -> None:
    """A failed file with its reason, a file with gaps, one that waits; by path."""
    failed_file(connection, "a.txt", "/documents/a.txt: nothing in it")
    add_file(connection, "b.txt")
    file = files_of(connection, seal(connection))["b.txt"]
    store_files.mark_processed(connection, file, generation_id=1, pages=9, gaps=[Gap(2, 2, "x"), Gap(4, 6, "x")])
    add_file(connection, "c.txt")
    _, first, second, third = command("files").splitlines()
    assert first.startswith("failed     a.txt")
    assert first.endswith("  NoText: nothing in it")
    assert second.startswith("processed  b.txt")
    assert second.endswith("  2 gaps: pages 2, 4-6")
    assert third.split() == ["synced", "c.txt", "100", "B", "0"]


@pytest.mark.parametrize(
    ("status", "shown"),
    [("synced", ["b.txt"]), ("failed", ["a.txt"]), ("indexed", []), ("deleted", ["c.txt"])],
)
def test_files_of_one_status(command: Command, connection: Connection, status: str, shown: list[str]) -> None:
    """`--status` leaves only the files of that status."""
    failed_file(connection, "a.txt", "nothing")
    add_file(connection, "c.txt", source="/gone", scan=1)
    store_files.delete_unseen(connection, "/gone", 2)
    add_file(connection, "b.txt")
    _, *lines = command("files", "--status", status).splitlines()
    assert [line.split()[1] for line in lines] == shown


def test_files_with_hostile_names(command: Command, connection: Connection) -> None:
    """Names with terminal sequences, line breaks and wide characters: one line each, nothing that acts."""
    for path in ("\x1b[2J.txt", "two\nlines.txt", "歌.txt", "\u202etxt.exe"):
        add_file(connection, path)
    out = command("files")
    assert len(out.splitlines()) == 5
    assert not any(character in out for character in ("\x1b", "\u202e"))
    assert "two\\nlines.txt" in out
    assert "歌.txt" in out


def test_a_closed_pipe_is_no_error(
    settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ingest files | head` ends with 0 and prints nothing on stderr."""
    for number in range(10):
        add_file(connection, f"{number}.txt")
    command = Command(settings, monkeypatch, capsys)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        ended = command.ended("files")
    assert (ended.code, ended.err) == (0, "")


def test_search_before_anything(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is indexed: a sentence for people, nothing for programs."""
    monkeypatch.setattr(query_models, "load_query_embedder", lambda *names, **more: FakeEmbedder(384))
    assert command("search", "words").splitlines() == [
        "nothing found: is anything indexed? `ingest status`", "Searched 0 of 0 files in this scope.",
    ]  # fmt: skip
    assert command("search", "words", "--json") == ""


def test_plan_of_an_empty_source(command: Command) -> None:
    """Nothing waits."""
    assert command("plan") == "nothing waits: every file of the sources is accounted for\n"


def test_plan_changes_nothing(command: Command, source: Path, connection: Connection) -> None:
    """New files are planned in one batch, what no parser reads is left out, and the ledger stays empty."""
    (source / "a.txt").write_text("words")
    (source / "歌.md").write_text("# words")
    (source / "noise.bin").write_bytes(bytes(range(256)))
    lines = command("plan").splitlines()
    assert lines[0].startswith("batch 1: 2 files, peak ")
    assert " of 1.0 GiB, about " in lines[0]
    assert [line.split()[-1] for line in lines[1::2]] == [f"{source}/a.txt", f"{source}/歌.md"]
    assert connection.execute("SELECT count(*) FROM files").fetchone() == (0,)


def test_plan_refuses_what_fits_nowhere(command: Command, source: Path) -> None:
    """A file whose parser alone needs more than a run has is refused before it is read."""
    command.patch.setenv("INGEST_RUN_MEMORY", "512MiB")
    command.patch.setenv("INGEST_MAX_FILE_SIZE", "200MiB")
    with (source / "huge.pdf").open("wb") as file:
        file.write(b"%PDF-1.7\n")
        file.truncate(150 * MIB)
    assert command("plan") == f"refused: {source}/huge.pdf: its parser alone needs 646.0 MiB\n"
    [row] = command.json("plan")
    assert (row["batches"], row["refused"][0]["predicted_peak_bytes"]) == ([], 646 * MIB)


def test_plan_without_its_source(command: Command) -> None:
    """A folder that is not there is a setting that cannot be used."""
    command.patch.setenv("INGEST_SOURCES", "/no/such/folder")
    assert "/no/such/folder" in command.mistake("plan")


def test_memory_before_anything(command: Command, tmp_path: Path) -> None:
    """No history: one sentence, and a plot with axes and no dots."""
    plot = tmp_path / "plot.svg"
    assert command("memory", "--plot", str(plot)) == "nothing measured yet: `ingest run`\n"
    assert plot.read_text().startswith("<svg ")
    assert "<circle" not in plot.read_text()


def test_memory_with_history(command: Command, connection: Connection) -> None:
    """Two files that were measured: as the shipped rates predict them, and the run against its budget."""
    measured(connection, {"a.txt": 20 * MIB, "b.txt": 26 * MIB})
    lines = command("memory").splitlines()
    assert lines[0].startswith("Cost model 0.")
    assert lines[2].split() == ["txt", "2", "0%", "30%", "0%", "30%", "0"]
    assert lines[3].split() == ["all", "2", "0%", "30%", "0%", "30%", "0"]
    assert lines[4] == "Files as they were planned: 2, error p50 100%, p95 100%."
    assert lines[5] == "Runs: 1, error p50 100%, p95 100%; over their budget: 0."


def test_memory_for_programs(command: Command, connection: Connection) -> None:
    """The same numbers as shares."""
    measured(connection, {"a.txt": 20 * MIB, "b.txt": 26 * MIB})
    [row] = command.json("memory")
    assert row["promised_left_out"] == pytest.approx({"count": 2, "p50": 0, "p95": 0.3, "too_low": 0}, abs=1e-5)
    assert (row["runs"]["count"], row["model"], row["runs_over_budget"]) == (1, 0, 0)


def test_a_plot_has_a_dot_for_each_file(command: Command, connection: Connection, tmp_path: Path) -> None:
    """Names in the plot are escaped."""
    measured(connection, {"<b>.txt": 20 * MIB, "歌.txt": 26 * MIB})
    command("memory", "--plot", str(tmp_path / "plot.svg"))
    text = (tmp_path / "plot.svg").read_text()
    assert text.count("<circle") == 2
    assert "<title>&lt;b&gt;.txt</title>" in text
    assert "<title>歌.txt</title>" in text
    assert "text/plain (2)" in text


def test_plot_that_cannot_be_written(command: Command) -> None:
    """The path and the reason in one line, after the table."""
    ended = command.ended("memory", "--plot", "/no/such/folder/plot.svg")
    assert (ended.code, ended.err) == (2, "ingest: --plot /no/such/folder/plot.svg: No such file or directory\n")


def test_add_into_the_only_source(offline: Command, tmp_path: Path) -> None:
    """Copied under its own name, or under the one that is asked for, folders included."""
    source = Path(offline.settings.sources[0])
    (tmp_path / "a.md").write_text("# words")
    assert offline("add", str(tmp_path / "a.md")) == f"a.md  7 B  added to {source}\n"
    assert offline("add", str(tmp_path / "a.md"), "--name", "x/歌.md") == f"x/歌.md  7 B  added to {source}\n"
    assert (source / "a.md").read_text() == (source / "x" / "歌.md").read_text() == "# words"


def test_add_from_standard_input(offline: Command) -> None:
    """`-` reads the standard input to its end."""
    source = Path(offline.settings.sources[0])
    offline.patch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"piped words")))
    assert offline("add", "-", "--name", "piped.txt") == f"piped.txt  11 B  added to {source}\n"
    assert (source / "piped.txt").read_bytes() == b"piped words"


def test_standard_input_needs_a_name(offline: Command) -> None:
    """Without a name it is refused."""
    offline.patch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"words")))
    assert offline.mistake("add", "-", code=1) == "-: the standard input has no name; say --name NAME"


@pytest.mark.parametrize("name", ["../a.txt", "/a.txt", ".hidden.txt", "x//y.txt", "x/./y.txt", "."])
def test_names_outside_are_refused(offline: Command, tmp_path: Path, name: str) -> None:
    """A name that leaves the source or would be hidden is one line and code 1; nothing is written."""
    source = Path(offline.settings.sources[0])
    (tmp_path / "a.txt").write_text("words")
    assert offline.mistake("add", str(tmp_path / "a.txt"), "--name", name, code=1)
    assert list(source.iterdir()) == []


def test_a_taken_name_is_refused(offline: Command, tmp_path: Path) -> None:
    """The file that is there stays; `--replace` makes the new one its next version."""
    source = Path(offline.settings.sources[0])
    (tmp_path / "a.txt").write_text("new")
    (source / "a.txt").write_text("old")
    assert "a.txt" in offline.mistake("add", str(tmp_path / "a.txt"), code=1)
    assert (source / "a.txt").read_text() == "old"
    assert offline("add", str(tmp_path / "a.txt"), "--replace") == f"a.txt  3 B  added to {source}\n"
    assert (source / "a.txt").read_text() == "new"


def test_large_uploads_are_refused(offline: Command, tmp_path: Path) -> None:
    """Over the limit of a file nothing stays in the source, and the files beside it are added."""
    source = Path(offline.settings.sources[0])
    offline.patch.setenv("INGEST_MAX_FILE_SIZE", "1KiB")
    (tmp_path / "large.txt").write_bytes(b"x" * 1025)
    (tmp_path / "small.txt").write_bytes(b"x" * 1024)
    ended = offline.ended("add", str(tmp_path / "large.txt"), str(tmp_path / "small.txt"))
    assert ended.code == 1
    assert ended.out == f"small.txt  1 KiB  added to {source}\n"
    assert "INGEST_MAX_FILE_SIZE" in ended.err
    assert [path.name for path in source.iterdir()] == ["small.txt"]


def test_one_name_is_for_one_file(offline: Command) -> None:
    """`--name` with two files is a mistake of usage."""
    assert offline.mistake("add", "a", "b", "--name", "c") == "--name is for one file"


def test_add_needs_one_source(offline: Command, tmp_path: Path) -> None:
    """Of two sources one must be named; a named one that is not there is refused."""
    offline.patch.setenv("INGEST_SOURCES", f"{tmp_path},/somewhere")
    (tmp_path / "a.txt").write_text("words")
    assert "--to SOURCE" in offline.mistake("add", str(tmp_path / "a.txt"))
    assert "/no/such/folder" in offline.mistake("add", str(tmp_path / "a.txt"), "--to", "/no/such/folder")


def test_own_database_is_never_stopped(command: Command, url: str) -> None:
    """With INGEST_DATABASE_URL there is no server of ours: its URL is shown, `stop` has nothing to do."""
    assert command("db", "url") == f"{url}\n"
    assert command("db", "stop") == "not running\n"
    assert command("db", "start") == "your own Postgres  (0 migrations applied)\n"


def test_embedded_server_from_start_to_stop(command: Command, tmp_path: Path) -> None:
    """`start` makes a server in the home and migrates it, a second one finds it, `stop` ends it."""
    command.patch.delenv("INGEST_DATABASE_URL")
    url = EmbeddedServer(command.settings.home).url
    assert command("db", "url") == f"{url}\n"
    assert command("db", "stop") == "not running\n"
    try:
        assert command("db", "start").startswith(f"{url}  (")
        assert command("db", "start") == f"{url}  (0 migrations applied)\n"
        assert command.json("status")[0]["files"]["synced"] == 0
    finally:
        assert command("db", "stop") == "stopped\n"
    assert command("db", "stop") == "not running\n"


def test_ui_ends_with_the_code_of_services(offline: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ingest ui` hands over its settings and ends with the code of its services."""
    seen: list[Settings] = []
    monkeypatch.setattr(services, "serve", lambda settings: seen.append(settings) or 1)
    assert offline.ended("ui").code == 1
    assert seen[0].database_url == offline.settings.database_url


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigurationError("no room"), 2, "no room"),
        (ErrorBudgetSpent("10 times in a row"), 3, "10 times in a row"),
        (StoreUnavailable("Postgres: gone"), 1, "Postgres: gone"),
        (SourceUnavailable("bucket: no such bucket"), 1, "bucket: no such bucket"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_run_errors_have_exit_codes(offline: Command, error: BaseException, code: int, line: str) -> None:
    """Whose fault it is decides the code; the message is one line."""

    def work(*arguments: Any) -> str | None:
        raise error

    fake_run(offline.patch, work)
    assert offline.mistake("run", code=code) == line


@pytest.mark.parametrize(
    ("stopped", "code"), [(None, 0), ("the catalog failed: no bucket", 3), ("TokenLimitReached: 9 tokens used", 4)]
)
def test_run_that_stopped_has_a_code(offline: Command, stopped: str | None, code: int) -> None:
    """A run that stopped before the end ends with 3, one that came to the user's limit with 4, a whole one with 0."""
    fake_run(offline.patch, lambda settings, reporter, finish: stopped)
    assert offline.ended("run").code == code


def test_run_takes_sources_as_arguments(offline: Command, tmp_path: Path) -> None:
    """Arguments take the place of INGEST_SOURCES, for the runs' processes too."""
    seen: list[tuple[str, ...]] = []
    fake_run(offline.patch, lambda settings, *others: seen.append(settings.sources))
    offline("run", str(tmp_path), "s3://bucket/docs")
    assert seen == [(str(tmp_path), "s3://bucket/docs")]
    assert os.environ["INGEST_SOURCES"] == f"{tmp_path},s3://bucket/docs"


@pytest.mark.parametrize("source", ["", " ", "a,b"])
def test_a_source_has_no_comma(offline: Command, source: str) -> None:
    """A comma would make two sources of one."""
    assert offline.mistake("run", source) == "a source's name must not be empty or contain a comma"


def test_signals_interrupt_a_run(offline: Command) -> None:
    """SIGTERM stops a run as Ctrl-C does, also where whoever started it ignores SIGINT."""

    def work(*arguments: Any) -> str | None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("unreachable")

    fake_run(offline.patch, work)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert offline.mistake("run", code=130) == "interrupted"
    finally:
        signal.signal(signal.SIGINT, before)


def test_run_reports_lines_to_a_pipe(offline: Command) -> None:
    """Progress goes to stderr, the account to stdout."""

    def work(settings: Settings, reporter: Any, finish: Any) -> str | None:
        reporter.say("reading the sources")
        reporter.show(PROGRESS)
        reporter.end()
        return None

    fake_run(offline.patch, work)
    ended = offline.ended("run")
    assert (ended.code, ended.out, ended.err) == (0, "", "reading the sources\n")


def test_run_indexes_a_folder(launched: Command, source: Path) -> None:
    """Catalog, batch and index as Dagster runs: a good file, one that fails, and one with gaps in its type."""
    (source / "歌.md").write_text("# Warranty\n\nThe warranty for the pump lasts seven years.\n")
    (source / "empty.txt").write_text("")
    (source / "noise.bin").write_bytes(bytes(range(256)))
    ended = launched.ended("run")
    assert ended.code == 0, ended.err
    assert ended.err.startswith("reading the sources\n")
    lines = ended.out.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [["failed", "empty.txt"], ["failed", "noise.bin"],
                                                         ["indexed", "歌.md"]]  # fmt: skip
    assert "NoText" in lines[1]
    assert "UnsupportedFormat" in lines[2]
    assert "Where time and memory went:" in lines
    assert lines[-1] == "Files: 1 indexed, 2 failed. Searchable: 1 chunk."
    [hit] = launched.json("search", "How long is the warranty?", "--top", "3")
    assert (hit["path"], hit["section"], hit["pages"]) == ("歌.md", "Warranty", [1, 1])
    assert (hit["heading"], hit["page_label"]) == ("Warranty", None)
    assert "歌.md, page 1 · Warranty" in launched("search", "pump")


def test_run_again_changes_nothing(launched: Command, source: Path) -> None:
    """The second run is the catalog alone; its account says so to people and programs."""
    (source / "a.txt").write_text("Words that can be found.")
    [first] = launched.json("run")
    assert (first["files_parsed"], first["chunks_embedded"], first["runs"]) == (1, 1, 3)
    assert first["failed"] == {}
    assert first["peak_memory_bytes"] > 0
    assert len(first["batches_run"]) == 1
    [second] = launched.json("run")
    assert (second["files_parsed"], second["chunks_embedded"], second["runs"]) == (0, 0, 1)
    assert (second["batches_run"], second["peak_memory_bytes"], second["stopped"]) == ([], None, None)
    assert "Nothing changed: 1 file known, 0 parsed, 0 chunks embedded, in " in launched("run")


def test_run_leaves_deleted_files_out(launched: Command, source: Path) -> None:
    """A file that left its source is counted, not listed, and no search finds it."""
    (source / "a.txt").write_text("Words that can be found.")
    launched("run")
    (source / "a.txt").unlink()
    out = launched("run")
    assert "a.txt" not in out
    assert out.splitlines()[-1] == "Files: 1 deleted. Searchable: 0 chunks."
    assert launched("search", "words", "--json") == ""


def test_run_lists_only_failures_of_many(launched: Command, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large source only the files that failed are listed."""
    monkeypatch.setattr("ingest_pipeline.cli.tables.FULL_TABLE_FILES", 2)
    for name in ("a", "b", "c"):
        (source / f"{name}.txt").write_text(f"Words of {name}.")
    (source / "bad.bin").write_bytes(bytes(range(256)))
    lines = launched("run").splitlines()
    assert lines[1].startswith("failed     bad.bin")
    assert lines[2] == "(3 files more: `ingest files`)"


def test_a_failed_catalog_stops_the_run(launched: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the sources cannot be listed, nothing is launched after the catalog: code 3, and why."""

    def lost(*arguments: Any, **more: Any) -> Any:
        raise SourceUnavailable("bucket: no such bucket")

    monkeypatch.setattr("ingest_pipeline.defs.assets.scan_sources", lost)
    ended = launched.ended("run")
    assert ended.code == 3
    last = ended.out.splitlines()[-1]
    assert last.startswith("Stopped before the end: the catalog failed: ")
    assert "no such bucket" in last


def test_run_without_its_folder(offline: Command) -> None:
    """A source that is not there is said before anything starts."""
    assert "/no/such/folder" in offline.mistake("run", "/no/such/folder")
    assert not offline.settings.home.exists()


def test_runs_read_the_same_sources(settings: Settings, command: Command) -> None:
    """A resource that names other sources than were asked for is a mistake, not a surprise."""
    assert settings_of_runs(settings).sources == settings.sources
    command.patch.setenv("INGEST_SOURCES", "/elsewhere")
    with pytest.raises(ConfigurationError, match="reads other sources: /elsewhere"):
        settings_of_runs(settings)


class Listener:
    """Remembers what a run reports; interrupts it when asked to."""

    def __init__(self, interrupt: bool = False) -> None:
        self.said: list[str] = []
        self.shown: list[Progress] = []
        self.ended, self._interrupt = False, interrupt

    def say(self, text: str) -> None:
        self.said.append(text)

    def show(self, progress: Progress) -> None:
        self.shown.append(progress)
        if self._interrupt:
            raise KeyboardInterrupt

    def end(self) -> None:
        self.ended = True


def test_an_interrupted_run_is_stopped(launched: Command, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C: it says so, asks its runs to stop, and passes the interrupt on without an account."""
    stopped: list[bool] = []
    monkeypatch.setattr("ingest_pipeline.instance.headless.Headless.stop", lambda self: stopped.append(True))
    (source / "a.txt").write_text("Words that can be found.")
    listener = Listener(interrupt=True)
    with pytest.raises(KeyboardInterrupt):
        run_headless(launched.settings, listener, lambda connection, account: pytest.fail("no account"))
    assert listener.said[-1] == "stopping; what is committed stays, and the next run goes on from there"
    assert (stopped, listener.ended) == ([True], False)


def test_progress_is_shown_while_it_runs(launched: Command, source: Path) -> None:
    """At least one report, over the files of the batch; the end comes before the account."""
    (source / "a.txt").write_text("Words that can be found.")
    listener, order = Listener(), []
    run_headless(launched.settings, listener, lambda connection, account: order.append(listener.ended))
    assert order == [True]
    assert listener.shown[0].files == 1
    assert listener.said == ["reading the sources"]
