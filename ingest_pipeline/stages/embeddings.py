"""A batch's chunks get their vectors, in committed pieces; then each file is published to readers."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ingest_pipeline.embedding.base import Embedder
from ingest_pipeline.engines import ENGINES
from ingest_pipeline.errors import FileError, TokenLimitReached, TooManyRejected
from ingest_pipeline.memory.log_lines import EVERY, log_memory
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import RawFile, StoredChunk
from ingest_pipeline.stages.making import Made, Maker, ModelMaker, ServerMaker
from ingest_pipeline.stages.progress_log import ChunkProgress
from ingest_pipeline.stages.run import Attempt, BatchRun, FileOutcome, attempt, record_failure
from ingest_pipeline.store import generations, ledger, usage, vectors
from ingest_pipeline.store.generations import Generation
from ingest_pipeline.store.ledger import AttemptCost

logger = logging.getLogger(__name__)
# Sorted by length and embedded together: 1.01 of the tokens are padding, 1.06 in windows of 16 (docs/findings.md, H7).
# Also what is read at a time: 128 rows grew by 0.7 MB, all by 192 (B6).
WINDOW_CHUNKS = 256
STAGE = "embeddings"


def embed_files(run: BatchRun, *, load_embedder: Callable[[], Embedder], watch: TreeWatch) -> Iterator[FileOutcome]:
    """Embed what waits for a vector and publish each file's new generation; yield an outcome for each.

    The model is loaded when the first text needs it: a batch of known texts never loads it, nor does a run that makes
    vectors on demand.

    Raises:
        RunOutOfMemory: the run came to its limit; every vector so far is stored.
        ServiceUnavailable, TokenLimitReached: the server cannot be used, or not for more; likewise.
    """
    stage = _EmbeddingStage(run, load_embedder, watch)
    try:
        for window in stage.windows():
            for position, file in enumerate(window):
                yield stage.embed_file(file, ahead=window[position + 1 :])
    finally:
        stage.progress.end()


def maker_for(run: BatchRun, load_embedder: Callable[[], Embedder], watch: TreeWatch) -> Maker:
    """Return what makes the run's vectors: a model in this process or a server."""
    if ENGINES[run.budget.engine].server:
        return ServerMaker(run, load_embedder, watch.degradation)  # type: ignore[arg-type]
    return ModelMaker(run, load_embedder, watch.degradation)


def store_made(run: BatchRun, made: Made) -> None:
    """Store vectors, or the rejection of a text; committed."""
    if made.rejected:
        vectors.reject_texts(run.connection, run.model_id, made.rejected)
    else:
        vectors.write_vectors(run.connection, run.model_id, made.chunks, made.vectors)


@dataclass(frozen=True, slots=True)
class _Share:
    """What a file had of the work on a window."""

    chunks: int
    seconds: float
    peak_bytes: int


