"""The command in this process: its exit code, and what it printed where."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from typing import Any

import pytest

from ingest_pipeline.cli.main import main
from ingest_pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Ended:
    """How one call of the command ended."""

    code: int
    out: str
    err: str


class Command:
    """`ingest` without a process of its own, under given settings."""

    def __init__(self, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.settings, self.patch, self.capsys = settings, monkeypatch, capsys
        for name, value in settings.environ().items():
            monkeypatch.setenv(name, value)

    def ended(self, *arguments: str) -> Ended:
        """Call it; signal handlers are as they were afterwards."""
        self.capsys.readouterr()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with pytest.raises(SystemExit) as caught:
                main(arguments)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out, err = self.capsys.readouterr()
        code = caught.value.code
        assert isinstance(code, int), code
        assert "Traceback" not in err
        return Ended(code, out, err)

    def __call__(self, *arguments: str) -> str:
        """What it prints when it succeeds."""
        ended = self.ended(*arguments)
        assert ended.code == 0, ended.err
        return ended.out

    def json(self, *arguments: str) -> list[dict[str, Any]]:
        """The rows that it prints for programs."""
        return [json.loads(line) for line in self(*arguments, "--json").splitlines()]

    def mistake(self, *arguments: str, code: int = 2) -> str:
        """The one line that a mistake is answered with."""
        ended = self.ended(*arguments)
        assert (ended.code, ended.out) == (code, ""), ended
        [line] = ended.err.splitlines()
        assert line.startswith("ingest: ")
        return line.removeprefix("ingest: ")
