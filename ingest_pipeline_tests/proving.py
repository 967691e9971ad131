"""What the proofs with models need: `ingest` as a process in a home of its own, servers as processes, documents."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from ingest_pipeline.store.server import EmbeddedServer
from ingest_pipeline_tests.conftest import REPOSITORY, share_models
from ingest_pipeline_tests.servers import free_port

MIB = 1024**2
START_SECONDS = 60.0
FIRST = ("Barbara", "James", "Mary", "Robert", "Linda", "Michael", "Susan", "David", "Karen", "Thomas")
LAST = ("Hill", "Smith", "Johnson", "Brown", "Miller", "Davis", "Wilson", "Moore", "Taylor", "Anderson")
PLACES = ("Paris", "Berlin", "London", "Chicago", "Vienna", "Madrid", "Boston", "Rome", "Oslo", "Warsaw")
FIRMS = ("Siemens", "Toyota", "Nokia", "Intel", "Boeing", "Philips", "Kodak", "Volvo", "Sony", "Airbus")


def sentence(chance: random.Random) -> str:
    """A sentence of 80 to 110 characters with names in it, hardly ever twice the same."""
    who, where = f"{chance.choice(FIRST)} {chance.choice(LAST)}", chance.choice(PLACES)
    year, room = chance.randint(1900, 2020), chance.randint(100, 99_999)
    return f"In {year} {who} of {chance.choice(FIRMS)} travelled to {where} and was given the room number {room}."


def text_of(paragraphs: int, *, seed: int, sentences: int = 1) -> str:
    """Paragraphs of some sentences each; one sentence fills more than half of a chunk of 64 tokens."""
    chance = random.Random(seed)
    return "\n\n".join(" ".join(sentence(chance) for _ in range(sentences)) for _ in range(paragraphs)) + "\n"


def pdf_of(pages: int, *, seed: int, lines: int = 6) -> bytes:
    """A PDF with some lines of text on each page."""
    from reportlab.pdfgen.canvas import Canvas

    chance, stream = random.Random(seed), io.BytesIO()
    canvas = Canvas(stream)
    for _ in range(pages):
        for line in range(lines):
            canvas.drawString(30, 780 - 20 * line, sentence(chance))
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


class Ingest:
    """The command `ingest` in a home of its own: settings in the environment, one run at a time."""

    def __init__(self, folder: Path, models: Path, url: str = "", **settings: object) -> None:
        self.home, self.source = share_models(folder / "home", models), folder / "documents"
        self.source.mkdir(exist_ok=True)
        self.url = url or EmbeddedServer(self.home).url
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INGEST_")}
        self.environment = kept | {
            "INGEST_HOME": str(self.home), "INGEST_SOURCES": str(self.source), "INGEST_MAX_RUNS": "1",
            "INGEST_EXTRACT_DELAY_SECONDS": "0", "OPENAI_API_KEY": "key", "GEMINI_API_KEY": "key",
        } | ({"INGEST_DATABASE_URL": url} if url else {})  # fmt: skip
        self.set(**settings)

    def set(self, **settings: object) -> None:
        """Change settings of the next process: `run_memory` is INGEST_RUN_MEMORY."""
        self.environment |= {f"INGEST_{name.upper()}": str(value) for name, value in settings.items()}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command that prints JSON."""
        command = [sys.executable, "-m", "ingest_pipeline.cli", *arguments, "--json"]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=self.environment, cwd=REPOSITORY, text=True, **pipes)

    def ended(self, process: subprocess.Popen[str], sent: str = "", *, seconds: float = 900) -> dict[str, Any]:
        """Wait for a command that succeeds; what its last line says."""
        out, err = process.communicate(sent, timeout=seconds)
        assert process.returncode == 0, f"{out}\n{err}\n{self.log()[-4000:]}"
        return dict(json.loads(out.splitlines()[-1]))

    def call(self, *arguments: str, sent: str = "") -> dict[str, Any]:
        """Run a command; what its last line says."""
        return self.ended(self.start(*arguments), sent)

    def run(self) -> dict[str, Any]:
        """Run `ingest run` to its end: every file is indexed."""
        account = self.call("run")
        require_all_indexed(account)
        return account

    def workers(self) -> dict[str, int]:
        """Pids of live processes of batches' runs, by run."""
        found = {}
        for path in (self.home / "runs").glob("*.json"):
            facts = json.loads(path.read_text())
            if "supervisor" in facts and "code" not in facts and is_alive(facts["pid"]):
                found[path.stem] = int(facts["pid"])
        return found

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What a statement returns."""
        with psycopg.connect(self.url, options="-c search_path=ingest,public", autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()

    def count(self, what: str) -> int:
        """How many rows a `FROM` has."""
        return int(self.rows(f"SELECT count(*) FROM {what}")[0][0])

    def log(self) -> str:
        """What the runs' processes wrote."""
        paths = [*(self.home / "runs").glob("*.log"), *(self.home / "dagster" / "storage").rglob("*.err")]
        return "\n".join(
            path.read_text(errors="replace") for path in sorted(paths, key=lambda one: one.stat().st_mtime)
        )

    def close(self) -> None:
        """Kill every process that works in this home: runs, supervisors, Postgres."""
        for process in psutil.process_iter():
            try:
                if process.environ().get("INGEST_HOME") == str(self.home):
                    process.kill()
            except psutil.Error:
                continue


def require_all_indexed(account: dict[str, Any]) -> None:
    """Nothing is left or stuck, nothing failed, nobody stopped."""
    others = {status: count for status, count in account["files"].items() if status != "indexed" and count}
    assert (account["stopped"], others) == (None, {}), account


def is_alive(pid: int) -> bool:
    """Whether a process works."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True, slots=True)
class Served:
    """A server of ours in a process of its own."""

    root: str

    def state(self) -> dict[str, Any]:
        """What it was asked."""
        with urllib.request.urlopen(f"{self.root}/_state", timeout=30) as response:
            return dict(json.load(response))

    def script(self, **what: Any) -> None:
        """Arrange what it does next."""
        request = urllib.request.Request(f"{self.root}/_script", json.dumps(what).encode())
        urllib.request.urlopen(request, timeout=30).close()


@contextmanager
def served(module: str) -> Iterator[Served]:
    """Run `python -m ingest_pipeline_tests.MODULE PORT`."""
    port = free_port()
    command = [sys.executable, "-m", f"ingest_pipeline_tests.{module}", str(port)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = Served(f"http://127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(server):
            assert process.poll() is None and time.monotonic() < deadline, f"{module} does not answer"
            time.sleep(0.05)
        yield server
    finally:
        process.kill()
        process.wait()


def _answers(server: Served) -> bool:
    try:
        return bool(server.state())
    except OSError:
        return False
