"""Writes down the memory of a run as it goes, so that a run that is killed leaves a record.

Each measurement of the run's watch is a sample. The first five minutes of a stage are kept at 8 Hz, of the time behind
them the highest sample of each second: four hours take 400 kB. What is in memory is written once a second, so a kill
loses no more. Stdlib only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest_pipeline.memory.degradation import StepTaken
from ingest_pipeline.memory.record import SLOTS_PER_SECOND, MemoryRecord, Sample, read_records

logger = logging.getLogger(__name__)
WHOLE_SLOTS = 300 * SLOTS_PER_SECOND
"""As long as most batches are planned for."""
FLUSH_SECONDS = 1.0


@dataclass(slots=True)
class Position:
    """At which file and page a run is at work; 0 means at none."""

    file_id: int = 0
    page: int = 0

    def move(self, file_id: int, page: int = 0) -> None:
        """Go to a page of a file."""
        self.file_id, self.page = file_id, page


class Recorder:
    """Records the memory of one stage of a run.

    Args:
        path: of the run's file; stages that follow each other append to it.
        stage: the name of the stage.
        batch: the key of the batch.
        limit_bytes: the memory budget of the run.
        position: kept up to date by the stage.
    """

    def __init__(self, path: Path, *, stage: str, batch: str, limit_bytes: int, position: Position) -> None:
        self.path, self.stage, self._position = path, stage, position
        self._lines = [f"begin {stage} {batch} {time.time():.3f} {limit_bytes}"]
        self._began = time.monotonic()
        self._flush_at = 0.0
        self._highest: Sample | None = None
        self._steps = 0
        self._lock = threading.Lock()
        self._broken = False

    def note(self, used_bytes: int, steps: Sequence[StepTaken]) -> None:
        """Record a measurement, and the degradation steps that are new since the last one."""
        second = time.monotonic() - self._began
        with self._lock:
            self._add(Sample(_slot_of(second), used_bytes // 1024, self._position.file_id, self._position.page))
            for taken in steps[self._steps :]:
                self._put()
                self._lines.append(f"step {second:.2f} {taken.step.name.lower()} {taken.used_bytes}")
                self._flush_at = 0.0  # a run that is short of memory may be killed at any moment
            self._steps = len(steps)
            if second >= self._flush_at:
                self._flush_at = second - second % FLUSH_SECONDS + FLUSH_SECONDS
                self._flush()

    def close(self) -> None:
        """Write what is left."""
        with self._lock:
            self._put()
            self._flush()

    def record(self) -> MemoryRecord | None:
        """Return the record of the stage so far; None if nothing could be written."""
        self.close()
        records = read_records(self.path, stage=self.stage)
        return records[-1] if records else None

    def _add(self, sample: Sample) -> None:
        if self._highest and self._highest.slot != sample.slot:
            self._put()
        if self._highest is None or sample.used_kib > self._highest.used_kib:
            self._highest = sample

    def _put(self) -> None:
        if self._highest:
            self._lines.append(" ".join(map(str, self._highest)))
            self._highest = None

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if self._broken or not lines:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write("\n".join(lines) + "\n")
        except OSError as error:  # a full disk must not stop the run because of its picture
            self._broken = True
            logger.warning("the memory of this run is not recorded: %s", error.strerror)


def _slot_of(second: float) -> int:
    slot = int(second * SLOTS_PER_SECOND)
    return slot if slot < WHOLE_SLOTS else slot - slot % SLOTS_PER_SECOND
