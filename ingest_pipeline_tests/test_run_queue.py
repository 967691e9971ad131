"""A real daemon, real runs: the queue holds the memory's limit, kills are noticed, a power cut heals.

One story in order, against `ingest ui` with everything that it starts; each test is a chapter.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ingest_pipeline_tests.conftest import REPOSITORY

pytestmark = pytest.mark.proof

CATALOG = """
mutation { launchRun(executionParams: {
  selector: {repositoryLocationName: "LOCATION", repositoryName: "__repository__", pipelineName: "ingest_catalog"}
}) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
RUNS = "{ runsOrError(limit: 50) { ... on Runs { results { runId status jobName tags { key value } } } } }"
LOCATIONS = "{ repositoriesOrError { ... on RepositoryConnection { nodes { location { name } } } } }"
FAILURES = """
{ logsForRun(runId: "RUN") { ... on EventConnection { events { ... on RunFailureEvent { message } } } } }
"""
IN_PROGRESS = ("STARTING", "STARTED", "CANCELING")


class Services:
    """`ingest ui` in a folder of its own: 3 GiB for the machine, 1 GiB for a run, so two runs at once."""

    def __init__(self, folder: Path) -> None:
        self.home, self.source = folder / "home", folder / "documents"
        self.source.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.environment = {
            **os.environ,
            "INGEST_HOME": str(self.home),
            "INGEST_SOURCES": str(self.source),
            "INGEST_MACHINE_MEMORY": "3GiB",
            "INGEST_RUN_MEMORY": "1GiB",
            "INGEST_MAX_RUNS": "10",
            "INGEST_BATCH_FILES": "1",
            "INGEST_UI_PORT": str(self.port),
        }
        self.log = folder / "ui.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ingest_pipeline.cli", "ui"], env=self.environment, cwd=REPOSITORY,
                stdout=log, stderr=log,
            )  # fmt: skip
        wait_for("the code location", lambda: bool(self.locations()), seconds=300, log=self.log)

    def locations(self) -> list[str]:
        try:
            nodes = self.query(LOCATIONS)["repositoriesOrError"].get("nodes", [])
        except OSError:
            return []
        return [node["location"]["name"] for node in nodes]

    def query(self, text: str) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            data=json.dumps({"query": text}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return dict(json.load(response)["data"])

    def launch_catalog(self) -> None:
        answer = self.query(CATALOG.replace("LOCATION", self.locations()[0]))
        assert answer["launchRun"]["__typename"] == "LaunchRunSuccess", answer

    def runs(self, job: str = "ingest_batch") -> list[dict[str, Any]]:
        return [run for run in self.query(RUNS)["runsOrError"]["results"] if run["jobName"] == job]

    def statuses(self) -> list[str]:
        return sorted(run["status"] for run in self.runs())

    def ingest(self, *arguments: str) -> list[dict[str, Any]]:
        command = [sys.executable, "-m", "ingest_pipeline.cli", *arguments, "--json"]
        result = subprocess.run(
            command, env=self.environment, cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        return [json.loads(line) for line in result.stdout.splitlines()]

    def workers(self) -> dict[str, int]:
        """Pids of live run processes, by run."""
        records = {path.stem: json.loads(path.read_text()) for path in (self.home / "runs").glob("*.json")}
        return {run: int(facts["pid"]) for run, facts in records.items() if "code" not in facts and alive(facts["pid"])}

    def family(self) -> list[psutil.Process]:
        """Every process that works in this home: services, runs, supervisors, Postgres."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("INGEST_HOME") == str(self.home) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    found = Services(tmp_path_factory.mktemp("queue"))
    for number in range(3):
        lines = (f"File {number}: the square of {n} is {n * n}, and its cube is {n**3}.\n" for n in range(12_000))
        (found.source / f"{number}.txt").write_text("".join(lines))
    found.start()
    yield found
    for process in found.family():
        process.kill()


def test_two_of_three_runs_fit(services: Services) -> None:
    """Catalog by click, batches by sensor, and never more runs than (3 GiB - reserve) / 1 GiB = 2."""
    services.launch_catalog()
    wait_for("three runs", lambda: len(services.runs()) == 3, seconds=150, log=services.log)
    wait_for("two at work", lambda: services.statuses().count("STARTED") == 2, seconds=60, log=services.log)
    for _ in range(10):
        statuses = services.statuses()
        assert sum(status in IN_PROGRESS for status in statuses) <= 2, statuses
        assert "QUEUED" in statuses
        time.sleep(0.5)


def test_every_run_has_its_batchs_limit(services: Services) -> None:
    """RLIMIT_DATA of the run's process is what the batch was sealed with."""
    limits = [psutil.Process(pid).rlimit(psutil.RLIMIT_DATA) for pid in services.workers().values()]
    assert limits == [(2**30, 2**30)] * 2


def test_a_kill_is_noticed_with_its_cause(services: Services) -> None:
    """The monitor sees a kill at its next look (5 s), with the cause; the third run takes the free place."""
    [third] = [found["runId"] for found in services.runs() if found["status"] == "QUEUED"]
    run, pid = next(iter(services.workers().items()))
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    wait_for("the failure", lambda: status_of(services, run) == "FAILURE", seconds=30, log=services.log)
    assert time.monotonic() - began < 20
    events = services.query(FAILURES.replace("RUN", run))
    messages = [event.get("message", "") for event in events["logsForRun"]["events"]]
    assert any("SIGKILL" in message for message in messages), messages
    wait_for("the third at work", lambda: status_of(services, third) == "STARTED", seconds=60, log=services.log)


def test_a_power_cut_heals(services: Services) -> None:
    """Every process killed at once, Postgres too: started again, old runs are failed, and all files end indexed."""
    wait_for("a run at work", lambda: "STARTED" in services.statuses(), seconds=60, log=services.log)
    before = {run["runId"] for run in services.runs() if run["status"] == "STARTED"}
    while family := services.family():  # who is just starting something gets it out before it is killed itself
        for process in family:
            process.kill()
    assert services.process is not None
    services.process.wait()
    services.start()
    wait_for(
        "the old runs' end",
        lambda: all(status_of(services, run) == "FAILURE" for run in before),
        seconds=60,
        log=services.log,
    )

    def all_indexed() -> bool:
        [status] = services.ingest("status")
        return status["files"]["indexed"] == 3 and status["batches"]["running"] == 0

    wait_for("all files", all_indexed, seconds=420, log=services.log)
    # A batch is done a moment before its run's process has ended.
    wait_for(
        "the last run's end", lambda: not set(services.statuses()) & set(IN_PROGRESS), seconds=30, log=services.log
    )
    assert max(row["attempts"] for row in services.ingest("files")) >= 2


def test_ctrl_c_leaves_no_process(services: Services) -> None:
    """Webserver, daemon, code server, runs, Postgres: all gone."""
    assert services.process is not None
    services.process.send_signal(signal.SIGINT)
    assert services.process.wait(timeout=60) == 0
    assert [process.cmdline() for process in services.family()] == []


def status_of(services: Services, run: str) -> str:
    return next(found["status"] for found in services.runs() if found["runId"] == run)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(what: str, done: Callable[[], Any], *, seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if done():
                return
        except OSError:  # the webserver is not there yet
            pass
        time.sleep(0.5)
    pytest.fail(f"{what} did not come in {seconds} s; {log.read_text(errors='replace')[-3000:]}")
