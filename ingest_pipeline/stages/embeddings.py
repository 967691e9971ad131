"""A batch's chunks get their vectors, in committed micro-batches; then each file is shown to readers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ingest_pipeline.embedding.batching import MIN_BATCH_TOKENS, micro_batches
from ingest_pipeline.embedding.engines import Embedder
from ingest_pipeline.errors import RunOutOfMemory
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.process import peak_memory_bytes, return_free_memory
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import RawFile
from ingest_pipeline.stages.chunks import BatchRun, FileOutcome
from ingest_pipeline.stages.fingerprint import generation_fingerprint
from ingest_pipeline.store import generations, ledger, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.generations import Generation

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)
READ_CHUNKS = 128  # keyset reads of 128 rows grew by 0.7 MB, fetching all by 192 (FINDINGS B)


def embed_files(
    connection: Connection,
    files: Sequence[RawFile],
    run: BatchRun,
    *,
    load_embedder: Callable[[], Embedder],
    max_batch_tokens: int,
    watch: TreeWatch,
) -> Iterator[FileOutcome]:
    """Embed what has no vector yet and flip each file to its new generation; yield an outcome for each.

    The model is loaded when the first text needs it: a batch of known texts never loads it.

    Raises:
        RunOutOfMemory: the run came to its limit; every vector so far is stored.
    """
    embedder: Embedder | None = None
    for file in files:
        if file.status != "processed":
            continue
        fingerprint = generation_fingerprint(run.fingerprint, file.media_type)
        with generations.claimed_generation(connection, file, fingerprint=fingerprint, model_id=run.model_id) as generation:
            if watch.degradation.unloads:
                embedder = None
                return_free_memory()
            if embedder is None and generations.missing_vectors(connection, generation.generation_id, run.model_id):
                embedder = load_embedder()
            # A run died at this file, or stopped in this batch: something must change.
            tokens = max(MIN_BATCH_TOKENS, max_batch_tokens >> (file.kills + run.failures))
            yield _embed_file(connection, file, run, generation, embedder, tokens, watch)


def _embed_file(
    connection: Connection,
    file: RawFile,
    run: BatchRun,
    generation: Generation,
    embedder: Embedder | None,
    max_batch_tokens: int,
    watch: TreeWatch,
) -> FileOutcome:
    began, embedded, peak = time.monotonic(), 0, 0
    if embedder is not None and vectors.pending_chunks(connection, generation.generation_id, run.model_id, limit=1):
        watch.begin()
        ledger.open_attempt(connection, file, batch=run.batch, run_id=run.run_id, stage="embeddings")
        try:
            for chunks in _embed_generation(connection, generation, run, embedder, max_batch_tokens, watch.degradation):
                ledger.add_embedded(connection, file, run_id=run.run_id, chunks=chunks)
                embedded += chunks
        except RunOutOfMemory as error:
            cost = ledger.AttemptCost(embed_seconds=time.monotonic() - began, embed_peak_bytes=watch.end())
            ledger.close_attempt(connection, file, run_id=run.run_id, cost=cost, error=error)
            raise
        peak = watch.end()
        cost = ledger.AttemptCost(embed_seconds=time.monotonic() - began, embed_peak_bytes=peak)
        ledger.close_attempt(connection, file, run_id=run.run_id, cost=cost)
    shown = generations.publish_file(connection, file, generation, fingerprint=run.fingerprint)
    if not shown:
        logger.info("file %d moved on while it was embedded; its vectors stay for whoever needs them", file.file_id)
    return FileOutcome(
        file, done=shown, reason=None if shown else "moved on", pages=generation.pages, chunks=embedded,
        seconds=time.monotonic() - began, peak_memory_bytes=peak,
    )  # fmt: skip


def _embed_generation(
    connection: Connection,
    generation: Generation,
    run: BatchRun,
    embedder: Embedder,
    max_batch_tokens: int,
    degradation: Degradation,
) -> Iterator[int]:
    """Embed every text of a generation that has no vector; yield how many so far. Each micro-batch is committed."""
    after = -1
    while True:
        chunks = vectors.pending_chunks(
            connection, generation.generation_id, run.model_id, after=after, limit=READ_CHUNKS
        )
        if not chunks:
            return
        for group in micro_batches(chunks, max_batch_tokens=max_batch_tokens):
            for part in micro_batches(group, max_batch_tokens=degradation.allowed_tokens(max_batch_tokens)):
                texts = [chunk.text for chunk in part]
                vectors.write_vectors(connection, run.model_id, part, embed_within_memory(embedder, texts, degradation))
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
