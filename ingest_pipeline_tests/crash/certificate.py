"""Runs the proof of crash safety and prints its certificate: `python -m ingest_pipeline_tests.crash.certificate`.

Takes tests for pytest, or all of this folder. The whole form by `INGEST_PROOF=whole`; one that was interrupted goes on
where it was: trials that have passed under the same code are kept in the folder of results.
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
REQUIRED = ("kill points", "pairs", "storms")
"""Parts without which there is no certificate."""


def main(tests: Sequence[str]) -> int:
    """Run the tests, print the certificate; return the exit code."""
    folder = Path(os.environ.get(VARIABLE) or FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):  # of an earlier proof, perhaps of other code
        path.unlink()
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(tests or [str(Path(__file__).parent)])]
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
    figures = dict(result)
    part, seeds, total = figures.pop("part"), figures.pop("seeds", None), figures.pop("of", None)
    texts = [f"{name.replace('_', ' ')} {_number(value)}" for name, value in figures.items()]
    if total is not None:
        texts[0] = f"{texts[0]} of {_number(total)}"
    if seeds:
        texts.append(f"seeds {seeds[0]}" + (f" to {seeds[-1]}" if len(seeds) > 1 else ""))
    return f"  {part:<28}{', '.join(texts)}"


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
