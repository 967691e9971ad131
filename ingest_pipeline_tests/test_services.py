"""`ingest ui`: its port, its processes, its signals, and what is left when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.errors import BadSetting, ConfigurationError
from ingest_pipeline.instance import run_record, services
from ingest_pipeline.instance.home import PROJECT
from ingest_pipeline.instance.run_record import RunRecord
from ingest_pipeline.instance.services import Stopped, serve
from ingest_pipeline.memory.process import identity_of
from ingest_pipeline.settings import Settings
from ingest_pipeline_tests.conftest import UP

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); " + UP
LISTENER = "import socket, time; s = socket.create_server(('127.0.0.1', {})); time.sleep(60)"
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_there(pid: int) -> bool:
    return identity_of(pid) is not None


def test_a_free_port_is_free(free_port: int) -> None:
    """Nothing is said of a port that can be bound, and it can be bound afterwards."""
    services.require_free_port(replace(Settings(), ui_port=free_port))
    services.require_free_port(replace(Settings(), ui_port=free_port))


def test_a_taken_port_is_refused(free_port: int) -> None:
    """The message has the port and the setting."""
    with (
        socket.create_server(("127.0.0.1", free_port)),
        pytest.raises(ConfigurationError, match=f"port {free_port} on 127.0.0.1 is taken: set INGEST_UI_PORT"),
    ):
        services.require_free_port(replace(Settings(), ui_port=free_port))


def test_an_address_of_others_is_refused() -> None:
    """An address that this machine does not have is the setting's fault, not the port's."""
    with pytest.raises(BadSetting, match=r"INGEST_UI_HOST='192.0.2.1': expected an address of this machine"):
        services.require_free_port(replace(Settings(), ui_host="192.0.2.1"))


def test_all_addresses_are_asked_here(free_port: int) -> None:
    """A webserver that listens on every address is waited for on this machine's own."""
    settings = replace(Settings(), ui_port=free_port, ui_host="0.0.0.0")
    with subprocess.Popen([sys.executable, "-c", LISTENER.format(free_port)]) as process:
        assert services._await_port(process, settings)
        process.kill()


def test_the_port_answers(free_port: int) -> None:
    """Waiting ends as soon as the webserver takes connections."""
    with subprocess.Popen([sys.executable, "-c", LISTENER.format(free_port)]) as process:
        assert services._await_port(process, replace(Settings(), ui_port=free_port))
        process.kill()


def test_a_webserver_that_ended(free_port: int) -> None:
    """A process that is gone is not waited for."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        began = time.monotonic()
        assert not services._await_port(process, replace(Settings(), ui_port=free_port))
        assert time.monotonic() - began < 2


def test_a_slow_webserver(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time to start nobody waits any longer; the process is left alone."""
    monkeypatch.setattr(services, "START_SECONDS", 0.3)
    with subprocess.Popen([sys.executable, "-c", SLEEP]) as process:
        assert not services._await_port(process, replace(Settings(), ui_port=free_port))
        assert process.poll() is None
        process.kill()


TREE = """
import subprocess, sys
sleep = [sys.executable, '-c', 'import time; time.sleep(60)']
children = [subprocess.Popen([*sleep, *words]) for words in (
    ['webserver'], ['-m', 'ingest_pipeline.instance.supervisor'], ['api', 'execute_run', '{}'])]
print(*(child.pid for child in children), flush=True)
try:
    children[0].wait()
finally:
    for child in children:
        child.kill()
"""


def test_runs_are_no_services() -> None:
    """Of a tree of processes, a supervisor and a run's process are left out; a process that is gone has none."""
    with subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        children = [int(word) for word in process.stdout.readline().split()]
        deadline = time.monotonic() + 10  # a child has its parent's command line until it has called exec
        while len(found := services._services(process.pid)) != 2:
            assert time.monotonic() < deadline, found
        assert [service.pid for service in found] == [process.pid, children[0]]
        process.send_signal(signal.SIGINT)
    assert services._services(process.pid) == []


