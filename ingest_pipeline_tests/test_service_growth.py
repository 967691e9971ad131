"""What the service uses while it takes documents: measured in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from ingest_pipeline.embedding.model import PACKAGED
from ingest_pipeline.service.embeddings import MOST_TEXTS
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.gemini_server import GeminiServer
from ingest_pipeline_tests.serving import BEARER
from ingest_pipeline_tests.test_server_embeddings import Stages
from ingest_pipeline_tests.test_stages_extracts import gemini, running, write_pdf, write_spec  # noqa: F401

MIB = 1024**2
SERVICE = """
from ingest_pipeline.embedding.model import PACKAGED
from ingest_pipeline.service.embeddings import MOST_TEXTS
from ingest_pipeline.settings import read_settings
from ingest_pipeline_tests.running_service import running_service
with running_service(read_settings()) as url:
    print(url, flush=True)
    input()
"""


@contextmanager
def service_process(settings: Settings) -> Iterator[tuple[str, int]]:
    """Run the service in a process; yield its URL and process id."""
    command, environment = [sys.executable, "-c", SERVICE], {**os.environ, **settings.environ()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process.stdout.readline().strip(), process.pid
            process.communicate("\n", timeout=30)
        finally:
            process.kill()


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1]) * 1024


def pieces(size_bytes: int) -> Iterator[bytes]:
    piece = os.urandom(MIB)
    for _ in range(size_bytes // MIB):
        yield piece


def ask_for_vectors(url: str) -> None:
    """The largest request: as many texts as one may have, each about as long as a chunk."""
    texts = [" ".join(f"word{number}" for number in range(first, first + 60)) for first in range(MOST_TEXTS)]
    answer = httpx.post(f"{url}/v1/embeddings", json={"model": PACKAGED, "input": texts}, headers=BEARER, timeout=300)
    assert len(answer.json()["data"]) == MOST_TEXTS


@pytest.mark.proof
def test_memory_of_uploads(settings: Settings, source: Path) -> None:
    """A document of 50 MB costs the service less than 1 MiB more than one of 2 MB, as a body and in a form."""
    with service_process(replace(settings, max_file_size=64 * MIB)) as (url, pid):

        def upload(name: str, size_bytes: int) -> None:
            answer = httpx.post(
                f"{url}/documents", params={"name": name}, content=pieces(size_bytes), headers=BEARER, timeout=60
            )
            assert answer.json()["size_bytes"] == size_bytes

        def upload_form(name: str, size_bytes: int) -> None:
            big = source.parent / name
            big.write_bytes(os.urandom(size_bytes))
            with big.open("rb") as stream:
                endpoint = f"{url}/api/v1/documents/upload"
                answer = httpx.post(endpoint, files={"file": (name, stream)}, headers=BEARER, timeout=60)
            assert answer.json()["size_bytes"] == size_bytes

        for kind in (upload, upload_form):
            for number in range(3):
                kind(f"small-{kind.__name__}-{number}", 2 * MIB)
            before = peak_bytes(pid)
            kind(f"big-{kind.__name__}", 50 * MIB)
            grown = peak_bytes(pid) - before
            print(f"{kind.__name__}: {before / MIB:.1f} MiB before, {grown / 1024:.0f} KiB more")
            assert grown < MIB


@pytest.mark.proof
def test_memory_of_vectors(settings: Settings) -> None:
    """The service stays within 300 MiB with the packaged model, also for the largest request for vectors."""
    with service_process(settings) as (url, pid):
        began = time.monotonic()
        ask_for_vectors(url)
        print(f"{MOST_TEXTS} texts in {time.monotonic() - began:.1f} s, peak {peak_bytes(pid) / MIB:.0f} MiB")
        assert peak_bytes(pid) < 300 * MIB


@pytest.mark.proof
def test_memory_of_answers(
    connection: Connection,
    settings: Settings,
    source: Path,
    tmp_path: Path,
    gemini: GeminiServer,  # noqa: F811
) -> None:
    """Asking an LLM about a PDF, beside a loaded model, keeps the service within 300 MiB."""
    write_pdf(source / "a.pdf", *(f"Page {number}" for number in range(6)))
    ample = replace(settings, run_memory=8 * 2**30, machine_memory=16 * 2**30)
    Stages(connection, ample).ingest()
    asking_settings = replace(settings, extract=str(tmp_path / "extract.yaml"), extract_delay_seconds=0.0)
    write_spec(asking_settings, gemini.url)
    with service_process(asking_settings) as (url, pid):
        ask_for_vectors(url)
        before = peak_bytes(pid)
        answer = httpx.post(f"{url}/extract", json={"document": "a.pdf"}, headers=BEARER, timeout=60)
        assert len(answer.text.splitlines()) == 6
        print(f"asking: {before / MIB:.0f} MiB before, {(peak_bytes(pid) - before) / MIB:.0f} MiB more")
        assert peak_bytes(pid) < 300 * MIB
