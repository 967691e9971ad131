"""The name of this machine, by which others know whose process a run is.

The host name alone does not tell: a container has another one after each start, and two homes on one host share none of
their records. The name therefore ends with a number that is made once for each `INGEST_HOME`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from pathlib import Path

from ingest_pipeline.settings import read_settings

FILE = "machine"


def host_name() -> str:
    """Return the name of this machine and its home, such as `laptop/3f2a9c01b7de`."""
    return f"{socket.gethostname()}/{_number(read_settings().home)}"


def is_here(host: str) -> bool:
    """Return whether a name is that of this machine and home."""
    return host.rpartition("/")[2] == _number(read_settings().home)


def _number(home: Path) -> str:
    path = home / FILE
    with contextlib.suppress(OSError):
        return path.read_text().strip()
    home.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{FILE}.{os.getpid()}.{uuid.uuid4().hex[:6]}")
    made.write_text(uuid.uuid4().hex[:12])
    with contextlib.suppress(FileExistsError):  # another process was faster, and all must read the same
        os.link(made, path)
    made.unlink()
    return path.read_text().strip()
