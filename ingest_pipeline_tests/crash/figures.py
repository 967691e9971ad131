"""Collects the figures of a part of the proof while it runs, with what it took: `results.py` keeps them."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ingest_pipeline_tests.crash.results import write_result


@contextmanager
def figures(part: str, **known: Any) -> Iterator[dict[str, Any]]:
    """Collect the figures of one part; write them down when it has passed.

    Args:
        part: its name in the certificate.
        known: figures that are known before, as `write_result` takes them.
    """
    collected: dict[str, Any] = dict(known)
    began, before = time.monotonic(), _cpu_seconds()
    yield collected
    collected["seconds"] = round(time.monotonic() - began, 1)
    collected["cpu_seconds"] = round(_cpu_seconds() - before, 1)
    print(json.dumps({"part": part, **collected}))
    write_result(part, **collected)


def _cpu_seconds() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
