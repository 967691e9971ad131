"""Checks that `ingest run` finishes within a memory budget: `make proof-memory`.

Ingests the corpus under kernel limits, once for each budget, and prints a table. Where cgroups can be created, every
run has one with its budget, and all processes together (also Postgres) have one that is 512 MiB larger, both without
swap; elsewhere each run's process has RLIMIT_DATA. Exit code 1 if one budget was exceeded, a run was killed, or files
were not processed.
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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest_pipeline.embedding.choice import engine_of
from ingest_pipeline.memory.cgroup import RunCgroup, make_cgroup
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import format_size

MIB = 1024**2
REPOSITORY = Path(__file__).resolve().parents[1]
BUDGETS_MIB = (512, 768, 1024)
SHORT_BUDGETS_MIB = (500, 768)
FOLDERS = ("pdf", "html", "md", "txt", "epub", "bad")
SHORT_FILES, SHORT_BYTES = 6, 20 * 1024
"""The short form takes so many files of at most so many bytes from each folder: it tests the limits, not the corpus."""
EXTRA_MIB = 512
"""For Postgres, the waiting command, and once the exporter, which is not part of a run."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The result for one budget."""

    budget_bytes: int
    code: int
    seconds: float
    account: dict[str, Any]
    box_peak_bytes: int | None
    oom_kills: int | None

    @property
    def peak_bytes(self) -> int:
        """The highest peak of a run's process tree."""
        return int(self.account.get("peak_memory_bytes") or 0)

    @property
    def holds(self) -> bool:
        """Whether all files were processed within the budget and without a kill."""
        unfinished = sum(self.account.get("files", {}).get(name, 1) for name in ("synced", "processing", "processed"))
        return self.code == 0 and not unfinished and 0 < self.peak_bytes <= self.budget_bytes and not self.oom_kills


def prove(budget_bytes: int, sources: Sequence[Path], home: Path) -> Proof:
    """Ingest these folders under one budget, in a home folder of its own."""
    box = make_cgroup(f"proof-{os.getpid()}-{budget_bytes}", budget_bytes + EXTRA_MIB * MIB, prefix="box-")
    environment = {**os.environ, "INGEST_HOME": str(home), "INGEST_RUN_MEMORY": str(budget_bytes)}
    environment["INGEST_MACHINE_MEMORY"] = str(budget_bytes + EXTRA_MIB * MIB)
    environment["INGEST_MAX_RUNS"] = "1"
    command = [sys.executable, "-m", "ingest_pipeline.cli"]
    began = time.monotonic()
    try:
        result = subprocess.run(
            [*command, "run", "--json", *map(str, sources)],
            env=environment, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False,
            preexec_fn=box.join if box else None,
        )  # fmt: skip
        seconds = time.monotonic() - began
        subprocess.run([*command, "memory"], env=environment, cwd=REPOSITORY, check=False)
        account = json.loads(result.stdout) if result.stdout.startswith("{") else {}
        return Proof(budget_bytes, result.returncode, seconds, account, *_kernel_counts(box))
    finally:
        subprocess.run(
            [*command, "db", "stop"], env=environment, cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=False
        )
        if box:
            box.remove()


def _kernel_counts(box: RunCgroup | None) -> tuple[int | None, int | None]:
    return (box.peak_bytes(), box.oom_kills()) if box else (None, None)


def short_sources(corpus: Path, folder: Path) -> list[Path]:
    """Return a folder with a few small files of every kind, under their own names."""
    for name in FOLDERS:
        files = sorted(path for path in (corpus / name).rglob("*") if path.is_file())
        for path in [path for path in files if 0 < path.stat().st_size <= SHORT_BYTES][:SHORT_FILES]:
            copy = folder / name / path.relative_to(corpus / name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return [folder]


COLUMNS = (
    ("budget", 10), ("engine", 10), ("kept", 6), ("exit", 6), ("peak of a run", 15), ("all together", 14),
    ("OOM kills", 11), ("indexed", 9), ("failed", 8), ("seconds", 9),
)  # fmt: skip


def table(proofs: Sequence[Proof]) -> str:
    """Return the table."""
    rows = [[name for name, _ in COLUMNS], *map(_cells, proofs)]
    return "\n".join("".join(f"{cell:>{width}}" for cell, (_, width) in zip(row, COLUMNS, strict=True)) for row in rows)


def _cells(proof: Proof) -> list[str]:
    files = proof.account.get("files", {})
    return [
        format_size(proof.budget_bytes),
        engine_of(Settings()),
        "yes" if proof.holds else "NO",
        str(proof.code),
        format_size(proof.peak_bytes),
        format_size(proof.box_peak_bytes) if proof.box_peak_bytes else "-",
        "-" if proof.oom_kills is None else str(proof.oom_kills),
        str(files.get("indexed", 0)),
        str(files.get("failed", 0)),
        f"{proof.seconds:.0f}",
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Test each budget; return 0 if all of them hold."""
    parser = argparse.ArgumentParser(description="Ingest the corpus under kernel limits.")
    parser.add_argument("--short", action="store_true", help="a few small files, two budgets: for CI")
    parser.add_argument("--corpus", type=Path, default=REPOSITORY.parent / "shared" / "corpus")
    parser.add_argument("--budgets", type=int, nargs="+", metavar="MIB")
    options = parser.parse_args(arguments)
    corpus = Path(os.environ.get("INGEST_CORPUS", options.corpus))
    if not corpus.is_dir():
        parser.error(f"the corpus is not at {corpus}: set INGEST_CORPUS")
    proofs = []
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        sources = short_sources(corpus, Path(folder, "documents")) if options.short else [corpus / f for f in FOLDERS]
        for budget in options.budgets or (SHORT_BUDGETS_MIB if options.short else BUDGETS_MIB):
            proofs.append(prove(budget * MIB, sources, Path(folder, f"home-{budget}")))
            print(table(proofs[-1:]), flush=True)
    print("\n" + table(proofs))
    return 0 if all(proof.holds for proof in proofs) else 1


if __name__ == "__main__":
    sys.exit(main())
