"""How much work is left: properties of the estimate, and the cases that were reported as wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_pipeline.planning.remaining import TOKENS_PER_SECOND, WorkState, parsing_share, remaining_seconds

quick = settings(max_examples=60, deadline=None)
tokens = st.integers(min_value=0, max_value=10**9)
seconds = st.one_of(st.just(0.0), st.floats(min_value=0.001, max_value=10**6, allow_nan=False))


@st.composite
def states(draw: st.DrawFn) -> WorkState:
    """Draw a state as the ledger can hold it."""
    parsed = draw(tokens)
    embedded = draw(st.integers(min_value=0, max_value=parsed))
    finished = draw(st.integers(min_value=0, max_value=embedded))
    return WorkState(parsed, embedded, draw(seconds), draw(seconds), draw(seconds), draw(seconds), finished)


@given(states(), st.floats(min_value=0, max_value=1))
@quick
def test_done_is_never_more_than_all(state: WorkState, share: float) -> None:
    """Work that is done is between nothing and all of it, whatever share parsing has."""
    assert 0 <= parsing_share(state, WorkState()) <= 1
    assert -1e-6 <= state.done(share) <= state.total * (1 + 1e-9) + 1e-6


@given(states(), states(), seconds)
@quick
def test_time_left_is_never_negative(state: WorkState, before: WorkState, elapsed: float) -> None:
    """There is no estimate before there is a pace; every other is 0 or more."""
    left = remaining_seconds(state, before=before, elapsed_seconds=elapsed)
    assert left is None or left >= 0


def test_a_large_file_at_work() -> None:
    """Its vectors count as they come: a quarter of one large file in a minute leaves three."""
    state = WorkState(parsed_tokens=1_000_000, embedded_tokens=250_000)
    measured = WorkState(1_000_000, 250_000, 60.0, 0.0, 0.0, 60.0, 250_000)
    assert remaining_seconds(measured, before=WorkState(), elapsed_seconds=60.0) == pytest.approx(180.0)
    left = remaining_seconds(state, before=WorkState(), elapsed_seconds=60.0)
    assert left == pytest.approx(60 * (1 - 0.325) / 0.325)  # a tenth for parsing, before any was measured


def test_what_is_not_parsed_counts_as_predicted() -> None:
    """Files that wait have the tokens of their predicted seconds, at the rate of what is parsed."""
    state = WorkState(parsed_tokens=2_000, parsed_predicted_seconds=10.0, waiting_predicted_seconds=30.0)
    assert state.total == 8_000
    assert WorkState(waiting_predicted_seconds=2.0).total == 2 * TOKENS_PER_SECOND


def test_work_of_an_earlier_run_sets_no_pace() -> None:
    """A run that goes on where another stopped is not credited with what was there: half of the rest in 10 seconds."""
    before = WorkState(1000, 800, 1.0, 0.0, 0.0, 0.0, 800)
    now = WorkState(1000, 900, 1.0, 0.0, 0.0, 1.0, 900)
    assert remaining_seconds(now, before=before, elapsed_seconds=10.0) == pytest.approx(10.0)
    assert remaining_seconds(before, before=before, elapsed_seconds=10.0) is None
