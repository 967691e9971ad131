"""Limits, peaks, relations and identity of processes. The only module that reads processes in `/proc`.

Stdlib only, because the supervisor of a run imports it and must stay small.
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
M_ARENA_MAX = -8  # malloc.h


@dataclass(frozen=True, slots=True)
class ProcessId:
    """The identity of a process: its pid and its start time, because pids are reused."""

    pid: int
    started: int
    """Clock ticks since boot."""

    @property
    def is_alive(self) -> bool:
        """Whether this process is running; a zombie is not."""
        return identity_of(self.pid) == self


def identity_of(pid: int) -> ProcessId | None:
    """Return the identity of the process that has a pid now; None if there is none, or only a zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else ProcessId(pid, int(fields[19]))


def parent_of(pid: int) -> int | None:
    """Return the pid of a process's parent; None if the process or its parent has ended."""
    fields = _stat(pid)
    parent = int(fields[1]) if fields else 0
    return parent if parent > 1 else None  # init adopts the children of an ended process


def descendants_of(pid: int) -> list[int]:
    """Return the pids of a process's descendants (Linux; elsewhere none)."""
    children: list[int] = []  # the kernel lists them separately for each thread that started them
    for task in (PROC / str(pid) / "task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            children += [int(child) for child in task.read_text().split()]
    return children + [below for child in children for below in descendants_of(child)]


def command_of(pid: int) -> list[str]:
    """Return the arguments of a process's command line; [] if it has ended."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    return []


def is_starting_from(pid: int, parent: int) -> bool:
    """Return whether a process is about to start its program, and still has the memory of its parent, not a copy.

    `subprocess` starts processes by vfork: for a moment each counts all that its parent has.
    """
    if command_of(pid) != command_of(parent):
        return False
    with contextlib.suppress(OSError):
        own, parents = _status(pid), _status(parent)
        return all(own.get(size) == parents.get(size) for size in ("VmPeak", "VmData", "VmStk"))
    return False


def is_running_as(pid: int, name: str) -> bool:
    """Return whether a pid is a running process of a program with this name."""
    with contextlib.suppress(OSError):
        status = (PROC / str(pid) / "status").read_text()
        return f"Name:\t{name}\n" in status and "State:\tZ" not in status
    return False


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends (Linux); exit at once if the parent has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call, and no signal will come
        os._exit(1)


def prefer_for_oom_kill(score: int) -> None:
    """Set this process's `oom_score_adj`, 0 to 1000; the OOM killer prefers higher values (Linux)."""
    if sys.platform == "linux":
        (PROC / "self" / "oom_score_adj").write_text(str(score))


def _stat(pid: int) -> list[str] | None:
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()  # a program's name may contain `)`
    return None


def limit_data_bytes(limit_bytes: int) -> None:
    """Limit the private memory of this process: further allocations fail (Linux; elsewhere no effect).

    RLIMIT_DATA, because it follows the resident size; RLIMIT_AS counts the gigabytes that torch maps and never touches:
    a limit of 1,024 MB stops torch at a resident size of 1,023 MB with DATA, of 639 MB with AS (docs/findings.md, D1).
    """
    if limit_bytes <= 0:
        raise ValueError(f"a limit of {limit_bytes} bytes would be none at all")  # negative: RLIM_INFINITY
    if sys.platform != "linux":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def limit_file_bytes(pid: int, limit_bytes: int) -> bool:
    """Limit the size to which a process can extend a file (Linux; elsewhere no effect).

    Returns:
        False if the process has a lower limit already: only root can raise it.
    """
    if sys.platform != "linux":
        return True
    import resource

    with contextlib.suppress(PermissionError):  # in a container that forbids it there is no limit
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        if hard != resource.RLIM_INFINITY and hard < limit_bytes:
            return False
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    return True


def reset_peak() -> None:
    """Reset the peak of this process to its present size (Linux; elsewhere no effect)."""
    try:
        (PROC / "self" / "clear_refs").write_text("5")  # proc(5): 5 resets VmHWM to the present resident size
    except OSError:
        return


def peak_memory_bytes(pid: int | str = "self") -> int:
    """Return a process's peak resident size since `reset_peak`, or since it began; 0 if it has ended.

    VmHWM, not ru_maxrss, which is inherited through fork and exec from a large parent (docs/findings.md, G3).
    """
    try:
        return _status(pid)["VmHWM"]
    except OSError:
        return 0
    except KeyError:  # a zombie, or a kernel that does not report it
        return _portable_peak() if pid == "self" else 0


def resident_bytes(pid: int) -> int:
    """Return a process's resident size now; 0 if it has ended or the system does not report it."""
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def private_bytes(pid: int) -> int:
    """Return the peak of a process's private pages, without those shared with others; 0 if it has ended."""
    try:
        sizes = _status(pid)
    except OSError:
        return 0
    # The kernel has no high-water mark of private pages: the present size of shared ones is subtracted.
    return max(0, sizes.get("VmHWM", 0) - sizes.get("RssFile", 0) - sizes.get("RssShmem", 0))


def _status(pid: int | str) -> dict[str, int]:
    """Return the memory sizes in `/proc/PID/status`, in bytes."""
    lines = (PROC / str(pid) / "status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}


def _portable_peak() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def return_free_memory() -> None:
    """Return freed heap pages to the kernel (glibc; elsewhere no effect)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)


def limit_arenas(most: int = 2) -> None:
    """Let the threads of this process share so many heaps (glibc; elsewhere no effect).

    By default there are eight for each core, and each keeps what was freed in it.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt:
            mallopt(M_ARENA_MAX, most)
