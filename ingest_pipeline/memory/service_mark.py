"""Whether the web service is in use on this machine: a mark that ends with the process, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

NAME = "service.lock"
FLOCK = struct.Struct("hhqqi4x")
"""`struct flock` of Linux on 64 bits: type, whence, start, length (0: the whole file), process."""


@contextlib.contextmanager
def marked_in_use(home: Path) -> Iterator[None]:
    """Hold the mark; several services of one home may hold it together."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / NAME).open("a+") as lock:
        # Of the open file, not of the process: it stays when the process closes another descriptor of the same file.
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
        yield


def service_is_in_use(home: Path) -> bool:
    """Return whether a service of this home is there. Nothing is locked to find out, so who asks is no service."""
    with contextlib.suppress(FileNotFoundError, PermissionError), (home / NAME).open("rb") as lock:
        asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return FLOCK.unpack(fcntl.fcntl(lock, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK
    return False
