"""A batch's chunks get their vectors, in committed micro-batches; then each file is published to readers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ingest_pipeline.embedding.base import Embedder
from ingest_pipeline.embedding.batching import MIN_BATCH_TOKENS, batch_tokens, micro_batches
from ingest_pipeline.errors import RunOutOfMemory
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.process import peak_memory_bytes, return_free_memory
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import RawFile
from ingest_pipeline.stages.run import BatchRun, FileOutcome, attempt
from ingest_pipeline.store import generations, ledger, vectors
from ingest_pipeline.store.generations import Generation
from ingest_pipeline.store.ledger import AttemptCost

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)
READ_CHUNKS = 128  # keyset reads of 128 rows grew by 0.7 MB, fetching all by 192 (docs/findings.md, B)


def embed_files(run: BatchRun, *, load_embedder: Callable[[], Embedder], watch: TreeWatch) -> Iterator[FileOutcome]:
    """Embed what has no vector yet and publish each file's new generation; yield an outcome for each.

    The model is loaded when the first text needs it: a batch of known texts never loads it.

    Raises:
        RunOutOfMemory: the run came to its limit; every vector so far is stored.
    """
    stage = _EmbeddingStage(run, load_embedder, watch)
    for file in run.files():
        if file.status == "processed":
            with run.claimed(file) as generation:
                yield stage.embed_file(file, generation)


class _EmbeddingStage:
    """The model while it is loaded, and what it may use."""

    def __init__(self, run: BatchRun, load_embedder: Callable[[], Embedder], watch: TreeWatch) -> None:
        self._run, self._load, self._watch = run, load_embedder, watch
        self._embedder: Embedder | None = None
        self._max_batch_tokens = batch_tokens(run.budget, dimension=run.card.dimension)

    def embed_file(self, file: RawFile, generation: Generation) -> FileOutcome:
        """Embed one file's chunks and publish it."""
        run, began = self._run, time.monotonic()
        embedded = peak = 0
        if vectors.pending_chunks(run.connection, generation.generation_id, limit=1):
            embedded, peak = self._attempt(file, generation)
        published = generations.publish_file(run.connection, file, generation, fingerprint=run.fingerprint)
        if not published:
            logger.info("file %d changed while it was embedded; its vectors stay in use by equal texts", file.file_id)
        return FileOutcome(
            file, done=published, reason=None if published else "moved on", pages=generation.pages, chunks=embedded,
            seconds=time.monotonic() - began, peak_memory_bytes=peak,
        )  # fmt: skip

    def _attempt(self, file: RawFile, generation: Generation) -> tuple[int, int]:
        """Embed what is missing; return the number of chunks and the peak in bytes."""
        embedded, began = 0, time.monotonic()
        embedder = self._ready_embedder()
        self._watch.begin()
        with attempt(self._run, file, "embeddings") as work:
            try:
                for chunks in self._embed_generation(file, generation, embedder):
                    ledger.add_embedded(self._run.connection, file, run_id=self._run.run_id, chunks=chunks)
                    embedded += chunks
            finally:
                work.cost = AttemptCost(embed_seconds=time.monotonic() - began, embed_peak_bytes=self._watch.end())
        return embedded, work.cost.embed_peak_bytes or 0

    def _ready_embedder(self) -> Embedder:
        if self._watch.degradation.unloads:
            self._embedder = None
            return_free_memory()
        if self._embedder is None:
            self._embedder = self._load()
        return self._embedder

    def _embed_generation(self, file: RawFile, generation: Generation, embedder: Embedder) -> Iterator[int]:
        """Embed every text of a generation that has no vector; yield how many so far. Each micro-batch is committed."""
        run, degradation, after = self._run, self._watch.degradation, -1
        # A run was killed at this file, or stopped in this batch: something must change.
        most = max(MIN_BATCH_TOKENS, self._max_batch_tokens >> (file.kills + run.failures))
        while chunks := vectors.pending_chunks(
            run.connection, generation.generation_id, after=after, limit=READ_CHUNKS
        ):
            for group in micro_batches(chunks, max_batch_tokens=most):
                for part in micro_batches(group, max_batch_tokens=degradation.allowed_tokens(most)):
                    texts = [chunk.text for chunk in part]
                    new = embed_within_memory(embedder, texts, degradation)
                    vectors.write_vectors(run.connection, run.model_id, part, new)
                    degradation.after_micro_batch(f"generation {generation.generation_id}")
            yield len(chunks)
            after = max(chunk.ordinal for chunk in chunks)


def embed_within_memory(embedder: Embedder, texts: Sequence[str], degradation: Degradation) -> np.ndarray:
    """Return one vector per text; where the kernel refuses memory, in halves, down to one text at a time.

    Raises:
        RunOutOfMemory: not even one text went through.
    """
    import numpy as np

    try:
        return embedder.embed(texts)
    except (MemoryError, RuntimeError) as error:  # torch and OpenVINO raise RuntimeError for what malloc refused
        if not _is_out_of_memory(error):
            raise
        degradation.refused(peak_memory_bytes())
    return_free_memory()
    if len(texts) == 1:
        raise RunOutOfMemory("the kernel refused memory for a single text; raise INGEST_RUN_MEMORY")
    middle = len(texts) // 2
    halves = [embed_within_memory(embedder, part, degradation) for part in (texts[:middle], texts[middle:])]
    return np.concatenate(halves)


def _is_out_of_memory(error: Exception) -> bool:
    words = str(error).lower()
    return isinstance(error, MemoryError) or "memory" in words or "bad_alloc" in words
