"""The checks of the proof against stores that lack one guard each: every one of them must be noticed.

`python -m ingest_pipeline_tests.crash.mutants --results FOLDER` runs all, two at a time, and goes on where an earlier
call was stopped: what was noticed is kept under a hash of the mutated statement and of the package `store`. Each mutant
has a process and fresh databases: the guard is taken away in its memory.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection, store
from ingest_pipeline.store.migrate import migrate
from ingest_pipeline.store.server import EmbeddedServer
from ingest_pipeline_tests.conftest import REPOSITORY, _admin, fresh_database
from ingest_pipeline_tests.crash import machine
from ingest_pipeline_tests.crash.guards import Guard, guards
from ingest_pipeline_tests.crash.sessions import SCENARIOS, theatre
from ingest_pipeline_tests.crash.stages import StagedStore

MOST_SECONDS = 1800.0
"""A mutant that takes longer is not decided, and tried again by the next call."""
UNDECIDED = "not decided: its process died, or took too long"
WALKS, ORDERS = 8, 10
STORE_TESTS = {
    "batches": ("test_store_ledger", "test_store_incidents"),
    "ledger": ("test_store_ledger",),
    "generations": ("test_store_content", "test_vector_sweep", "test_models_side_by_side"),
    "vectors": ("test_store_content", "test_vector_sweep", "test_server_embeddings", "test_models_side_by_side"),
    "entities": ("test_store_entities",),
    "extracts": ("test_stages_extracts", "test_extraction_answers"),
    "embedding_models": ("test_models_side_by_side",),
    "files": ("test_store_files",),
    "repairs": ("test_cleanup",),
    "damage": ("test_cleanup",),
}
"""Tests of each module's statements that existed before: what the proof does not reach, they may."""
OF_ITS_VERSION = "a file whose bytes change leaves its batch: it never belongs to one that was sealed with others"
EQUIVALENT: dict[str, str] = {
    "generations.LOCK_UNUSED: NOT EXISTS (SELECT FROM files f WHERE f.generation_id = g...": (
        "it chooses what to lock; DROP_UNUSED asks again, and only that counts"
    ),
    "generations.LOCK_UNUSED: NOT EXISTS (SELECT FROM files f WHERE f.version = g.versi...": "likewise",
    "generations.FORGET_CHECKPOINT: NOT complete": "the caller holds the generation, and found it incomplete",
    "generations.PROCESSED_SIZES: g.complete": "a file is processed after its generation is complete, and publish asks",
    "files.adopt_known_versions: status = 'synced'": "fewer rows are locked; the outer condition decides",
    "batches.UNFINISHED: f.version = b.version": OF_ITS_VERSION,
    "entities.BATCH_GENERATIONS: f.version = b.version": "likewise",
    "ledger.BATCH_FILES: f.version = b.version": "likewise",
    "batches.CLOSE_ATTEMPTS: run_id = %s": "an earlier run was overtaken: its attempts mean nothing any more",
    "embedding_models: locks.hold_vectors": "a model is dropped only while no run is at work (stages.model_list)",
    "damage: locks.hold_vectors": "the vectors that it deletes are unusable; chunks that rely on them wait again",
}
"""Guards whose absence nothing can notice, and why they are there all the same."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one mutant."""

    name: str
    digest: str
    killed_by: str
    """'' if nothing noticed."""
    why: str
    """What the check said."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Checks:
    """A fresh database and a folder: what a mutant is tried on."""

    connection: Connection
    settings: Settings
    folder: Path

    def edges(self, statement: str = "") -> None:
        """The table and the SQL have the same edges; asked of one statement first."""
        from ingest_pipeline_tests import test_crash_edges as tests

        StagedStore(self.connection, self.settings, self.folder)
        tests.require_edges_of(self.connection, statement)
        for test in (tests.test_table_and_sql_agree, tests.test_conditions_keep_it_back):
            StagedStore(self.connection, self.settings, self.folder)  # empties it
            test(self.connection)

    def cases(self) -> None:
        """The cases that were written for a guard each."""
        from ingest_pipeline_tests.crash.cases import CASES
        from ingest_pipeline_tests.crash.content_cases import CONTENT_CASES

        for case in (*CASES, *CONTENT_CASES):
            StagedStore(self.connection, self.settings, self.folder)
            case(self.connection)

    def walks(self) -> None:
        """The state machine, by seeds."""
        machine.open_store = lambda: StagedStore(self.connection, self.settings, self.folder)
        for seed in range(WALKS):
            machine.walk(seed)

    def sessions(self) -> None:
        """The scenarios of sessions, by seeds."""
        with theatre(self.connection, str(self.settings.database_url)) as stage:
            for seed in range(ORDERS):
                for scenario in SCENARIOS:
                    stage.play(scenario, seed)


def checks_of(guard: Guard) -> list[str]:
    """Return the checks for a guard, those first that are likely to notice."""
    module = guard.name.split(".")[0].split(":")[0]
    own = ["cases", "walks", "sessions"]
    if module == "files":
        own.insert(0, f"edges:{guard.name.split(':')[0].removeprefix('files.')}")
    if "lock" in guard.name or "FOR " in guard.name.split(": ")[1]:
        own = ["cases", "sessions", "walks"]
    return [*own, *(f"tests:{name}" for name in STORE_TESTS.get(module, ()))]


def _try(guard: Guard | None, checks: list[str], server: EmbeddedServer, answer: Path) -> None:
    """Take a guard away and run the checks; write down which of them failed. In a process of its own."""
    with answer.with_suffix(".log").open("w") as log:
        os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
        if guard:
            guard.remove()
        for name in checks:
            if why := _noticed(name, server, answer.parent):
                answer.write_text(json.dumps([name, why]))
                return
    answer.write_text(json.dumps(["", ""]))


def _noticed(name: str, server: EmbeddedServer, folder: Path) -> str:
    """Return what a check says; '' if it passes."""
    if name.startswith("tests:"):
        return _failed_test(name.removeprefix("tests:"))
    try:
        with contextlib.ExitStack() as stack:
            url = stack.enter_context(fresh_database(server, "template_migrated"))
            connection = stack.enter_context(store(url))
            documents = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
            settings = replace(Settings(), home=folder / "home", database_url=url)
            check, *about = name.split(":")
            getattr(Checks(connection, settings, documents), check)(*about)
    except Exception as noticed:
        return f"{type(noticed).__name__}: {noticed}"[:300]
    return ""


def unchanged(checks: list[str]) -> str:
    """Return which check fails of the store as it is, and what it says; '' if none: then it is the guards' absence."""
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as server:
        answer = Path(folder) / "unchanged.answer"
        process = multiprocessing.get_context("fork").Process(target=_try, args=(None, checks, server, answer))
        process.start()
        process.join(MOST_SECONDS)
        process.kill()
        return ": ".join(json.loads(answer.read_text())).strip(": ") if answer.exists() else UNDECIDED


