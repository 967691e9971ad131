"""Limits and peaks of one process, asked of the kernel."""

from __future__ import annotations

import ctypes
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
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return _portable_peak() if pid == "self" else 0


class PeakMeter:
    """This process's peak within spans, and the highest of all so far: resetting for a span loses nothing."""

    def __init__(self) -> None:
        self._highest = 0

    @property
    def highest_bytes(self) -> int:
        """The highest peak from the process's start until now."""
        self._highest = max(self._highest, peak_memory_bytes())
        return self._highest

    def begin(self) -> None:
        """Begin a span."""
        self._highest = self.highest_bytes
        reset_peak()

    def end(self) -> int:
        """Return the peak since `begin`."""
        peak = peak_memory_bytes()
        self._highest = max(self._highest, peak)
        return peak


def _portable_peak() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def return_free_memory() -> None:
    """Give freed heap pages back to the kernel (glibc; elsewhere nothing)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)
