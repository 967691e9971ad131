"""`ingest ui`: Postgres, code location, daemon and webserver under one command, gone together at Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ingest_pipeline.instance.coordinator import slots_of
from ingest_pipeline.instance.home import find_config, prepare_dagster_home
from ingest_pipeline.instance.launcher import is_alive, read_record, runs_folder, stop_worker
from ingest_pipeline.instance.supervisor import GRACE_SECONDS
from ingest_pipeline.embedding.engines import prepare_engine
from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.memory.budget import engine_for
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import database_url
from ingest_pipeline.store.migrate import migrate
from ingest_pipeline.store.server import EmbeddedServer

HOST = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = 20.0  # dagster dev needs 4 s
POLL_SECONDS = 0.2


class Stopped(Exception):
    """Ctrl-C, or SIGTERM."""


def serve(settings: Settings) -> int:
    """Run the services until Ctrl-C; then nothing of them is left. Returns the exit code.

    Raises:
        ConfigurationError: the port is taken, or not even one run fits into memory.
    """
    slots = slots_of(settings)
    _require_free_port(settings.ui_port)
    prepare_dagster_home(settings)
    prepare_engine(settings.model, engine=engine_for(settings.run_memory, settings.engine), home=settings.home)
    migrate(database_url(settings))
    dagster: subprocess.Popen[bytes] | None = None
    try:
        with _stop_signals():
            dagster = _start_dagster(settings)
            if _await_port(dagster, settings.ui_port):
                print(f"http://{HOST}:{settings.ui_port}  ({slots} runs at once)  Ctrl-C ends it", flush=True)
            code = dagster.wait()
            print(f"ingest: dagster dev ended by itself with exit code {code}", file=sys.stderr)
            return code or 1
    except Stopped:
        print("stopping", flush=True)
        return 0
    finally:
        with _ignored_signals():
            if dagster:
                _end(dagster)
            _end_orphaned_runs()
            if not settings.database_url and not _live_records():
                EmbeddedServer(settings.home).stop()


def _start_dagster(settings: Settings) -> subprocess.Popen[bytes]:
    workspace = find_config().parent / "workspace.yaml"
    address = ["-h", HOST, "-p", str(settings.ui_port)]
    command = [sys.executable, "-m", "dagster", "dev", *address, "-w", str(workspace)]
    # A session of its own: the terminal's Ctrl-C comes to us alone, and we pass it on once. `dagster dev` greets
    # with a warning that a newer command exists, which needs a package that we do not require.
    environment = {"PYTHONWARNINGS": "ignore", **os.environ, **_absolute_paths(settings)}
    # Not from the project's folder: Dagster would warn there that the dagster.yaml beside it is not the one in use.
    return subprocess.Popen(
        command, start_new_session=True, stdin=subprocess.DEVNULL, env=environment, cwd=settings.home
    )


def _absolute_paths(settings: Settings) -> dict[str, str]:
    """Return the settings that name folders, for a process that works in another folder."""
    paths = {
        "INGEST_HOME": str(settings.home),
        "INGEST_SOURCES": ",".join(
            source if "://" in source else str(Path(source).absolute()) for source in settings.sources
        ),
    }
    return paths | ({"INGEST_MODEL": str(Path(settings.model).absolute())} if Path(settings.model).is_dir() else {})


def _await_port(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return True
        time.sleep(POLL_SECONDS)
    return False


def _require_free_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise ConfigurationError(f"port {port} on {HOST} is taken: set INGEST_UI_PORT") from None


@contextlib.contextmanager
def _stop_signals() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise Stopped

    # Set before anything is started: a process that a script starts with `&` ignores SIGINT, and so would its
    # children; a signal with a handler is back to its default in them.
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
    family = _family(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    for member in family:  # daemon and webserver have process groups of their own
        with contextlib.suppress(Exception):
            if member.is_running():
                member.kill()
    process.wait()


def _family(pid: int) -> list:
    """Return the services: the process and its children, without the runs, which have supervisors."""
    import psutil

    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        return [parent, *(child for child in parent.children(recursive=True) if not _belongs_to_run(child))]
    return []


def _belongs_to_run(process) -> bool:  # type: ignore[no-untyped-def]
    with contextlib.suppress(Exception):
        return any("run_supervisor" in word for word in process.cmdline()) or "execute_run" in process.cmdline()
    return False


def _end_orphaned_runs() -> None:
    """Stop the runs whose launcher is gone; those of an `ingest run` in another terminal go on."""
    asked = [record for record in _live_records() if _is_orphan(record)]
    for record in asked:
        stop_worker(record)
    deadline = time.monotonic() + GRACE_SECONDS + 5.0
    while any(is_alive(read_record(record)) for record in asked) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _live_records() -> list[Path]:
    folder = runs_folder()
    return [path for path in folder.glob("*.json") if is_alive(read_record(path))] if folder.is_dir() else []


def _is_orphan(record: Path) -> bool:
    import psutil

    with contextlib.suppress(psutil.Error, KeyError):
        supervisor = psutil.Process(int(read_record(record)["pid"])).parent()
        launcher = supervisor.parent() if supervisor else None
        return launcher is None or launcher.pid == 1
    return True
