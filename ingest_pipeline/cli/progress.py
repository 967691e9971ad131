"""Progress of `ingest run` on stderr: a bar on a terminal, otherwise lines at intervals."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from ingest_pipeline.cli.text import clock

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from ingest_pipeline.instance.progress import Progress

EVERY_SECONDS = 15.0  # a log of an hour gets 240 lines


class Lines:
    """Lines at intervals, for logs and pipes."""

    def __init__(self) -> None:
        self._last = 0.0

    def say(self, text: str) -> None:
        """Print a line."""
        self._last = time.monotonic()
        print(text, file=sys.stderr, flush=True)

    def show(self, progress: Progress) -> None:
        """Print the progress if the last line is EVERY_SECONDS old."""
        if time.monotonic() - self._last >= EVERY_SECONDS:
            self.say(described(progress))

    def end(self) -> None:
        """Do nothing: lines need no end."""


class TerminalBar:
    """A bar for the number of files, with the remaining time."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar
        from rich.table import Column

        # On a narrow terminal the end of the text is cut, not the bar.
        bar = BarColumn(bar_width=16, table_column=Column(width=16))
        text = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
        console = Console(stderr=True, highlight=False)
        # Redrawn only with new progress: a thread that redraws would interfere with Ctrl-C.
        self._bar: Bar = Bar(bar, text, console=console, auto_refresh=False, transient=True, expand=True)
        self._task = self._bar.add_task("", total=None)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False)

    def show(self, progress: Progress) -> None:
        """Redraw the bar."""
        self._bar.start()  # no effect if it has started; before the first progress there is nothing to draw
        self._bar.update(
            self._task, completed=progress.files_done, total=progress.files, description=described(progress)
        )
        self._bar.refresh()

    def end(self) -> None:
        """Remove the bar."""
        self._bar.stop()


def reporter() -> Lines | TerminalBar:
    """Return a bar if stderr is a terminal, else lines."""
    return TerminalBar() if sys.stderr.isatty() else Lines()


def described(progress: Progress) -> str:
    """Return the progress with the remaining time in words, the most important first."""
    eta = progress.eta_seconds
    left = f"about {clock(eta)} left" if eta is not None else "first batch"
    asking = progress.sections_asked < progress.sections
    parts = (
        f"{progress.files_done:,}/{progress.files:,} files",
        f"{clock(progress.seconds)} elapsed" + (f", {left}" if not asking else ""),
        f"{progress.embedded:,} chunks embedded",
        f"{progress.sections_asked:,}/{progress.sections:,} sections asked about" if progress.sections else "",
        f"{counted(progress.running, 'run')}, {counted(progress.waiting, 'batch', 'batches')} waiting",
    )
    return " · ".join(filter(None, parts))


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun: `1 batch`, `2 batches`."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
