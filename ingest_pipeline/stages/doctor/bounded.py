"""Bounds a check in time, and makes a finding of whatever goes wrong in it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from ingest_pipeline.errors import IngestError
from ingest_pipeline.models import Finding, FindingState

SECONDS = 15.0
"""For a check that reads files or asks a server: a host that does not answer must not hold up the other lines."""
Result = TypeVar("Result")
Seen = tuple[FindingState, str, str]
"""State, what was seen, and what to do."""


def ok(seen: str) -> Seen:
    """Return that all is well."""
    return "ok", seen, ""


def warn(seen: str, advice: str) -> Seen:
    """Return that it works, but not as it should."""
    return "warn", seen, advice


def fail(seen: str, advice: str) -> Seen:
    """Return that it does not work."""
    return "fail", seen, advice


def looked(check: str, look: Callable[[], Seen], *, advice: str, seconds: float = SECONDS) -> Finding:
    """Return the finding of one check.

    Args:
        check: its name.
        look: looks; it may raise anything and take any time.
        advice: what to do if it raises, or does not end.
        seconds: for how long it is waited for.
    """
    try:
        return Finding(check, *within(seconds, look))
    except IngestError as error:
        return Finding(check, "fail", str(error).splitlines()[0], advice)
    except Exception as error:  # of any library: the other checks go on
        lines = str(error).strip().splitlines()
        return Finding(check, "fail", f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__, advice)


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Return what `work` returns; it goes on in a thread of its own if it takes longer, and ends with the process.

    Raises:
        TimeoutError: it took longer.
        Exception: what `work` raised.
    """
    answers: queue.SimpleQueue[tuple[Result | None, BaseException | None]] = queue.SimpleQueue()

    def look() -> None:
        try:
            answers.put((work(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=look, daemon=True, name="a check of ingest doctor").start()
    try:
        result, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
