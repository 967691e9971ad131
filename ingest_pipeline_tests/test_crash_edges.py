"""The table of transitions and the SQL have the same edges, and each condition of a statement keeps it back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ingest_pipeline.store import queries
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.crash.cases import CASES
from ingest_pipeline_tests.crash.content_cases import CONTENT_CASES
from ingest_pipeline_tests.crash.edges import CALLS, NOT_TRIED, STATUSES, effect, subject_in, table_edges
from ingest_pipeline_tests.crash.figures import figures


def require_edges_of(connection: Connection, statement: str) -> None:
    """One statement acts in the statuses that it should, and not where one thing is not as it must be."""
    subject = subject_in(connection)
    for call in (one for one in CALLS if one.statement == statement):
        for before in STATUSES:
            assert effect(subject, call, before)[1] == (before in call.acts), (call.function, before)
            for why, blocked in call.blocked.items():
                assert not effect(subject, call, before, blocked)[1], (call.function, why, before)


def test_table_and_sql_agree(connection: Connection) -> None:
    """Each statement of files.sql, tried in each status, moves a file as the table of files.py says, and not else."""
    subject, observed = subject_in(connection), set()
    for call in CALLS:
        for before in STATUSES:
            after, changed = effect(subject, call, before)
            assert changed == (before in call.acts), (call.function, before)
            if after != before:
                observed.add((call.function, before, after))
    assert observed == table_edges()


@pytest.mark.proof
def test_edges_are_counted(connection: Connection) -> None:
    """The edges again, counted for the certificate."""
    with figures("edges") as known:
        test_table_and_sql_agree(connection)
        blocked = sum(len(call.blocked) for call in CALLS)
        known |= {"edges": len(table_edges()), "calls": len(CALLS), "conditions": blocked}
        known["not_tried"] = sorted(NOT_TRIED)
    assert known["edges"] >= 50


def test_every_statement_is_tried() -> None:
    """No statement of files.sql is left out."""
    assert {call.statement for call in CALLS} | set(NOT_TRIED) == set(queries._queries("files"))


def test_conditions_keep_it_back(connection: Connection) -> None:
    """A statement does nothing where one thing is not as it must be."""
    subject = subject_in(connection)
    for call in CALLS:
        for why, blocked in call.blocked.items():
            for before in STATUSES:
                assert not effect(subject, call, before, blocked)[1], (call.function, why, before)


@pytest.mark.parametrize("case", (*CASES, *CONTENT_CASES), ids=lambda one: one.__name__)
def test_cases_of_one_guard(connection: Connection, case: Callable[[Connection], None]) -> None:
    """Cases that were written for one guard each."""
    case(connection)
