"""How much memory is there, and how many runs does it hold?"""

from __future__ import annotations

import os

from ingest_pipeline.errors import BadSetting
from ingest_pipeline.memory import cgroup
from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.settings import Settings

MACHINE_SHARE = 0.8
"""Share of the machine that is ours by default; the rest is for the system's own processes and cache."""
RESERVE_BYTES = 1024**3
"""Postgres, webserver, daemon, code server: 0.33-0.51 GB for Dagster, the rest for Postgres (2026-11)."""
RESERVE_SHARE = 0.25
"""On a small machine the reserve shrinks to this share: headless, Dagster's services are not there."""


def machine_memory_bytes() -> int:
    """Return the bytes of memory that this process could ever get: its cgroup's limit or the machine's."""
    import psutil

    return min([psutil.virtual_memory().total, *cgroup.limits_bytes()])


def machine_budget_bytes(machine_memory: int) -> int:
    """Return the bytes that everything together may use: the setting, or 80 % of what there is."""
    return machine_memory or int(machine_memory_bytes() * MACHINE_SHARE)


def run_slots(settings: Settings) -> int:
    """Return how many runs may be in progress at once: (machine budget - reserve) / run budget, at least 1.

    Memory sets the limit; cores lower it, since a run computes all the time it is awake.

    Raises:
        BadSetting: not even one run fits.
    """
    RunBudget.of(settings).require_room()
    run, machine = settings.run_memory, machine_budget_bytes(settings.machine_memory)
    if run > machine:
        raise BadSetting("INGEST_RUN_MEMORY", str(run), f"at most the machine's budget of {machine}")
    reserve = min(RESERVE_BYTES, int(machine * RESERVE_SHARE))
    return min(max(1, (machine - reserve) // run), settings.max_runs or usable_cores())


def usable_cores() -> int:
    """Return the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