def _failed_test(name: str) -> str:
    import pytest

    file = REPOSITORY / "ingest_pipeline_tests" / f"{name}.py"
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-m", "not proof and not corpus"]
    failed: list[str] = []

    class Names:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                failed.append(report.nodeid)

    pytest.main([*options, str(file)], plugins=[Names()])
    return failed[0] if failed else ""


def run_mutants(wanted: list[Guard], kept: Path, *, processes: int = 2, seconds: float = 1e9) -> Iterator[Result]:
    """Yield what becomes of each mutant; those that are known already first.

    Args:
        wanted: the guards to take away.
        kept: a file of results, which is added to.
        processes: mutants at a time.
        seconds: after which no further mutant begins.
    """
    known, began = _known(kept), time.monotonic()
    yield from (known[guard.digest] for guard in wanted if guard.digest in known)
    left = [guard for guard in wanted if guard.digest not in known]
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as server:
        context, running = multiprocessing.get_context("fork"), list[_Running]()
        while left or running:
            while left and len(running) < processes and time.monotonic() - began < seconds:
                guard = left.pop(0)
                running.append(_Running.begun(context, guard, server, Path(folder)))
            if time.monotonic() - began >= seconds:
                left = []
            for one in [one for one in running if one.has_ended()]:
                running.remove(one)
                result = one.result()
                with kept.open("a") as file:
                    file.write(json.dumps({**vars_of(result), "source": _source()}) + "\n")
                yield result
            time.sleep(0.05)


