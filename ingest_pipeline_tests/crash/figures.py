"""The figures of each part of the proof, for the certificate."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VARIABLE = "INGEST_PROOF_RESULTS"
"""A folder; each part writes `<part>.json` there. Without it the figures are only printed."""
FOLDER = os.environ.get(VARIABLE, "")  # read on import: tests take the variables of the shell away


def results_folder() -> Path | None:
    """Return where figures are kept; None if nobody asked for them."""
    return Path(FOLDER) if FOLDER else None


@contextmanager
def figures(part: str, **known: Any) -> Iterator[dict[str, Any]]:
    """Collect the figures of one part; write them down when it has passed."""
    collected: dict[str, Any] = {"part": part} | known
    began, before = time.monotonic(), _cpu_seconds()
    yield collected
    collected["seconds"] = round(time.monotonic() - began, 1)
    collected["cpu_seconds"] = round(_cpu_seconds() - before, 1)
    print(json.dumps(collected))
    if folder := results_folder():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{part}.json").write_text(json.dumps(collected, indent=2) + "\n")


def _cpu_seconds() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
