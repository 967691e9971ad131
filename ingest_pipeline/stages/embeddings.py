"""A batch's chunks get their vectors, in committed micro-batches; then each file is shown to readers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from ingest_pipeline.embedding.batching import micro_batches
from ingest_pipeline.embedding.engines import Embedder
from ingest_pipeline.memory.process import PeakMeter
from ingest_pipeline.models import RawFile
from ingest_pipeline.stages.chunks import BatchRun, FileOutcome
from ingest_pipeline.stages.recipe import generation_recipe
from ingest_pipeline.store import generations, ledger, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.generations import Generation

logger = logging.getLogger(__name__)
READ_CHUNKS = 128  # keyset reads of 128 rows grew by 0.7 MB, fetching all by 192 (FINDINGS B)


def embed_files(
    connection: Connection,
    files: Sequence[RawFile],
    run: BatchRun,
    *,
    load_embedder: Callable[[], Embedder],
    max_batch_tokens: int,
    meter: PeakMeter,
) -> Iterator[FileOutcome]:
    """Embed what has no vector yet and flip each file to its new generation; yield an outcome for each.

    The model is loaded when the first text needs it: a batch of known texts never loads it.
    """
    embedder: Embedder | None = None
    for file in files:
        if file.status != "processed":
            continue
        recipe = generation_recipe(run.recipe, file.media_type)
        with generations.claimed_generation(connection, file, recipe=recipe, model_id=run.model_id) as generation:
            if embedder is None and generations.missing_vectors(connection, generation.generation_id, run.model_id):
                embedder = load_embedder()
            yield _embed_file(connection, file, run, generation, embedder, max_batch_tokens, meter)


def _embed_file(
    connection: Connection,
    file: RawFile,
    run: BatchRun,
    generation: Generation,
    embedder: Embedder | None,
    max_batch_tokens: int,
    meter: PeakMeter,
) -> FileOutcome:
    began, embedded, peak = time.monotonic(), 0, 0
    if embedder is not None and vectors.pending_chunks(connection, generation.generation_id, run.model_id, limit=1):
        meter.begin()
        ledger.open_attempt(connection, file, batch=run.batch, run_id=run.run_id, stage="embeddings")
        for chunks in _embed_generation(connection, generation, run, embedder, max_batch_tokens):
            ledger.add_embedded(connection, file, run_id=run.run_id, chunks=chunks)
            embedded += chunks
        peak = meter.end()
        cost = ledger.AttemptCost(embed_seconds=time.monotonic() - began, embed_peak_bytes=peak)
        ledger.close_attempt(connection, file, run_id=run.run_id, cost=cost)
    shown = generations.flip_file(connection, file, generation, recipe=run.recipe)
    if not shown:
        logger.info("file %d moved on while it was embedded; its vectors stay for whoever needs them", file.file_id)
    return FileOutcome(
        file, done=shown, reason=None if shown else "moved on", pages=generation.pages, chunks=embedded,
        seconds=time.monotonic() - began, peak_memory_bytes=peak,
    )  # fmt: skip


def _embed_generation(
    connection: Connection, generation: Generation, run: BatchRun, embedder: Embedder, max_batch_tokens: int
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
            vectors.write_vectors(connection, run.model_id, group, embedder.embed([chunk.text for chunk in group]))
        yield len(chunks)
        after = max(chunk.ordinal for chunk in chunks)
