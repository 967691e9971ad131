"""Limits and peaks of memory: what the machine allows, what a run may use, what a process has used."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from ingest_pipeline.errors import BadSetting

MACHINE_SHARE = 0.8
"""Share of the machine that is ours by default; the rest is for the system's own processes and cache."""
RESERVE_BYTES = 1024**3
"""Postgres, webserver, daemon, code server: 0.33-0.51 GB for Dagster, the rest for Postgres (2026-11)."""
RESERVE_SHARE = 0.25
"""On a small machine the reserve shrinks to this share: headless, Dagster's services are not there."""
UNLIMITED = 1 << 60
"""cgroup v1 says `no limit` with a number near 2**63."""

RUN_FLOOR_BYTES = 656 * 1024**2
"""Peak of a run that has loaded all-MiniLM-L6-v2, without activations: 603-645 MiB measured (2026-11)."""
MIN_RUN_BYTES = 768 * 1024**2
"""Under it torch is refused memory in the middle of a batch: at 704 MiB one run in two died of it (2026-11)."""
PARSE_PARENT_BYTES = 190 * 1024**2
"""Peak of the run process while its parser's child works: Dagster, psycopg, tokenizer (2026-11)."""


def machine_memory_bytes() -> int:
    """Return the bytes of memory that this process could ever get: its cgroup's limit or the machine's."""
    import psutil

    return min([psutil.virtual_memory().total, *cgroup_limits_bytes()])


def cgroup_limits_bytes(proc: Path = Path("/proc/self"), root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Return every memory limit on this process's cgroup and its ancestors, v1 and v2; empty if none."""
    found = []
    for folder, filename in _cgroup_folders(proc, root):
        while True:
            limit = _read_limit(folder / filename)
            if limit is not None:
                found.append(limit)
            if folder in (root, root / "memory") or root not in folder.parents:
                break
            folder = folder.parent
    return found


def _cgroup_folders(proc: Path, root: Path) -> list[tuple[Path, str]]:
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            folders.append((_inside(root / "memory", path), "memory.limit_in_bytes"))
        elif not controllers:
            folders.append((_inside(root, path), "memory.max"))
    return folders


def _inside(root: Path, path: str) -> Path:
    # In a container the path is the host's and may not exist here; the root then is our own group.
    folder = root / path.lstrip("/")
    return folder if folder.is_dir() else root


def _read_limit(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < UNLIMITED else None


def machine_budget_bytes(machine_memory: int) -> int:
    """Return the bytes that everything together may use: the setting, or 80 % of what there is."""
    return machine_memory or int(machine_memory_bytes() * MACHINE_SHARE)


def run_slots(*, machine_budget_bytes: int, run_budget_bytes: int, max_runs: int = 0) -> int:
    """Return how many runs may be in progress at once: (machine budget - reserve) / run budget, at least 1.

    Memory sets the limit; cores lower it, since a run computes all the time it is awake.

    Raises:
        BadSetting: not even one run fits.
    """
    if run_budget_bytes < MIN_RUN_BYTES:
        raise BadSetting(
            "INGEST_RUN_MEMORY",
            str(run_budget_bytes),
            f"at least {MIN_RUN_BYTES} (768MiB): torch and the model need it",
        )
    if run_budget_bytes > machine_budget_bytes:
        raise BadSetting(
            "INGEST_RUN_MEMORY",
            str(run_budget_bytes),
            f"at most the machine's budget of {machine_budget_bytes}",
        )
    reserve = min(RESERVE_BYTES, int(machine_budget_bytes * RESERVE_SHARE))
    by_memory = max(1, (machine_budget_bytes - reserve) // run_budget_bytes)
    return min(by_memory, max_runs or usable_cores())


def usable_cores() -> int:
    """Return the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parse_budget_bytes(run_budget_bytes: int) -> int:
    """Return what a run's budget leaves for the child that parses, beside the run process itself."""
    return run_budget_bytes - PARSE_PARENT_BYTES


def embed_headroom_bytes(run_budget_bytes: int) -> int:
    """Return what a run's budget leaves for activations, beside the loaded model and Dagster."""
    return max(0, run_budget_bytes - RUN_FLOOR_BYTES)


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
