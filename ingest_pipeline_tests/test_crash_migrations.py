"""A migration that loses its connection leaves nothing of itself, and the next one ends where it would have ended."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ingest_pipeline.store.migrate import migrate, migrations
from ingest_pipeline.store.server import EmbeddedServer
from ingest_pipeline_tests.conftest import _admin, _url
from ingest_pipeline_tests.crash.figures import figures
from ingest_pipeline_tests.crash.migrating import (
    ROWS,
    build,
    content,
    interrupt_each_statement,
    kill_at_each_exchange,
    missing,
    statements,
)

STARTS = [name[:4] for name, _ in migrations()][:-1]


@contextmanager
def databases(server: EmbeddedServer, start: str) -> Iterator[tuple[str, str]]:
    """Two stores of an old release, the same to a row."""
    one, two = f"m{uuid.uuid4().hex[:10]}", f"m{uuid.uuid4().hex[:10]}"
    _admin(server, f"CREATE DATABASE {one}")
    build(_url(server, one), start)
    _admin(server, f"CREATE DATABASE {two} TEMPLATE {one}")
    yield _url(server, one), _url(server, two)
    for name in (one, two):
        _admin(server, f"DROP DATABASE {name} WITH (FORCE)")


def kept(before: dict[str, list[str]], after: dict[str, list[str]]) -> bool:
    """Whether no table has lost a row."""
    return all(len(after[name]) >= len(rows) for name, rows in before.items() if name != "schema")


def interrupted(server: EmbeddedServer, start: str) -> int:
    """Interrupt every statement on the way from an old release; return how many."""
    with databases(server, start) as (one, two):
        before = content(one)
        migrate(one)
        count = interrupt_each_statement(two)
        assert content(two) == content(one)
        assert kept(before, content(two))
    return count


def test_oldest_release_interrupted(server: EmbeddedServer) -> None:
    """From 0001, every statement of every later migration: nothing of an interrupted one stays, and all rows do."""
    count = interrupted(server, "0001")
    assert count == sum(len(statements(text)) + 1 for name, text in migrations() if name[:4] > "0001")


def test_each_release_has_rows() -> None:
    """A new migration that is followed by another has rows here that the next ones must keep."""
    assert [name for name in STARTS if name not in ROWS] == [], "add rows of the new tables to ROWS"


def test_killed_client_migrates_again(server: EmbeddedServer) -> None:
    """A client that dies at its first exchange, its second, and so on, has the whole schema and the rows in the end."""
    with databases(server, STARTS[-3]) as (one, two):
        migrate(one)
        assert kill_at_each_exchange(two, after_answer=False) > 5
        assert content(two) == content(one)


@pytest.mark.proof
@pytest.mark.timeout(1200)
def test_all_releases_interrupted(server: EmbeddedServer) -> None:
    """From every release, at every statement; and the client killed at every exchange, before and after the answer."""
    with figures("migrations", releases=STARTS) as found:
        found["interruptions"] = sum(interrupted(server, start) for start in STARTS)
        found["client_kills"] = 0
        for start in STARTS:
            for after_answer in (False, True):
                with databases(server, start) as (one, two):
                    migrate(one)
                    found["client_kills"] += kill_at_each_exchange(two, after_answer=after_answer)
                    assert content(two) == content(one)
                    assert missing(two) == []
    assert found["interruptions"] > 100
