"""Calls of a server: within its limits, again after errors that pass, and no more when they do not."""

from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.errors import AccessRefused, CallFailed, InputRejected, RateLimited, ServiceUnavailable
from ingest_pipeline.remote.calls import MAX_RATE_LIMITED_SECONDS, MAX_TRIES, Caller, CallLimits, Clock
from ingest_pipeline.remote.openai_client import failure_of_status, retry_after_seconds
from ingest_pipeline.remote.slots import answers_in_slots


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, []

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Server:
    """Raises what is in its script, then answers."""

    def __init__(self, *script: Exception) -> None:
        self.script, self.calls = list(script), 0

    def __call__(self) -> str:
        self.calls += 1
        if self.script:
            raise self.script.pop(0)
        return "answer"


def caller(time: FakeTime, **limits: float) -> Caller:
    return Caller("the server", CallLimits(**limits), time.clock)  # type: ignore[arg-type]


def test_an_error_that_passes_is_tried_again() -> None:
    """Two errors, then the answer: three calls, with growing waits, and both failures counted."""
    time, server = FakeTime(), Server(CallFailed("a"), CallFailed("b"))
    calling = caller(time)
    assert calling.call(server) == "answer"
    assert server.calls == 3
    assert 0.25 <= time.slept[0] <= 0.5 <= time.slept[1] <= 1.0
    assert calling.take_failed_calls() == 2
    assert calling.take_failed_calls() == 0


def test_one_call_is_given_up() -> None:
    """A call that always fails is the caller's to divide, while the server may work with others."""
    server = Server(*[CallFailed("always")] * 10)
    with pytest.raises(CallFailed, match="always"):
        caller(FakeTime()).call(server)
    assert server.calls == MAX_TRIES


def test_errors_in_a_row_are_a_verdict() -> None:
    """Ten errors of whatever calls: the server counts as unavailable, and the message says so; a success resets."""
    calling = caller(FakeTime(), max_errors=10)
    for _ in range(3):
        with pytest.raises(CallFailed):
            calling.call(Server(*[CallFailed("down")] * 3))
    assert calling.call(Server()) == "answer"
    for _ in range(3):
        with pytest.raises(CallFailed):
            calling.call(Server(*[CallFailed("down")] * 3))
    with pytest.raises(ServiceUnavailable, match=r"10 errors in a row \(INGEST_MAX_ERRORS=10\): down"):
        calling.call(Server(CallFailed("down")))


def test_a_rate_limit_is_no_error() -> None:
    """Twenty rate limits cost no try; the server's wait is kept exactly."""
    time, server = FakeTime(), Server(*[RateLimited("slow down", 7.0)] * 20)
    assert caller(time, max_errors=2).call(server) == "answer"
    assert time.slept == [7.0] * 20


def test_a_rate_limit_without_end_is_a_verdict() -> None:
    """A server that limits every call for a quarter of an hour is not limiting a rate."""
    time, server = FakeTime(), Server(*[RateLimited("slow down")] * 1000)
    with pytest.raises(ServiceUnavailable, match="rate limit"):
        caller(time).call(server)
    assert time.now - 1000 > MAX_RATE_LIMITED_SECONDS


def test_a_rejected_input_is_not_tried_again() -> None:
    """A 400 is an answer of a server that works."""
    server = Server(InputRejected("no"))
    with pytest.raises(InputRejected):
        caller(FakeTime()).call(server)
    assert server.calls == 1


def test_a_refused_key_ends_at_once() -> None:
    """Without the key nothing else can succeed."""
    server = Server(AccessRefused("wrong key"))
    with pytest.raises(AccessRefused):
        caller(FakeTime()).call(server)
    assert server.calls == 1


@given(st.integers(1, 600), st.integers(0, 50_000), st.lists(st.integers(1, 5000), min_size=2, max_size=60))
def test_no_minute_has_more_than_its_limit(calls: int, tokens: int, sizes: list[int]) -> None:
    """In any minute there are at most the calls and tokens of the limits, and one call more for its edge."""
    time, began = FakeTime(), []
    calling = caller(time, calls_per_minute=calls, tokens_per_minute=tokens)
    for size in sizes:
        calling.call(lambda: began.append(time.now), tokens=size)
    for start in began:
        within = [number for number, moment in enumerate(began) if start <= moment < start + 60 - 1e-6]
        assert len(within) <= calls
        if tokens:
            assert sum(sizes[number] for number in within[:-1]) <= tokens + 1


def test_a_pause_between_calls() -> None:
    """INGEST_EMBEDDER_PAUSE_SECONDS is slept between two calls, not before the first."""
    time = FakeTime()
    calling = caller(time, pause_seconds=2.0)
    for _ in range(3):
        calling.call(Server())
    assert time.slept == [2.0, 2.0]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None), ({"retry-after": "3"}, 3.0), ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "soon"}, None), ({"retry-after": "-4"}, 0.0),
    ],
)  # fmt: skip
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds and milliseconds are understood, nonsense is not."""
    assert retry_after_seconds(headers) == seconds


def test_retry_after_a_date() -> None:
    """A date is a wait until then."""
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert retry_after_seconds({"retry-after": later}) == pytest.approx(30, abs=2)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "", RateLimited), (429, "insufficient_quota", AccessRefused), (400, "", InputRejected),
        (413, "", InputRejected), (401, "", AccessRefused), (404, "", AccessRefused), (500, "", CallFailed),
        (503, "", CallFailed), (408, "", CallFailed),
    ],
)  # fmt: skip
def test_what_a_status_means(status: int, code: str, kind: type[Exception]) -> None:
    """Each status has one error, by whose fault it is."""
    assert type(failure_of_status(status, "m", headers={}, code=code)) is kind


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_slots(slots: int) -> None:
    """Every question is answered once, and never more at once than there are slots."""
    at_once, most, lock = 0, 0, threading.Lock()

    def ask(question: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.005)
        with lock:
            at_once -= 1
        return question

    assert sorted(answers_in_slots(ask, range(30), slots=slots)) == list(range(30))
    assert most == slots


@pytest.mark.parametrize("slots", [1, 3])
def test_an_error_comes_out_of_its_slot(slots: int) -> None:
    """An error of a call is raised where its answer would be."""

    def ask(question: int) -> int:
        if question == 4:
            raise CallFailed("four")
        return question

    with pytest.raises(CallFailed, match="four"):
        list(answers_in_slots(ask, range(10), slots=slots))


@pytest.mark.parametrize("slots", [1, 3])
def test_what_is_in_flight_is_kept(slots: int) -> None:
    """When no more may be asked, the calls in flight are answered first: they have been paid for."""

    def questions() -> Iterator[int]:
        yield from range(5)
        raise ServiceUnavailable("no more")

    kept: list[int] = []
    with pytest.raises(ServiceUnavailable):
        for answer in answers_in_slots(lambda question: question, questions(), slots=slots):
            kept.append(answer)
    assert sorted(kept) == list(range(5))
