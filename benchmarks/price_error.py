"""The error of predicted hours: half of a corpus is ingested, the other half is priced by it, ingested, and compared.

    python benchmarks/price_error.py CORPUS [--runs 1]

Prints a row of Markdown for each number of runs at once. To be run on a machine that does nothing else: a run that
waits for a core is measured as slow, and so is what is predicted from it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RUN_MIB = 700
KINDS = ("pdf", "epub", "html", "md", "txt", "docx")


def ingest(
    home: Path, sources: list[Path], runs: int, *arguments: str, run_memory: str = f"{RUN_MIB}MiB"
) -> list[dict[str, Any]]:
    """Run the command on these sources, with memory for so many runs; return what it prints."""
    settings = {
        "INGEST_HOME": str(home),
        "INGEST_SOURCES": ",".join(map(str, sources)),
        "INGEST_RUN_MEMORY": run_memory,
        "INGEST_MACHINE_MEMORY": f"{machine_mib(runs)}MiB",
    }
    command = [sys.executable, "-m", "ingest_pipeline.cli", *arguments, "--json"]
    ended = subprocess.run(command, env=os.environ | settings, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in ended.stdout.splitlines()]


def machine_mib(runs: int) -> int:
    """Return a budget that holds so many runs: a quarter of it, at most 1 GiB, is for others."""
    return RUN_MIB * runs * 4 // 3 + 50


def halves(corpus: Path, folder: Path) -> list[Path]:
    """Copy every other file of the corpus into one of two folders."""
    files = sorted(path for kind in KINDS for path in (corpus / kind).rglob("*") if path.is_file())
    targets = [folder / "first", folder / "second"]
    for number, path in enumerate(files):
        target = targets[number % 2]
        target.mkdir(exist_ok=True)
        shutil.copy(path, target / f"{number}{path.suffix}")
    return targets


def measure(corpus: Path, runs: int) -> str:
    """Return a row: runs at once, files, predicted and measured seconds, and the error."""
    with tempfile.TemporaryDirectory() as temporary:
        home, folders = Path(temporary) / "home", halves(corpus, Path(temporary))
        ingest(home, folders[:1], runs, "run")
        box = f"{machine_mib(runs) * 5 // 4 + 1}MiB"  # of which 80 % are the budget
        [price] = ingest(home, folders, runs, "plan", "--memory", box)
        began = time.monotonic()
        ingest(home, folders, runs, "run", run_memory=str(price["run_memory_bytes"]))
        measured, predicted = time.monotonic() - began, price["hours"] * 3600
        subprocess.run([sys.executable, "-m", "ingest_pipeline.cli", "db", "stop"], check=False,
                       env=os.environ | {"INGEST_HOME": str(home)}, stdout=subprocess.DEVNULL)  # fmt: skip
    error = (predicted - measured) / measured
    return f"| {price['runs_at_once']} | {price['files']} | {predicted:.0f} s | {measured:.0f} s | {error:+.0%} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--runs", type=int, action="append", help="runs at once; default 1 and then 2")
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}\n")
    print("| runs at once | files priced | predicted | measured | error |\n|---|---|---|---|---|")
    for runs in options.runs or (1, 2):
        print(measure(options.corpus, runs), flush=True)


if __name__ == "__main__":
    main()
