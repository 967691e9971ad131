"""The daemon and the code server are killed while a run is at work: no file is lost, and the services start again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ingest_pipeline_tests.conftest import WHOLE_PROOF
from ingest_pipeline_tests.crash.results import write_result
from ingest_pipeline_tests.test_run_queue import Services, wait_for

pytestmark = pytest.mark.proof

LINES = 2_000
NOTICE_SECONDS = 20.0
"""Until `dagster dev` has noticed that one of its processes is gone, if it does."""
COMMANDS = {"code server": ("api", "grpc"), "daemon": ("dagster._daemon",)}
"""Words of the command of each service."""
RELOAD = "mutation { reloadWorkspace { __typename } }"
KILLED = tuple(COMMANDS) if WHOLE_PROOF else ("daemon",)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    started = Services(tmp_path)
    started.start()
    yield started
    for process in started.family():
        process.kill()


def processes_of(services: Services, service: str) -> list[psutil.Process]:
    """The processes of a service."""
    family = [(process, process.cmdline()) for process in services.family()]
    return [process for process, command in family if all(word in command for word in COMMANDS[service])]


def heal(services: Services) -> None:
    """Do what an operator does: start `ingest ui` again if it ended because of the kill, else press "Reload all"."""
    assert services.process is not None
    deadline = time.monotonic() + NOTICE_SECONDS
    while services.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    if services.process.poll() is not None:
        services.start()
    services.query(RELOAD)


def indexed(services: Services) -> int:
    [status] = services.ingest("status")
    return int(status["files"]["indexed"])


@pytest.mark.timeout(1800)
def test_killed_services_lose_nothing(services: Services) -> None:
    """Code server, then daemon: killed under a run; after the next catalog every file is indexed, without damage."""
    for number, service in enumerate(KILLED):
        lines = (f"File {number}: the square of {n} is {n * n}.\n" for n in range(LINES))
        (services.source / f"{number}.txt").write_text("".join(lines))
        services.launch_catalog()
        wait_for("a run", lambda: "STARTED" in services.statuses(), seconds=300, log=services.log)
        killed = processes_of(services, service)
        assert killed, f"no {service} among {[process.cmdline() for process in services.family()]}"
        for process in killed:
            process.kill()
        heal(services)
        wait_for("the code location", lambda: bool(services.locations()), seconds=300, log=services.log)
        services.launch_catalog()
        wait_for("the file", lambda count=number + 1: indexed(services) == count, seconds=400, log=services.log)
    assert max(row["attempts"] for row in services.ingest("files")) <= 3
    write_result("killed services", survived=len(KILLED), of=len(KILLED))
