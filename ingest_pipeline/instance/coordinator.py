"""The run queue's limit, computed from memory."""

from __future__ import annotations

from ingest_pipeline.embedding.choice import budget_of
from ingest_pipeline.instance.dagster_private import QueuedRunCoordinator, RunQueueConfig
from ingest_pipeline.memory.machine import run_slots
from ingest_pipeline.settings import read_settings


class MemoryBudgetRunCoordinator(QueuedRunCoordinator):
    """Starts as many runs at once as the machine's memory budget allows; the others wait in the queue.

    All runs have the same budget, which makes Dagster's limit on counts a limit on memory. It is computed at each pass
    over the queue, so that a changed cgroup limit takes effect; `max_concurrent_runs` in dagster.yaml can lower it.
    """

    def get_run_queue_config(self) -> RunQueueConfig:
        """Return the queue's configuration with the limit that memory allows now."""
        config = super().get_run_queue_config()
        settings = read_settings()
        slots = run_slots(budget_of(settings), settings)
        configured = config.max_concurrent_runs
        # A negative number in dagster.yaml means no limit of its own.
        return config._replace(max_concurrent_runs=slots if configured < 0 else min(configured, slots))
