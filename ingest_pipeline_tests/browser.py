"""Dagster's UI as somebody sees it: `ingest ui` in a home of its own, and Chromium that looks at its pages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest_pipeline_tests.conftest import REPOSITORY
from ingest_pipeline_tests.proving import Ingest
from ingest_pipeline_tests.servers import free_port
from ingest_pipeline_tests.test_run_queue import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
LOCATION = "ingest_pipeline.definitions"
LAUNCH = """
mutation { launchRun(executionParams: {
  selector: {repositoryLocationName: "LOCATION", repositoryName: "__repository__", pipelineName: "JOB"}
}) { __typename ... on PythonError { message } } }
"""
RUNS = "{ runsOrError(limit: 50) { ... on Runs { results { runId status jobName tags { key value } } } } }"
LOCATIONS = "{ repositoriesOrError { ... on RepositoryConnection { nodes { location { name } } } } }"
SLOW_SECONDS = 240.0
"""A machine on which seven others work."""


class DagsterUi:
    """`ingest ui` and everything that it starts."""

    def __init__(self, ingest: Ingest) -> None:
        self.ingest, self.port = ingest, free_port()
        self.log = ingest.home / "ui.log"
        self.url = f"http://127.0.0.1:{self.port}"
        ingest.set(ui_port=self.port)

    def start(self) -> None:
        """Start it; return when the code location is loaded."""
        command = [sys.executable, "-m", "ingest_pipeline.cli", "ui"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.ingest.environment, cwd=REPOSITORY, stdout=log, stderr=log
            )
        self.wait_for("the code location", lambda: bool(self.query(LOCATIONS)["repositoriesOrError"]["nodes"]))

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=90)
        finally:
            self.ingest.close()

    def query(self, text: str) -> dict[str, Any]:
        """Ask its API."""
        body, headers = json.dumps({"query": text}).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/graphql", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            return dict(json.load(response)["data"])

    def launch(self, job: str) -> None:
        """Launch a job, as its button does."""
        answer = self.query(LAUNCH.replace("LOCATION", LOCATION).replace("JOB", job))
        assert answer["launchRun"]["__typename"] == "LaunchRunSuccess", answer

    def runs_of_batches(self) -> list[dict[str, Any]]:
        """Its runs on batches, the newest first; backfills have a job of their own."""
        runs = self.query(RUNS)["runsOrError"]["results"]
        return [run for run in runs if any(tag["key"] == "dagster/partition" for tag in run["tags"])]

    def wait_for(self, what: str, done: Callable[[], Any]) -> None:
        """Wait until something is so."""
        wait_for(what, done, seconds=SLOW_SECONDS, log=self.log)


@contextmanager
def opened_page() -> Iterator[Page]:
    """A page of a browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(SLOW_SECONDS * 1000)
        yield page
        browser.close()


def screenshot(page: Page, name: str, folder: Path) -> Path:
    """Take a screenshot; with INGEST_WRITE_SCREENSHOTS=1 it becomes the one in docs/."""
    if os.environ.get("INGEST_WRITE_SCREENSHOTS") == "1":
        folder = REPOSITORY / "docs"
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)  # what is shown fades in
    path = folder / f"{name}.png"
    page.screenshot(path=path)
    return path
