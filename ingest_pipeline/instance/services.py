"""`ingest ui`: Postgres, code location, daemon and webserver under one command; Ctrl-C ends all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from ingest_pipeline.embedding.choice import budget_of
from ingest_pipeline.embedding.load import prepare_engine
from ingest_pipeline.instance.home import find_config, prepare_dagster_home
from ingest_pipeline.instance.run_record import live_records
from ingest_pipeline.instance.supervisor import GRACE_SECONDS
from ingest_pipeline.memory.machine import run_slots
from ingest_pipeline.memory.process import ProcessId, command_of, descendants_of, identity_of
from ingest_pipeline.memory.watch import SUPERVISOR
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import counted
from ingest_pipeline.stages.listening import bound_socket
from ingest_pipeline.store.connection import database_url
from ingest_pipeline.store.migrate import migrate
from ingest_pipeline.store.server import EmbeddedServer

EVERYWHERE = "0.0.0.0"  # noqa: S104
START_SECONDS = 120.0
STOP_SECONDS = 20.0  # `dagster dev` needs 4 s
POLL_SECONDS = 0.2


class Stopped(Exception):
    """SIGINT, SIGTERM or SIGHUP was received."""


def serve(settings: Settings) -> int:
    """Run the services until Ctrl-C, then end all of them; return the exit code.

    Raises:
        ConfigurationError: the port is taken, or not even one run fits into memory.
    """
    slots = run_slots(budget_of(settings), settings)
    require_free_port(settings)
    prepare_dagster_home(settings)
    prepare_engine(settings)
    migrate(database_url(settings))
    dagster: subprocess.Popen[bytes] | None = None
    try:
        with _stop_signals():
            dagster = _start_dagster(settings)
            if _await_port(dagster, settings):
                print(
                    f"http://{settings.ui_host}:{settings.ui_port}  ({counted(slots, 'run')} at once)  Ctrl-C ends it",
                    flush=True,
                )
            code = dagster.wait()
            print(f"ingest: dagster dev ended by itself with exit code {code}", file=sys.stderr)
            return code or 1
    except Stopped:
        print("stopping", flush=True)
        return 0
    finally:
        with _ignored_signals():  # a second Ctrl-C must not leave processes behind
            if dagster:
                _end(dagster)
            _end_orphaned_runs()
            # Runs of an `ingest run` in another terminal still need the embedded Postgres.
            if not settings.database_url and not live_records():
                EmbeddedServer(settings.home).stop()


def _start_dagster(settings: Settings) -> subprocess.Popen[bytes]:
    workspace = find_config().parent / "workspace.yaml"
    address = ["-h", settings.ui_host, "-p", str(settings.ui_port)]
    log_format = ["--log-format", "json"] if settings.log_format == "json" else []
    command = [sys.executable, "-m", "dagster", "dev", *address, "-w", str(workspace), *log_format]
    # In a session of its own, so that Ctrl-C reaches only this process, which passes it on once. Without warnings:
    # `dagster dev` warns that a newer command exists, which needs a package that we do not require.
    environment = {"PYTHONWARNINGS": "ignore", **os.environ, **settings.environ()}
    # Not in the project's folder, where Dagster would warn that the dagster.yaml there is not the one in use.
    return subprocess.Popen(
        command, start_new_session=True, stdin=subprocess.DEVNULL, env=environment, cwd=settings.home
    )


def _await_port(process: subprocess.Popen[bytes], settings: Settings) -> bool:
    address = (reachable_host(settings.ui_host), settings.ui_port)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
            return True
        time.sleep(POLL_SECONDS)
    return False


def reachable_host(host: str) -> str:
    """Return where this machine reaches what listens on an address: `0.0.0.0` means all of its addresses."""
    return "127.0.0.1" if host == EVERYWHERE else host


def require_free_port(settings: Settings) -> None:
    """Refuse a port that another program listens on.

    Raises:
        ConfigurationError: it is taken, or the address is not this machine's.
    """
    bound_socket(settings.ui_host, settings.ui_port, service="UI").close()


@contextlib.contextmanager
def _stop_signals() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise Stopped

    # Set before any child is started: a process that a script starts with `&` ignores SIGINT, and its children inherit
    # that; a signal with a handler is reset to its default in them (docs/dagster.md, T6).
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _ignored_signals() -> Iterator[None]:
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(process: subprocess.Popen[bytes]) -> None:
    services = _services(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    for service in services:  # daemon and webserver have process groups of their own
        with contextlib.suppress(OSError):
            if service.is_alive:
                os.kill(service.pid, signal.SIGKILL)
    process.wait()


def _services(pid: int) -> list[ProcessId]:
    """Return `dagster dev` and its descendants without the runs, which have supervisors."""
    pids = (pid, *descendants_of(pid))
    processes = [identity_of(each) for each in pids if not _belongs_to_run(command_of(each))]
    return [process for process in processes if process]


def _belongs_to_run(command: list[str]) -> bool:
    return SUPERVISOR in command or "execute_run" in command


def _end_orphaned_runs() -> None:
    """Stop the runs whose launcher has ended; those of an `ingest run` in another terminal go on."""
    orphans = [record for record in live_records() if record.is_orphan]
    for record in orphans:
        record.stop()
    deadline = time.monotonic() + GRACE_SECONDS + 5.0
    while any(record.is_alive for record in orphans) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
