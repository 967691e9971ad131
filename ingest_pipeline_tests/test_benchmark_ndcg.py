"""The benchmark's measure against examples computed by hand and a published one."""

from __future__ import annotations

import pytest

from benchmarks.ndcg import mean_ndcg, ndcg


def test_ranks_two_and_four():
    """Two relevant documents at ranks two and four have the value that was computed by hand."""
    # DCG = 1/log2(3) + 1/log2(5) = 0.63093 + 0.43068; ideal = 1/log2(2) + 1/log2(3) = 1.63093
    assert ndcg(["x", "a", "y", "b"], {"a": 1, "b": 1}) == pytest.approx(1.06161 / 1.63093, abs=1e-5)


def test_graded_gains_are_linear():
    """A gain counts as it is, not as a power of two."""
    # Wikipedia's example: gains 3 2 3 0 1 2, judged beside them a 3 and a 2 -> DCG 6.861, ideal 8.740
    gains = {"1": 3, "2": 2, "3": 3, "4": 0, "5": 1, "6": 2, "7": 3, "8": 2}
    assert ndcg(["1", "2", "3", "4", "5", "6"], gains, k=6) == pytest.approx(6.861 / 8.740, abs=1e-4)


def test_a_missed_document_costs_its_share():
    """A relevant document that the search misses costs its share."""
    assert ndcg(["a"], {"a": 1}) == 1.0
    assert ndcg(["a"], {"a": 1, "b": 1}) == pytest.approx(1 / 1.63093, abs=1e-5)
    assert ndcg([], {"a": 1}) == 0.0


def test_ranks_beyond_k_do_not_count():
    """A relevant document behind the k-th rank gains nothing."""
    assert ndcg([*"0123456789", "a"], {"a": 1}) == 0.0
    assert ndcg([*"012345678", "a"], {"a": 1}) == pytest.approx(0.28906, abs=1e-5)  # 1 / log2(11)


def test_a_full_page_is_perfect():
    """With more relevant documents than ranks, a page of relevant ones is perfect."""
    assert ndcg([*"0123456789"], dict.fromkeys("0123456789abc", 1)) == pytest.approx(1.0)


def test_judged_irrelevant_gains_nothing():
    """A document that was judged irrelevant gains nothing."""
    assert ndcg(["bad", "a"], {"bad": -1, "a": 1}) == pytest.approx(1 / 1.58496, abs=1e-5)
    assert ndcg(["a"], {"a": 0}) == 0.0


def test_no_ranking_counts_as_zero():
    """A query for which nothing was found counts as 0."""
    assert mean_ndcg({"1": ["a"]}, {"1": {"a": 1}, "2": {"b": 1}}) == 0.5
