"""How far `ingest run` has come."""

from __future__ import annotations

from dataclasses import dataclass

from ingest_pipeline.planning.remaining import WorkState, remaining_seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of the batches."""

    files_done: int
    files: int
    work: WorkState
    done_before: float
    """Tokens of work that an earlier run had done."""
    running: int
    waiting: int
    embedded: int
    seconds: float

    @property
    def eta_seconds(self) -> float | None:
        """Remaining seconds at the pace so far; None before there is one."""
        return remaining_seconds(self.work, done_before=self.done_before, elapsed_seconds=self.seconds)
