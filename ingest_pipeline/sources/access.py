"""How to reach a source, beside its URL. Credentials are not here: the libraries read them from their usual places."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Access:
    """How servers are reached, and for how long they are waited for."""

    s3_endpoint: str = ""
    """Empty: Amazon S3."""
    spool_folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    """The folder for downloads of over 10 MiB while they are parsed; it must be on a disk, not in memory."""
    stall_seconds: float = 30.0
    """The longest wait for the next bytes of a response."""
    patience_seconds: float = 60.0
    """The longest time for which a server may be unavailable while a file is read or listed; progress resets it."""
