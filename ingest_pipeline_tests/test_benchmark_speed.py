"""The speed benchmark's own parts: what it measures of a command, its texts, the end that was announced, its page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import performance_page, texts
from benchmarks.measure import CommandFailed, Measured, measured
from benchmarks.speed import eta_error

MIB = 1024**2
GREEDY = (
    "import subprocess, sys, time; sys.stderr.write('about 9s left\\n'); sys.stderr.flush();"
    "child = subprocess.Popen([sys.executable, '-c', 'block = bytearray(80 << 20); import time; time.sleep(0.6)']);"
    "block = bytearray(60 << 20); child.wait(); print('done')"
)


def test_a_command_and_its_children_are_measured() -> None:
    """The peak is that of the whole tree, CPU time and lines of stderr come with their times."""
    cost = measured([sys.executable, "-c", GREEDY], environ={})
    assert cost.output == "done\n"
    assert cost.peak_bytes >= 140 * MIB
    assert 0.6 <= cost.seconds < 20
    assert 0 < cost.cpu_seconds < cost.seconds * 4
    assert 0 < cost.busy_share <= 1
    [(seconds, line)] = cost.lines
    assert line == "about 9s left"
    assert 0 < seconds < cost.seconds


def test_a_failed_command_is_an_error() -> None:
    """The end of its stderr says why."""
    with pytest.raises(CommandFailed, match="exit code 3: no such thing"):
        measured([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"], environ={})


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ([], 0.0),
        ([(10.0, "about 1m00s left")], 0.0),  # in the first third nobody is held to it
        ([(40.0, "1/2 files · 40s elapsed, about 1m00s left · 3 chunks")], 0.0),
        ([(40.0, "about 30s left"), (80.0, "about 25s left")], 0.3),
        ([(50.0, "reading the sources")], 0.0),
    ],
)
def test_the_announced_end(lines: list[tuple[float, str]], error: float) -> None:
    """The largest error from a third of the job on, as a share of its duration."""
    run = Measured(100.0, 0.0, 0, 1.0, "", tuple(lines))
    assert eta_error(run) == pytest.approx(error)


def test_no_text_is_used_twice(tmp_path: Path) -> None:
    """More files than texts: further editions differ in each paragraph; the same call writes the same files."""
    pieces = ["alpha " * 3000, "beta " * 3000]
    size = texts.write_texts(pieces, tmp_path / "one", files=5)
    texts.write_texts(pieces, tmp_path / "two", files=5)
    contents = [path.read_text() for path in sorted((tmp_path / "one").iterdir())]
    assert [path.read_text() for path in sorted((tmp_path / "two").iterdir())] == contents
    assert len(set(contents)) == 5
    assert contents[:2] == pieces
    assert contents[2].count("(1) ") == -(-len(pieces[0]) // texts.PARAGRAPH)
    assert size == sum(map(len, contents))


def test_texts_of_python_itself() -> None:
    """Without a corpus there are texts, too: at least 60, each of 20,000 characters, always the same."""
    pieces = texts.texts(None)
    assert len(pieces) >= 60
    assert {len(piece) for piece in pieces} == {texts.CHARACTERS}
    assert pieces == texts.texts(None)


def compared(speed: float) -> dict[str, Any]:
    other = {"kib_per_second": speed / 2.5, "cpu_seconds": 1.0, "peak_mib": 900, "run_peak_mib": 0}
    return {"CocoIndex": other, "ingest": {**other, "kib_per_second": speed, "run_peak_mib": 340}}


def test_each_processor_has_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second processor adds rows, and a second measurement of the same one replaces its own."""
    monkeypatch.setattr(performance_page, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(performance_page, "PAGE", tmp_path / "performance.md")
    performance_page.keep("One (avx2), 2 cores", "compare", compared(10.0), day="2026-11-01")
    performance_page.keep("Two (avx512_bf16), 2 cores", "compare", compared(70.0), day="2026-11-02")
    performance_page.keep("One (avx2), 2 cores", "compare", compared(20.0), day="2026-11-03")
    performance_page.write()
    rows = [line for line in (tmp_path / "performance.md").read_text().splitlines() if "| ingest |" in line]
    assert rows == [
        "| One (avx2), 2 cores | ingest | 20.0 | 1 | 340 MiB |",
        "| Two (avx512_bf16), 2 cores | ingest | 70.0 | 1 | 340 MiB |",
    ]
    assert "| One (avx2), 2 cores | CocoIndex | 8.0 | 2.50 | 900 MiB |" in (tmp_path / "performance.md").read_text()


def test_the_page_is_that_of_the_results() -> None:
    """docs/performance.md is what the kept results make of it."""
    kept = [performance_page.json.loads(path.read_text()) for path in sorted(performance_page.RESULTS.glob("*.json"))]
    assert kept
    assert performance_page.PAGE.read_text() == performance_page.page(kept)
