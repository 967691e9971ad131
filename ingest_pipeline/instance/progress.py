"""How far `ingest run` has come."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ingest_pipeline.models import Batch
from ingest_pipeline.planning.remaining import WorkState, remaining_seconds
from ingest_pipeline.store import extracts, reports
from ingest_pipeline.store.connection import Connection


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of the batches."""

    files_done: int
    files: int
    work: WorkState
    before: WorkState
    """The work when the run began: an earlier one may have done a part of it."""
    running: int
    waiting: int
    embedded: int
    seconds: float
    sections_asked: int = 0
    """Of the batches at work."""
    sections: int = 0
    """That an LLM is asked about in the batches at work; 0 if it is not asked."""

    @property
    def eta_seconds(self) -> float | None:
        """Remaining seconds at the pace so far; None before there is one."""
        return remaining_seconds(self.work, before=self.before, elapsed_seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class _Counts:
    files_done: int
    files: int
    work: WorkState

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts(self.files_done + other.files_done, self.files + other.files, self.work + other.work)


class ProgressMeter:
    """Adds up the work on the batches of one `ingest run`.

    Only batches that are at work are counted file by file at each look: of 100,000 files that would take a second. A
    finished batch is counted once, and one that no run has begun has what was predicted when it was sealed.

    Args:
        connection: to the store.
        since: when the `ingest run` began, by the database's clock.
    """

    def __init__(self, connection: Connection, since: Any) -> None:
        self._connection, self._since, self._began = connection, since, time.monotonic()
        self._finished: dict[str, _Counts] = {}
        self._before: WorkState | None = None

    def measure(
        self, launched: Sequence[str], *, running: Sequence[str], waiting: Sequence[Batch], left: Sequence[str] = ()
    ) -> Progress:
        """Return the progress.

        Args:
            launched: the keys of all batches that had a run so far.
            running: of them, those that have one now.
            waiting: the batches that wait.
            left: the keys of those at which a run from before the database was lost is still at work.
        """
        counts = self._at_work([*running, *left, *(batch.key for batch in waiting if batch.runs)])
        counts += self._done({*launched} - {*running} - {*left} - {batch.key for batch in waiting})
        for batch in waiting:
            if not batch.runs:
                counts += _Counts(0, batch.files, WorkState(waiting_predicted_seconds=batch.predicted_seconds))
        asked, sections = extracts.asked_and_all(self._connection, [*running, *left])
        since = reports.work_since(self._connection, self._since)
        work = counts.work + WorkState(parse_seconds=since["parse_seconds"], embed_seconds=since["embed_seconds"])
        self._before = self._before or work
        return Progress(
            files_done=counts.files_done,
            files=counts.files,
            work=work,
            before=self._before,
            running=len(running),
            waiting=len(waiting),
            embedded=since["embedded"],
            seconds=time.monotonic() - self._began,
            sections_asked=asked,
            sections=sections,
        )

    def _at_work(self, keys: list[str]) -> _Counts:
        for key in keys:  # it may be tried again, and end otherwise
            self._finished.pop(key, None)
        return self._counted(keys)

    def _done(self, keys: Iterable[str]) -> _Counts:
        total = _Counts(0, 0, WorkState())
        for key in keys:
            if key not in self._finished:
                self._finished[key] = self._counted([key])
            total += self._finished[key]
        return total

    def _counted(self, keys: list[str]) -> _Counts:
        known = reports.progress(self._connection, keys) if keys else {"done": 0, "files": 0}
        return _Counts(known.pop("done"), known.pop("files"), WorkState(**known))
