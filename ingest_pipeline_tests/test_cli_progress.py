"""How far `ingest run` has come: lines for logs, a bar for terminals."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import pytest

from ingest_pipeline.cli import progress, run
from ingest_pipeline.instance.headless import HeadlessResult
from ingest_pipeline.instance.progress import Progress
from ingest_pipeline.planning.remaining import WorkState
from ingest_pipeline.settings import Settings
from ingest_pipeline_tests.command import Command

Captured = pytest.CaptureFixture[str]


def worked(tokens: int) -> WorkState:
    """All of 1,000 tokens are parsed, at no cost, and so many have vectors."""
    return WorkState(1000, tokens, embed_seconds=1.0, finished_tokens=1)


def made(**changes: Any) -> Progress:
    """A run that has done a quarter of its work in 30 seconds."""
    values = {
        "files_done": 3, "files": 8, "work": worked(250), "before": WorkState(), "running": 2, "waiting": 1,
        "embedded": 1234, "seconds": 30.0,
    }  # fmt: skip
    return Progress(**{**values, **changes})


class Terminal:
    """A pseudo-terminal that can stand in for stderr."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.reading, writing = pty.openpty()
        self.stream: TextIO = os.fdopen(writing, "w", encoding="utf-8")
        self._patch = patch

    def bar(self) -> progress.TerminalBar:
        """What reports on this terminal. Called in the test itself: pytest sets its own stderr after the fixtures."""
        self._patch.setattr(sys, "stderr", self.stream)
        bar = progress.reporter()
        assert isinstance(bar, progress.TerminalBar)
        return bar

    def read(self) -> str:
        self.stream.flush()
        os.set_blocking(self.reading, False)
        found = b""
        try:
            while piece := os.read(self.reading, 65536):
                found += piece
        except BlockingIOError:
            return found.decode()
        return found.decode()

    def close(self) -> None:
        self.stream.close()
        os.close(self.reading)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal of 120 columns, not yet that of this process."""
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "120"), ("LINES", "40")):
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    opened = Terminal(monkeypatch)
    yield opened
    opened.close()


def test_words_tell_the_time_left() -> None:
    """Chunks, runs, batches, the time that went by, and the time to go by the share of the work."""
    assert progress.described(made()) == (
        "3/8 files · 30s elapsed, about 1m30s left · 1,234 chunks embedded · 2 runs, 1 batch waiting"
    )


def test_first_batch_has_no_time_left() -> None:
    """Before anything is done nobody knows how long it takes."""
    words = progress.described(made(work=worked(0), embedded=0, seconds=4.6))
    assert words == "3/8 files · 5s elapsed, first batch · 0 chunks embedded · 2 runs, 1 batch waiting"


@pytest.mark.parametrize(("done", "eta"), [(0, None), (250, 90.0), (500, 30.0), (1000, 0.0)])
def test_eta_follows_the_work(done: int, eta: float | None) -> None:
    """The pace so far, by tokens; none before anything is done, nothing to go at the end."""
    assert made(work=worked(done)).eta_seconds == eta


def test_a_pipe_gets_lines(capsys: Captured) -> None:
    """Where stderr is no terminal, progress is whole lines on stderr and nothing on stdout."""
    lines = progress.reporter()
    assert isinstance(lines, progress.Lines)
    lines.show(made())
    lines.say("reading the sources")
    lines.end()
    assert capsys.readouterr() == (
        "",
        "3/8 files · 30s elapsed, about 1m30s left · 1,234 chunks embedded · 2 runs, 1 batch waiting\n"
        "reading the sources\n",
    )


def test_lines_come_now_and_then(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most one line of progress in 15 seconds; what is said counts as one, and is never held back."""
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    lines = progress.Lines()
    shown = []
    for now in (1000.0, 1014.9, 1015.0, 1020.0, 1030.1):
        lines.show(made(files_done=int(now) - 1000))
        shown.append(capsys.readouterr().err.partition("/")[0])
    assert shown == ["0", "", "15", "", "30"]
    now = 1044.0
    lines.say("one")
    lines.say("two")
    now = 1058.0
    lines.show(made())
    assert capsys.readouterr().err == "one\ntwo\n"


def test_a_terminal_gets_a_bar(terminal: Terminal) -> None:
    """On a terminal the bar has the count of files and the words, and is drawn again in its place."""
    bar = terminal.bar()
    bar.show(made())
    first = terminal.read()
    assert "━" in first
    assert "3/8" in first
    assert "about 1m30s left" in first
    bar.show(made(files_done=4, work=worked(500)))
    second = terminal.read()
    assert "4/8" in second
    assert "about 30s left" in second
    assert "\r" in second
    bar.end()


def test_the_bar_is_taken_away(terminal: Terminal) -> None:
    """At the end the bar's line is erased and the cursor is visible again."""
    bar = terminal.bar()
    bar.show(made())
    assert "\x1b[?25l" in terminal.read()
    bar.end()
    left = terminal.read()
    assert "\x1b[?25h" in left
    assert "\x1b[2K" in left


def test_bar_that_was_never_shown(terminal: Terminal) -> None:
    """A run that had nothing to do ends without a bar."""
    bar = terminal.bar()
    bar.end()
    assert "files" not in terminal.read()


def test_sentences_above_the_bar(terminal: Terminal) -> None:
    """What is said stands on a line of its own, and brackets in it are text."""
    bar = terminal.bar()
    bar.say("the database is gone; trying again in 1 s (1 of 10) [bold]")
    assert terminal.read() == "the database is gone; trying again in 1 s (1 of 10) [bold]\r\n"
    bar.end()


def test_a_finished_bar_is_full(terminal: Terminal) -> None:
    """All files done: the count says so and no time is left."""
    bar = terminal.bar()
    bar.show(made(files_done=8, work=worked(1000)))
    shown = terminal.read()
    assert "8/8" in shown
    assert "about 0s left" in shown
    bar.end()


def test_run_draws_a_bar_on_a_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """`ingest run` on a terminal: what it says, then the bar on stderr; stdout has the account alone."""

    def work(settings: Settings, reporter: Any, *more: Any) -> HeadlessResult:
        reporter.say("reading the sources")
        reporter.show(made())
        reporter.end()
        return HeadlessResult(since=None)

    monkeypatch.setattr(run, "run_headless", work)
    command = Command(Settings(), monkeypatch, capsys)
    terminal.bar()
    assert command("run") == ""
    shown = terminal.read()
    assert shown.startswith("reading the sources\r\n")
    assert "━" in shown
    assert "3/8" in shown


@pytest.mark.parametrize("columns", [40, 80])
def test_narrow_terminals(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """On a narrow terminal the bar and the count stay on one line; the end of the words is cut."""
    monkeypatch.setenv("COLUMNS", str(columns))
    bar = terminal.bar()
    bar.show(made(files_done=1234, files=3275))
    shown = terminal.read()
    assert "━" in shown
    assert "1,234/3,275 files" in shown
    assert "…" in shown
    assert "\n" not in shown.strip()
    bar.end()


def test_sections_in_the_progress() -> None:
    """While an LLM is asked the sections are counted, and no time is promised; without questions nothing is said."""
    assert "sections" not in progress.described(made())
    asking = progress.described(made(sections_asked=12, sections=45))
    assert "12/45 sections asked about" in asking and "left" not in asking
    assert "left" in progress.described(made(sections_asked=45, sections=45))
