"""Work in threads: several questions to a server at once, their answers in the order of the questions."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


def answers_ahead(
    ask: Callable[[Question], Answer], questions: Iterable[Question], *, at_once: int
) -> Iterator[Answer]:
    """Yield the answer to each question, in order, with at most `at_once` of them asked but not yielded yet.

    An error of `ask` is raised where its answer would be. After that, or when the iterator is closed, answers that are
    on their way are not waited for.
    """
    asked: deque[Future[Answer]] = deque()
    for question in questions:
        asked.append(in_background(ask, question))
        if len(asked) == at_once:
            yield asked.popleft().result()
    while asked:
        yield asked.popleft().result()


def in_background(work: Callable[..., Answer], *arguments: Any) -> Future[Answer]:
    """Do some work in a thread; return its result to come.

    A thread of its own, which Python does not wait for when it exits: Ctrl-C must not wait for a slow server.
    """
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(work(*arguments))
        except BaseException as error:  # raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, name="background", daemon=True).start()
    return future
