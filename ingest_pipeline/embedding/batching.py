"""How many texts go through a model together: as many as their padded tokens' activations allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ingest_pipeline.memory.budget import Engine, RunBudget
from ingest_pipeline.models import StoredChunk

BYTES_PER_TOKEN_AND_DIMENSION = 120  # 4096 / 1024 padded tokens of 384 dimensions: 190 / 47 MB (2026-11)
# torch: 256 chunks took 27.8 / 26.2 / 27.0 CPU seconds at 1024 / 2048 / 4096 tokens: larger buys nothing.
# OpenVINO: 467 / 480 microseconds a token at 1024 / 512, which is three chunks of usual length.
MAX_BATCH_TOKENS: dict[Engine, int] = {"torch": 1024, "openvino": 512}
MIN_BATCH_TOKENS = 256  # one chunk of the packaged model
ACTIVATION_SHARE = 0.5  # half of the headroom: the other half is for fragments that the allocator keeps


def batch_tokens(budget: RunBudget, *, dimension: int) -> int:
    """Return how many padded tokens one micro-batch may hold so that its activations keep to their share."""
    affordable = int(budget.activation_bytes * ACTIVATION_SHARE) // (BYTES_PER_TOKEN_AND_DIMENSION * dimension)
    return max(MIN_BATCH_TOKENS, min(MAX_BATCH_TOKENS[budget.engine], affordable))


def activation_bytes(tokens: int, *, dimension: int) -> int:
    """Return what the activations of a micro-batch of that many padded tokens take at their peak."""
    return tokens * BYTES_PER_TOKEN_AND_DIMENSION * dimension


def micro_batches(
    chunks: Sequence[StoredChunk], *, max_batch_tokens: int, special_tokens: int = 2
) -> Iterator[list[StoredChunk]]:
    """Yield groups of chunks of like length, each at most `max_batch_tokens` when padded to its longest.

    A chunk that alone is longer is a group of its own.
    """
    group: list[StoredChunk] = []
    for chunk in sorted(chunks, key=lambda chunk: (chunk.tokens, chunk.ordinal)):
        longest = chunk.tokens + special_tokens  # sorted: the newcomer is the longest
        if group and longest * (len(group) + 1) > max_batch_tokens:
            yield group
            group = []
        group.append(chunk)
    if group:
        yield group