@pytest.mark.parametrize(
    ("command", "belongs"),
    [
        (["python", "-m", "ingest_pipeline.instance.supervisor", "record.json"], True),
        (["python", "-m", "dagster", "api", "execute_run", "{}"], True),
        (["python", "-m", "dagster", "api", "grpc"], False),
        (["dagster-webserver", "--port", "3000"], False),
        ([], False),
    ],
)
def test_what_belongs_to_a_run(command: list[str], belongs: bool) -> None:
    """A run is known by its command line."""
    assert services._belongs_to_run(command) is belongs


def test_services_end_at_a_request(started: Callable[..., subprocess.Popen[str]]) -> None:
    """`dagster dev` is asked by SIGINT, once."""
    process = started("import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + UP)
    services._end(process)
    assert process.returncode == -signal.SIGINT


def test_stubborn_services_are_killed(
    started: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there after the time to stop is killed."""
    monkeypatch.setattr(services, "STOP_SECONDS", 0.2)
    process = started(STUBBORN)
    services._end(process)
    assert process.returncode == -signal.SIGKILL


def test_what_services_left_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that outlives `dagster dev` in a process group of its own is killed."""
    script = (
        "import subprocess, sys, signal\n"
        f"child = subprocess.Popen([sys.executable, '-c', {STUBBORN!r}], start_new_session=True, stdout=-1)\n"
        "child.stdout.readline(); print(child.pid, flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=-3) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        services._end(process)
    deadline = time.monotonic() + 5
    while is_there(child):
        assert time.monotonic() < deadline


def test_ended_services_need_nothing(started: Callable[..., subprocess.Popen[str]]) -> None:
    """`dagster dev` that is gone by itself is reaped with its code."""
    process = started("print('up', flush=True); raise SystemExit(3)")
    process.wait()
    services._end(process)
    assert process.returncode == 3


@pytest.mark.parametrize("number", NUMBERS)
def test_signals_stop_and_are_put_back(number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and a closed terminal all mean stop; afterwards the handlers are those of before."""
    before = [signal.getsignal(one) for one in NUMBERS]
    with pytest.raises(Stopped), services._stop_signals():
        os.kill(os.getpid(), number)
        time.sleep(1)
    assert [signal.getsignal(one) for one in NUMBERS] == before


def test_the_end_cannot_be_interrupted() -> None:
    """While services are ended, a second Ctrl-C does nothing."""
    before = [signal.getsignal(one) for one in NUMBERS]
    with services._ignored_signals():
        for number in NUMBERS:
            os.kill(os.getpid(), number)
    assert [signal.getsignal(one) for one in NUMBERS] == before


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunRecord]:
    """A run in the home with a real supervisor; a child of this process, so nobody's orphan."""
    monkeypatch.setenv("INGEST_HOME", str(settings.home))
    record = RunRecord.of("run")
    record.path.parent.mkdir(parents=True)
    command = [sys.executable, "-m", "ingest_pipeline.instance.supervisor", str(record.path), str(2**29), "1", "--"]
    with subprocess.Popen([*command, sys.executable, "-c", SLEEP]) as process:
        while not record.is_alive:
            time.sleep(0.02)
        yield record
        process.kill()


def test_runs_of_others_go_on(run: RunRecord) -> None:
    """A run whose launcher lives, in another terminal, is not stopped."""
    services._end_orphaned_runs()
    assert run.is_alive


def test_orphaned_runs_are_stopped(run: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose launcher is gone is asked to stop, and waited for."""
    supervisor = run.read()["supervisor"]
    real = run_record.parent_of
    monkeypatch.setattr(run_record, "parent_of", lambda pid: None if pid == supervisor else real(pid))
    services._end_orphaned_runs()
    assert not run.is_alive
    assert run.exit_cause().endswith("ended: SIGTERM")


def test_dagster_dev_is_started_apart(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this address, with our workspace, the settings in its environment, in a session and a folder of its own."""
    seen: dict[str, Any] = {}

    def popen(command: list[str], **more: Any) -> None:
        seen.update(more, command=command)

    monkeypatch.setattr(subprocess, "Popen", popen)
    services._start_dagster(replace(settings, ui_port=3456))
    assert seen["command"] == [
        sys.executable, "-m", "dagster", "dev", "-h", "127.0.0.1", "-p", "3456", "-w", str(PROJECT / "workspace.yaml"),
    ]  # fmt: skip
    assert seen["env"]["INGEST_UI_PORT"] == "3456"
    assert seen["env"]["INGEST_DATABASE_URL"] == settings.database_url
    assert (seen["cwd"], seen["start_new_session"], seen["stdin"]) == (settings.home, True, subprocess.DEVNULL)


@pytest.fixture
def serving(settings: Settings, free_port: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Settings]:
    """`ingest ui` with a script in the place of `dagster dev`; the script may name the port `PORT`."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("INGEST_HOME", str(settings.home))
    monkeypatch.setenv("INGEST_MAX_RUNS", "1")

    def prepared(script: str) -> Settings:
        command = [sys.executable, "-c", script.replace("PORT", str(free_port))]
        monkeypatch.setattr(services, "_start_dagster", lambda settings: subprocess.Popen(command))
        return replace(settings, ui_port=free_port, max_runs=1)

    return prepared


def test_serve_until_a_signal(
    serving: Callable[[str], Settings], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is printed once it answers; a signal ends everything with code 0, and the port is free again."""
    settings, real = serving(LISTENER.format("PORT")), services._await_port

    def await_port(process: subprocess.Popen[str], settings: Settings) -> bool:
        answers = real(process, settings)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return answers

    monkeypatch.setattr(services, "_await_port", await_port)
    assert serve(settings) == 0
    assert capfd.readouterr().out == (
        f"http://127.0.0.1:{settings.ui_port}  (1 run at once)  Ctrl-C ends it\nstopping\n"
    )
    assert not port_answers(settings.ui_port)


def port_answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(("code", "expected"), [(0, 1), (3, 3)])
def test_services_that_end_by_themselves(
    serving: Callable[[str], Settings], capfd: pytest.CaptureFixture[str], code: int, expected: int
) -> None:
    """`dagster dev` never ends by itself: its code is said, and success is none."""
    assert serve(serving(f"raise SystemExit({code})")) == expected
    assert capfd.readouterr() == ("", f"ingest: dagster dev ended by itself with exit code {code}\n")


def test_serve_refuses_before_it_starts(serving: Callable[[str], Settings], tmp_path: Path) -> None:
    """A taken port and a run without room are refused, and nothing is made in the home."""
    settings = serving("raise SystemExit('never')")
    with pytest.raises(BadSetting, match="INGEST_RUN_MEMORY"):
        serve(replace(settings, run_memory=2 * 1024**3, machine_memory=1024**3))
    with socket.create_server(("127.0.0.1", settings.ui_port)), pytest.raises(ConfigurationError, match="is taken"):
        serve(settings)
    assert [path.name for path in settings.home.iterdir()] == ["models"]  # those that all tests share


@pytest.mark.parametrize(("alive", "stopped"), [(False, True), (True, False)])
def test_embedded_server_stops_with_the_services(
    serving: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch, alive: bool, stopped: bool
) -> None:
    """Our own Postgres is stopped at the end, but not under a run that goes on."""
    settings = serving("raise SystemExit(1)")
    stops: list[bool] = []
    monkeypatch.setattr(services, "database_url", lambda asked: settings.database_url)
    monkeypatch.setattr(services, "_end_orphaned_runs", lambda: None)
    monkeypatch.setattr(services, "live_records", lambda: ["a run"] if alive else [])
    monkeypatch.setattr(services.EmbeddedServer, "stop", lambda self: stops.append(True))
    serve(replace(settings, database_url=""))
    assert bool(stops) is stopped


def test_own_database_goes_on(serving: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """A Postgres of the user's is not ours to stop."""
    stops: list[bool] = []
    monkeypatch.setattr(services.EmbeddedServer, "stop", lambda self: stops.append(True))
    serve(serving("raise SystemExit(1)"))
    assert stops == []
