"""Calls a server within its limits, again after errors that pass, and no more when they do not.

The clients of the protocols do not retry: two layers of retries make nine requests of one.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ingest_pipeline.errors import CallFailed, InputRejected, RateLimited, ServiceUnavailable

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")
MAX_TRIES = 3
"""Tries of one call that the server answers with errors; then the caller decides, e.g. to divide the call."""
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 60.0
MAX_RATE_LIMITED_SECONDS = 900.0
"""A server that has limited every call for so long is not limiting a rate."""
MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What a server may be asked."""

    calls_per_minute: int = 0
    """0: no limit."""
    tokens_per_minute: int = 0
    """0: no limit."""
    pause_seconds: float = 0.0
    """Between two calls."""
    max_errors: int = 10
    """Errors in a row, of all calls together, before the server counts as unavailable."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Time; tests have their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Caller:
    """Calls one server, from several threads if need be: limits, errors in a row and backoff are common to all."""

    def __init__(self, service: str, limits: CallLimits, clock: Clock | None = None) -> None:
        self._service, self._limits, self._clock = service, limits, clock or Clock()
        self._lock = threading.Lock()
        self._free_at = self._clock.now()
        """When the next call may begin."""
        self._errors = self._rate_limits = self._failed_calls = 0
        self._limited_since: float | None = None

    def call(self, work: Callable[[], Answer], *, tokens: int = 0) -> Answer:
        """Return what `work` returns; it calls the server once and raises `CallError`s.

        Args:
            work: calls the server.
            tokens: of the call, for the limit of tokens per minute.

        Raises:
            InputRejected: the server works, and refuses this input.
            CallFailed: the server failed with this call `MAX_TRIES` times, and may work with others.
            ServiceUnavailable: the server fails with every call, or refuses the key, or its quota is spent.
        """
        tries = 0
        while True:
            self._wait_turn(tokens)
            try:
                answer = work()
            except RateLimited as error:  # no error: it costs no try
                self._postpone(error.retry_after_seconds)
            except CallFailed as error:
                tries += 1
                self._count_error(error)
                if tries == MAX_TRIES:
                    raise CallFailed(f"{self._service}: {error}") from None
            except InputRejected:
                self._succeeded()  # it answers
                self._count_failed()
                raise
            else:
                self._succeeded()
                return answer

    def take_failed_calls(self) -> int:
        """Return how many calls failed since this was last asked."""
        with self._lock:
            failed, self._failed_calls = self._failed_calls, 0
        return failed

    def _wait_turn(self, tokens: int) -> None:
        with self._lock:
            now = self._clock.now()
            begins = max(now, self._free_at)
            self._free_at = begins + self._seconds_of_call(tokens)
        if begins > now:
            self._clock.sleep(begins - now)

    def _seconds_of_call(self, tokens: int) -> float:
        """Return how long the next call must wait for this one: evenly spread, a minute never has more than it may."""
        limits = self._limits
        by_calls = MINUTE / limits.calls_per_minute if limits.calls_per_minute else 0.0
        by_tokens = MINUTE * tokens / limits.tokens_per_minute if limits.tokens_per_minute else 0.0
        return max(by_calls, by_tokens, limits.pause_seconds)

    def _postpone(self, seconds: float | None) -> None:
        with self._lock:
            self._failed_calls += 1
            now = self._clock.now()
            self._limited_since = self._limited_since if self._limited_since is not None else now
            if now - self._limited_since > MAX_RATE_LIMITED_SECONDS:
                minutes = MAX_RATE_LIMITED_SECONDS / MINUTE
                raise ServiceUnavailable(
                    f"{self._service}: over its rate limit with every call for {minutes:.0f} minutes"
                )
            self._rate_limits += 1
            wait = seconds if seconds is not None else _backoff(self._rate_limits)
            self._free_at = max(self._free_at, now + wait)
        logger.info("%s: rate limit, waiting for %.1f s", self._service, wait)

    def _count_error(self, error: CallFailed) -> None:
        with self._lock:
            self._failed_calls += 1
            self._errors += 1
            errors = self._errors
            wait = error.retry_after_seconds if error.retry_after_seconds is not None else _backoff(errors)
            self._free_at = max(self._free_at, self._clock.now() + wait)
        if errors >= self._limits.max_errors:
            raise ServiceUnavailable(
                f"{self._service}: {errors} errors in a row (INGEST_MAX_ERRORS={self._limits.max_errors}): {error}"
            )
        logger.warning("%s: %s; error %d in a row, next call in %.1f s", self._service, error, errors, wait)

    def _count_failed(self) -> None:
        with self._lock:
            self._failed_calls += 1

    def _succeeded(self) -> None:
        with self._lock:
            self._errors = self._rate_limits = 0
            self._limited_since = None


def _backoff(tries: int) -> float:
    longest = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(tries - 1, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 (not for secrets: clients must not come back all at once)
