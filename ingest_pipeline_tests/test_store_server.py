"""The embedded Postgres starts, survives a kill, and stops when told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from ingest_pipeline.errors import StoreUnavailable
from ingest_pipeline.store.connection import connected, dagster_url
from ingest_pipeline.store.server import EmbeddedServer


@pytest.fixture
def fresh(tmp_path: Path):
    """A server of this test's own."""
    server = EmbeddedServer(tmp_path / "home")
    yield server
    server.stop()


def test_starting_twice_is_one_server(fresh: EmbeddedServer) -> None:
    """`start` is the same URL again; after `stop` nothing answers and a second `stop` says so."""
    assert fresh.start() == fresh.start()
    assert fresh.answers()
    assert fresh.stop()
    assert not fresh.answers()
    assert not fresh.stop()


def test_committed_rows_survive_a_kill(fresh: EmbeddedServer) -> None:
    """Kill -9 of the postmaster: the next start recovers what was committed."""
    with psycopg.connect(fresh.start(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS number")
    postmaster = int((fresh.data / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    _wait_until_gone(postmaster)
    with psycopg.connect(fresh.start()) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)


def test_no_text_in_its_log(fresh: EmbeddedServer) -> None:
    """The server's log says what failed, without statements and rows: those have names and texts of documents."""
    with psycopg.connect(fresh.start(), autocommit=True) as connection:
        connection.execute("CREATE TABLE chunks (ordinal int PRIMARY KEY, text text)")
        connection.execute("INSERT INTO chunks VALUES (1, 'x')")
        statements = ("INSERT INTO chunks VALUES (1, 'plugh')", "SELECT 'plugh'::int")
        for statement in statements:
            with pytest.raises(psycopg.Error):
                connection.execute(statement.encode())
        with (
            pytest.raises(psycopg.errors.InvalidTextRepresentation),
            connection.cursor().copy("COPY chunks FROM STDIN") as copy,
        ):
            copy.write(b"2\tplugh\nplugh-in-context\tplugh\n")
    log = fresh.log.read_text()
    assert "duplicate key value" in log and "STATEMENT" not in log and "DETAIL" not in log and "CONTEXT" not in log


def test_a_server_that_lost_its_socket(fresh: EmbeddedServer) -> None:
    """A home deleted and made again under a live server: the old one takes the new one's socket when it ends."""
    with psycopg.connect(fresh.start(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    deaf = int((fresh.data / "postmaster.pid").read_text().split()[0])
    for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
        (fresh.sockets / name).unlink()
    with psycopg.connect(fresh.start()) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
    assert int((fresh.data / "postmaster.pid").read_text().split()[0]) != deaf


def test_six_starters_make_one_server(fresh: EmbeddedServer) -> None:
    """A race of first starts ends with one data directory and one URL."""
    with ThreadPoolExecutor(6) as pool:
        urls = list(pool.map(lambda _: EmbeddedServer(fresh.home).start(), range(6)))
    assert set(urls) == {fresh.url}


def test_a_stale_pid_does_not_stop_a_start(fresh: EmbeddedServer) -> None:
    """After a power cut the pid in postmaster.pid may be anybody's."""
    fresh.start()
    text = (fresh.data / "postmaster.pid").read_text()
    fresh.stop()
    (fresh.data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *text.splitlines()[1:]]))
    assert fresh.start() == fresh.url


def test_a_half_made_data_directory(fresh: EmbeddedServer) -> None:
    """An initdb that was killed leaves a folder without PG_VERSION."""
    (fresh.data / "base").mkdir(parents=True)
    assert fresh.start() == fresh.url


def test_a_long_home_gets_a_short_socket(tmp_path: Path) -> None:
    """The kernel allows 107 bytes for a socket's path."""
    server = EmbeddedServer(tmp_path / ("long" * 30) / "home")
    try:
        with connected(server.start()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.stop()


def test_the_server_outlives_its_starter(fresh: EmbeddedServer) -> None:
    """Started by a process that ends at once, the server still answers."""
    code = f"""
from pathlib import Path
from ingest_pipeline.store.server import EmbeddedServer
EmbeddedServer(Path({str(fresh.home)!r})).start()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert fresh.answers()


def test_no_server_is_one_named_error() -> None:
    """A URL where nobody listens is StoreUnavailable, in one line that says what to do."""
    with (
        pytest.raises(StoreUnavailable, match="ingest db start") as caught,
        connected("postgresql://127.0.0.1:1/none"),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_dagster_gets_the_same_database() -> None:
    """By psycopg2 and in a schema of its own: a bare URL picks psycopg 3, which breaks Dagster."""
    url = dagster_url("postgresql://u:p@h:5/db?sslmode=require&options=-cx%3Dy")
    assert url == "postgresql+psycopg2://u:p@h:5/db?sslmode=require&options=-csearch_path%3Ddagster"


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/status")
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} lives on")
