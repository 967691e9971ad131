"""`ingest doctor`: each line about the database, Dagster and the sources turns red; nothing is started or changed."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.instance import doctor as dagster_checks
from ingest_pipeline.instance import home
from ingest_pipeline.models import Finding
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.doctor import bounded, database, secrets, sources
from ingest_pipeline.stages.doctor.bounded import looked, ok, within
from ingest_pipeline.store import connection as connections
from ingest_pipeline.store import health, server
from ingest_pipeline.store.connection import Connection, connected
from ingest_pipeline.store.health import ServerHealth, server_health
from ingest_pipeline_tests.command import Command
from ingest_pipeline_tests.documents import add_file
from ingest_pipeline_tests.poolers import pgbouncer

ALL = [
    "database", "session", "pgvector", "schema", "connections", "clock", "model", "engine", "disk home", "disk tmp",
    "memory", "swap", "cgroup", "confinement", "dagster home", "port", "settings", "source",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_home_of_dagster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


@pytest.fixture
def sound(url: str) -> ServerHealth:
    """What a sound server says."""
    return server_health(url)


def of_database(settings: Settings) -> dict[str, Finding]:
    return {finding.check: finding for finding in database.checks(settings)}


def files_below(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def answering(content: object) -> Iterator[int]:
    """A web server whose every answer is this JSON; yield its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Be quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield web.server_port
        web.shutdown()


def test_a_sound_machine(settings: Settings, source: Path, monkeypatch, capsys) -> None:
    """Every line is there, in order, and none is red; the exit code is 0."""
    (source / "a.txt").write_text("text")
    command = Command(replace(settings, ui_port=free_port()), monkeypatch, capsys)
    ended = command.ended("doctor", "--json")
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [row["check"] for row in rows] == ALL
    assert [row for row in rows if row["state"] == "fail"] == []
    assert ended.code == 0
    assert [list(row) for row in rows] == [["check", "state", "seen", "advice"]] * len(ALL)


def test_nothing_is_started_or_changed(tmp_path: Path, monkeypatch, capsys) -> None:
    """On a machine where nothing ever ran the embedded server stays down, and no folder is made."""
    settings = replace(Settings(), home=tmp_path / "home", ui_port=free_port())
    command = Command(settings, monkeypatch, capsys)
    lines = command("doctor").splitlines()
    assert lines[0] == "warn  database      the embedded one is not running"
    assert "`ingest db start`" in lines[1]
    assert files_below(tmp_path) == []


def test_one_red_line_is_exit_code_1(settings: Settings, monkeypatch, capsys) -> None:
    """The others are looked at all the same, and the advice is on a line of its own."""
    nowhere = replace(settings, database_url="postgresql://u:hunter2@127.0.0.1:1/x", ui_port=free_port())
    ended = Command(nowhere, monkeypatch, capsys).ended("doctor")
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert lines[0].startswith("fail  database      Postgres: connection failed")
    assert lines[1].startswith("                    -> start your server, or correct INGEST_DATABASE_URL")
    assert [line.split("  ")[0] for line in lines if not line.startswith(" ")].count("fail") == 1
    assert "hunter2" not in ended.out + ended.err


def test_a_server_that_never_answers(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that accepts and stays silent holds nothing up."""
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        url = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x"
        lines = of_database(replace(settings, database_url=url))
        assert time.monotonic() - began < 10
    assert (lines["database"].state, lines["clock"].state) == ("fail", "warn")
    assert "timeout" in lines["database"].seen


def test_an_embedded_server_without_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged package is told before a start fails; so is root without a way to be somebody else."""
    settings = replace(Settings(), home=tmp_path / "home")
    with monkeypatch.context() as patch:
        patch.setattr(server, "postgres_program", lambda name: tmp_path / name)
        line = of_database(settings)["database"]
        assert (line.state, "install it again" in line.seen) == ("fail", True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 0)
        patch.setattr(server.shutil, "which", lambda program: None)
        assert of_database(settings)["database"].state == "fail"


def test_a_database_that_only_reads(settings: Settings, connection: Connection) -> None:
    """A standby, or a database set to read only, cannot take a run."""
    name = connection.info.dbname
    connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")  # type: ignore[arg-type]
    line = of_database(settings)["database"]
    assert (line.state, line.seen.endswith("read only")) == ("fail", True)


def test_a_pooler_is_a_red_line(sound: ServerHealth) -> None:
    """Sessions that are shared are refused; what to do is the advice."""
    state, seen, advice = database._session(replace(sound, session="", session_error=ConfigurationError("refused")))
    assert (state, seen) == ("fail", "refused")
    assert "directly" in advice
    assert database._session(sound) == ("ok", "direct", "")


@pytest.mark.proof
@pytest.mark.parametrize(("mode", "state"), [("transaction", "fail"), ("session", "ok")])
def test_a_real_pooler(settings: Settings, tmp_path: Path, mode: str, state: str) -> None:
    """Behind a pooler every line about the database is looked at; sessions are red if they are shared."""
    with pgbouncer(settings.database_url, tmp_path, mode=mode) as through:
        lines = of_database(replace(settings, database_url=through))
    assert {name: line.state for name, line in lines.items()} == {
        "database": "ok", "session": state, "pgvector": "ok", "schema": "ok", "connections": lines["connections"].state,
        "clock": "ok",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "state", "seen"),
    [
        ({}, "ok", "pgvector"),
        ({"pgvector": None, "pgvector_available": None}, "fail", "the server has no pgvector"),
        ({"pgvector": "0.7.4"}, "fail", "pgvector 0.7.4"),
        ({"pgvector": None, "pgvector_available": "0.7.4"}, "fail", "pgvector 0.7.4"),
        ({"pgvector": None, "may_create": False}, "fail", "not by this role"),
        ({"pgvector": None}, "ok", "not created yet"),
    ],
)
def test_pgvector(sound: ServerHealth, changes: dict[str, Any], state: str, seen: str) -> None:
    """It must be there or be creatable, and have iterative scans."""
    finding = database._pgvector(replace(sound, **changes))
    assert (finding[0], seen in finding[1]) == (state, True)


