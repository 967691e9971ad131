"""The service's memory: what it takes, what it imports, and that the machine's reserve counts it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from ingest_pipeline.engines import F32
from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.memory.machine import SERVICE_BYTES, run_slots
from ingest_pipeline.memory.process import peak_memory_bytes
from ingest_pipeline.memory.service_mark import marked_in_use, service_is_in_use
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.server import EmbeddedServer
from ingest_pipeline_tests.conftest import share_models
from ingest_pipeline_tests.packaged import library
from ingest_pipeline_tests.serving import Served, serving
from ingest_pipeline_tests.test_house import imported_by

MIB, GIB = 1024**2, 1024**3
FORBIDDEN = {"torch", "dagster", "rich", "spacy", "sentence_transformers", "transformers", "pypdf", "lxml", "pandas"}
WORDS = "steam oven dough salt ferry keys harbour Monday descale lamp crust loaf water scale brush door".split()


@pytest.fixture(scope="module")
def served(
    server: EmbeddedServer, template: str, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A service over 400 short documents."""
    folder = tmp_path_factory.mktemp("memory")
    (documents := folder / "documents").mkdir()
    for number in range(400):
        words = [WORDS[(number * step + step) % len(WORDS)] for step in range(1, 40)]
        (documents / f"{number}.txt").write_text(" ".join([f"Note {number}.", *words]))
    with (
        library(server, template, home=share_models(folder / "home", models), documents=documents) as settings,
        serving(settings) as service,
    ):
        yield service


def searches(service: Served, count: int) -> None:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        for number in range(count):
            words = [WORDS[(number + step * step) % len(WORDS)] for step in range(1 + number % 30)]
            answer = client.get("/search.json", params={"q": " ".join(words), "top": 20})
            assert (answer.status_code, bool(answer.json()["hits"])) == (200, True)


@pytest.mark.proof
def test_the_service_stays_small(served: Served) -> None:
    """After 1,000 searches by four clients and some of agents its peak is below what the reserve counts for it."""
    threads = [threading.Thread(target=searches, args=(served, 250)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    searches(served, 1)
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    call |= {"params": {"name": "search", "arguments": {"query": "steam", "top": 20}}}
    for _ in range(20):
        headers = {"accept": "application/json, text/event-stream"}
        assert httpx.post(served.url + "/mcp", json=call, headers=headers, timeout=30).status_code == 200
    assert served.get("/metrics").status_code == 200
    peak = peak_memory_bytes(served.process.pid)
    print(f"peak of the service: {peak / MIB:.0f} MiB")
    assert 100 * MIB < peak <= SERVICE_BYTES


def test_the_service_imports_little() -> None:
    """Application, server and tools bring neither torch nor Dagster nor what makes tables on a terminal."""
    modules = imported_by(
        "import ingest_pipeline.cli.main, ingest_pipeline.cli.serving, ingest_pipeline.service.app, "
        "ingest_pipeline.service.server, ingest_pipeline.service.mcp"
    )
    assert "starlette" in modules
    assert modules & (FORBIDDEN | {"openvino", "mcp"}) == set()


def slots(settings: Settings) -> int:
    return run_slots(RunBudget.of(settings, "openvino", F32), settings)


@pytest.mark.parametrize(
    ("machine_gib", "without", "beside"),
    [(0.8, 1, 1), (1.6, 2, 1), (2.0, 3, 2), (3.0, 4, 4), (4.0, 6, 6), (16.0, 30, 30)],
)
def test_the_reserve_counts_it(tmp_path: Path, machine_gib: float, without: int, beside: int) -> None:
    """Where a quarter of the machine is less than the whole reserve, runs make room for a service; one run stays."""
    settings = replace(
        Settings(), home=tmp_path, run_memory=512 * MIB, machine_memory=int(machine_gib * GIB), max_runs=99
    )
    assert slots(settings) == without
    with marked_in_use(tmp_path):
        assert slots(settings) == beside
    assert slots(settings) == without


HOLDER = """
import sys, time
from pathlib import Path
from ingest_pipeline.memory.service_mark import marked_in_use
with marked_in_use(Path(sys.argv[1])):
    print('held', flush=True)
    time.sleep(60)
"""


def test_the_mark_ends_with_it(tmp_path: Path) -> None:
    """A service that was killed is not counted; two of one home are one mark, until both have ended."""
    home = tmp_path / "home"
    assert not service_is_in_use(home)
    holders = []
    for _ in range(2):
        command = [sys.executable, "-c", HOLDER, str(home)]
        holders.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert holders[-1].stdout is not None and holders[-1].stdout.readline() == "held\n"
        assert service_is_in_use(home)
    for left, holder in enumerate(holders, start=-1):
        holder.kill()
        holder.communicate()
        assert service_is_in_use(home) is (left < 0)


def test_who_asks_is_no_service(tmp_path: Path) -> None:
    """Eight threads that ask all the time never take each other for a service."""
    with marked_in_use(tmp_path):
        assert service_is_in_use(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: service_is_in_use(tmp_path), range(2000)))
    assert answers == [False] * 2000


def test_a_service_is_marked(settings: Settings) -> None:
    """`ingest serve` holds the mark of its home while it answers."""
    with serving(settings) as service:
        assert service_is_in_use(settings.home)
        service.ended()
    assert not service_is_in_use(settings.home)
