"""Keeps the results of `speed.py` by processor, and writes docs/performance.md from all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS, PAGE = REPOSITORY / "benchmarks" / "results", REPOSITORY / "docs" / "performance.md"
Result = dict[str, Any]

HEAD = """# Performance

How fast `ingest run` is, beside other ways to do the same work. Written by `make bench`, which adds or replaces the row
of the processor that it runs on. Every figure is of whole commands, from start to end, on all cores. KiB/s are of text.

**What is compared.** The same 60 real texts of 20,000 characters, the same model (all-MiniLM-L6-v2), commands
interleaved, medians over the rounds. *encode* is a script around `SentenceTransformer.encode(batch_size=32)` with
chunks that are split already and no database; CocoIndex 1.0.26 and LlamaIndex 0.14.25 read, split and embed, without a
database; *ingest* is `ingest run` with its Postgres, started empty. The scripts are in `benchmarks/peers/`.
"""


def keep(processor: str, section: str, result: Result, *, day: str) -> None:
    """Store the result of one section for a processor, in place of an older one."""
    path = RESULTS / f"{re.sub('[^a-z0-9]+', '-', processor.lower()).strip('-')}.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    known |= {"processor": processor, section: result, "measured": {**known.get("measured", {}), section: day}}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


def write() -> None:
    """Write docs/performance.md from the results of all processors."""
    PAGE.write_text(page([json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]))


def page(machines: Sequence[Result]) -> str:
    """Return the page."""
    sections = (
        ("Compared with others", _comparison(machines)),
        ("A job of some minutes", _long(machines)),
        ("Many small files", _files(machines)),
        ("Share of the processor's peak", _peaks(machines)),
        ("Parsing", _pages(machines)),
    )
    return HEAD + "".join(f"\n## {title}\n\n{text}" for title, text in sections)


def _comparison(machines: Sequence[Result]) -> str:
    rows = []
    for machine in machines:
        compared = machine.get("compare", {})
        ours = compared.get("ingest")
        for name, one in compared.items():
            ratio = f"{ours['kib_per_second'] / one['kib_per_second']:.2f}" if name != "ingest" else "1"
            peak = one["run_peak_mib"] or one["peak_mib"]
            rows.append([machine["processor"], name, f"{one['kib_per_second']:.1f}", ratio, f"{peak:,} MiB"])
    head = ("processor", "command", "KiB/s", "ingest is faster by", "peak")
    return _table(head, rows) + "\nThe peak of *ingest* is that of a run, all its processes together.\n"


def _long(machines: Sequence[Result]) -> str:
    rows = [
        [
            machine["processor"], f"{one['mib']:.0f} MiB in {one['seconds']:.0f} s", f"{one['kib_per_second']:.1f}",
            f"{one['kib_per_second'] / one['loop_kib_per_second']:.2f}", f"{one['busy_share']:.0%}",
            f"{one['run_peak_mib']} MiB", f"{one['eta_error']:.0%}",
        ]
        for machine in machines
        if (one := machine.get("long"))
    ]  # fmt: skip
    head = (
        "processor",
        "job",
        "KiB/s",
        "of a loop that only embeds",
        "cores busy",
        "peak of a run",
        "error of the end",
    )
    note = (
        "\nThe loop embeds the same chunks with the same engine on all cores, and does nothing else; it runs before "
        "and after\nthe job. The error is the largest of the announced ends from a third of the job on, as a share "
        "of its duration.\n"
    )
    return _table(head, rows) + note


def _files(machines: Sequence[Result]) -> str:
    rows = [
        [
            machine["processor"],
            f"{int(files):,}",
            f"{one['ms_per_file']:.1f} ms",
            f"{one['nothing_changed_seconds']:.1f} s",
        ]
        for machine in machines
        for files, one in sorted(machine.get("files", {}).items(), key=lambda item: int(item[0]))
    ]
    searches = [
        f"`ingest search` takes {machine['search']['seconds']} s from its start to its end ({machine['processor']}).\n"
        for machine in machines
        if "search" in machine
    ]
    head = ("processor", "files of one sentence", "time a file, embedding included", "again, nothing changed")
    return _table(head, rows) + "".join(f"\n{line}" for line in searches)


def _peaks(machines: Sequence[Result]) -> str:
    rows = [
        [
            machine["processor"],
            precision,
            f"{one['product_gflops']} GFLOP/s",
            f"{one['model_gflops']} GFLOP/s",
            f"{one['share']:.0%}",
        ]
        for machine in machines
        for precision, one in sorted(machine.get("peak", {}).items())
    ]
    head = ("processor", "precision", "one core, large matrix products", "the model on it", "share")
    return _table(head, rows)


def _pages(machines: Sequence[Result]) -> str:
    rows = [
        [machine["processor"], name, f"{one['pages']:,}", f"{one['pages_per_cpu_second']:,}"]
        for machine in machines
        for name, one in sorted(machine.get("pages", {}).items())
    ]
    return _table(("processor", "PDF", "pages", "pages a CPU second, through the sandbox"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
