"""What a run gives up, step by step, before it reaches its limit."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import IntEnum

from ingest_pipeline.errors import RunOutOfMemory
from ingest_pipeline.memory.process import return_free_memory
from ingest_pipeline.sizes import format_size

logger = logging.getLogger(__name__)


class DegradationStep(IntEnum):
    """How far down a run is; each includes those before it."""

    FREE = 0
    SMALLER_BATCHES = 1
    """Micro-batches of half the tokens."""
    TRIM = 2
    """Freed memory is given back to the kernel after each micro-batch and each file."""
    UNLOAD = 3
    """Between two files the model is dropped, and the parser's child ended."""
    STOP = 4
    """No further micro-batch begins: what is committed stays, the batch waits for another run."""


SHARES = {
    DegradationStep.SMALLER_BATCHES: 0.88,
    DegradationStep.TRIM: 0.92,
    DegradationStep.UNLOAD: 0.95,
    DegradationStep.STOP: 0.98,
}
"""Of the limit. With torch in the least budget, 768 MiB, a run peaks at 0.90; with OpenVINO in 500 MiB at 0.76."""


@dataclass(frozen=True, slots=True)
class StepTaken:
    """One step down."""

    step: DegradationStep
    used_bytes: int

    def __str__(self) -> str:
        return f"{self.step.name.lower().replace('_', ' ')} at {format_size(self.used_bytes)}"


class Degradation:
    """Which step a run stands on. It only goes down; a look may skip steps.

    Args:
        limit_bytes: what the run may use; 0 means that nobody counts.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.step = DegradationStep.FREE
        self.steps_taken: list[StepTaken] = []

    def observe(self, used_bytes: int) -> None:
        """Take note of what the tree uses."""
        reached = [
            step for step, share in SHARES.items() if self.limit_bytes and used_bytes >= share * self.limit_bytes
        ]
        if reached and reached[-1] > self.step:
            self._take_step(reached[-1], used_bytes)

    def refused(self, used_bytes: int) -> None:
        """Take note that the kernel refused memory: at once as far down as it goes without stopping."""
        if self.step < DegradationStep.UNLOAD:
            self._take_step(DegradationStep.UNLOAD, used_bytes)

    def allowed_tokens(self, tokens: int) -> int:
        """Return how many padded tokens the next micro-batch may hold, of those that it might at best."""
        return tokens // 2 if self.step >= DegradationStep.SMALLER_BATCHES else tokens

    def after_micro_batch(self, name: str) -> None:
        """Give back what can be given back.

        Raises:
            RunOutOfMemory: the last step; everything so far is committed.
        """
        if self.step >= DegradationStep.TRIM:
            return_free_memory()
        if self.step >= DegradationStep.STOP:
            limit, used = format_size(self.limit_bytes), format_size(self.steps_taken[-1].used_bytes)
            raise RunOutOfMemory(
                f"stopped at {used} of {limit} after a micro-batch of {name}; what is done is kept; "
                "raise INGEST_RUN_MEMORY if it happens again"
            )

    @property
    def unloads(self) -> bool:
        """Whether model and parser are to be dropped between two files."""
        return self.step >= DegradationStep.UNLOAD

    def _take_step(self, step: DegradationStep, used_bytes: int) -> None:
        self.step = step
        self.steps_taken.append(StepTaken(step, used_bytes))
        logger.warning("memory: %s of %s", self.steps_taken[-1], format_size(self.limit_bytes))