def test_an_empty_database(settings: Settings, empty_url: str) -> None:
    """What the first command makes is no fault; a role that may not make it is."""
    lines = of_database(replace(settings, database_url=empty_url))
    assert (lines["schema"].state, lines["schema"].seen) == ("warn", "there is none yet")
    assert (lines["pgvector"].state, lines["clock"].state) == ("ok", "ok")
    without_rights = replace(server_health(empty_url), may_create=False)
    assert database._schema(without_rights)[0] == "fail"


def test_a_schema_of_another_version(settings: Settings, connection: Connection) -> None:
    """One that is older is brought up by the next command; one that is newer is red, by the migration's name."""
    assert of_database(settings)["schema"].state == "ok"
    connection.execute("DELETE FROM ingest.migrations WHERE name = (SELECT max(name) FROM ingest.migrations)")
    assert of_database(settings)["schema"].seen == "1 migrations are missing"
    connection.execute("INSERT INTO ingest.migrations (name) VALUES ('9999_future.sql')")
    line = of_database(settings)["schema"]
    assert (line.state, "9999_future.sql" in line.seen) == ("fail", True)


def test_too_few_connections(settings: Settings, connection: Connection, sound: ServerHealth) -> None:
    """The least of what server, role and database allow must hold the runs; with the services it had better."""
    connection.execute(f"ALTER DATABASE {connection.info.dbname} CONNECTION LIMIT 5")  # type: ignore[arg-type]
    line = of_database(replace(settings, max_runs=2))["connections"]
    assert (line.state, line.seen) == ("fail", "5 may be opened, 2 runs at once: 6 are needed")
    assert database._connections(replace(sound, connections=20), 2)[0] == "warn"
    assert database._connections(replace(sound, connections=97), 2)[0] == "ok"


def test_clocks(settings: Settings, connection: Connection, sound: ServerHealth) -> None:
    """A ledger of tomorrow and clocks that disagree are red; seconds are a warning."""
    assert of_database(settings)["clock"].state == "ok"
    add_file(connection, "a.txt")
    connection.execute("UPDATE files SET updated_at = now() + interval '1 hour'")
    line = of_database(settings)["clock"]
    assert (line.state, "set back" in line.seen) == ("fail", True)
    assert database._clock(replace(sound, clock_ahead_seconds=-300.0))[:2] == (
        "fail", "the database's is 300.0 s behind this machine's",
    )  # fmt: skip
    assert database._clock(replace(sound, clock_ahead_seconds=8.0))[0] == "warn"


