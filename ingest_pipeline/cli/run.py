"""`ingest run`, `process` and `index`: composes what they need, runs it, passes on the result; prints nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.memory.collector import collector_off
from ingest_pipeline.settings import Settings

if TYPE_CHECKING:
    from ingest_pipeline.instance.headless import Headless, HeadlessResult
    from ingest_pipeline.instance.progress import Progress
    from ingest_pipeline.stages.account import Account
    from ingest_pipeline.store.connection import Connection


Finish = Callable[["Connection", "Account"], None]
"""Called with the connection and the account at the end of a run."""
Report = Callable[["Progress"], None]


@dataclass(frozen=True, slots=True)
class Work:
    """What is done without Dagster's services."""

    text: str
    """Said at the beginning."""
    do: Callable[[Headless, Report], HeadlessResult]
    """May be called again with the same result object when the database was lost."""


EVERYTHING = Work("reading the sources", lambda headless, report: headless.run(report))
"""Until each file of the sources is searchable, or failed with a reason."""


class Reporter(Protocol):
    """Receives messages and the progress of a run."""

    def say(self, text: str) -> None:
        """Show a line of text."""

    def show(self, progress: Progress) -> None:
        """Show the progress."""

    def end(self) -> None:
        """End the progress display; the account follows."""


def run_headless(settings: Settings, reporter: Reporter, finish: Finish, work: Work = EVERYTHING) -> HeadlessResult:
    """Work on documents without Dagster's services.

    Args:
        settings: as read from the environment.
        reporter: receives the progress.
        finish: called once, at the end of the run.
        work: what is done.

    Returns:
        What it did, and why it stopped before the end if it did.

    Raises:
        ConfigurationError, StoreUnavailable: it cannot start.
        ErrorBudgetSpent: the database was lost too often.
    """
    from ingest_pipeline import sources
    from ingest_pipeline.embedding.load import prepare_engine
    from ingest_pipeline.entities.model import entity_model

    sources.canonical_sources(settings.sources)  # reports a folder that does not exist before anything is started
    entity_model(settings)  # and so a model that is not installed
    # Before Dagster is imported: a small machine cannot hold it beside the exporter, which peaks at 572 MiB.
    prepare_engine(settings)

    with collector_off():
        import ingest_pipeline.definitions
        import ingest_pipeline.instance.storage  # noqa: F401
        from ingest_pipeline.instance.headless import HeadlessResult
        from ingest_pipeline.instance.reconnect import with_reconnect
        from ingest_pipeline.store import reports
        from ingest_pipeline.store.connection import connected, database_url

    settings, began = settings_of_runs(settings), time.monotonic()
    with connected(database_url(settings)) as connection:
        result = HeadlessResult(since=reports.now(connection))  # the database's clock, as in the rows to be counted
    with_reconnect(
        lambda: _run_once(settings, reporter, finish, result, began, work),
        max_errors=settings.max_errors,
        say=reporter.say,
    )
    return result


def settings_of_runs(requested: Settings) -> Settings:
    """Return the settings of the runs: fields of the `ingest` resource take precedence over the environment.

    Raises:
        ConfigurationError: the resource reads other sources than requested.
    """
    from ingest_pipeline.definitions import defs

    settings: Settings = defs.resources["ingest"].settings()  # type: ignore[index]
    if settings.sources != requested.sources:
        raise ConfigurationError(f"the `ingest` resource reads other sources: {', '.join(settings.sources)}")
    return settings


def _run_once(settings, reporter, finish, result, began, work):  # type: ignore[no-untyped-def]
    """Run with one connection; may be called again with the same result object."""
    from ingest_pipeline.definitions import defs
    from ingest_pipeline.instance.headless import Headless
    from ingest_pipeline.instance.home import open_instance
    from ingest_pipeline.stages.account import account_of
    from ingest_pipeline.store.connection import database_url, store

    with open_instance(settings) as instance, store(database_url(settings)) as connection:
        headless = Headless(instance, connection, settings, definitions=defs, result=result)
        try:
            reporter.say(work.text)
            work.do(headless, reporter.show)
        except KeyboardInterrupt:  # our runs have sessions of their own: the terminal's Ctrl-C does not reach them
            reporter.say("stopping; what is committed stays, and the next run goes on from there")
            headless.stop()
            raise
        reporter.end()
        account = account_of(
            connection, since=result.since, batches=result.batches, runs=result.runs,
            seconds=time.monotonic() - began, stopped=result.stopped,
        )  # fmt: skip
        finish(connection, account)
