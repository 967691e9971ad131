"""Asks a server several questions at once, and gives the answers in the order of the questions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


def answers_ahead(
    ask: Callable[[Question], Answer], questions: Iterable[Question], *, at_once: int
) -> Iterator[Answer]:
    """Yield the answer to each question, in order, with at most `at_once` of them asked but not yielded yet.

    An error of `ask` is raised where its answer would be. After that, or when the iterator is closed, questions that
    wait are not asked, and answers that are on their way are not waited for.
    """
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="ask ahead")
    asked: deque[Future[Answer]] = deque()
    try:
        for question in questions:
            asked.append(pool.submit(ask, question))
            if len(asked) == at_once:
                yield asked.popleft().result()
        while asked:
            yield asked.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
