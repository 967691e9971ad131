"""Cases that were written for one guard each: what the walks and the sessions reach too rarely, or not at all."""

from __future__ import annotations

CASES = ()
