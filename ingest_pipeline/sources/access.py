"""What it takes to reach a source, beside its URL. Credentials are not here: libraries read them where they belong."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Access:
    """How servers are reached and how long they are waited for."""

    s3_endpoint: str = ""
    """Empty: Amazon's."""
    spool_folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    """Where downloads of over 10 MiB lie while they are parsed; on a disk, not in memory."""
    stall_seconds: float = 30.0
    """The longest wait for the next bytes of a response."""
    patience_seconds: float = 60.0
    """The longest that a server may be unavailable while a file is read or a bucket listed; progress renews it."""
