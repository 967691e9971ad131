"""A real pgbouncer in front of the tests' Postgres."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from ingest_pipeline_tests.servers import free_port

START_SECONDS = 20.0


@contextmanager
def pgbouncer(url: str, folder: Path, *, mode: str, lines: str = "") -> Iterator[str]:
    """Run pgbouncer between; yield the URL through it.

    Args:
        url: of a database of an embedded server.
        folder: for its configuration and log.
        mode: `session`, `transaction` or `statement`.
        lines: more lines of its configuration.
    """
    port, config = free_port(), folder / f"{mode}.ini"
    sockets = parse_qs(urlsplit(url).query)["host"][0]
    config.write_text(
        f"[databases]\n* = host={sockets} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
        f"unix_socket_dir =\nauth_type = any\npool_mode = {mode}\n{lines}\n"
    )
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program, "pgbouncer is not installed: apt-get install pgbouncer"
    # It refuses root; the server's socket is root's. In a user namespace it is neither.
    namespace = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.getuid() == 0 else []
    with (folder / "pgbouncer.log").open("ab") as log:
        process = subprocess.Popen([*namespace, program, str(config)], stdout=log, stderr=log)
    try:
        _await(port, folder / "pgbouncer.log")
        yield f"postgresql://postgres@127.0.0.1:{port}{urlsplit(url).path}"
    finally:
        process.kill()
        process.wait()


def _await(port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.1)
