"""Sessions that are stepped: which of them may send its next statement is decided by a seed.

Each session runs ordinary code in a thread over its own connection. Every statement, and every BEGIN and COMMIT that
psycopg sends, waits for its turn. A session that waits for a lock in the server is left waiting, as in life, and the
others go on.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import psycopg

BLOCKED = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
LONGEST_STEP_SECONDS = 60.0  # far more than any step takes, also on a machine that is busy


class SteppedConnection(psycopg.Connection[Any]):
    """A connection that asks for its turn before it sends anything."""

    turn: Callable[[], None] = staticmethod(lambda: None)

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        """Let one exchange with the server happen."""
        self.turn()
        return super().wait(gen, *arguments, **options)


class Session:
    """One thread of work over one stepped connection."""

    def __init__(self, name: str, connection: SteppedConnection, work: Callable[[SteppedConnection], Any]) -> None:
        self.name, self.connection, self._work = name, connection, work
        self.pid = connection.info.backend_pid
        self.ended, self.error = False, None
        self._go, self.parked = threading.Event(), threading.Event()
        connection.turn = self._wait_for_turn  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Allow one exchange."""
        self.parked.clear()
        self._go.set()

    def join(self) -> None:
        """Wait for the end of the work; raise what it raised."""
        self._thread.join(LONGEST_STEP_SECONDS)
        assert not self._thread.is_alive(), f"{self.name} did not end"
        if self.error is not None:
            raise self.error

    def _wait_for_turn(self) -> None:
        self.parked.set()
        self._go.wait()
        self._go.clear()

    def _run(self) -> None:
        try:
            self._work(self.connection)
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self.parked.set()


def interleave(seed: int, sessions: list[Session], observer: psycopg.Connection[Any]) -> list[str]:
    """Step sessions in an order that the seed decides until all have ended; return the order as their names."""
    choose, order = random.Random(seed), list[str]()
    # Uneven, or a session of three statements would always end before one of fifteen is half done.
    weights = {session.name: 10 ** choose.uniform(-1.5, 1.5) for session in sessions}
    for session in sessions:
        assert session.parked.wait(LONGEST_STEP_SECONDS)
    while ready := [session for session in sessions if session.parked.is_set() and not session.ended] or _blocked(
        sessions
    ):
        [session] = choose.choices(ready, [weights[one.name] for one in ready])
        if not session.parked.is_set():  # all that are left wait in the server for one that has just ended its wait
            time.sleep(0.001)
            continue
        order.append(session.name)
        session.step()
        _until_done_or_blocked(session, observer)
    for session in sessions:
        session.join()
    return order


def _blocked(sessions: list[Session]) -> list[Session]:
    return [session for session in sessions if not session.ended]


def _until_done_or_blocked(session: Session, observer: psycopg.Connection[Any]) -> None:
    deadline = time.monotonic() + LONGEST_STEP_SECONDS
    while not session.parked.wait(0.003):
        row = observer.execute(BLOCKED, (session.pid,)).fetchone()
        if row and row[0]:
            return
        assert time.monotonic() < deadline, f"{session.name} neither ends nor waits for a lock"
