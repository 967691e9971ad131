"""Results of the parts of the proof: one JSON file each, in one folder, from which the certificate is printed."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

VARIABLE = "INGEST_PROOF_RESULTS"


def results_folder() -> Path:
    """Return the folder of results; without the variable, one that nobody reads."""
    folder = Path(os.environ.get(VARIABLE) or tempfile.mkdtemp(prefix="ingest-proof-"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_result(part: str, **figures: Any) -> None:
    """Write what a part of the proof has shown: `hit` and `of`, `seeds`, `seconds`, whatever it counts."""
    name = re.sub(r"\W+", "-", part.lower())
    (results_folder() / f"{name}.json").write_text(json.dumps({"part": part, **figures}))