class _EmbeddingStage:
    """What makes vectors, and what each file had of the work.

    The chunks of small files are embedded in windows of several files: with those of the first file that needs vectors
    come those of the files behind it. Vectors belong to texts, so this is only work done early; each file still has an
    attempt and is published by itself.
    """

    def __init__(self, run: BatchRun, load_embedder: Callable[[], Embedder], watch: TreeWatch) -> None:
        self._run, self._watch = run, watch
        self._maker = maker_for(run, load_embedder, watch)
        self._sizes = generations.processed_sizes(run.connection, run.batch)
        self._shares: dict[int, _Share] = {}
        self._pieces = 0
        self._tokens = usage.tokens_of_run(run.connection, run.run_id)
        if isinstance(self._maker, ServerMaker):
            self._maker.before_call = self._require_tokens
        waiting = [size.generation_id for size in self._sizes.values()]
        self.progress = ChunkProgress(STAGE, vectors.waiting_texts(run.connection, run.model_id, waiting))

    def windows(self) -> Iterator[list[RawFile]]:
        """Yield the processed files in groups that have at most 256 chunks together; a larger file is alone.

        After a run of this batch that did not finish it every file is alone: then a further kill has one cause.
        """
        window: list[RawFile] = []
        room = most = WINDOW_CHUNKS if self._run.runs == 1 else 0
        for file in self._run.files():
            if file.status != "processed" or file.file_id not in self._sizes:
                continue
            chunks = self._sizes[file.file_id].chunks
            if window and chunks > room:
                yield window
                window, room = [], most
            window.append(file)
            room -= chunks
        if window:
            yield window

    def embed_file(self, file: RawFile, *, ahead: Sequence[RawFile]) -> FileOutcome:
        """Embed one file's chunks, with those of the files ahead in its window, and publish it."""
        run, began = self._run, time.monotonic()
        with generations.held_generation(run.connection, self._sizes[file.file_id].generation_id) as generation:
            try:
                share = self._embedded(file, generation, ahead)
            except FileError as error:
                record_failure(run, file, error)
                return FileOutcome(file, done=False, reason=error.reason, pages=generation.pages)
            published = generations.publish_file(
                run.connection, file, generation, fingerprint=run.fingerprint, model=run.model_id
            )
        if not published:
            logger.info("file %d changed while it was embedded; its vectors stay in use by equal texts", file.file_id)
        return FileOutcome(
            file, done=published, reason=None if published else "moved on", pages=generation.pages,
            chunks=share.chunks if share else 0, seconds=share.seconds if share else time.monotonic() - began,
            peak_memory_bytes=share.peak_bytes if share else 0,
        )  # fmt: skip

    def _embedded(self, file: RawFile, generation: Generation, ahead: Sequence[RawFile]) -> _Share | None:
        """Embed what a file lacks, if anything; return what it had of the work, here or in a window before.

        Raises:
            TooManyRejected: the embedder rejected too many of its chunks; their neighbours' vectors are stored.
        """
        run, number = self._run, generation.generation_id
        if run.settings.embed == "on-demand":
            vectors.defer_texts(run.connection, run.model_id, number)
        share = self._shares.pop(number, None)
        waits = bool(vectors.pending_chunks(run.connection, run.model_id, [number], limit=1))
        if waits:
            # Loaded before the attempt: a run that is killed while it loads the model was not killed by a file.
            self._maker.loaded()
        if share or waits:
            following = [self._sizes[one.file_id].generation_id for one in ahead]
            with attempt(run, file, STAGE) as work:
                share = self._share_of(file, [number, *following], share, work, waits=waits)
        self._require_few_rejected(file, number)
        return share

    def _share_of(
        self, file: RawFile, generation_ids: Sequence[int], share: _Share | None, work: Attempt, *, waits: bool
    ) -> _Share:
        done = share or _Share(0, 0.0, 0)
        if share:
            ledger.add_embedded(self._run.connection, file, run_id=self._run.run_id, chunks=done.chunks)
        if waits:
            done = self._embed_window(file, generation_ids, work)
        work.cost = AttemptCost(embed_seconds=done.seconds, embed_peak_bytes=done.peak_bytes)
        return done

    def _embed_window(self, file: RawFile, generation_ids: Sequence[int], work: Attempt) -> _Share:
        """Embed the chunks of some generations, the file's first; return its share, and note those of the others."""
        began, own = time.monotonic(), generation_ids[0]
        embedded: Counter[int] = Counter()
        self._watch.begin()
        try:
            for made in self._made(file, generation_ids):
                embedded.update(chunk.generation_id for chunk in made.chunks)
                its_own = sum(chunk.generation_id == own for chunk in made.chunks)
                ledger.add_embedded(self._run.connection, file, run_id=self._run.run_id, chunks=its_own)
                if made.rejected:
                    self._require_few_rejected(file, own)
        finally:
            self._count_usage(file)
            seconds, peak = time.monotonic() - began, self._watch.end()
            work.cost = AttemptCost(embed_seconds=seconds, embed_peak_bytes=peak)
        per_chunk = seconds / max(1, embedded.total())
        self._shares = {number: _Share(chunks, per_chunk * chunks, peak) for number, chunks in embedded.items()}
        return self._shares.pop(own, _Share(0, 0.0, peak))

    def _made(self, file: RawFile, generation_ids: Sequence[int]) -> Iterator[Made]:
        """Make and store vectors for every text of some generations that waits; yield each piece, committed."""
        run, last = self._run, None
        while chunks := self._pending(generation_ids, after=last):
            self._note_page(generation_ids[0], chunks)
            for made in self._maker.made(file, chunks):
                store_made(run, made)
                self._count_usage(file)
                self.progress.add(processed=len(made.chunks) - len(made.rejected), rejected=len(made.rejected))
                self._log_memory(file)
                yield made
            last = chunks[-1]

    def _note_page(self, generation_id: int, chunks: Sequence[StoredChunk]) -> None:
        """Note how far the file had come before these chunks, for the record of the run's memory."""
        own = [chunk.ordinal for chunk in chunks if chunk.generation_id == generation_id]
        if own:
            self._run.position.page = generations.page_of(self._run.connection, generation_id, min(own) - 1)

    def _log_memory(self, file: RawFile) -> None:
        self._pieces += 1
        if self._pieces % EVERY == 0:
            operation = f"{STAGE} of file {file.file_id}, micro-batch {self._pieces}"
            log_memory(operation, limit_bytes=self._run.settings.run_memory, level=logging.DEBUG)

    def _pending(self, generation_ids: Sequence[int], *, after: StoredChunk | None) -> list[StoredChunk]:
        run = self._run
        return vectors.pending_chunks(run.connection, run.model_id, generation_ids, after=after, limit=WINDOW_CHUNKS)

    def _count_usage(self, file: RawFile) -> None:
        """Write down what calls have cost since the last time, also failed ones."""
        used, run = self._maker.take_usage(), self._run
        self._tokens += used.tokens
        usage.add_usage(run.connection, used, run_id=run.run_id, file_id=file.file_id, stage=STAGE, model=run.card.name)

    def _require_tokens(self) -> None:
        most = self._run.settings.max_tokens_per_run
        if most and self._tokens >= most:
            raise TokenLimitReached(f"{self._tokens:,} tokens used; INGEST_MAX_TOKENS_PER_RUN={most}; the rest waits")

    def _require_few_rejected(self, file: RawFile, generation_id: int) -> None:
        run, most = self._run, self._run.settings.max_rejected
        if not ENGINES[run.budget.engine].server:
            return
        rejected = vectors.rejected_count(run.connection, run.model_id, generation_id)
        if rejected >= most:
            reason = vectors.rejection_reason(run.connection, run.model_id, generation_id)
            raise TooManyRejected(f"{file.name}: the embedder rejected {rejected} chunks; the last: {reason}")
