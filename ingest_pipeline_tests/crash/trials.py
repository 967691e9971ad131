"""One ingestion in a forked process: killed at a point, perhaps killed again in its recovery, and compared."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from ingest_pipeline.chunking import Encode
from ingest_pipeline.memory.process import end_with_parent
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import store
from ingest_pipeline_tests.crash import forked_parser
from ingest_pipeline_tests.crash.dump import Dump, damage_of, differences, dump_of
from ingest_pipeline_tests.crash.job import Job
from ingest_pipeline_tests.crash.kill_points import KillAt, Points

MOST_RUNS = 3
"""Of `ingest run` until every file is final."""


class JobFailed(AssertionError):
    """A job ended by itself with an error."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended."""

    killed: bool
    points: tuple[str, ...] = ()
    """What it came to; known only of one that was not killed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one trial."""

    kills: tuple[str, ...]
    """Where it was killed: points that were not reached are left out."""
    runs: int
    """How many runs without a kill it needed."""
    problems: tuple[str, ...]


class Stage:
    """A database, a source and the settings for jobs; the database is put back before each trial."""

    def __init__(self, server_url: str, name: str, settings: Settings, encode: Encode) -> None:
        self._server_url, self.name, self._encode = server_url, name, encode
        self.url = server_url.replace("/ingest?", f"/{name}?")
        self.settings = settings
        settings.home.mkdir(parents=True, exist_ok=True)

    def put_back(self, template: str) -> None:
        """Make the database anew, as a copy of another one."""
        self.drop(self.name)
        self._admin(f"CREATE DATABASE {self.name} TEMPLATE {template} STRATEGY FILE_COPY")

    def keep_as(self, name: str) -> None:
        """Keep the database as it is now, for `put_back`."""
        self.drop(name)
        self._admin(f"CREATE DATABASE {name} TEMPLATE {self.name} STRATEGY FILE_COPY")

    def job(self, kill_at: KillAt | None = None) -> Ended:
        """Run a job in a process of its own.

        Raises:
            JobFailed: it ended by an error.
        """
        return self.end_of(self.start(kill_at))

    def start(self, kill_at: KillAt | None = None) -> int:
        """Start a job in a process of its own; return its pid."""
        own, pid = os.getpid(), os.fork()
        if not pid:
            end_with_parent(own)
            self._in_child(kill_at)
        return pid

    def end_of(self, pid: int) -> Ended:
        """Wait for a job.

        Raises:
            JobFailed: it ended by an error.
        """
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == -signal.SIGKILL:
            return Ended(killed=True)
        log = self._log_of(pid).read_text()
        self._log_of(pid).unlink()
        if code:
            raise JobFailed(f"exit code {code}\n{log}")
        return Ended(False, tuple(log.splitlines()))

    def _log_of(self, pid: int) -> Path:
        return self.settings.home / f"{pid}.log"

    def dump(self) -> Dump:
        """Return what is stored."""
        with self._connected() as connection:
            return dump_of(connection)

    def damage(self) -> list[str]:
        """Return what must not be there."""
        with self._connected() as connection:
            return damage_of(connection, self.settings)

    def recovered(self, kills: Sequence[KillAt], expected: Dump | None) -> Outcome:
        """Run a job with each of these kills in turn, then without; compare, if something is expected.

        Returns:
            The outcome; it has no kill if the first point was not reached.
        """
        reached = []
        for kill_at in kills:
            if not self.job(kill_at).killed:
                break
            reached.append(str(kill_at))
        return self.finished(reached, expected) if reached else Outcome((), 0, ())

    def rivaled(self, kill_at: KillAt, expected: Dump) -> Outcome:
        """Run two jobs at once, of which one is killed at this point; then as `recovered`."""
        pids = [self.start(kill_at), self.start()]
        reached = [str(kill_at) for pid in pids if self.end_of(pid).killed]
        return self.finished(reached, expected)

    def finished(self, kills: Sequence[str], expected: Dump | None) -> Outcome:
        """Run jobs until every file is final; compare, if something is expected."""
        runs, problems = 0, ["never run"]
        while problems and runs < MOST_RUNS:
            runs += 1
            self.job()
            problems = self.damage()
        if expected is not None:
            problems += differences(expected, self.dump())
        return Outcome(tuple(kills), runs, tuple(problems))

    def drop(self, name: str) -> None:
        """Drop a database."""
        self._admin(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection]:
        with store(self.url) as connection:
            yield connection

    def _admin(self, statement: str) -> None:
        with psycopg.connect(self._server_url, dbname="postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    def _in_child(self, kill_at: KillAt | None) -> None:
        code = 1
        try:
            points = Points(kill_at)
            points.install()
            forked_parser.install()
            Job(self.url, self.settings, self._encode).run()
            self._log_of(os.getpid()).write_text("\n".join(points.names))
            code = 0
        except BaseException:
            self._log_of(os.getpid()).write_text(traceback.format_exc())
        finally:
            os._exit(code)
