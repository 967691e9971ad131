"""Processes as the kernel knows them: limits, peaks, kinship, identity. Everything that is read in `/proc` is read
here.

Stdlib only: the supervisor of a run imports it and is to stay small.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process for good: its pid and when it started. A pid alone is used again."""

    pid: int
    started: int
    """Clock ticks since boot."""

    @property
    def is_alive(self) -> bool:
        """Whether this very process runs; a zombie does not."""
        return identity_of(self.pid) == self


def identity_of(pid: int) -> ProcessId | None:
    """Return which process has a pid now; None if there is none, or only a zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else ProcessId(pid, int(fields[19]))


def parent_of(pid: int) -> int | None:
    """Return the parent of a process; None if the process, or its parent, is gone."""
    fields = _stat(pid)
    parent = int(fields[1]) if fields else 0
    return parent if parent > 1 else None


def descendants_of(pid: int) -> list[int]:
    """Return the processes below one (Linux; elsewhere none)."""
    children: list[int] = []
    for task in (PROC / str(pid) / "task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            children += [int(child) for child in task.read_text().split()]
    return children + [below for child in children for below in descendants_of(child)]


def command_of(pid: int) -> list[str]:
    """Return the words of a process's command line; [] if it is gone."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    return []


def is_running_as(pid: int, name: str) -> bool:
    """Return whether a pid is a living process of a program with this name."""
    with contextlib.suppress(OSError):
        status = (PROC / str(pid) / "status").read_text()
        return f"Name:\t{name}\n" in status and "State:\tZ" not in status
    return False


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends (Linux); exit at once if it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def prefer_for_oom_kill(score: int) -> None:
    """Raise this process's score, from 0 to 1000, in the kernel's choice of what to kill for memory (Linux)."""
    if sys.platform == "linux":
        (PROC / "self" / "oom_score_adj").write_text(str(score))


def _stat(pid: int) -> list[str] | None:
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()  # a name may hold anything
    return None


def limit_data_bytes(limit_bytes: int) -> None:
    """Make the kernel refuse this process more private memory than `limit_bytes` (Linux; elsewhere nothing).

    RLIMIT_DATA, because it follows the resident size; RLIMIT_AS counts the gigabytes that torch maps and
    never touches (docs/findings.md, D: 1024 MB of DATA stop torch at 1023, of AS at 639).
    """
    if limit_bytes <= 0:
        raise ValueError(f"a limit of {limit_bytes} bytes would be none at all")
    if sys.platform != "linux":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def reset_peak() -> None:
    """Start measuring this process's peak anew (Linux; elsewhere nothing)."""
    try:
        (PROC / "self" / "clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_bytes(pid: int | str = "self") -> int:
    """Return a process's peak resident size since `reset_peak`, or since it began; 0 if it is gone.

    VmHWM, not ru_maxrss: the latter survives fork and exec from a large parent (docs/findings.md, G).
    """
    try:
        return _status(pid)["VmHWM"]
    except OSError:
        return 0
    except KeyError:  # a zombie, or a kernel that does not say
        return _portable_peak() if pid == "self" else 0


def resident_bytes(pid: int) -> int:
    """Return what a process holds now; 0 if it is gone, or where nobody knows."""
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def private_bytes(pid: int) -> int:
    """Return the highest that a process's own pages were: its peak without what it shares with others; 0 if gone."""
    try:
        sizes = _status(pid)
    except OSError:
        return 0
    return max(0, sizes.get("VmHWM", 0) - sizes.get("RssFile", 0) - sizes.get("RssShmem", 0))


def _status(pid: int | str) -> dict[str, int]:
    """Return the sizes in a process's status, in bytes."""
    lines = (PROC / str(pid) / "status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}


def _portable_peak() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def return_free_memory() -> None:
    """Give freed heap pages back to the kernel (glibc; elsewhere nothing)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)
