"""Questions are asked ahead: how many at once, in what order, and what an error does."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_pipeline.sources.ahead import answers_ahead


@given(st.lists(st.integers(), max_size=30), st.integers(min_value=1, max_value=8))
@settings(max_examples=30, deadline=None)
def test_answers_come_in_order(questions: list[int], at_once: int) -> None:
    """Each question is answered once, in its place, however many are asked at once."""
    assert list(answers_ahead(lambda one: one + 1, questions, at_once=at_once)) == [one + 1 for one in questions]


def test_no_more_at_once_than_allowed() -> None:
    """Four questions are on their way, never a fifth; no more are read from a listing without end."""
    at_work, most, lock, read = 0, 0, threading.Lock(), 0

    def ask(number: int) -> int:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.01)
        with lock:
            at_work -= 1
        return number

    def endless() -> object:
        nonlocal read
        while True:
            read += 1
            yield read

    answers = answers_ahead(ask, endless(), at_once=4)  # type: ignore[arg-type]
    assert [next(answers) for _ in range(20)] == list(range(1, 21))
    assert most == 4
    assert read <= 24


def test_an_error_comes_in_its_place() -> None:
    """The answers before it come first; those after it are not waited for."""
    released = threading.Event()

    def ask(number: int) -> int:
        if number == 3:
            raise ValueError("no answer")
        if number > 3:
            released.wait(10)
        return number

    answers = answers_ahead(ask, range(100), at_once=8)
    began = time.monotonic()
    assert [next(answers) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="no answer"):
        next(answers)
    assert time.monotonic() - began < 5
    released.set()
