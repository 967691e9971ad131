"""The recipes with `curl` in README.md and docs/service.md work, as they are written."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.conftest import REPOSITORY
from ingest_pipeline_tests.gemini_server import GeminiServer
from ingest_pipeline_tests.running_service import running_service
from ingest_pipeline_tests.serving import TOKEN
from ingest_pipeline_tests.test_server_embeddings import Stages
from ingest_pipeline_tests.test_stages_extracts import gemini, running, write_pdf, write_spec  # noqa: F401

PAGES = (REPOSITORY / "README.md", REPOSITORY / "docs" / "service.md")
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:3080"


def recipes() -> list[str]:
    """Each shell block that asks the service."""
    blocks = [block for page in PAGES for block in BLOCK.findall(page.read_text())]
    return [block for block in blocks if "curl" in block and ADDRESS in block]


@pytest.fixture
def service(
    connection: Connection,
    settings: Settings,
    source: Path,
    tmp_path: Path,
    gemini: GeminiServer,  # noqa: F811
) -> Iterator[str]:
    """The service as the pages expect it: a manual is searchable, an LLM is named."""
    write_pdf(source / "manual.pdf", "How hot is the oven?", "Clean it weekly.", "Descale the steam oven.")
    ample = replace(settings, run_memory=8 * 2**30, machine_memory=16 * 2**30)
    Stages(connection, ample).ingest()
    ample = replace(ample, extract=str(tmp_path / "extract.yaml"), extract_delay_seconds=0.0)
    write_spec(ample, gemini.url)
    with running_service(ample) as url:
        yield url


@pytest.mark.proof
def test_recipes(service: str, source: Path, tmp_path: Path) -> None:
    """Each recipe ends well, and what it prints is JSON without an error."""
    work = tmp_path / "work"
    (work / "notes").mkdir(parents=True)
    (work / "notes" / "a.txt").write_text("a note")
    write_pdf(work / "report.pdf", "A report")
    environment = os.environ | {"INGEST_SERVICE_TOKEN": TOKEN}
    assert len(recipes()) >= 7
    for recipe in recipes():
        script = re.sub(r"timeout=\d+", "timeout=1", recipe.replace(ADDRESS, service))
        command = ["bash", "-euo", "pipefail", "-c", script]
        ended = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, (recipe, ended.stderr)
        for value in values(ended.stdout):
            assert not isinstance(value, dict) or "message" not in value or "status" in value, (recipe, value)
    stored = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert stored == {
        "manual.pdf", "reports/2026/report.pdf", "report.pdf", "notes.tar.gz", "from-a-form.pdf",
    }  # fmt: skip


def values(printed: str) -> list[object]:
    """Every JSON value that a recipe printed, one behind the other."""
    printed_values, decoder, text = [], json.JSONDecoder(), printed.strip()
    while text:
        value, end = decoder.raw_decode(text)
        printed_values.append(value)
        text = text[end:].strip()
    assert printed_values
    return printed_values
