"""Makes micro-batches: as many texts together as the activations of their padded tokens allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.models import StoredChunk

# 190 MB for 4,096 padded tokens of 384 dimensions, 47 MB for 1,024 (docs/findings.md, H6).
BYTES_PER_TOKEN_AND_DIMENSION = 120
MIN_BATCH_TOKENS = 256  # one chunk of the packaged model
ACTIVATION_SHARE = 0.5  # half of the free memory; the allocator needs the other half for fragments that it keeps


def batch_tokens(budget: RunBudget, *, dimension: int) -> int:
    """Return how many padded tokens a micro-batch may have so that its activations stay within their share."""
    affordable = int(budget.activation_bytes * ACTIVATION_SHARE) // (BYTES_PER_TOKEN_AND_DIMENSION * dimension)
    return max(MIN_BATCH_TOKENS, min(budget.footprint.max_batch_tokens, affordable))


def activation_bytes(tokens: int, *, dimension: int) -> int:
    """Return the peak size of the activations of a micro-batch with that many padded tokens."""
    return tokens * BYTES_PER_TOKEN_AND_DIMENSION * dimension


def micro_batches(
    chunks: Sequence[StoredChunk], *, max_batch_tokens: int, special_tokens: int = 2
) -> Iterator[list[StoredChunk]]:
    """Yield groups of chunks of similar length, each at most `max_batch_tokens` when padded to its longest chunk.

    A chunk that alone exceeds the limit is a group of its own.
    """
    group: list[StoredChunk] = []
    for chunk in sorted(chunks, key=lambda chunk: (chunk.tokens, chunk.generation_id, chunk.ordinal)):
        longest = chunk.tokens + special_tokens  # sorted by length: this chunk is the longest of the group
        if group and longest * (len(group) + 1) > max_batch_tokens:
            yield group
            group = []
        group.append(chunk)
    if group:
        yield group
