"""The daemon and the code server are killed while a run is at work: no file is lost, and the services start again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ingest_pipeline_tests.conftest import WHOLE_PROOF
from ingest_pipeline_tests.crash.results import write_result
from ingest_pipeline_tests.test_run_queue import Services, wait_for

pytestmark = pytest.mark.proof

LINES = 2_000
END_SECONDS = 240.0
"""For `ingest ui` to end: it stops the run that nobody launched any more, which has 30 s."""
COMMANDS = {"code server": ("api", "grpc"), "daemon": ("dagster._daemon",)}
"""Words of the command of each service."""
RELOAD = "mutation { reloadWorkspace { __typename } }"
KILLED = tuple(COMMANDS) if WHOLE_PROOF else ("daemon",)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    started = Services(tmp_path)
    try:
        started.start()
        yield started
    finally:
        for process in started.family():
            process.kill()


def processes_of(services: Services, service: str) -> list[psutil.Process]:
    """The processes of a service."""
    family = [(process, process.cmdline()) for process in services.family()]
    return [process for process, command in family if all(word in command for word in COMMANDS[service])]


def heal(services: Services, killed: str) -> None:
    """Do what an operator does: press "Reload all", or start `ingest ui` again, which ends without its daemon."""
    if killed == "code server":
        services.query(RELOAD)
        return
    assert services.process is not None
    assert services.process.wait(END_SECONDS) == 1
    services.start()


def indexed(services: Services) -> int:
    [status] = services.ingest("status")
    return int(status["files"]["indexed"])


@pytest.mark.timeout(1800)
def test_killed_services_lose_nothing(services: Services) -> None:
    """Code server, then daemon: killed under a run; after the next catalog every file is indexed."""
    for number, service in enumerate(KILLED):
        lines = (f"File {number}: the square of {n} is {n * n}.\n" for n in range(LINES))
        (services.source / f"{number}.txt").write_text("".join(lines))
        services.launch_catalog()
        wait_for("a run", lambda: "STARTED" in services.statuses(), seconds=300, log=services.log)
        killed = processes_of(services, service)
        assert killed, f"no {service} among {[process.cmdline() for process in services.family()]}"
        for process in killed:
            process.kill()
        heal(services, service)
        wait_for("the code location", lambda: bool(services.locations()), seconds=300, log=services.log)
        services.launch_catalog()
        wait_for("the file", lambda count=number + 1: indexed(services) == count, seconds=400, log=services.log)
    assert max(row["attempts"] for row in services.ingest("files")) <= 3
    write_result("killed services", survived=len(KILLED), of=len(KILLED))
