"""What the work costs on machines of different memory: the ledger's history, the sources, and the planner's own limits.

A budget of the list is the memory of a machine. As on this one, everything together may use 80 % of it
(`memory/machine.py`), and a run has the smallest budget under which no file is refused that the machine could hold;
more, up to the present `INGEST_RUN_MEMORY`, where that costs no run at once. Cores and processor are this machine's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ingest_pipeline.embedding.choice import budget_of
from ingest_pipeline.engines import ENGINES
from ingest_pipeline.errors import FileNeedsMoreMemory
from ingest_pipeline.memory.machine import largest_run_bytes, run_slots, usable_cores, usable_share_bytes
from ingest_pipeline.models import CostModel
from ingest_pipeline.planning import predict as predicting
from ingest_pipeline.planning.prices import Box, FileWork, Price, Speed, Work, price
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import format_size
from ingest_pipeline.stages.costs import current_model
from ingest_pipeline.stages.preview import changed_files
from ingest_pipeline.stages.sealing import asking_seconds, batch_limits
from ingest_pipeline.store import costs, ledger
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.ledger import KnownFile

PARALLEL_SHARE = 0.9
"""Of a run that embeds on this machine. Parsing is a twentieth of the work (docs/findings.md, I4) and one thread, as is
storing, which takes about as long."""
UNFINISHED = ("synced", "processing", "processed")


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of the same work on several machines, the smallest first."""

    prices: tuple[Price, ...]
    cores: int
    measured_share: float
    """Share of the work whose time is predicted from files that were measured; the rest is by the shipped rates."""


def price_list(
    connection: Connection, settings: Settings, memories: Sequence[int], *, everything: bool = False
) -> PriceList:
    """Return what the unfinished work costs on machines of so much memory each; reads, and changes nothing.

    Args:
        connection: to the store.
        settings: of the runs; `run_memory` where a machine has room for it.
        memories: of the machines, in bytes.
        everything: price every known file, as if from the beginning.

    Raises:
        BadSetting, SourceUnavailable: as for a scan.
    """
    speed = Speed(usable_cores(), 0.0 if ENGINES[budget_of(settings).engine].server else PARALLEL_SHARE)
    works = _Works(connection, settings, speed)
    work, total, measured = Work(), 0.0, 0.0
    for media_type, size_bytes, alone in _files(connection, settings, everything=everything):
        file = works.of(media_type, size_bytes, alone=alone)
        work.add(file)
        total += file.core_seconds
        measured += file.core_seconds * works.is_measured(media_type)
    prices = tuple(_price(work, memory, settings, speed) for memory in sorted(set(memories)))
    return PriceList(prices, speed.cores, measured / total if total else 1.0)


def _files(connection: Connection, settings: Settings, *, everything: bool) -> Iterator[tuple[str, int, bool]]:
    """Yield media type, size and whether it needs a batch of its own, of each file once."""
    for file in ledger.priced_files(connection, everything=everything):
        yield file.media_type, file.size_bytes, file.alone
    for changed in changed_files(connection, settings):
        if not _is_priced(changed.known, everything=everything):
            yield changed.media_type, changed.size_bytes, False


def _is_priced(known: KnownFile | None, *, everything: bool) -> bool:
    """Return whether the ledger's list has a file already: it is priced as it was when it was catalogued."""
    if known is None or known.status == "deleted":
        return False
    return everything or known.status in UNFINISHED or known.error == FileNeedsMoreMemory.__name__


class _Works:
    """Predicts files of one history."""

    def __init__(self, connection: Connection, settings: Settings, speed: Speed) -> None:
        self._model: CostModel = current_model(connection)
        self._asking = asking_seconds(connection, settings)
        # Seconds were measured in runs that shared the cores; the shipped ones are of one core.
        self._measured_speed = speed.of_one(costs.runs_at_once(connection))

    def is_measured(self, media_type: str) -> bool:
        """Return whether files of this type were measured."""
        return media_type in self._model.rates

    def of(self, media_type: str, size_bytes: int, *, alone: bool) -> FileWork:
        """Return what a file is predicted to need."""
        rate = self._model.rates.get(media_type) or predicting.shipped_rate(media_type)
        seconds = predicting.seconds_of(self._model, media_type, 1, size_bytes)
        speed = self._measured_speed if self.is_measured(media_type) else 1.0
        asking = self._asking.get(media_type, 0.0)
        peak = predicting.peak_of(rate, media_type, size_bytes)
        return FileWork(peak, seconds + asking, seconds * speed, asking, alone)


def _price(work: Work, memory_bytes: int, settings: Settings, speed: Speed) -> Price:
    usable = usable_share_bytes(memory_bytes)
    smallest = budget_of(settings).least_bytes
    if usable < smallest:
        needs, has = format_size(smallest), format_size(usable)
        return Price(memory_bytes, files=len(work), too_small=f"a run needs {needs}, of this machine it may use {has}")
    settings = replace(settings, machine_memory=usable, run_memory=_run_memory(work, usable, settings))
    budget = budget_of(settings)
    total = sum(file.seconds for file in work if file.peak_bytes <= budget.parser_bytes)
    box = Box(memory_bytes, settings.run_memory, run_slots(budget, settings), batch_limits(budget, settings, total))
    return price(work, box, speed)


def _run_memory(work: Work, usable_bytes: int, settings: Settings) -> int:
    """Return the run budget of a machine that may use so many bytes; see the module."""
    budget = budget_of(settings)
    largest = work.largest_within(usable_bytes - budget.parent_bytes)
    least = max(budget.least_bytes, largest + budget.parent_bytes)
    needed = replace(settings, machine_memory=usable_bytes, run_memory=least)
    runs = run_slots(budget_of(needed), needed)
    return max(least, min(settings.run_memory, largest_run_bytes(usable_bytes, runs=runs)))
