"""Lines in a run's log that say how far a stage is, as the teams read them that this was made for."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)
SHORT_JOB = 200
"""Up to so many items every tenth is a line; of longer jobs every twentieth part."""


class ChunkProgress:
    """Counts the chunks of a batch: `Total chunks: 38`, `Progress: 10/38`, `Stats: 37 processed, 1 rejected`."""

    def __init__(self, stage: str, total: int) -> None:
        self._stage, self._total = stage, total
        self._processed = self._rejected = 0
        self._step = 10 if total <= SHORT_JOB else total // 20
        if total:
            logger.info("[%s] Total chunks: %d", stage, total)

    def add(self, *, processed: int, rejected: int) -> None:
        """Count some more chunks."""
        before = self._processed + self._rejected
        self._processed, self._rejected = self._processed + processed, self._rejected + rejected
        if (before + processed + rejected) // self._step > before // self._step:
            logger.info("[%s] Progress: %d/%d", self._stage, before + processed + rejected, self._total)

    def end(self) -> None:
        """Say what became of them."""
        if self._total:
            logger.info("[%s] Stats: %d processed, %d rejected", self._stage, self._processed, self._rejected)
