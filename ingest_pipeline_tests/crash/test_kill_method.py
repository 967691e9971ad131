"""The method itself: what a killed client had sent is done by the server, what it had not sent is not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest_pipeline.store.connection import Connection, connected, repeatable
from ingest_pipeline_tests.crash.kill_points import KillAt, Points, count_files
from ingest_pipeline_tests.crash.plans import Trial
from ingest_pipeline_tests.documents import count

INSERT = "INSERT INTO batch_files VALUES ('b', %s, 'v')"
CONNECT = 2
"""The first point of each job here."""


def killed(kill_at: KillAt, work: Callable[[], None]) -> None:
    """Do some work in a forked process that dies at a point."""
    pid = os.fork()
    if not pid:
        try:
            Points(kill_at).install()
            work()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def rows_soon(connection: Connection, expected: int) -> int:
    """How many rows there are, as soon as the server has done what it was sent."""
    deadline = time.monotonic() + 5
    while (rows := count(connection, "batch_files")) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    return rows


@pytest.fixture
def plain(connection: Connection) -> Connection:
    """A table that takes any row."""
    connection.execute("ALTER TABLE batch_files DROP CONSTRAINT batch_files_batch_fkey")
    connection.execute("ALTER TABLE batch_files DROP CONSTRAINT batch_files_file_id_fkey")
    return connection


def insert(url: str) -> None:
    with connected(url) as connection:
        connection.execute(INSERT, (1,))


def insert_many(url: str) -> None:
    with connected(url) as connection, connection.cursor() as cursor:  # a pipeline, the rows, its Sync
        cursor.executemany(INSERT, [(number,) for number in range(5)])


def insert_in_transaction(url: str) -> None:
    with connected(url) as connection, repeatable(connection):  # BEGIN, SET, INSERT, COMMIT
        connection.execute(INSERT, (1,))


@pytest.mark.parametrize(
    ("work", "point", "rows"),
    [
        (insert, KillAt(CONNECT, "before"), 0),
        (insert, KillAt(CONNECT, "after"), 0),
        (insert, KillAt(CONNECT + 1, "before"), 0),
        (insert, KillAt(CONNECT + 1, "after"), 1),
        (insert_many, KillAt(CONNECT + 2, "after"), 0),
        (insert_many, KillAt(CONNECT + 3, "after"), 5),
        (insert_in_transaction, KillAt(CONNECT + 3, "after"), 0),
        (insert_in_transaction, KillAt(CONNECT + 4, "before"), 0),
        (insert_in_transaction, KillAt(CONNECT + 4, "after"), 1),
    ],
)
def test_what_was_sent_is_done(
    plain: Connection, url: str, work: Callable[[str], None], point: KillAt, rows: int
) -> None:
    """Before a statement or a COMMIT nothing of it is there; after it was sent all of it is, whoever has died."""
    killed(point, lambda: work(url))
    assert rows_soon(plain, rows) == rows


def test_points_are_named() -> None:
    """A point is written as it is read; without a kind it is a statement."""
    assert KillAt.parse("17:after") == KillAt(17, "after", "sql")
    assert KillAt.parse("3:after:message") == KillAt(3, "after", "message")
    trial = Trial("first", (KillAt(573), KillAt(175, "after")), "pair")
    assert Trial.parse(trial.name) == trial
    assert Trial.parse("second 4:before") == Trial("second", (KillAt(4),))


def test_changes_of_files_are_counted(tmp_path: Path) -> None:
    """Folders, files that are opened for writing, renames and removals; not what is only read."""

    def work() -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "a").write_text("a")
        (tmp_path / "folder" / "a").read_text()
        (tmp_path / "folder" / "a").replace(tmp_path / "b")
        (tmp_path / "b").unlink()

    pid = os.fork()
    if not pid:
        points = Points()
        count_files(points)
        work()
        names = [name.split()[2] for name in points.names]
        os._exit(0 if names == ["mkdir", "open", "replace", "unlink"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
