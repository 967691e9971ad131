"""Limits and peaks of one process, asked of the kernel."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path


def limit_data_bytes(limit_bytes: int) -> None:
    """Make the kernel refuse this process more private memory than `limit_bytes` (Linux; elsewhere nothing).

    RLIMIT_DATA, because it follows the resident size; RLIMIT_AS counts the gigabytes that torch maps and
    never touches (FINDINGS D: 1024 MB of DATA stop torch at 1023, of AS at 639).
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
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory_bytes(pid: int | str = "self") -> int:
    """Return a process's peak resident size since `reset_peak`, or since it began; 0 if it is gone.

    VmHWM, not ru_maxrss: the latter survives fork and exec from a large parent (FINDINGS G).
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
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
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
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
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