@dataclass(slots=True)
class _Running:
    guard: Guard
    process: BaseProcess
    answer: Path
    began: float

    @classmethod
    def begun(
        cls, context: multiprocessing.context.ForkContext, guard: Guard, server: EmbeddedServer, folder: Path
    ) -> _Running:
        answer = folder / f"{guard.digest}.answer"
        process = context.Process(target=_try, args=(guard, checks_of(guard), server, answer))
        process.start()
        return cls(guard, process, answer, time.monotonic())

    def has_ended(self) -> bool:
        if self.process.is_alive() and time.monotonic() - self.began > MOST_SECONDS:
            self.process.kill()
        return not self.process.is_alive()

    def result(self) -> Result:
        killed_by, why = json.loads(self.answer.read_text()) if self.answer.exists() else ("", UNDECIDED)
        return Result(self.guard.name, self.guard.digest, killed_by, why, round(time.monotonic() - self.began, 1))


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[EmbeddedServer]:
    (folder / "postgres").mkdir()
    server = EmbeddedServer(folder / "postgres")
    server.start()
    try:
        for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):
            _admin(server, statement)
        _admin(server, "CREATE DATABASE template_migrated")
        migrate(server.url.replace("/ingest?", "/template_migrated?"))
        yield server
    finally:
        server.stop()


def vars_of(result: Result) -> dict[str, object]:
    """Return a result as it is kept."""
    return {name: getattr(result, name) for name in Result.__dataclass_fields__}


def _known(kept: Path) -> dict[str, Result]:
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    source = _source()
    return {
        row["digest"]: Result(**{name: row[name] for name in Result.__dataclass_fields__})
        for row in rows
        if row["source"] == source and row["killed_by"]
    }


def _source() -> str:
    """Return a hash of what results depend on beside the mutated statement."""
    folder = REPOSITORY / "ingest_pipeline" / "store"
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".sql"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]


def chosen(count: int, seed: int) -> list[Guard]:
    """Return some guards that a seed chooses, without those that nothing can notice."""
    noticeable = [guard for guard in guards() if guard.name not in EQUIVALENT]
    return random.Random(seed).sample(noticeable, min(count, len(noticeable)))


def main(arguments: list[str] | None = None) -> int:
    """Run mutants; 1 if one of them survives that is not listed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the results")
    parser.add_argument("--only", default="", help="guards whose name contains this")
    parser.add_argument("--some", type=int, default=0, help="so many that --seed chooses")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--list", action="store_true")
    asked = parser.parse_args(arguments)
    wanted = [one for one in (chosen(asked.some, asked.seed) if asked.some else guards()) if asked.only in one.name]
    if asked.list:
        print("\n".join(one.name for one in wanted))
        return 0
    if not asked.only:
        wanted = [one for one in wanted if one.name not in EQUIVALENT]
    asked.results.mkdir(parents=True, exist_ok=True)
    if why := unchanged(["edges", "cases"] if asked.some else ["edges", "cases", "walks", "sessions"]):
        print(f"the store with all its guards does not pass: {why}")
        return 1
    survivors = 0
    for result in run_mutants(
        wanted, asked.results / "mutants.jsonl", processes=asked.processes, seconds=asked.seconds
    ):
        listed = result.name in EQUIVALENT
        survivors += not result.killed_by and not listed
        verdict = result.killed_by or ("equivalent" if listed else result.why or "SURVIVES")
        print(f"{result.seconds:6.1f} s  {verdict:28} {result.name}", flush=True)
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
