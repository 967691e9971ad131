"""Many people ask `ingest serve` while documents are ingested: does each hold its time? Prints a table.

Documents are ingested twice in each pair, once alone and once while 50 clients ask 10 times a second, in turn first and
second. Bars: no error, p99 of an answer at most 1 s, and ingestion takes at most 25 % longer. What else the machine
does falls on both halves of a pair alike. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from ingest_pipeline.memory.process import peak_memory_bytes

MIB = 1024**2
REPOSITORY = Path(__file__).resolve().parents[1]
INGEST = [sys.executable, "-m", "ingest_pipeline.cli"]
MOST_P99_SECONDS, MOST_SLOWDOWN = 1.0, 0.25
LIBRARY_FILES, CHARACTERS = 60, 12_000
"""Documents that are searched from the beginning; the length of each document, 10 to 12 chunks."""
START_SECONDS, WARM_SECONDS = 120.0, 2.0
WORDS = (Path(__file__).resolve().parents[1] / "ingest_pipeline" / "samples" / "sourdough.md").read_text().split()


@dataclass
class Asked:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Return the time within which so many answers came."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


@dataclass(frozen=True)
class Half:
    """One ingestion."""

    seconds: float
    chunks: int
    asked: Asked
    service_cpu_seconds: float


@dataclass(frozen=True)
class Result:
    """Everything that was measured."""

    pairs: tuple[tuple[Half, Half], ...]
    """Alone, and while others ask."""
    service_peak_bytes: int

    @property
    def slowdown(self) -> float:
        """How much longer ingestion takes beside questions, as the median over pairs."""
        return median(beside.seconds / alone.seconds for alone, beside in self.pairs) - 1

    @property
    def asked(self) -> Asked:
        """The questions of all pairs."""
        halves = [beside.asked for _, beside in self.pairs]
        return Asked([one for half in halves for one in half.seconds], [one for half in halves for one in half.errors])

    @property
    def holds(self) -> bool:
        """Whether all bars are met."""
        asked = self.asked
        within = asked.percentile(0.99) <= MOST_P99_SECONDS and self.slowdown <= MOST_SLOWDOWN
        return bool(asked.seconds) and not asked.errors and within


def write_documents(folder: Path, files: int, seed: str) -> Path:
    """Write documents whose texts nobody has seen before, of words of the samples."""
    folder.mkdir(parents=True)
    chooser = random.Random(seed)
    for number in range(files):
        words, length = [f"{seed}-{number}."], 0
        while length < CHARACTERS:
            words.append(chooser.choice(WORDS))
            length += len(words[-1]) + 1
        (folder / f"{seed}-{number}.txt").write_text(" ".join(words))
    return folder


class Box:
    """A home with a service, and what is ingested into it.

    Args:
        folder: for the home and the documents.
        run_memory: budget of a run.
    """

    def __init__(self, folder: Path, run_memory: str = "512MiB") -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INGEST_")}
        mine = {"INGEST_HOME": str(folder / "home"), "INGEST_RUN_MEMORY": run_memory}
        self.environment = kept | mine | {"INGEST_SERVICE_PORT": str(self.port)}

    def ingest(self, documents: Path) -> dict[str, Any]:
        """Ingest a folder; return the account."""
        ended = subprocess.run(
            [*INGEST, "run", "--json", str(documents)],
            env=self.environment, cwd=REPOSITORY, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ended.returncode:
            raise SystemExit(f"ingest run: exit code {ended.returncode}: {ended.stderr[-500:]}")
        account: dict[str, Any] = json.loads(ended.stdout)
        return account

    @contextmanager
    def service(self) -> Iterator[int]:
        """Serve; yield the process id."""
        process = subprocess.Popen([*INGEST, "serve"], env=self.environment, cwd=REPOSITORY, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None and process.stdout.readline(), "the service did not start"
            yield process.pid
        finally:
            process.terminate()
            process.wait(30)
            process.stdout.close()

    def stop(self) -> None:
        """Stop the embedded Postgres."""
        subprocess.run([*INGEST, "db", "stop"], env=self.environment, cwd=REPOSITORY, capture_output=True, check=False)


async def ask(url: str, *, rate: float, clients: int, until: asyncio.Event) -> Asked:
    """Ask at a rate, by so many clients with a connection each, until an event."""
    asked, chooser = Asked(), random.Random(1)

    async def one(number: int) -> None:
        await asyncio.sleep(number / rate)
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            due = time.monotonic()
            while not until.is_set():
                words = chooser.choices(WORDS, k=chooser.choice((2, 3, 5, 8, 20)))
                began = time.monotonic()
                try:
                    answer = await client.get("/search.json", params={"q": " ".join(words), "top": 10})
                    if answer.status_code != 200:
                        asked.errors.append(f"{answer.status_code}: {answer.text[:80]}")
                except httpx.HTTPError as error:
                    asked.errors.append(type(error).__name__)
                asked.seconds.append(time.monotonic() - began)
                due += clients / rate
                await _pause(until, due - time.monotonic())

    await asyncio.gather(*(one(number) for number in range(clients)))
    return asked


async def _pause(until: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(until.wait(), max(0.0, seconds))
    except TimeoutError:
        return


def half(box: Box, documents: Path, pid: int, *, rate: float, clients: int) -> Half:
    """Ingest documents, while clients ask at a rate; 0: nobody asks."""

    async def both() -> tuple[dict[str, Any], Asked]:
        until = asyncio.Event()
        asking = asyncio.create_task(ask(box.url, rate=rate, clients=clients, until=until)) if rate else None
        try:
            account = await asyncio.to_thread(box.ingest, documents)
        finally:
            until.set()
        return account, await asking if asking else Asked()

    cpu = _cpu_seconds(pid)
    account, asked = asyncio.run(both())
    return Half(account["seconds"], account["chunks_embedded"], asked, _cpu_seconds(pid) - cpu)


def _cpu_seconds(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")


def prove(folder: Path, *, seconds: float, pairs: int, rate: float, clients: int) -> Result:
    """Measure pairs of ingestions of about so many seconds."""
    box = Box(folder)
    try:
        box.ingest(write_documents(folder / "library", LIBRARY_FILES, "library"))  # converts the model, too
        with box.service() as pid:
            trial = half(box, write_documents(folder / "trial", 40, "trial"), pid, rate=0, clients=clients)
            files = max(20, int(40 * seconds / trial.seconds))
            measured = []
            for number in range(pairs):
                rates = (0.0, rate) if number % 2 == 0 else (rate, 0.0)
                halves = {}
                for each in rates:
                    documents = write_documents(folder / f"{number}-{each:g}", files, f"p{number}r{each:g}")
                    halves[each] = half(box, documents, pid, rate=each, clients=clients)
                    print(_line("beside" if each else "alone", halves[each]), flush=True)
                measured.append((halves[0.0], halves[rate]))
            return Result(tuple(measured), peak_memory_bytes(pid))
    finally:
        box.stop()


def _line(name: str, one: Half) -> str:
    asked = one.asked
    told = f"{len(asked.seconds)} asked, {len(asked.errors)} errors, p50 {asked.percentile(0.5) * 1000:.0f} ms, "
    told += f"p99 {asked.percentile(0.99) * 1000:.0f} ms, service {one.service_cpu_seconds:.1f} CPU s"
    return f"{name:>7}: {one.chunks} chunks in {one.seconds:.1f} s" + (f"; {told}" if asked.seconds else "")


def table(result: Result) -> str:
    """Return the figures beside their bars, as Markdown."""
    asked = result.asked
    rows = [
        ("questions", f"{len(asked.seconds):,}", ""),
        ("errors", str(len(asked.errors)), "0"),
        ("p50", f"{asked.percentile(0.5) * 1000:.0f} ms", ""),
        ("p99", f"{asked.percentile(0.99) * 1000:.0f} ms", f"{MOST_P99_SECONDS * 1000:.0f} ms"),
        ("longest", f"{max(asked.seconds, default=0.0) * 1000:.0f} ms", ""),
        ("ingestion takes longer by", f"{result.slowdown:.0%}", f"{MOST_SLOWDOWN:.0%}"),
        ("peak of the service", f"{result.service_peak_bytes / MIB:.0f} MiB", "300 MiB"),
    ]
    return "\n".join(["| | measured | at most |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 0 if the bars are met."""
    parser = argparse.ArgumentParser(description="Ask the service while documents are ingested.")
    parser.add_argument("--seconds", type=float, default=300.0, help="of each ingestion")
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=10.0, help="questions a second")
    parser.add_argument("--clients", type=int, default=50)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="service-load-") as folder:
        result = prove(
            Path(folder), seconds=options.seconds, pairs=options.pairs, rate=options.rate, clients=options.clients
        )
    print(table(result))
    for error in sorted(set(result.asked.errors))[:5]:
        print(error, file=sys.stderr)
    return 0 if result.holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
