"""The run queue's limit, computed from memory."""

from __future__ import annotations

from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator, RunQueueConfig

from ingest_pipeline.memory import machine
from ingest_pipeline.settings import Settings, read_settings


class MemoryBudgetRunCoordinator(QueuedRunCoordinator):
    """Lets as many runs go at once as the machine's memory budget holds; the others wait in the queue.

    All runs have the same budget, which makes Dagster's limit on counts a limit on memory. It is computed at
    each look into the queue, so a changed cgroup limit is noticed; `max_concurrent_runs` in dagster.yaml can
    lower it further.
    """

    def get_run_queue_config(self) -> RunQueueConfig:
        """Return the queue's configuration with the limit that the memory allows now."""
        config = super().get_run_queue_config()
        slots = slots_of(read_settings())
        configured = config.max_concurrent_runs
        return config._replace(max_concurrent_runs=slots if configured < 0 else min(configured, slots))


def slots_of(settings: Settings) -> int:
    """Return how many runs may be in progress at once under these settings.

    Raises:
        BadSetting: not even one fits.
    """
    return machine.run_slots(
        machine_budget_bytes=machine.machine_budget_bytes(settings.machine_memory),
        run_budget_bytes=settings.run_memory,
        max_runs=settings.max_runs,
        engine=settings.engine,
    )
