"""Runs the proof of crash safety and prints its certificate: `python -m ingest_pipeline_tests.crash.certificate`.

Takes tests for pytest; without any it runs this folder and `test_crash_*.py` beside it. The whole form by
`INGEST_PROOF=whole`; one that was interrupted goes on where it was: trials that have passed under the same code are
kept in the folder of results.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingest_pipeline_tests.crash.lanes import CORES, code_hash
from ingest_pipeline_tests.crash.results import VARIABLE, read_results

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "build" / "proof-crash"
APART = ("part", "of", "seeds")
OF_KILLS = ("kill points", "pairs", "storms", "rivals")
OF_MODELS = ("edges", "explorer", "machine", "migrations", "mutants", "readers", "sessions")
REQUIRED = (*OF_KILLS, *OF_MODELS)
"""Parts without which there is no certificate."""


def main(tests: Sequence[str]) -> int:
    """Run the tests, print the certificate; return the exit code."""
    folder = Path(os.environ.get(VARIABLE) or FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):  # of an earlier proof, perhaps of other code
        path.unlink()
    began = time.monotonic()
    tests = tests or [str(Path(__file__).parent), *map(str, sorted(Path(__file__).parents[1].glob("test_crash_*.py")))]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    code = subprocess.run(command, env={**os.environ, VARIABLE: str(folder)}, cwd=REPOSITORY, check=False).returncode
    results = read_results(folder)
    print(certificate(results, seconds=time.monotonic() - began))
    missing = sorted(set(REQUIRED) - {result["part"] for result in results})
    if code or missing:
        why = f"pytest ended with code {code}" if code else f"no result of {', '.join(missing)}"
        print(f"NOT PROVED: {why}")
        return 1
    return 0


def certificate(results: Sequence[dict[str, Any]], *, seconds: float) -> str:
    """Return the certificate: one line for each part of the proof."""
    form = "whole form" if os.environ.get("INGEST_PROOF") == "whole" else "short form"
    today = datetime.now(UTC).date().isoformat()
    head = f"\nCrash safety of ingest_pipeline, code {code_hash()}, {today}: {form}, {seconds:,.0f} s on {CORES} cores"
    return "\n".join([head, *(line_of(result) for result in results)])


def line_of(result: dict[str, Any]) -> str:
    """Return the line of one part: what was hit or killed of all, then its other figures."""
    part, seeds, total = result["part"], result.get("seeds", []), result.get("of")
    texts = [f"{name.replace('_', ' ')} {_text(value)}" for name, value in result.items() if name not in APART]
    if total is not None:
        texts[0] = f"{texts[0]} of {_text(total)}"
    if seeds:
        texts.append(f"seeds {seeds[0]}" + (f" to {seeds[-1]}" if len(seeds) > 1 else ""))
    return f"  {part:<32}{', '.join(texts)}"


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int | float) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
