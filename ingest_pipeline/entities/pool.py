"""Gives batches of texts to one or two workers, and goes on when a worker ends."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from types import TracebackType
from typing import Self

from ingest_pipeline.entities.model import EntityModel
from ingest_pipeline.entities.parent import Worker, WorkerLost
from ingest_pipeline.errors import EntityModelUnavailable, RunOutOfMemory
from ingest_pipeline.models import StoredChunk, TextEntities
from ingest_pipeline.sizes import format_size

logger = logging.getLogger(__name__)
WORKER_BYTES = 170 * 1024**2
"""Of one worker with an English model of 12 MB at its peak: 167 MiB with chunks of 1,000 characters, 171 with texts of
100,000; 130 of them private (2026-11)."""
BATCH_TEXTS = 8
MAX_ENDS_OF_TEXT = 3
"""Workers that may end at a text: the first with the whole batch, two with this text alone."""
MAX_ENDS_IN_A_ROW = 9
"""Workers that may end without an answer between: three neighbouring texts that no worker survives need eight."""


@dataclass(frozen=True, slots=True)
class _Task:
    chunks: Sequence[StoredChunk]
    ends: int = 0
    """Workers that ended at it."""


class EntityPool:
    """Finds entities with at most `workers` processes, which start when texts come; a context manager.

    Args:
        model: what the workers load.
        workers: at most.
        memory_bytes: what all of them may use; fewer start where it is too little.

    Raises:
        RunOutOfMemory: the memory does not hold one worker.
    """

    def __init__(self, model: EntityModel, *, workers: int, memory_bytes: int) -> None:
        self.workers = min(workers, memory_bytes // WORKER_BYTES)
        """How many may work at once."""
        if self.workers < 1:
            least, left = format_size(WORKER_BYTES), format_size(max(0, memory_bytes))
            raise RunOutOfMemory(f"a worker with {model.key} needs {least}, the run has {left} left; "
                                 "raise INGEST_RUN_MEMORY")  # fmt: skip
        self._model, self._limit_bytes = model, memory_bytes // self.workers
        self._idle: list[Worker] = []
        self._busy: dict[Worker, _Task] = {}
        self._ends_in_a_row = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Of the workers' processes."""
        return [worker.pid for worker in (*self._idle, *self._busy)]

    def find(self, chunks: Sequence[StoredChunk]) -> Iterator[list[TextEntities]]:
        """Yield what is in these chunks, in batches, as the workers finish them.

        Raises:
            EntityModelUnavailable: workers do not start, or end again and again.
        """
        batches = (chunks[start : start + BATCH_TEXTS] for start in range(0, len(chunks), BATCH_TEXTS))
        tasks = deque(_Task(batch) for batch in batches)
        try:
            while tasks or self._busy:
                self._hand_out(tasks)
                for worker in self._ready():
                    yield from self._collect(worker, tasks)
        finally:
            if self._busy:  # the caller gave up: the answers that will come are of no use
                self.close()

    def shrink(self) -> None:
        """Go on with one worker: the run comes near its limit."""
        self.workers = 1
        while len(self._idle) > 1:
            self._idle.pop().close()

    def close(self) -> None:
        """Kill the workers; others start when texts come."""
        for worker in (*self._idle, *self._busy):
            worker.close()
        self._idle, self._busy = [], {}

    def _hand_out(self, tasks: deque[_Task]) -> None:
        while tasks and len(self._busy) < self.workers:
            worker = self._idle.pop() if self._idle else Worker(self._model, memory_limit_bytes=self._limit_bytes)
            self._busy[worker] = task = tasks.popleft()
            with contextlib.suppress(WorkerLost):  # `answer` finds out, too
                worker.ask([chunk.text for chunk in task.chunks])

    def _ready(self) -> list[Worker]:
        """Wait; return the workers that have answered, have ended or have passed their deadlines."""
        seconds = max(0.0, min(worker.deadline for worker in self._busy) - time.monotonic())
        answered = set(wait([worker.fileno() for worker in self._busy], seconds))
        now = time.monotonic()
        return [worker for worker in self._busy if worker.fileno() in answered or worker.deadline <= now]

    def _collect(self, worker: Worker, tasks: deque[_Task]) -> Iterator[list[TextEntities]]:
        task = self._busy.pop(worker)
        try:
            answer = worker.answer()
            if len(answer) != len(task.chunks):
                raise WorkerLost("its answer is of another length")
        except WorkerLost as lost:
            worker.close()
            yield from self._after_end(task, str(lost), tasks)
        else:
            self._idle.append(worker)
            self._ends_in_a_row = 0
            pairs = zip(task.chunks, answer, strict=True)
            yield [TextEntities(chunk.text_hash, found or (), skipped=found is None) for chunk, found in pairs]

    def _after_end(self, task: _Task, how: str, tasks: deque[_Task]) -> Iterator[list[TextEntities]]:
        """Try the texts of a task one at a time; yield the text of a task that has one, and ended too many workers."""
        logger.warning("an entity worker was lost with %d texts: %s", len(task.chunks), how)
        self._ends_in_a_row += 1
        if self._ends_in_a_row >= MAX_ENDS_IN_A_ROW:
            raise EntityModelUnavailable(
                f"{self._ends_in_a_row} workers with {self._model.key} ended without an answer, the last: {how}"
            )
        ends = task.ends + 1
        if len(task.chunks) == 1 and ends >= MAX_ENDS_OF_TEXT:
            [chunk] = task.chunks
            logger.warning("chunk %d of generation %d is skipped: no entity worker survives it",
                           chunk.ordinal, chunk.generation_id)  # fmt: skip
            yield [TextEntities(chunk.text_hash, skipped=True)]
            return
        tasks.extendleft(_Task([chunk], ends) for chunk in reversed(task.chunks))
