"""nDCG, computed as by trec_eval (and therefore by pytrec_eval and MTEB)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence


def ndcg(ranking: Sequence[str], gains: Mapping[str, int], *, k: int = 10) -> float:
    """Return the normalised discounted cumulative gain of one query's ranking, between 0 and 1.

    A document at rank r adds its gain divided by log2(r + 1). The ideal ranking contains all documents that were judged
    relevant, whether the search returned them or not.

    Args:
        ranking: documents, best first, each once.
        gains: the judgements; a document without an entry, or with one below 1, adds nothing.
        k: number of ranks that count.
    """
    ideal = _discounted(sorted(_positive(gains.values()), reverse=True)[:k])
    if not ideal:
        return 0.0
    return _discounted(_positive(gains.get(document, 0) for document in ranking[:k])) / ideal


def mean_ndcg(
    rankings: Mapping[str, Sequence[str]], judgements: Mapping[str, Mapping[str, int]], *, k: int = 10
) -> float:
    """Return the mean over all judged queries; a query without a ranking counts as 0, not as absent."""
    total = sum(ndcg(rankings.get(query, ()), gains, k=k) for query, gains in judgements.items())
    return total / len(judgements)


def _positive(gains: Iterable[int]) -> list[int]:
    return [max(0, gain) for gain in gains]


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))
