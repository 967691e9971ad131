"""The places where a process may die are counted; at one of them it kills itself.

`sql`: each exchange with the server: a statement, `executemany`, BEGIN, COMMIT, SAVEPOINT, a new connection. `before`:
nothing was sent. `after`: all was sent and no answer was read, so the server does it and the client never knows.
`message`: a message of the parser's child has arrived. `file`: a folder or a file is made, opened for writing, renamed
or removed.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.waiting import WAIT_R

from ingest_pipeline.parsing.sandbox import parent

FILE_CALLS = ("mkdir", "rmdir", "rename", "replace", "remove", "unlink", "link", "symlink", "truncate")
"""Of `os`: pathlib, shutil and tempfile call them by these names."""
WRITING = set("wax+")


@dataclass(frozen=True, slots=True)
class KillAt:
    """The nth point of a kind, before or after it happens."""

    number: int
    when: str = "before"
    kind: str = "sql"

    @classmethod
    def parse(cls, text: str) -> KillAt:
        """Read `17:before`, or `17:after:message` for another kind than a statement."""
        number, when, *kind = text.split(":")
        return cls(int(number), when, *kind)

    def __str__(self) -> str:
        return f"{self.number}:{self.when}:{self.kind}"


@dataclass(slots=True)
class Points:
    """Counts the points of this process, by kind."""

    kill_at: KillAt | None = None
    counts: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)
    """What happened at each point, in order."""

    def come_to(self, kind: str, name: str) -> bool:
        """Count a point and die, if it is before this one; return whether to die after it."""
        self.counts[kind] += 1
        self.names.append(f"{kind} {self.counts[kind]}: {name}")
        if self.kill_at is None or (self.kill_at.kind, self.kill_at.number) != (kind, self.counts[kind]):
            return False
        if self.kill_at.when == "before":
            die()
        return True

    def install(self) -> None:
        """Count in this process from now on, for good: it is a forked one."""
        count_statements(self)
        count_messages(self)


def die() -> None:
    """End this process as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def count_statements(points: Points) -> None:
    """Count what goes to a server."""
    exchange, connect = psycopg.Connection.wait, psycopg.connect

    def counted_wait(self: Any, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        if not points.come_to("sql", statement_of(gen)):
            return exchange(self, gen, *arguments, **options)
        try:
            return exchange(self, unanswered(gen), *arguments, **options)
        finally:  # it was answered, or refused, without waiting
            die()

    def counted_connect(*arguments: Any, **options: Any) -> Any:
        last = points.come_to("sql", "connect")
        try:
            return connect(*arguments, **options)
        finally:
            if last:
                die()

    psycopg.Connection.wait = counted_wait  # type: ignore[method-assign]
    psycopg.connect = counted_connect  # type: ignore[assignment]


def unanswered(gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Die as soon as everything is sent: it waits for an answer alone."""
    ready = None
    try:
        while True:
            state = gen.send(ready)
            if state == WAIT_R:
                die()
            ready = yield state
    except StopIteration as ended:
        return ended.value


def statement_of(gen: Generator[Any, Any, Any]) -> str:
    """The first line of the statement that an exchange sends, or what psycopg calls it."""
    known = gen.gi_frame.f_locals if gen.gi_frame else {}
    query = known.get("query") or known.get("command")
    if query is None:
        return str(gen.gi_code.co_name)
    if isinstance(query, bytes):
        query = query.decode()
    lines = [line for line in (query if isinstance(query, str) else query.as_string(None)).splitlines() if line.strip()]
    return next((line.strip() for line in lines if not line.startswith("--")), "")[:80]


def count_messages(points: Points) -> None:
    """Count what the parser's child sends; not its costs: how many come depends on the time."""
    receive = parent.receive

    def counted(*arguments: Any, **options: Any) -> Any:
        message = receive(*arguments, **options)
        if message["kind"] != "cost" and points.come_to("message", message["kind"]):
            die()
        return message

    parent.receive = counted


def count_files(points: Points) -> None:
    """Count what changes a folder."""
    for name in FILE_CALLS:
        setattr(os, name, _counted_call(points, name, getattr(os, name)))
    opened = _counted_open(points, io.open)
    builtins.open = io.open = opened  # type: ignore[assignment]


def _counted_call(points: Points, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        last = points.come_to("file", f"{name} {arguments[0]}")
        try:
            return call(*arguments, **options)
        finally:  # also where it fails
            if last:
                die()

    return counted


def _counted_open(points: Points, call: Callable[..., Any]) -> Callable[..., Any]:
    def counted(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not WRITING & set(mode):
            return call(file, mode, *arguments, **options)
        last = points.come_to("file", f"open {file}")
        try:
            return call(file, mode, *arguments, **options)
        finally:
            if last:
                die()

    return counted
