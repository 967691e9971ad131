"""Connections through a real pgbouncer: refused where sessions are shared, used where they are not."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest
from dagster import DagsterInstance

from ingest_pipeline.errors import BadSetting, ConfigurationError, StoreUnavailable
from ingest_pipeline.instance.home import open_instance
from ingest_pipeline.settings import Settings
from ingest_pipeline.store import pooler
from ingest_pipeline.store.connection import connected, store, unchecked
from ingest_pipeline.store.migrate import migrate
from ingest_pipeline_tests.command import Command
from ingest_pipeline_tests.poolers import pgbouncer

SCHEMAS = "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_name IN ('runs', 'event_logs')"
proof = pytest.mark.proof


def test_a_direct_connection_is_free(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process id that the server announced is the backend's: no second connection is opened."""
    with unchecked(url) as (connection, backend):
        assert backend == connection.info.backend_pid
        with monkeypatch.context() as patch:
            patch.setattr(psycopg, "connect", None)
            pooler.require_session(connection, url, backend)
            assert pooler.session_kind(connection, url) == pooler.DIRECT


def test_a_url_that_is_none() -> None:
    """What libpq says of a URL that it cannot read has the password in it; our message has not."""
    with pytest.raises(BadSetting, match="INGEST_DATABASE_URL") as caught, connected("postgresql://u:hunter2@[x/db"):
        pass
    assert "hunter2" not in str(caught.value)


@proof
@pytest.mark.parametrize(
    ("mode", "lines"),
    [
        ("transaction", ""),
        ("transaction", "default_pool_size = 1"),
        ("transaction", "server_round_robin = 1\nmin_pool_size = 2"),
        ("transaction", "server_round_robin = 1\nmin_pool_size = 5"),
        ("transaction", "ignore_startup_parameters = options\nserver_reset_query_always = 1"),
        ("statement", ""),
    ],
)
def test_shared_sessions_are_refused(url: str, tmp_path: Path, mode: str, lines: str) -> None:
    """However the pooler hands out its backends, the first connection and the migration say what to do."""
    with pgbouncer(url, tmp_path, mode=mode, lines=lines) as through:
        for _ in range(5):
            with pytest.raises(ConfigurationError, match=r"pooler in transaction mode.*connect to Postgres directly"):
                migrate(through)


@proof
def test_the_command_says_it_in_one_line(settings: Settings, tmp_path: Path, monkeypatch, capsys) -> None:
    """`ingest status` and `ingest run` end with exit code 2 and one line."""
    with pgbouncer(settings.database_url, tmp_path, mode="transaction") as through:
        monkeypatch.setenv("DAGSTER_HOME", "")
        command = Command(settings, monkeypatch, capsys)
        monkeypatch.setenv("INGEST_DATABASE_URL", through)
        assert command.mistake("status").startswith("INGEST_DATABASE_URL goes through a pooler")
        ended = command.ended("run")
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.splitlines()[-1].startswith("ingest: INGEST_DATABASE_URL goes through a pooler")


@proof
def test_session_mode_works(empty_url: str, tmp_path: Path) -> None:
    """With pgbouncer's defaults the schema is made, a session keeps its lock, settings and vectors."""
    with pgbouncer(empty_url, tmp_path, mode="session") as through:
        assert migrate(through)[0] == "0001_initial.sql"
        with store(through) as one, connected(through) as two:
            one.execute("SELECT pg_advisory_lock(7)")
            assert two.execute("SELECT pg_try_advisory_lock(7)").fetchone() == (False,)
            assert one.execute("SHOW hnsw.iterative_scan").fetchone() == ("strict_order",)
            assert one.execute("SELECT count(*) FROM files").fetchone() == (0,)
            assert one.execute("SELECT '[1,2]'::vector <-> '[1,2]'::vector").fetchone() == (0.0,)
        with unchecked(through) as (connection, backend):
            assert backend != connection.info.backend_pid
            assert pooler.session_kind(connection, through) == pooler.SESSION_POOLER


@proof
@pytest.mark.parametrize("lines", ["", "ignore_startup_parameters = options"])
def test_dagster_in_session_mode(settings: Settings, tmp_path: Path, monkeypatch, lines: str) -> None:
    """Dagster's tables are in its schema, whatever the pooler does with options of a session."""
    with pgbouncer(settings.database_url, tmp_path, mode="session", lines=lines) as through:
        monkeypatch.setenv("DAGSTER_HOME", "")
        for name, value in (settings.environ() | {"INGEST_DATABASE_URL": through}).items():
            monkeypatch.setenv(name, value)
        with open_instance(settings) as instance:
            assert isinstance(instance, DagsterInstance)
            assert instance.get_runs() == []
        with connected(settings.database_url) as connection:
            assert connection.execute(SCHEMAS).fetchall() == [("dagster",)]


@proof
def test_a_pool_of_one_session(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler that has no second session is refused in seconds, not after its own two minutes."""
    monkeypatch.setattr(pooler, "SECOND_SESSION_SECONDS", 1.0)
    with pgbouncer(url, tmp_path, mode="session", lines="default_pool_size = 1") as through:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"no second session .* default_pool_size"), connected(through):
            pass
        assert time.monotonic() - began < 10
