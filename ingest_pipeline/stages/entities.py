"""The texts of a batch's chunks are read by a model that finds named entities, in committed batches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest_pipeline.memory.degradation import DegradationStep
from ingest_pipeline.memory.process import return_free_memory
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import TextEntities
from ingest_pipeline.stages.run import BatchRun
from ingest_pipeline.store import entities

if TYPE_CHECKING:
    from ingest_pipeline.entities.model import EntityModel
    from ingest_pipeline.entities.pool import EntityPool

PAGE_CHUNKS = 256  # read at a time: 32 batches, then workers wait for the slowest of them


@dataclass(slots=True)
class EntityWork:
    """What a run read, and what it found."""

    model: str
    workers: int = 0
    """How many could work at once; 0 if no text waited."""
    texts: int = 0
    skipped: int = 0
    """Of them: in another language than the model's, or no worker survived them."""
    entities: int = 0
    seconds: float = 0.0

    def add(self, texts: list[TextEntities]) -> None:
        """Count one more batch."""
        self.texts += len(texts)
        self.skipped += sum(text.skipped for text in texts)
        self.entities += sum(len(text.entities) for text in texts)


def extract_entities(run: BatchRun, model: EntityModel, *, watch: TreeWatch) -> EntityWork:
    """Find the entities of each text of the batch's chunks that the model has not read yet.

    No worker starts if there is none. Files that are not parsed yet are left out.

    Raises:
        RunOutOfMemory: the memory beside this process does not hold a worker, or the run came to its limit.
        EntityModelUnavailable: workers do not start, or end again and again.
    """
    began, work = time.monotonic(), EntityWork(model.key)
    wanted = entities.batch_generations(run.connection, run.batch)
    if entities.pending_texts(run.connection, model.key, wanted, limit=1):
        with _open_pool(run, model, watch) as pool:
            work.workers = pool.workers
            for texts in _read_texts(run, model, wanted, pool):
                entities.write_entities(run.connection, model.key, texts)
                work.add(texts)
                _spare_memory(run, pool, watch)
    work.seconds = time.monotonic() - began
    return work


def _open_pool(run: BatchRun, model: EntityModel, watch: TreeWatch) -> EntityPool:
    """Return a pool with the memory that the run has left beside this process."""
    from ingest_pipeline.entities.pool import EntityPool  # a run without entities imports none of it

    return_free_memory()  # of the embedder, which is not loaded any more
    watch.begin()
    left = run.settings.run_memory - watch.end()
    return EntityPool(model, workers=run.settings.entity_workers, memory_bytes=left)


def _read_texts(
    run: BatchRun, model: EntityModel, generation_ids: list[int], pool: EntityPool
) -> Iterator[list[TextEntities]]:
    last = None
    while chunks := entities.pending_texts(run.connection, model.key, generation_ids, after=last, limit=PAGE_CHUNKS):
        yield from pool.find(chunks)
        last = chunks[-1]


def _spare_memory(run: BatchRun, pool: EntityPool, watch: TreeWatch) -> None:
    if watch.degradation.step >= DegradationStep.SMALLER_BATCHES:
        pool.shrink()
    watch.degradation.after_micro_batch(f"texts of batch {run.batch}")
