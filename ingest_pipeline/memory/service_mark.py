"""Whether the web service is in use on this machine: a mark that ends with the process, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

NAME = "service.lock"
TRIES, PAUSE_SECONDS = 3, 0.005
"""Who asks holds the lock for microseconds, and must not look like a service to another who asks."""


@contextlib.contextmanager
def marked_in_use(home: Path) -> Iterator[None]:
    """Hold the mark; several services of one home may hold it together."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def service_is_in_use(home: Path) -> bool:
    """Return whether a service of this home is there."""
    with contextlib.suppress(FileNotFoundError, PermissionError), (home / NAME).open("r+") as lock:
        return not any(_is_free(lock) for _ in range(TRIES))
    return False


def _is_free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(PAUSE_SECONDS)
        return False
    fcntl.flock(lock, fcntl.LOCK_UN)
    return True
