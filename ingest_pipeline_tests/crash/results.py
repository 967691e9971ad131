"""Results of the parts of the proof: one JSON file each, in one folder, from which the certificate is printed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

VARIABLE = "INGEST_PROOF_RESULTS"
"""The folder of results, in which the passed trials are kept, too; unset: a test has no result to write."""


def results_folder() -> Path | None:
    """Return the folder of results."""
    if not os.environ.get(VARIABLE):
        return None
    folder = Path(os.environ[VARIABLE])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_result(part: str, **figures: Any) -> None:
    """Write what a part of the proof has shown.

    Args:
        part: its name in the certificate.
        figures: what it counts: `hit` or `killed` and `of`, `seeds` (a list), `seconds`, and others.
    """
    if folder := results_folder():
        name = re.sub(r"\W+", "-", part.lower())
        (folder / f"{name}.json").write_text(json.dumps({"part": part, **figures}))


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return the results of all parts, by their names."""
    return sorted((json.loads(path.read_text()) for path in folder.glob("*.json")), key=lambda result: result["part"])
