"""A batch's chunks get their vectors, in committed micro-batches; then each file is published to readers."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest_pipeline.embedding.base import Embedder
from ingest_pipeline.embedding.batching import MIN_BATCH_TOKENS, batch_tokens, micro_batches
from ingest_pipeline.errors import RunOutOfMemory
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.process import peak_memory_bytes, return_free_memory
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import RawFile, StoredChunk
from ingest_pipeline.stages.run import Attempt, BatchRun, FileOutcome, attempt
from ingest_pipeline.store import generations, ledger, vectors
from ingest_pipeline.store.generations import Generation
from ingest_pipeline.store.ledger import AttemptCost

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)
# Sorted by length and embedded together: 1.01 of the tokens are padding, 1.06 in windows of 16 (docs/findings.md, H7).
# Also what is read at a time: 128 rows grew by 0.7 MB, all by 192 (B6).
WINDOW_CHUNKS = 256


def embed_files(run: BatchRun, *, load_embedder: Callable[[], Embedder], watch: TreeWatch) -> Iterator[FileOutcome]:
    """Embed what has no vector yet and publish each file's new generation; yield an outcome for each.

    The model is loaded when the first text needs it: a batch of known texts never loads it.

    Raises:
        RunOutOfMemory: the run came to its limit; every vector so far is stored.
    """
    stage = _EmbeddingStage(run, load_embedder, watch)
    for window in stage.windows():
        for position, file in enumerate(window):
            with run.claimed(file) as generation:
                yield stage.embed_file(file, generation, ahead=window[position + 1 :])


@dataclass(frozen=True, slots=True)
class _Share:
    """What a file had of the work on a window."""

    chunks: int
    seconds: float
    peak_bytes: int


class _EmbeddingStage:
    """The model while it is loaded, and what it may use.

    The chunks of small files are embedded in windows of several files: with those of the first file that needs vectors
    come those of the files behind it. Vectors belong to texts, so this is only work done early; each file still has an
    attempt and is published by itself.
    """

    def __init__(self, run: BatchRun, load_embedder: Callable[[], Embedder], watch: TreeWatch) -> None:
        self._run, self._load, self._watch = run, load_embedder, watch
        self._embedder: Embedder | None = None
        self._max_batch_tokens = batch_tokens(run.budget, dimension=run.card.dimension)
        self._sizes = generations.processed_sizes(run.connection, run.batch, fingerprint=run.fingerprint)
        self._shares: dict[int, _Share] = {}

    def windows(self) -> Iterator[list[RawFile]]:
        """Yield the processed files in groups that have at most 256 chunks together; a larger file is alone.

        After a run of this batch that did not finish it every file is alone: then a further kill has one cause.
        """
        window: list[RawFile] = []
        room = most = WINDOW_CHUNKS if self._run.runs == 1 else 0
        for file in self._run.files():
            if file.status != "processed":
                continue
            chunks = self._sizes[file.file_id].chunks if file.file_id in self._sizes else WINDOW_CHUNKS
            if window and chunks > room:
                yield window
                window, room = [], most
            window.append(file)
            room -= chunks
        if window:
            yield window

    def embed_file(self, file: RawFile, generation: Generation, *, ahead: Sequence[RawFile]) -> FileOutcome:
        """Embed one file's chunks, with those of the files ahead in its window, and publish it."""
        run, began = self._run, time.monotonic()
        share = self._shares.pop(generation.generation_id, None)
        lacks = bool(vectors.pending_chunks(run.connection, [generation.generation_id], limit=1))
        # Loaded before the attempt: a run that is killed while it loads the model was not killed by a file.
        embedder = self._ready_embedder() if lacks else None
        if share or embedder:
            following = [self._sizes[one.file_id].generation_id for one in ahead if one.file_id in self._sizes]
            share = self._attempt(file, [generation.generation_id, *following], share, embedder)
        published = generations.publish_file(run.connection, file, generation, fingerprint=run.fingerprint)
        if not published:
            logger.info("file %d changed while it was embedded; its vectors stay in use by equal texts", file.file_id)
        return FileOutcome(
            file, done=published, reason=None if published else "moved on", pages=generation.pages,
            chunks=share.chunks if share else 0, seconds=share.seconds if share else time.monotonic() - began,
            peak_memory_bytes=share.peak_bytes if share else 0,
        )  # fmt: skip

    def _attempt(
        self, file: RawFile, generation_ids: Sequence[int], share: _Share | None, embedder: Embedder | None
    ) -> _Share:
        """Embed what a file lacks; return what it had of the work, here or in a window before."""
        done = share or _Share(0, 0.0, 0)
        with attempt(self._run, file, "embeddings") as work:
            if share:
                ledger.add_embedded(self._run.connection, file, run_id=self._run.run_id, chunks=done.chunks)
            if embedder:
                done = self._embed_window(file, generation_ids, embedder, work)
            work.cost = AttemptCost(embed_seconds=done.seconds, embed_peak_bytes=done.peak_bytes)
        return done

    def _embed_window(self, file: RawFile, generation_ids: Sequence[int], embedder: Embedder, work: Attempt) -> _Share:
        """Embed the chunks of some generations, the file's first; return its share, and note those of the others."""
        began, own = time.monotonic(), generation_ids[0]
        embedded: Counter[int] = Counter()
        self._watch.begin()
        try:
            for chunks in self._embed_generations(file, generation_ids, embedder):
                embedded.update(chunk.generation_id for chunk in chunks)
                its_own = sum(chunk.generation_id == own for chunk in chunks)
                ledger.add_embedded(self._run.connection, file, run_id=self._run.run_id, chunks=its_own)
        finally:
            seconds, peak = time.monotonic() - began, self._watch.end()
            work.cost = AttemptCost(embed_seconds=seconds, embed_peak_bytes=peak)
        per_chunk = seconds / max(1, embedded.total())
        self._shares = {number: _Share(chunks, per_chunk * chunks, peak) for number, chunks in embedded.items()}
        return self._shares.pop(own, _Share(0, 0.0, peak))

    def _ready_embedder(self) -> Embedder:
        if self._watch.degradation.unloads:
            self._embedder = None
            return_free_memory()
        if self._embedder is None:
            self._embedder = self._load()
        return self._embedder

    def _embed_generations(
        self, file: RawFile, generation_ids: Sequence[int], embedder: Embedder
    ) -> Iterator[list[StoredChunk]]:
        """Embed every text of some generations that has no vector; yield each window. Micro-batches are committed."""
        run, degradation = self._run, self._watch.degradation
        # A run was killed at this file, or stopped in this batch: something must change.
        most = max(MIN_BATCH_TOKENS, self._max_batch_tokens >> (file.kills + run.failures))
        last: StoredChunk | None = None
        while chunks := vectors.pending_chunks(run.connection, generation_ids, after=last, limit=WINDOW_CHUNKS):
            for group in micro_batches(chunks, max_batch_tokens=most):
                for part in micro_batches(group, max_batch_tokens=degradation.allowed_tokens(most)):
                    texts = [chunk.text for chunk in part]
                    new = embed_within_memory(embedder, texts, degradation)
                    vectors.write_vectors(run.connection, run.model_id, part, new)
                    degradation.after_micro_batch(file.name)
            yield chunks
            last = chunks[-1]


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
