"""Measures the memory of a run's process tree, from inside the run, eight times a second.

Each measurement reads and resets the kernel's high-water mark, so that no peak between two measurements is missed: a
sampler of the resident size at 20 Hz saw 13 MB where the mark was 204 MB (docs/findings.md, G1). A measurement takes
0.1-0.6 ms, under half a percent of a core (G2).
"""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Self

from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.process import (
    command_of,
    descendants_of,
    is_starting_from,
    peak_memory_bytes,
    private_bytes,
    reset_peak,
)
from ingest_pipeline.memory.recorder import Recorder

LOOKS_PER_SECOND = 8  # a peak is never missed; only the reaction to it may be late by 125 ms
SUPERVISOR = "ingest_pipeline.instance.supervisor"


class TreeWatch:
    """Measures this process and all others of its run; a context manager that measures until it is left.

    The memory of the tree is all pages of this process, and the private pages of its descendants and its supervisor:
    what they share (the interpreter, libraries) is counted once.

    Args:
        degradation: gets each measurement; None: only measure.
        recorder: writes each measurement down; None: nobody does.
    """

    def __init__(self, degradation: Degradation | None = None, recorder: Recorder | None = None) -> None:
        self.degradation, self.recorder = degradation or Degradation(limit_bytes=0), recorder
        self._highest = self._in_span = 0
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._measure_regularly, name="memory watch", daemon=True)
        self._supervisor = _supervisor_pid()

    def __enter__(self) -> Self:
        self.look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()
        self.look()
        if self.recorder:
            self.recorder.close()

    @property
    def peak_bytes(self) -> int:
        """The peak of the tree since the start."""
        self.look()
        return self._highest

    def begin(self) -> None:
        """Begin a span, such as the work on one file."""
        self.look()  # the peak so far belongs to the time before the span
        with self._lock:
            self._in_span = 0

    def end(self) -> int:
        """Return the peak since `begin`."""
        self.look()
        return self._in_span

    def look(self) -> int:
        """Measure; return the tree's peak since the last measurement."""
        with self._lock:  # the thread and the stages measure, too: reading and resetting must not be interleaved
            used = peak_memory_bytes()
            reset_peak()
            used += sum(private_bytes(pid) for pid in self._others())
            self._highest, self._in_span = max(self._highest, used), max(self._in_span, used)
        self.degradation.observe(used)
        if self.recorder:
            self.recorder.note(used, self.degradation.steps_taken)
        return used

    def _measure_regularly(self) -> None:
        while not self._left.wait(1 / LOOKS_PER_SECOND):
            self.look()

    def _others(self) -> list[int]:
        own = os.getpid()
        children = [pid for pid in descendants_of(own) if not is_starting_from(pid, own)]
        return [*children, *([self._supervisor] if self._supervisor else [])]


def _supervisor_pid() -> int | None:
    parent = os.getppid()
    return parent if SUPERVISOR in command_of(parent) else None
