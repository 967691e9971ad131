"""A parser that turns on us: its file gets a typed reason, its siblings finish, and nobody waits for long."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.store import reports
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.test_stages import Pipeline, texts

MIB = 1024**2
PLUGIN = """
import os, signal, sys, time
import ingest_pipeline.parsing.formats.text as text
from ingest_pipeline.models import Page

ordinary = text.text_pages

def socket_descriptor():
    return int(sys.argv[1])

def hostile(stream, request):
    deed = stream.read(200).decode().split()[0]
    stream.seek(0)
    if deed == "late":
        yield Page(1, "the first page is good")
        yield Page(2, "the second page is good")
        if request.first_page <= 3 <= (request.last_page or 3):
            os.kill(os.getpid(), signal.SIGKILL)
        yield Page(3, "nobody sees this")
        yield Page(4, "the fourth page is good")
    elif deed == "eat":
        hoard = [bytearray(16 * 1024**2) for _ in range(1000)]
        yield Page(len(hoard), "never")
    elif deed == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
        while True:
            time.sleep(1)
    elif deed == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif deed == "suicide":
        os.kill(os.getpid(), signal.SIGKILL)
    elif deed == "flood":
        while True:
            os.write(1, b"noise" * 200)
            sys.stderr.write("noise")
            yield Page(1, "x" * 60_000, continues=True)
    elif deed == "garbage":
        os.write(socket_descriptor(), b"\\x00\\x00\\x00\\x05nooo!")
        time.sleep(60)
    elif deed == "liar":
        os.write(socket_descriptor(), b"\\xff\\xff\\xff\\xff")
        time.sleep(60)
    else:
        yield from ordinary(stream, request)

text.text_pages = hostile
"""
EXPECTED = {
    "eat": "ParserOutOfMemory",
    "hang": "ParserTimedOut",
    "segfault": "ParserCrashed",
    "suicide": "ParserOutOfMemory",
    "flood": "TooMuchText",
    "garbage": "ParserCrashed",
    "liar": "ParserCrashed",
}


@pytest.fixture
def hostile(connection: Connection, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The pipeline, its parser's child replaced by one that does what the file says."""
    plugin = tmp_path / "plugin"
    plugin.mkdir()
    (plugin / "sitecustomize.py").write_text(PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(plugin))
    box = Sandbox(memory_limit_bytes=256 * MIB, page_seconds=4, file_seconds=60)
    return Pipeline(connection, settings, box)


def rows(connection: Connection) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in reports.files(connection)}


@pytest.mark.parametrize("deed", sorted(EXPECTED))
def test_a_hostile_parser_costs_its_file(hostile: Pipeline, source: Path, connection: Connection, deed: str) -> None:
    """A typed reason, at most three children, siblings before and behind it indexed, within two minutes."""
    for name, content in {"a.txt": "an ordinary text", "m.txt": f"{deed} now", "z.txt": "another text"}.items():
        (source / name).write_text(content)
    began = time.monotonic()
    hostile.ingest()
    assert time.monotonic() - began < 60
    files = rows(connection)
    assert (files["m.txt"]["status"], files["m.txt"]["error"]) == ("failed", EXPECTED[deed])
    assert files["m.txt"]["attempts"] == 1
    assert files["a.txt"]["status"] == files["z.txt"]["status"] == "indexed"


def test_a_page_that_kills_leaves_a_gap(hostile: Pipeline, source: Path, connection: Connection) -> None:
    """The pages around it are searchable; the gap is in the ledger with its reason."""
    (source / "late.txt").write_text("late")
    hostile.ingest()
    row = rows(connection)["late.txt"]
    assert row["status"] == "indexed"
    assert row["gaps"] == [{"page_from": 3, "page_to": 3, "reason": "ParserOutOfMemory"}]
    found = texts(connection, "late.txt")
    assert [word for word in ("first", "second", "nobody", "fourth") if word in found] == ["first", "second", "fourth"]


def test_gaps_can_be_forbidden(hostile: Pipeline, source: Path, connection: Connection) -> None:
    """`INGEST_ALLOW_GAPS=off` fails the file with the page's number; `on` takes it up again by itself."""
    (source / "late.txt").write_text("late")
    hostile.settings = replace(hostile.settings, allow_gaps=False)
    hostile.ingest()
    row = rows(connection)["late.txt"]
    assert (row["status"], row["error"]) == ("failed", "UnreadablePages")
    assert "page 3 could not be read" in row["message"]
    hostile.settings = replace(hostile.settings, allow_gaps=True)
    hostile.ingest()
    row = rows(connection)["late.txt"]
    assert row["status"] == "indexed"
    assert [gap["page_from"] for gap in row["gaps"]] == [3]
