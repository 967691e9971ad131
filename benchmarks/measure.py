"""Runs a command as a whole and measures it: wall time, CPU time, peak of its process tree, share of busy cores."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest_pipeline.memory.process import descendants_of, resident_bytes

LOOKS_PER_SECOND = 10


@dataclass(frozen=True, slots=True)
class Measured:
    """One command, from its start to its end."""

    seconds: float
    cpu_seconds: float
    """Of the command and all that it started and waited for; a Postgres that goes on running is not in it."""
    peak_bytes: int
    """Highest sum of the resident sizes of all its processes, looked at ten times a second."""
    busy_share: float
    """Of the machine's cores, by all processes."""
    output: str
    lines: tuple[tuple[float, str], ...]
    """What it wrote to stderr, each line with the seconds since the start."""


class CommandFailed(Exception):
    """A measured command ended with an error."""


def measured(command: Sequence[str], *, environ: Mapping[str, str]) -> Measured:
    """Run a command and return what it cost.

    Raises:
        CommandFailed: its exit code is not 0; the message has the end of its stderr.
    """
    began, busy_before, cpu_before = time.monotonic(), _busy_ticks(), os.times()
    process = subprocess.Popen(
        command, env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watch, lines = _Watch(process.pid), _Lines(process, began)
    output = lines.output()
    code = process.wait()
    seconds, cpu_after, busy_after = time.monotonic() - began, os.times(), _busy_ticks()
    if code:
        last = lines.written[-1][1] if lines.written else ""
        raise CommandFailed(f"{' '.join(command[:4])}: exit code {code}: {last}")
    return Measured(
        seconds=seconds,
        cpu_seconds=sum(cpu_after[2:4]) - sum(cpu_before[2:4]),
        peak_bytes=watch.end(),
        busy_share=_share(busy_before, busy_after),
        output=output,
        lines=tuple(lines.written),
    )


class _Lines:
    """Reads stderr in a thread, and stdout here."""

    def __init__(self, process: subprocess.Popen[str], began: float) -> None:
        self._process, self._began = process, began
        self.written: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def output(self) -> str:
        assert self._process.stdout is not None
        text = self._process.stdout.read()
        self._thread.join()
        return text

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.written.append((time.monotonic() - self._began, line.rstrip()))


class _Watch:
    """Sums up the resident sizes of a process tree until it ends."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak, self._ended = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> int:
        self._ended.set()
        self._thread.join()
        return self._peak

    def _look(self) -> None:
        while not self._ended.wait(1 / LOOKS_PER_SECOND):
            used = sum(resident_bytes(pid) for pid in (self._pid, *descendants_of(self._pid)))
            self._peak = max(self._peak, used)


def _busy_ticks() -> tuple[int, int]:
    """Return the busy and all clock ticks of the machine's cores since boot (proc(5): user nice system idle iowait)."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _share(before: tuple[int, int], after: tuple[int, int]) -> float:
    return (after[0] - before[0]) / max(1, after[1] - before[1])
