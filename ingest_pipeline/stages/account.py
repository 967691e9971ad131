"""What one `ingest run` did, as numbers for people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ingest_pipeline.store import reports
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.usage import usage_since


@dataclass(frozen=True, slots=True)
class Account:
    """The counts of the ledger at the end of a run, and what the run did and cost."""

    counts: dict[str, Any]
    """Files and batches by status, chunks that readers see, embeddings."""
    work: dict[str, Any]
    """Of the attempts since the run began: files parsed, pages, chunks embedded, seconds, peaks."""
    work_by_type: list[dict[str, Any]]
    failures: dict[str, int]
    """Failed files by reason."""
    usage: list[dict[str, Any]]
    """Calls of servers since the run began and their tokens, by stage and model."""
    peak_memory_bytes: int | None
    """The highest of a run; None if no run measured one."""
    runs: int
    batches: list[str]
    seconds: float
    stopped: str | None
    """Why it stopped before the end; None when every file is accounted for."""

    @property
    def files(self) -> int:
        """How many files the sources hold."""
        return sum(self.counts["files"].values()) - int(self.counts["files"]["deleted"])

    @property
    def did_nothing(self) -> bool:
        """Whether nothing had changed."""
        return not self.work["parsed"] and not self.work["embedded"] and not self.batches


def account_of(
    connection: Connection, *, since: Any, batches: Sequence[str], runs: int, seconds: float, stopped: str | None
) -> Account:
    """Return the account of a run.

    Args:
        connection: to the store.
        since: when it began, by the database's clock.
        batches: those that it ran.
        runs: how many Dagster runs it launched.
        seconds: how long it took.
        stopped: why it stopped before the end.
    """
    return Account(
        counts=reports.status_counts(connection),
        work=reports.work_since(connection, since),
        work_by_type=reports.work_by_type(connection, since),
        failures=reports.failures_by_reason(connection),
        usage=usage_since(connection, since),
        peak_memory_bytes=reports.peak_of_batches(connection, list(batches)),
        runs=runs,
        batches=list(batches),
        seconds=seconds,
        stopped=stopped,
    )
