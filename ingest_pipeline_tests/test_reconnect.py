"""A database that goes away is waited for; one that keeps going away ends everything with a verdict."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ingest_pipeline.errors import ErrorBudgetSpent, StoreUnavailable
from ingest_pipeline.instance import reconnect as persistence
from ingest_pipeline.instance.headless import Headless, HeadlessResult
from ingest_pipeline.instance.reconnect import with_reconnect
from ingest_pipeline.settings import Settings


class Work:
    """Loses its database so many times before it is done."""

    def __init__(self, losses: int, error: Exception | None = None) -> None:
        self.losses, self.begun = losses, 0
        self.error = error or StoreUnavailable("Postgres: connection refused\nsecond line")

    def __call__(self) -> str:
        """Do it."""
        self.begun += 1
        if self.begun <= self.losses:
            raise self.error
        return "done"


def test_work_goes_on_after_a_loss() -> None:
    """When the database is back the work goes on; each wait is twice as long as the one before, and is said."""
    said: list[str] = []
    waits: list[float] = []
    work = Work(3)
    assert with_reconnect(work, max_errors=10, say=said.append, wait=waits.append) == "done"
    assert waits == [1, 2, 4]
    assert "trying again in 4 s (3 of 10)" in said[-1]


def test_ten_losses_in_a_row_are_a_verdict() -> None:
    """With the setting's name and the first line of the last error; waits stay under half a minute."""
    waits: list[float] = []
    with pytest.raises(ErrorBudgetSpent, match="10 times in a row") as caught:
        with_reconnect(Work(100), max_errors=10, say=lambda text: None, wait=waits.append)
    assert "INGEST_MAX_ERRORS=10" in str(caught.value)
    assert "connection refused" in str(caught.value)
    assert "second line" not in str(caught.value)
    assert len(waits) == 9
    assert max(waits) == 30


def test_calm_work_resets_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that went well for a while resets the count: two losses a day are not ten in a row."""
    monkeypatch.setattr(persistence, "CALM_SECONDS", -1.0)
    waits: list[float] = []
    assert with_reconnect(Work(30), max_errors=2, say=lambda text: None, wait=waits.append) == "done"
    assert set(waits) == {1}


def test_other_errors_are_not_waited_for() -> None:
    """A bug, a bad setting or Ctrl-C is not waited for."""
    for error in (KeyError("x"), RuntimeError("y")):
        work = Work(1, error)
        with pytest.raises(type(error)):
            with_reconnect(work, max_errors=10, say=lambda text: None, wait=lambda seconds: None)
        assert work.begun == 1


def test_losses_in_dagsters_words() -> None:
    """Dagster's storage speaks through SQLAlchemy: its errors of a lost database are known."""
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import OperationalError

    for error in (DagsterPostgresException("too many retries"), OperationalError("SELECT 1", {}, Exception("gone"))):
        assert persistence.is_loss_of_database(error)


class Launcher:
    """Cannot terminate anything: its database is gone."""

    def terminate(self, run_id: str) -> bool:
        """Try."""
        raise StoreUnavailable("Postgres: gone")


def test_ctrl_c_without_a_database() -> None:
    """Stopping is not work that is begun again: the loss is noted, the interrupt goes on its way."""
    instance: Any = SimpleNamespace(run_launcher=Launcher())
    nothing: Any = None
    result = HeadlessResult(since=None)
    headless = Headless(instance, nothing, Settings(), definitions=nothing, result=result)
    headless._mine = {"batch": (nothing, SimpleNamespace(run_id="run"))}  # type: ignore[dict-item]
    headless.stop()
