"""Computes the memory of the machine, and how many runs it can hold."""

from __future__ import annotations

import os

from ingest_pipeline.engines import ENGINES
from ingest_pipeline.errors import BadSetting
from ingest_pipeline.memory import cgroup
from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.memory.service_mark import service_is_in_use
from ingest_pipeline.settings import Settings

MACHINE_SHARE = 0.8
"""Share of the machine that is used by default; the rest is for other processes and the file cache."""
RESERVE_BYTES = 1024**3
"""For all that runs beside runs: webserver, daemon and code server of Dagster take 0.33-0.51 GB (docs/findings.md, G8),
`ingest serve` 0.25 GB, Postgres with their connections 0.15 GB."""
RESERVE_SHARE = 0.25
"""The largest share of the budget for the reserve: on a small machine `ingest run` works without Dagster's services."""
SERVICE_BYTES = 300 * 1024**2
"""For `ingest serve`, while it is in use, where that share does not hold all of the reserve. With the packaged model it
takes 242 MiB after 2,000 searches by four clients and 200 calls of agents, 171 MiB before the first (2026-11)."""


def machine_memory_bytes() -> int:
    """Return the memory of the machine in bytes, or the limit of this process's cgroup if that is less."""
    import psutil

    return min([psutil.virtual_memory().total, *cgroup.limits_bytes()])


def machine_budget_bytes(machine_memory: int) -> int:
    """Return the bytes that all processes together may use: the setting, or 80 % of the machine."""
    return machine_memory or usable_share_bytes(machine_memory_bytes())


def usable_share_bytes(memory_bytes: int) -> int:
    """Return what all processes together may use by default on a machine of so much memory."""
    return int(memory_bytes * MACHINE_SHARE)


def run_slots(budget: RunBudget, settings: Settings) -> int:
    """Return how many runs may be in progress at once: (machine budget - reserve) / run budget, at least 1.

    The number of cores is an upper limit, because a run uses a core all the time.

    Raises:
        BadSetting: not even one run fits.
    """
    budget.require_room()
    run, machine = budget.total_bytes, machine_budget_bytes(settings.machine_memory)
    if run > machine:
        raise BadSetting("INGEST_RUN_MEMORY", str(run), f"at most the machine's budget of {machine}")
    # At least one run, even if the reserve leaves less than its budget: a small machine must be usable, too.
    reserve = _reserve_bytes(machine, serving=service_is_in_use(settings.home))
    return min(max(1, (machine - reserve) // run), settings.max_runs or usable_cores())


def largest_run_bytes(machine_budget: int, *, runs: int) -> int:
    """Return the largest run budget with which a machine's budget holds so many runs at once."""
    return machine_budget if runs == 1 else (machine_budget - _reserve_bytes(machine_budget)) // runs


def _reserve_bytes(machine_budget: int, *, serving: bool = False) -> int:
    share = int(machine_budget * RESERVE_SHARE) + (SERVICE_BYTES if serving else 0)
    return min(RESERVE_BYTES, share)


def threads_of_run(budget: RunBudget, *, runs: int) -> int:
    """Return how many threads a run computes with while so many runs are at work: its share of the cores, or more."""
    share = max(1, usable_cores() // max(1, runs))
    return min(usable_cores(), share * ENGINES[budget.engine].threads_per_core)


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    # The affinity, because `os.cpu_count` also counts cores that a container may not use.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
