"""Degradation steps: what a run gives up before it reaches its memory limit."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import IntEnum

from ingest_pipeline.errors import RunOutOfMemory
from ingest_pipeline.memory.process import return_free_memory
from ingest_pipeline.sizes import format_size

logger = logging.getLogger(__name__)


class DegradationStep(IntEnum):
    """The degradation steps; each includes the ones before it."""

    FREE = 0
    SMALLER_BATCHES = 1
    """Micro-batches of half the tokens."""
    TRIM = 2
    """Freed memory is returned to the kernel after each micro-batch and each file."""
    UNLOAD = 3
    """The model is unloaded and the parser's child is ended after each file."""
    STOP = 4
    """No further micro-batch begins; what is committed stays, and the batch waits for another run."""


SHARES = {
    DegradationStep.SMALLER_BATCHES: 0.88,
    DegradationStep.TRIM: 0.92,
    DegradationStep.UNLOAD: 0.95,
    DegradationStep.STOP: 0.98,
}
"""Share of the limit at which each step is taken. A run with torch in the smallest budget, 768 MiB, peaks at 0.88-0.90,
with OpenVINO in 500 MiB at 0.76 (docs/findings.md, G9)."""


@dataclass(frozen=True, slots=True)
class StepTaken:
    """A step that a run has taken, and its memory use at that moment."""

    step: DegradationStep
    used_bytes: int

    def __str__(self) -> str:
        return f"{self.step.name.lower().replace('_', ' ')} at {format_size(self.used_bytes)}"


class Degradation:
    """The degradation step of a run. A run never goes back a step; one observation may skip steps.

    Args:
        limit_bytes: the memory budget of the run; 0 means no limit.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.step = DegradationStep.FREE
        self.steps_taken: list[StepTaken] = []

    def observe(self, used_bytes: int) -> None:
        """Take the step that the memory use of the process tree requires."""
        # Never back to an earlier step: malloc keeps most of what torch frees (docs/findings.md, G5).
        reached = [
            step for step, share in SHARES.items() if self.limit_bytes and used_bytes >= share * self.limit_bytes
        ]
        if reached and reached[-1] > self.step:
            self._take_step(reached[-1], used_bytes)

    def refused(self, used_bytes: int) -> None:
        """Take the last step before STOP, because an allocation failed."""
        if self.step < DegradationStep.UNLOAD:
            self._take_step(DegradationStep.UNLOAD, used_bytes)

    def allowed_tokens(self, tokens: int) -> int:
        """Return how many padded tokens the next micro-batch may have, given the most without degradation."""
        return tokens // 2 if self.step >= DegradationStep.SMALLER_BATCHES else tokens

    def after_micro_batch(self, name: str) -> None:
        """Return freed memory to the kernel if the step requires it.

        Raises:
            RunOutOfMemory: the last step is reached; everything so far is committed.
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
        """Whether the model and the parser's child are to be unloaded after each file."""
        return self.step >= DegradationStep.UNLOAD

    def _take_step(self, step: DegradationStep, used_bytes: int) -> None:
        self.step = step
        self.steps_taken.append(StepTaken(step, used_bytes))
        logger.warning("memory: %s of %s", self.steps_taken[-1], format_size(self.limit_bytes))
