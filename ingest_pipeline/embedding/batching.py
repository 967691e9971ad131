"""Makes micro-batches: as many texts together as the activations of their padded tokens allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.models import StoredChunk

MIN_BATCH_TOKENS = 256  # one chunk of the packaged model
ACTIVATION_SHARE = 0.5  # half of the free memory; the allocator needs the other half for fragments that it keeps


def batch_tokens(budget: RunBudget, *, dimension: int) -> int:
    """Return how many padded tokens a micro-batch may have so that its activations stay within their share."""
    affordable = int(budget.activation_bytes * ACTIVATION_SHARE) // (budget.footprint.bytes_per_token * dimension)
    return max(MIN_BATCH_TOKENS, min(budget.footprint.max_batch_tokens, affordable))


def activation_bytes(budget: RunBudget, tokens: int, *, dimension: int) -> int:
    """Return the peak size of the activations of a micro-batch with that many padded tokens."""
    return tokens * budget.footprint.bytes_per_token * dimension


def micro_batches(
    chunks: Sequence[StoredChunk], *, max_batch_tokens: int, max_texts: int = 0, special_tokens: int = 2
) -> Iterator[list[StoredChunk]]:
    """Yield groups of chunks of similar length, each at most `max_batch_tokens` when padded to its longest chunk.

    A chunk that alone exceeds the limit is a group of its own. With `max_texts` no group has more chunks.
    """
    group: list[StoredChunk] = []
    for chunk in sorted(chunks, key=lambda chunk: (chunk.tokens, chunk.generation_id, chunk.ordinal)):
        longest = chunk.tokens + special_tokens  # sorted by length: this chunk is the longest of the group
        if group and (longest * (len(group) + 1) > max_batch_tokens or len(group) == max_texts):
            yield group
            group = []
        group.append(chunk)
    if group:
        yield group


def calls_of(chunks: Sequence[StoredChunk], *, max_tokens: int, max_texts: int) -> Iterator[list[StoredChunk]]:
    """Yield groups of chunks in their order, each for one call of a server: nothing is padded there."""
    group: list[StoredChunk] = []
    tokens = 0
    for chunk in chunks:
        if group and (tokens + chunk.tokens > max_tokens or len(group) == max_texts):
            yield group
            group, tokens = [], 0
        group.append(chunk)
        tokens += chunk.tokens
    if group:
        yield group
