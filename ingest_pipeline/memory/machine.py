"""How much memory is there, and how many runs does it hold?"""

from __future__ import annotations

import os
from pathlib import Path

from ingest_pipeline.errors import BadSetting
from ingest_pipeline.memory.budget import require_room
from ingest_pipeline.memory.cgroup import PREFIX

MACHINE_SHARE = 0.8
"""Share of the machine that is ours by default; the rest is for the system's own processes and cache."""
RESERVE_BYTES = 1024**3
"""Postgres, webserver, daemon, code server: 0.33-0.51 GB for Dagster, the rest for Postgres (2026-11)."""
RESERVE_SHARE = 0.25
"""On a small machine the reserve shrinks to this share: headless, Dagster's services are not there."""
UNLIMITED = 1 << 60
"""cgroup v1 says `no limit` with a number near 2**63."""


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
            if limit is not None and not folder.name.startswith(PREFIX):  # a run asks for what lies outside its own
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


def run_slots(*, machine_budget_bytes: int, run_budget_bytes: int, max_runs: int = 0, engine: str = "auto") -> int:
    """Return how many runs may be in progress at once: (machine budget - reserve) / run budget, at least 1.

    Memory sets the limit; cores lower it, since a run computes all the time it is awake.

    Raises:
        BadSetting: not even one run fits.
    """
    require_room(run_budget_bytes, engine)
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
