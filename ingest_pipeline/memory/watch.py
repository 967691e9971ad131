"""A run looks at its own process tree, eight times a second: what it uses now, and the true peak since when.

Each look reads and resets the kernel's own high-water mark, so a peak between two looks is not missed: a 20 Hz sampler
of the resident size saw 13 MB where the mark said 204 (docs/findings.md, G). A look costs 0.1-0.6 ms: under half a
percent.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Self

from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.process import command_of, descendants_of, peak_memory_bytes, private_bytes, reset_peak

LOOKS_PER_SECOND = 8
SUPERVISOR = "ingest_pipeline.instance.supervisor"


class TreeWatch:
    """The peak of this process and all that belong to its run; a context manager that looks until it is left.

    The tree is this process with all its pages, and the private pages of its children and of its supervisor: what they
    share (the interpreter, libraries) is counted once.

    Args:
        degradation: told of each look; None only measures.
    """

    def __init__(self, degradation: Degradation | None = None) -> None:
        self.degradation = degradation or Degradation(limit_bytes=0)
        self._highest = self._in_span = 0
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="memory watch", daemon=True)
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

    @property
    def peak_bytes(self) -> int:
        """The highest that the tree ever was."""
        self.look()
        return self._highest

    def begin(self) -> None:
        """Begin a span, such as the work on one file."""
        self.look()
        with self._lock:
            self._in_span = 0

    def end(self) -> int:
        """Return the peak since `begin`."""
        self.look()
        return self._in_span

    def look(self) -> int:
        """Return the tree's peak since the last look."""
        with self._lock:
            used = peak_memory_bytes()
            reset_peak()
            used += sum(private_bytes(pid) for pid in self._others())
            self._highest, self._in_span = max(self._highest, used), max(self._in_span, used)
        self.degradation.observe(used)
        return used

    def _look_on(self) -> None:
        while not self._left.wait(1 / LOOKS_PER_SECOND):
            self.look()

    def _others(self) -> list[int]:
        return [*descendants_of(os.getpid()), *([self._supervisor] if self._supervisor else [])]


def _supervisor_pid() -> int | None:
    parent = os.getppid()
    return parent if SUPERVISOR in command_of(parent) else None
