"""A few calls in flight, their answers in the order in which they come."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


def answers_in_slots(
    ask: Callable[[Question], Answer], questions: Iterable[Question], *, slots: int
) -> Iterator[Answer]:
    """Yield the answer to each question as it comes; at most `slots` are asked, or answered and not yielded yet.

    With one slot nothing runs in a thread. An error of `ask` is raised in place of its answer; what is in flight then
    is not waited for. An error of `questions` is raised when what is in flight is answered.
    """
    if slots == 1:
        yield from map(ask, questions)
        return
    done: queue.SimpleQueue[tuple[Answer | None, BaseException | None]] = queue.SimpleQueue()
    in_flight, asking = 0, iter(questions)
    end: Exception | None = None
    while end is None:
        try:
            question = next(asking)
        except StopIteration:
            break
        except Exception as error:  # no more may be asked; what is in flight has been paid for
            end = error
            continue
        threading.Thread(target=_answer, args=(ask, question, done), daemon=True, name="call").start()
        in_flight += 1
        if in_flight == slots:
            yield _next(done)
            in_flight -= 1
    for _ in range(in_flight):
        yield _next(done)
    if end is not None:
        raise end


def _answer(
    ask: Callable[[Question], Answer],
    question: Question,
    done: queue.SimpleQueue[tuple[Answer | None, BaseException | None]],
) -> None:
    try:
        done.put((ask(question), None))
    except BaseException as error:  # raised where the answers are read
        done.put((None, error))


def _next(done: queue.SimpleQueue[tuple[Answer | None, BaseException | None]]) -> Answer:
    answer, error = done.get()
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]
