"""Measures how fast `ingest run` is, beside other ways to do the same work: `make bench`.

Every figure is of whole commands, interleaved, as a median over rounds. Other systems get an environment of their own
under `.bench/`. The results of each processor are kept in `benchmarks/results/`, and docs/performance.md is written
from all of them, so that a run on another machine adds a row.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import performance_page
from benchmarks import texts as text_makers
from benchmarks.measure import Measured, measured
from ingest_pipeline.chunking import Chunker, load_encoder
from ingest_pipeline.embedding.load import prepare_engine
from ingest_pipeline.embedding.model import model_folder
from ingest_pipeline.embedding.precision import has_bf16
from ingest_pipeline.models import Chunk, Page
from ingest_pipeline.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[1]
CORPUS = Path(os.environ.get("INGEST_CORPUS") or REPOSITORY.parent / "shared" / "corpus")
BENCH, PEERS = REPOSITORY / ".bench", REPOSITORY / "benchmarks" / "peers"
PEER_PACKAGES = (
    "cocoindex==1.0.26", "llama-index-core==0.14.25", "llama-index-embeddings-huggingface==0.8.0",
    "sentence-transformers==6.2.0",
)  # fmt: skip
TORCH = "torch==2.13.0"
OFFLINE = {"HF_HUB_OFFLINE": "1", "COCOINDEX_DISABLE_USAGE_TRACKING": "1"}
FILES, KIB, MIB = 60, 1024, 1024**2
INGEST = (sys.executable, "-m", "ingest_pipeline.cli")
Result = dict[str, Any]


def compare(work: Path, pieces: list[str], *, rounds: int) -> Result:
    """Return KiB of text a second and peak of each system for 60 texts of 20,000 characters, as whole commands."""
    folder, chunks = work / "texts", work / "chunks.json"
    size = text_makers.write_texts(pieces, folder, files=FILES)
    chunks.write_text(json.dumps([chunk.text for chunk in _chunks(folder)]))
    model, python = str(model_folder(Settings().model)), str(peer_python())
    commands: dict[str, Callable[[], Measured]] = {
        "encode": lambda: measured([python, str(PEERS / "bare.py"), model, str(chunks)], environ=OFFLINE),
        "CocoIndex": lambda: measured([python, str(PEERS / "cocoindex_peer.py"), model, str(folder)], environ=OFFLINE),
        "LlamaIndex": lambda: measured(
            [python, str(PEERS / "llama_index_peer.py"), model, str(folder)], environ=OFFLINE
        ),
        "ingest": lambda: ingest(folder),
    }
    if has_bf16():
        commands["ingest, f32"] = lambda: ingest(folder, INGEST_PRECISION="f32")
    taken: dict[str, list[Measured]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            taken[name].append(command())
            print(f"{name}: {size / KIB / taken[name][-1].seconds:.1f} KiB/s", flush=True)
    return {name: _summary(size, runs) for name, runs in taken.items()}


def _summary(size_bytes: int, runs: list[Measured]) -> Result:
    accounts = [json.loads(run.output) for run in runs if run.output.startswith("{")]
    return {
        "kib_per_second": round(median(size_bytes / KIB / run.seconds for run in runs), 1),
        "cpu_seconds": round(median(run.cpu_seconds for run in runs), 1),
        "peak_mib": round(max(run.peak_bytes for run in runs) / MIB),
        "run_peak_mib": round(max((one["peak_memory_bytes"] for one in accounts), default=0) / MIB),
    }


def long_job(work: Path, pieces: list[str], *, kib: int) -> Result:
    """Return how a job of some minutes compares with a loop that only embeds, and what the cores did meanwhile."""
    folder, chunks = work / "long", work / "long.json"
    size = text_makers.write_texts(pieces, folder, files=max(1, kib * KIB // text_makers.CHARACTERS))
    chunks.write_text(json.dumps([(chunk.text, chunk.tokens) for chunk in _chunks(folder)]))
    loop = [sys.executable, str(REPOSITORY / "benchmarks" / "embedding_loop.py"), str(chunks)]
    # Before and after, because the machine's speed changes within minutes.
    before, ours, after = measured(loop, environ={}), ingest(folder), measured(loop, environ={})
    loop_seconds = (before.seconds + after.seconds) / 2
    account = json.loads(ours.output)
    return {
        "mib": round(size / MIB, 1),
        "seconds": round(ours.seconds, 1),
        "kib_per_second": round(size / KIB / ours.seconds, 1),
        "loop_kib_per_second": round(size / KIB / loop_seconds, 1),
        "busy_share": round(ours.busy_share, 3),
        "run_peak_mib": round(account["peak_memory_bytes"] / MIB),
        "runs": account["runs"],
        "eta_error": round(eta_error(ours), 3),
    }


def eta_error(run: Measured) -> float:
    """Return the largest error of the announced end from a third of the job on, as a share of the whole duration."""
    errors = [0.0]
    for seconds, line in run.lines:
        if (left := _seconds_left(line)) is not None and seconds >= run.seconds / 3:
            errors.append(abs(seconds + left - run.seconds) / run.seconds)
    return max(errors)


def _seconds_left(line: str) -> float | None:
    announced = re.search(r"about (?:(\d+)m)?(\d+)s left", line)
    return 60.0 * int(announced[1] or 0) + int(announced[2]) if announced else None


def small_files(work: Path, *, most: int) -> Result:
    """Return milliseconds a file, by the number of files of one sentence each."""
    result: Result = {}
    for files in (100, 1_000, 10_000, 100_000):
        if files <= most:
            folder = work / f"notes-{files}"
            text_makers.write_notes(folder, files=files)
            with home() as folder_of_home:
                first, again = (_in_home(folder_of_home, folder) for _ in range(2))
            result[str(files)] = {
                "ms_per_file": round(1000 * first.seconds / files, 2),
                "nothing_changed_seconds": round(again.seconds, 2),
            }
            print(f"{files} files: {result[str(files)]}", flush=True)
    return result


def pdf_pages(corpus: Path) -> Result:
    """Return pages a CPU second for the five largest PDFs, through the sandbox."""
    files = sorted(corpus.glob("pdf/*.pdf"), key=lambda path: -path.stat().st_size)[:5]
    return {path.name: _script("parse_pages.py", str(path)) for path in files}


def peak_share() -> Result:
    """Return the model's arithmetic beside what one core can do in matrix products, by precision."""
    return {precision: _script("peak_share.py", precision) for precision in ("f32", *["bf16"] * has_bf16())}


