"""Vectors are made, by a model in this process or by a server; the caller stores them piece by piece."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ingest_pipeline.embedding.base import Embedder, ServerEmbedder
from ingest_pipeline.embedding.batching import MIN_BATCH_TOKENS, batch_tokens, calls_of, micro_batches
from ingest_pipeline.errors import AccessRefused, CallFailed, InputRejected, RunOutOfMemory
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.process import peak_memory_bytes, return_free_memory
from ingest_pipeline.models import RawFile, StoredChunk, Usage
from ingest_pipeline.remote.slots import answers_in_slots
from ingest_pipeline.stages.run import BatchRun

if TYPE_CHECKING:
    import numpy as np

logger = logging.getLogger(__name__)
CALL_TEXTS = 32
"""Texts in a call of a server: of 1,536 dimensions 0.5 MiB of numbers as text."""
PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Made:
    """Vectors of some chunks, and the chunks that the embedder rejected, with its reason."""

    chunks: Sequence[StoredChunk]
    vectors: Sequence[np.ndarray] | np.ndarray = ()
    rejected: Sequence[tuple[StoredChunk, str]] = ()


class Maker(Protocol):
    """Makes vectors; loaded when the first chunk needs one."""

    def made(self, file: RawFile, chunks: Sequence[StoredChunk]) -> Iterator[Made]:
        """Yield the vectors of some chunks of a file, piece by piece; each piece is stored before the next is made."""

    def take_usage(self) -> Usage:
        """Return what calls cost since this was last asked."""

    def loaded(self) -> object:
        """Load the model, or connect to the server, if that is not done yet."""


class ModelMaker:
    """A model in this process: micro-batches within the memory that is left."""

    def __init__(self, run: BatchRun, load: Callable[[], Embedder], degradation: Degradation) -> None:
        self._run, self._load, self._degradation = run, load, degradation
        self._max_batch_tokens = batch_tokens(run.budget, dimension=run.card.dimension)
        self._embedder: Embedder | None = None

    def made(self, file: RawFile, chunks: Sequence[StoredChunk]) -> Iterator[Made]:
        """Yield the vectors of each micro-batch.

        Raises:
            RunOutOfMemory: the run came to its limit.
        """
        run, degradation = self._run, self._degradation
        # A run was killed at this file, or stopped in this batch: something must change.
        most = max(MIN_BATCH_TOKENS, self._max_batch_tokens >> (file.kills + run.failures))
        special = 2 + len(run.settings.passage_prefix.encode())  # no text has more tokens than bytes
        size = {"max_texts": run.settings.embed_batch, "special_tokens": special}
        for group in micro_batches(chunks, max_batch_tokens=most, **size):
            for part in micro_batches(group, max_batch_tokens=degradation.allowed_tokens(most), special_tokens=special):
                vectors = embed_within_memory(self.loaded(), [chunk.text for chunk in part], degradation)
                yield Made(part, vectors)
                degradation.after_micro_batch(file.name)

    def take_usage(self) -> Usage:
        """Return nothing: no server is called."""
        return Usage()

    def loaded(self) -> Embedder:
        """Return the model; it is loaded again if memory had to be given back."""
        if self._embedder is not None and self._degradation.unloads:
            self._embedder = None
            return_free_memory()
        if self._embedder is None:
            self._embedder = self._load()
        return self._embedder


@dataclass(slots=True)
class ServerMaker:
    """A server: calls of some texts each, a few at once; a call that it refuses is divided into its texts."""

    run: BatchRun
    connect: Callable[[], ServerEmbedder]
    degradation: Degradation
    before_call: Callable[[], None] = lambda: None
    """Called before each call; raises if there must be no more."""
    _embedder: ServerEmbedder | None = field(default=None, init=False)
    _answers: bool = field(default=False, init=False)
    """Whether it has embedded the probe."""

    def made(self, file: RawFile, chunks: Sequence[StoredChunk]) -> Iterator[Made]:
        """Yield the vectors of each call as it is answered.

        Raises:
            ServiceUnavailable: the server cannot be used; what was yielded is stored.
            RunOutOfMemory: the run came to its limit.
        """
        settings, most = self.run.settings, self.run.budget.footprint.max_batch_tokens
        calls = deque(calls_of(chunks, max_tokens=most, max_texts=settings.embed_batch or CALL_TEXTS))
        self.loaded()
        while calls:
            for made in answers_in_slots(self._ask, self._taken(calls), slots=settings.embedder_concurrency):
                if not made.vectors and not made.rejected:
                    calls.extend([chunk] for chunk in made.chunks)  # each text alone
                    continue
                yield made
                self.degradation.after_micro_batch(file.name)

    def take_usage(self) -> Usage:
        """Return what calls cost since this was last asked."""
        return self._embedder.take_usage() if self._embedder else Usage()

    def loaded(self) -> ServerEmbedder:
        """Return the connection."""
        if self._embedder is None:
            self._embedder = self.connect()
        return self._embedder

    def _ask(self, chunks: Sequence[StoredChunk]) -> Made:
        """Return the vectors of one call, or nothing if its texts must be asked for alone."""
        texts = [chunk.text for chunk in chunks]
        try:
            return Made(chunks, list(self.loaded().embed(texts)))
        except (InputRejected, CallFailed) as error:
            if len(chunks) > 1:
                return Made(chunks)
            return self._alone(chunks[0], error)

    def _alone(self, chunk: StoredChunk, error: InputRejected | CallFailed) -> Made:
        """Return what became of a text that failed alone: it is to blame only if the server answers to another."""
        if isinstance(error, InputRejected):
            if not self._answers:
                self._require_answers()
            return Made([chunk], rejected=[(chunk, str(error))])
        self._require_answers()
        try:
            return Made([chunk], list(self.loaded().embed([chunk.text])))
        except (InputRejected, CallFailed) as again:
            return Made([chunk], rejected=[(chunk, str(again))])

    def _require_answers(self) -> None:
        """Make sure that the server embeds another text now.

        Raises:
            AccessRefused: it refuses that one, too: an unknown model, dimensions that it does not make.
        """
        try:
            self.loaded().embed([PROBE])
        except InputRejected as every:
            raise AccessRefused(f"the embedder refuses every text: {every}") from None
        self._answers = True

    def _taken(self, calls: deque[list[StoredChunk]]) -> Iterator[list[StoredChunk]]:
        while calls:
            self.before_call()
            yield calls.popleft()


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
