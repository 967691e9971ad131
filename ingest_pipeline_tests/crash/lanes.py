"""Trials on every core: each lane is a process with a database and a source of its own. Passed trials are kept."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ingest_pipeline.chunking import Encode
from ingest_pipeline.memory.process import end_with_parent
from ingest_pipeline.settings import Settings
from ingest_pipeline_tests.conftest import REPOSITORY
from ingest_pipeline_tests.crash.dump import Dump
from ingest_pipeline_tests.crash.plans import Points, Trial
from ingest_pipeline_tests.crash.scenes import SCENES, Folder
from ingest_pipeline_tests.crash.trials import JobFailed, Stage

CORES = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Passed:
    """A trial and what became of it."""

    name: str
    kind: str
    kills: int
    runs: int
    seconds: float
    problems: tuple[str, ...] = ()


class Lane:
    """A stage for both scenes, and what undisturbed jobs leave there."""

    def __init__(self, server_url: str, template: str, folder: Path, settings: Settings, encode: Encode) -> None:
        self.source = Folder(folder / "documents")
        name = f"crash_{folder.name}"
        settings = replace(settings, sources=(str(self.source.path),), home=folder / "home")
        self.stage = Stage(server_url, name, settings, encode)
        self._before = dict(zip(SCENES, (template, f"{name}_kept"), strict=True))
        self.expected: dict[str, Dump] = {}
        self.points: Points = {}
        self.names: dict[str, tuple[str, ...]] = {}

    def prepare(self) -> None:
        """Run both scenes undisturbed."""
        for scene in SCENES:
            self.source.show(scene)
            if scene == SCENES[0]:
                self.stage.put_back(self._before[scene])
            else:
                self.stage.keep_as(self._before[scene])
            self.names[scene] = self.stage.job().points
            self.points[scene] = Counter(name.split()[0] for name in self.names[scene])
            self.expected[scene] = self.stage.dump()
            assert self.stage.damage() == [], scene

    def close(self) -> None:
        """Drop the databases."""
        for name in (self.stage.name, self._before[SCENES[1]]):
            self.stage.drop(name)

    def try_all(self, trials: Iterable[Trial], done: Callable[[Passed], None]) -> None:
        """Try one after another; the source is made anew where the scene changes."""
        shown = ""
        for trial in trials:
            if trial.scene != shown:
                self.source.show(trial.scene)
                shown = trial.scene
            done(self._tried(trial))

    def begin(self, scene: str) -> None:
        """Put source and database back to what they are before a scene."""
        self.source.show(scene)
        self.stage.put_back(self._before[scene])

    def _tried(self, trial: Trial) -> Passed:
        began = time.monotonic()
        self.stage.put_back(self._before[trial.scene])
        expected = self.expected[trial.scene]
        try:
            if trial.kind == "rivals":
                outcome = self.stage.rivaled(trial.kills[0], expected)
            else:
                outcome = self.stage.recovered(trial.kills, None if trial.kind == "storm" else expected)
        except JobFailed as error:
            return Passed(trial.name, trial.kind, len(trial.kills), 0, time.monotonic() - began, (str(error),))
        seconds = time.monotonic() - began
        return Passed(trial.name, trial.kind, len(outcome.kills), outcome.runs, seconds, outcome.problems)


class Record:
    """Trials that have passed, one line each; those of other code do not count."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._code = code_hash()

    def read(self) -> dict[str, Passed]:
        """Return the trials that have passed under this code, by name."""
        if not self.path.exists():
            return {}
        rows = [json.loads(line) for line in self.path.read_text().splitlines()]
        passed = [Passed(**row["trial"]) for row in rows if row["code"] == self._code and not row["trial"]["problems"]]
        return {one.name: one for one in passed}

    def add(self, passed: Passed) -> None:
        """Note a trial, also one that has not passed."""
        with self.path.open("a") as file:  # one write of one line: lanes share the file
            file.write(json.dumps({"code": self._code, "trial": asdict(passed)}) + "\n")


def code_hash() -> str:
    """Return a hash of the product and of this proof."""
    digest = hashlib.sha256()
    paths = [*(REPOSITORY / "ingest_pipeline").rglob("*.*"), *Path(__file__).parent.glob("*.py")]
    for path in sorted(path for path in paths if path.suffix in (".py", ".sql")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def in_lanes(lanes: Sequence[Lane], trials: Sequence[Trial], record: Record) -> list[Passed]:
    """Try what has not passed yet, on every core; return what became of all, in their order."""
    passed = record.read()
    left = [trial for trial in trials if trial.name not in passed]
    results: Any = multiprocessing.get_context("fork").SimpleQueue()
    processes = [_forked(lane, left[number :: len(lanes)], record, results) for number, lane in enumerate(lanes)]
    found: list[Passed] = []
    while any(process.is_alive() for process in processes) or not results.empty():
        if results.empty():
            time.sleep(0.01)
        else:
            found.append(results.get())
    assert [process.exitcode for process in processes] == [0] * len(lanes), "a lane ended early: see its traceback"
    passed |= {one.name: one for one in found}
    return [passed[trial.name] for trial in trials]


def _forked(lane: Lane, trials: Sequence[Trial], record: Record, results: Any) -> Any:
    own = os.getpid()

    def done(passed: Passed) -> None:
        record.add(passed)
        results.put(passed)

    def try_all() -> None:
        end_with_parent(own)
        lane.try_all(trials, done)

    process = multiprocessing.get_context("fork").Process(target=try_all)
    process.start()
    return process
