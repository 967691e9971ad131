"""`ingest run`: everything is put together here, and what it did is handed on; nothing is printed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.settings import Settings

if TYPE_CHECKING:
    from ingest_pipeline.instance.headless import Progress
    from ingest_pipeline.stages.account import Account
    from ingest_pipeline.store.connection import Connection


Finish = Callable[["Connection", "Account"], None]
"""Gets the connection and the account when a run is over."""


class Reporter(Protocol):
    """Who hears how far a run has come."""

    def say(self, text: str) -> None:
        """Take a line for people."""

    def show(self, progress: Progress) -> None:
        """Take the progress."""

    def end(self) -> None:
        """The run is over; its account follows."""


def run_everything(settings: Settings, reporter: Reporter, finish: Finish) -> str | None:
    """Bring every file of the sources to its end: searchable, or failed with a reason.

    Args:
        settings: as the environment gives them.
        reporter: hears the progress.
        finish: called once, when the run is over.

    Returns:
        Why it stopped before the end; None when every file is accounted for.

    Raises:
        ConfigurationError, StoreUnavailable: it cannot start.
        ErrorBudgetSpent: the database went away too often.
    """
    from ingest_pipeline import sources
    from ingest_pipeline.embedding.load import prepare_engine

    sources.canonical_sources(settings.sources)  # a folder that is not there is said before anything starts
    # Before Dagster is in memory: a small machine must not hold it beside the exporter.
    prepare_engine(settings)

    from ingest_pipeline.instance.headless import HeadlessResult
    from ingest_pipeline.instance.reconnect import with_reconnect
    from ingest_pipeline.store import reports
    from ingest_pipeline.store.connection import connected, database_url

    settings, began = settings_of_runs(settings), time.monotonic()
    with connected(database_url(settings)) as connection:
        result = HeadlessResult(since=reports.now(connection))
    with_reconnect(
        lambda: _run_once(settings, reporter, finish, result, began),
        max_errors=settings.max_errors,
        say=reporter.say,
    )
    return result.stopped


def settings_of_runs(asked: Settings) -> Settings:
    """Return the settings that runs have: fields of the `ingest` resource win over the environment.

    Raises:
        ConfigurationError: the resource reads other sources than were asked for.
    """
    from ingest_pipeline.definitions import defs

    settings: Settings = defs.resources["ingest"].settings()  # type: ignore[index]
    if settings.sources != asked.sources:
        raise ConfigurationError(f"the `ingest` resource reads other sources: {', '.join(settings.sources)}")
    return settings


def _run_once(settings, reporter, finish, result, began):  # type: ignore[no-untyped-def]
    """Run to the end over one connection; may be begun again with the same result."""
    from ingest_pipeline.definitions import defs
    from ingest_pipeline.instance.headless import Headless
    from ingest_pipeline.instance.home import open_instance
    from ingest_pipeline.stages.account import account_of
    from ingest_pipeline.store.connection import database_url, store

    with open_instance(settings) as instance, store(database_url(settings)) as connection:
        headless = Headless(instance, connection, settings, definitions=defs, result=result)
        try:
            reporter.say("looking through the sources")
            headless.run(reporter.show)
        except KeyboardInterrupt:
            reporter.say("stopping; what is committed stays, and the next run goes on from there")
            headless.stop()
            raise
        reporter.end()
        account = account_of(
            connection, since=result.since, batches=result.batches, runs=result.runs,
            seconds=time.monotonic() - began, stopped=result.stopped,
        )  # fmt: skip
        finish(connection, account)