def search_seconds(work: Path, pieces: list[str]) -> Result:
    """Return how long a search takes from the start of the command."""
    folder = work / "searched"
    text_makers.write_texts(pieces, folder, files=FILES)
    with home() as folder_of_home:
        _in_home(folder_of_home, folder)
        command = [*INGEST, "search", "how is the steam made", "--json"]
        runs = [measured(command, environ={"INGEST_HOME": str(folder_of_home)}) for _ in range(3)]
    return {"seconds": round(median(run.seconds for run in runs), 2)}


def ingest(folder: Path, **environ: str) -> Measured:
    """Run `ingest run` on a folder, with a database of its own; the model is exported already."""
    with home() as folder_of_home:
        return _in_home(folder_of_home, folder, **environ)


def _in_home(folder_of_home: Path, folder: Path, **environ: str) -> Measured:
    return measured([*INGEST, "run", "--json", str(folder)], environ={**environ, "INGEST_HOME": str(folder_of_home)})


@contextmanager
def home() -> Iterator[Path]:
    """Yield an `INGEST_HOME` with the exported model and nothing else; its database is stopped at the end."""
    prepare_engine(Settings(home=BENCH / "home"))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(BENCH / "home" / "models", Path(folder) / "models")
        try:
            yield Path(folder)
        finally:
            stop = [*INGEST, "db", "stop"]
            subprocess.run(stop, env={**os.environ, "INGEST_HOME": folder}, stdout=subprocess.DEVNULL, check=False)


def peer_python() -> Path:
    """Return the Python of the environment with the other systems; made once."""
    python = BENCH / "peers" / "bin" / "python"
    done = BENCH / "peers" / ".installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", BENCH / "peers"], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, TORCH], check=True)
        subprocess.run([*pip, *PEER_PACKAGES], check=True)
        done.touch()
    return python


def _chunks(folder: Path) -> list[Chunk]:
    model = Settings().model
    encode = load_encoder(model_folder(model) / "tokenizer.json")
    return [
        chunk
        for path in sorted(folder.iterdir())
        for chunks in Chunker(encode, max_tokens=254).split([Page(number=1, text=path.read_text())])
        for chunk in chunks
    ]


def _script(name: str, *arguments: str) -> Any:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / name), *arguments]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    return json.loads(subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True).stdout)


def processor() -> str:
    """Return what the kernel says of the processor, with the instructions that matter here and the number of cores."""
    fields = dict(
        (part.strip() for part in line.split(":", 1))
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        if ":" in line
    )
    flags = fields.get("flags", "").split()
    known = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2") if flag in flags]
    numbers = f"family {fields.get('cpu family', '?')}, model {fields.get('model', '?')}"
    return f"{fields.get('model name', 'unknown')} ({numbers}; {', '.join(known[:2])}), {os.cpu_count()} cores"


def main() -> int:
    """Measure what was asked for, keep the results of this processor, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="compare,long,files,pages,peak,search", help="sections, with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long-kib", type=int, default=20_000, help="text of the long job: five minutes at 67 KiB/s")
    parser.add_argument("--most-files", type=int, default=100_000)
    options = parser.parse_args()
    corpus = CORPUS if CORPUS.is_dir() else None
    pieces = text_makers.texts(corpus)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sections: Mapping[str, Callable[[], Result]] = {
            "compare": lambda: compare(work, pieces, rounds=options.rounds),
            "long": lambda: long_job(work, pieces, kib=options.long_kib),
            "files": lambda: small_files(work, most=options.most_files),
            "pages": lambda: pdf_pages(corpus) if corpus else {},
            "peak": peak_share,
            "search": lambda: search_seconds(work, pieces),
        }
        for name in options.only.split(","):
            performance_page.keep(processor(), name, sections[name](), day=f"{datetime.now(UTC):%Y-%m-%d}")
    performance_page.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
