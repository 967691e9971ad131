"""Prices work on machines of different memory: files refused, runs at once, time. Pure: the same work costs the same.

What a machine can hold decides how many runs are at work at once; its cores decide how fast they are. A run that has
two cores is not twice as fast as a run with one: what parses and stores is one thread (`Speed.parallel_share`).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ingest_pipeline.models import FileCost, PlannedBatch
from ingest_pipeline.planning.plan import MIN_BATCH_SECONDS, BatchLimits, pack

NEAR_SHARE = 0.8
"""A file whose predicted peak is above this share of what the parser may use is near the limit."""
START_SECONDS = 1.6
"""On one core, for each batch: a run's start takes 1.2, the model 0.4 (docs/findings.md, I4)."""


@dataclass(frozen=True, slots=True)
class FileWork:
    """What one file is predicted to need."""

    peak_bytes: int
    """Of the parser's child, an upper bound."""
    seconds: float
    """As the planner predicts them: of a run, beside as many others as when it was measured."""
    core_seconds: float
    """The same on one core, without waiting."""
    waited_seconds: float = 0.0
    """Waiting for a server, which no core makes shorter."""
    alone: bool = False
    """It needs a batch of its own."""


class Work:
    """The predicted costs of many files, 33 bytes for each: all machines are priced by the same numbers."""

    def __init__(self) -> None:
        self._peaks, self._alone = array("q"), bytearray()
        self._seconds, self._core_seconds, self._waited_seconds = array("d"), array("d"), array("d")

    def __len__(self) -> int:
        return len(self._peaks)

    def add(self, file: FileWork) -> None:
        """Add a file."""
        self._peaks.append(file.peak_bytes)
        self._seconds.append(file.seconds)
        self._core_seconds.append(file.core_seconds)
        self._waited_seconds.append(file.waited_seconds)
        self._alone.append(file.alone)

    def __iter__(self) -> Iterator[FileWork]:
        times = zip(self._seconds, self._core_seconds, self._waited_seconds, strict=True)
        for peak, (seconds, core, waited), alone in zip(self._peaks, times, self._alone, strict=True):
            yield FileWork(peak, seconds, core, waited, bool(alone))

    def costs(self) -> Iterator[FileCost]:
        """Yield each file as the planner takes it; without a name, because no batch is made of it."""
        for peak, seconds, alone in zip(self._peaks, self._seconds, self._alone, strict=True):
            yield FileCost(0, "", "", peak, seconds, bool(alone))

    def largest_within(self, limit_bytes: int) -> int:
        """Return the highest peak that is not above a limit; 0 if there is none."""
        return max((peak for peak in self._peaks if peak <= limit_bytes), default=0)


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast runs are on so many cores."""

    cores: int
    parallel_share: float
    """Of the work of a run on one core: what further cores of its share make shorter. 0 if a server does the work."""

    def of_runs(self, runs: float) -> float:
        """Return the work that so many runs do at once, in runs that have one core each."""
        share = self.cores / runs
        if share < 1:
            return float(self.cores)
        return runs / ((1 - self.parallel_share) + self.parallel_share / share)

    def of_one(self, runs: float) -> float:
        """Return the same for one of so many runs that are at work at once."""
        return self.of_runs(runs) / runs


@dataclass(frozen=True, slots=True)
class Box:
    """A machine, and how a run's memory is divided on it."""

    memory_bytes: int
    """Of the machine."""
    run_memory_bytes: int
    """The `INGEST_RUN_MEMORY` that it is priced with."""
    runs: int
    """That it holds at once."""
    limits: BatchLimits
    """Of a batch there."""


@dataclass(frozen=True, slots=True)
class Price:
    """What the work costs on one machine."""

    memory_bytes: int
    run_memory_bytes: int = 0
    """0: the machine is too small for any run."""
    runs: int = 0
    files: int = 0
    refused: int = 0
    near: int = 0
    """Files whose predicted peak is near the limit, among those that are not refused."""
    batches: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0
    """The work on one core."""
    too_small: str = ""
    """Why no run fits."""

    @property
    def near_share(self) -> float:
        """Share of the files near the limit among those that are not refused."""
        return self.near / (self.files - self.refused) if self.files > self.refused else 0.0

    @property
    def hours(self) -> float:
        """The predicted time."""
        return self.seconds / 3600


def price(work: Work, box: Box, speed: Speed) -> Price:
    """Return what the work costs on a machine.

    A larger machine never refuses more files. Where two refuse the same files, the larger one is never slower.
    """
    refused = batches = near = 0
    near_bytes = NEAR_SHARE * box.limits.file_budget_bytes
    for packed in pack(work.costs(), box.limits):
        if isinstance(packed, PlannedBatch):
            batches += 1
            near += sum(cost.predicted_peak_bytes > near_bytes for cost in packed.costs)
        else:
            refused += 1
    seconds, core_seconds = _time(work, box, speed)
    return Price(
        box.memory_bytes, box.run_memory_bytes, box.runs, len(work), refused, near, batches, seconds, core_seconds
    )


def _time(work: Work, box: Box, speed: Speed) -> tuple[float, float]:
    """Return the seconds of the files that are not refused: on this machine, and on one core."""
    total = core = waited = longest = 0.0
    files = 0
    for file in work:
        if file.peak_bytes <= box.limits.file_budget_bytes:
            files += 1
            total, core, waited = total + file.seconds, core + file.core_seconds, waited + file.waited_seconds
            longest = max(longest, file.core_seconds / speed.of_runs(1) + file.waited_seconds)
    if not files:
        return 0.0, 0.0
    # No more runs than there are batches worth a start; a file is never divided among runs.
    used = min(box.runs, max(1, math.ceil(total / MIN_BATCH_SECONDS)), files)
    core += START_SECONDS * math.ceil(files / box.limits.max_files)
    return max(core / speed.of_runs(used) + waited / used, longest), core


def smallest_within(prices: Sequence[Price], seconds: float) -> Price | None:
    """Return the smallest machine that ends in time and refuses as few files as any of them; None if none does."""
    fitting = [one for one in prices if one.run_memory_bytes]
    fewest = min((one.refused for one in fitting), default=0)
    ending = [one for one in fitting if one.seconds <= seconds and one.refused == fewest]
    return min(ending, key=lambda one: one.memory_bytes, default=None)