def test_the_home_of_dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh, copied, of another version; and one that cannot be written, or has another dagster.yaml."""
    settings = replace(Settings(), home=tmp_path / "home", ui_port=free_port())

    def line() -> Finding:
        return next(dagster_checks.checks(settings))

    assert (line().state, line().seen.endswith("not made yet")) == ("ok", True)
    monkeypatch.setenv("DAGSTER_HOME", "")
    config = home.prepare_dagster_home(settings) / "dagster.yaml"
    assert line().state == "ok"
    config.write_text("storage: {}")
    assert line().state == "warn"
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert (line().state, "DAGSTER_HOME" in line().seen) == ("fail", True)
    (tmp_path / "file").write_text("")
    [blocked, _] = dagster_checks.checks(replace(settings, home=tmp_path / "file"))
    assert (blocked.state, "cannot be written" in blocked.seen) == ("fail", True)
    monkeypatch.setattr(home, "PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert (line().state, "no dagster.yaml" in line().seen) == ("fail", True)


def test_the_port(settings: Settings) -> None:
    """Free, or held by our own webserver; not by another's Dagster, nor by any other program."""

    def port(number: int, host: str = "127.0.0.1") -> tuple[str, str]:
        line = list(dagster_checks.checks(replace(settings, ui_port=number, ui_host=host)))[-1]
        return line.state, line.seen

    def locations(name: str) -> dict[str, Any]:
        return {"data": {"locationStatusesOrError": {"entries": [{"name": name}]}}}

    assert port(free_port())[0] == "ok"
    assert port(free_port(), "192.0.2.1")[0] == "fail"
    with answering(locations("ingest_pipeline.definitions")) as ours:
        assert port(ours) == ("ok", f"{ours}: our own webserver answers")
    with answering(locations("sales")) as theirs:
        assert port(theirs) == ("fail", f"{theirs} on 127.0.0.1 is held by a Dagster of others (sales)")
    with answering([]) as other:
        assert port(other) == ("fail", f"{other} on 127.0.0.1 is held by another program")


def of_source(settings: Settings, source: str) -> Finding:
    return list(sources.checks(replace(settings, sources=(source,))))[-1]


def test_a_folder(settings: Settings, tmp_path: Path) -> None:
    """Listed and read to its first document; missing, or with nothing that can be read, it is red."""
    folder = tmp_path / "reports"
    assert of_source(settings, str(folder)).state == "fail"
    folder.mkdir()
    assert of_source(settings, str(folder)).state == "warn"
    (folder / "link.txt").symlink_to("/etc/hostname")
    line = of_source(settings, str(folder))
    assert (line.state, "the link leaves its source" in line.seen) == ("fail", True)
    (folder / "report.txt").write_text("text")
    assert of_source(settings, str(folder)).seen == f"{folder}: can be listed and read"


def test_a_bucket(settings: Settings, seaweed, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read with the client and the credentials of a run; a wrong bucket or key, or a server that is away, is red."""
    from ingest_pipeline_tests.servers import filesystem

    settings = replace(settings, s3_endpoint=seaweed.endpoint)
    assert of_source(settings, f"s3://{bucket}").state == "warn"
    filesystem(seaweed.endpoint).call_s3("put_object", Bucket=bucket, Key="a.txt", Body=b"text")
    assert of_source(settings, f"s3://{bucket}").state == "ok"
    assert of_source(settings, "s3://no-such-bucket").state == "fail"
    monkeypatch.setattr(sources, "PATIENCE_SECONDS", 1.0)
    away = of_source(replace(settings, s3_endpoint="http://127.0.0.1:1"), f"s3://{bucket}")
    assert (away.state, "no response for 1 s" in away.seen) == ("fail", True)


def test_a_setting_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nobody reads is told, without its value."""
    assert sources._settings({"INGEST_RUN_MEMORY": "1GiB", "PATH": "/bin"}) == ok("1 variables set")
    state, seen, _ = sources._settings({"INGEST_RUN_MEMROY": "1GiB"})
    assert (state, seen) == ("warn", "no such setting: INGEST_RUN_MEMROY")


def test_secrets_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords of URLs, secret settings and keys of the environment are shown nowhere, whoever wrote the message."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abcdef")
    settings = replace(
        Settings(), database_url="postgresql://u:p%40ss@db/x", s3_endpoint="http://minio:9000", pdf_passwords=("open",)
    )
    text = "postgresql://u:p%40ss@db/x p@ss p%40ss http://minio:9000 open sk-abcdef db"
    shown = secrets.without_secrets(Finding("x", "fail", text, text), settings)
    assert (shown.seen, shown.advice) == ("… … … … … … db", "… … … … … … db")


def test_a_check_that_hangs() -> None:
    """It is a red line after its time, and what it would have said is dropped."""
    began, forever = time.monotonic(), threading.Event()
    finding = looked("x", lambda: ok(str(forever.wait(30))), advice="help", seconds=0.2)
    assert time.monotonic() - began < 5
    assert finding == Finding("x", "fail", "TimeoutError: no answer within 0 s", "help")
    forever.set()
    assert within(5.0, lambda: 7) == 7


def test_a_check_that_breaks() -> None:
    """Whatever a library raises is one red line."""
    finding = looked("x", lambda: ok(str(1 / 0)), advice="help")
    assert finding == Finding("x", "fail", "ZeroDivisionError: division by zero", "help")
    assert bounded.SECONDS <= 30
    assert health.is_old_pgvector("0.7.4")
    assert not health.is_old_pgvector("0.8.1")


def test_an_embedded_server_at_work(server, template: str) -> None:
    """One that runs is asked, and all of its lines are green."""
    lines = of_database(replace(Settings(), home=server.home))
    assert lines["database"].seen.endswith("embedded")
    with connected(server.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
