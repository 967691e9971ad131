"""A failed partition in Dagster's UI, step by step, as docs/operations.md tells it; its screenshots are made here.

`INGEST_WRITE_SCREENSHOTS=1` writes them into docs/.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ingest_pipeline.store import event_log
from ingest_pipeline.store.connection import connected
from ingest_pipeline_tests.browser import DagsterUi, opened_page, screenshot
from ingest_pipeline_tests.conftest import REPOSITORY
from ingest_pipeline_tests.proving import Ingest, Served, served

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.proof
MAX_SCREENSHOT_BYTES = 200 * 1024
TEXTS = {
    "handbook.txt": "The steam boxes are descaled every Monday with citric acid.",
    "night-shift.txt": "The night shift feeds the sourdough at four in the morning.",
    "rules.txt": "Nobody leaves a burning oven alone.",
}


@pytest.fixture
def embedder() -> Iterator[Served]:
    """A server of embeddings that refuses the key."""
    with served("embedding_server") as server:
        server.script(script=["401"] * 100, message="Incorrect API key provided")
        yield server


@pytest.fixture
def ui(tmp_path: Path, models: Path, embedder: Served) -> Iterator[DagsterUi]:
    """`ingest ui` with three documents, whose vectors are made by that server."""
    ingest = Ingest(
        tmp_path, models, embedder="openai", embedder_url=f"{embedder.root}/v1", model="text-embedding-3-small",
        dimensions=32, batch_minutes=1,
    )  # fmt: skip
    for name, text in TEXTS.items():
        (ingest.source / name).write_text(text)
    opened = DagsterUi(ingest)
    opened.start()
    try:
        yield opened
    finally:
        opened.stop()


@pytest.mark.timeout(1500)
def test_a_failed_partition_turns_green(ui: DagsterUi, embedder: Served, tmp_path: Path) -> None:
    """Red with its reason, then mended and green by one click; also when the history was pruned in between."""
    ui.launch("ingest_catalog")
    ui.wait_for("the failure", lambda: [run for run in ui.runs_of_batches() if run["status"] == "FAILURE"])
    [failed] = ui.runs_of_batches()
    [key] = [tag["value"] for tag in failed["tags"] if tag["key"] == "dagster/partition"]
    with opened_page() as page:
        taken = [_failed(page, ui, key, tmp_path), _reason(page, ui, failed["runId"], tmp_path)]
        prune(ui)
        _shows(page, f"{ui.url}/runs/{failed['runId']}?logs=type%3ASTEP_FAILURE", "AccessRefused: HTTP 401")
        _shows(page, _partition(ui, key), "failed, and did not materialize this asset")
        embedder.script(script=[])  # the key is right again
        taken += [_launched(page, ui, key, tmp_path)]
        ui.wait_for("the end of the second run", lambda: ui.runs_of_batches()[0]["status"] == "SUCCESS")
        taken += [_green(page, ui, key, tmp_path)]
        prune(ui)
        _shows(page, _partition(ui, key), "Materialized (1)")
        _shows(page, f"{ui.url}/runs/{ui.runs_of_batches()[0]['runId']}", "Success")
        _shows(page, f"{ui.url}/asset-groups/", "vector_index")
    assert {path.name: path.stat().st_size for path in taken if path.stat().st_size > MAX_SCREENSHOT_BYTES} == {}
    [status] = [ui.ingest.call("status")]
    assert status["files"]["indexed"] == len(TEXTS)


def _failed(page: Page, ui: DagsterUi, key: str, folder: Path) -> Path:
    """The partition is red, and a link leads to the run."""
    _shows(page, _partition(ui, key), "failed, and did not materialize this asset")
    return screenshot(page, "ui-failed-1-partition", folder)


def _reason(page: Page, ui: DagsterUi, run: str, folder: Path) -> Path:
    """The run's events, narrowed to the failure."""
    _shows(page, f"{ui.url}/runs/{run}?logs=type%3ASTEP_FAILURE", "AccessRefused: HTTP 401: Incorrect API key provided")
    return screenshot(page, "ui-failed-2-reason", folder)


def _launched(page: Page, ui: DagsterUi, key: str, folder: Path) -> Path:
    """The dialog behind *Materialize*, with this partition selected; then its button is clicked."""
    _shows(page, _partition(ui, key), "failed, and did not materialize this asset")
    page.get_by_text("Materialize…", exact=True).first.click()
    button = page.get_by_role("button", name="Launch 1 run")
    button.wait_for()
    path = screenshot(page, "ui-failed-3-materialize", folder)
    before = len(ui.runs_of_batches())
    button.click()
    ui.wait_for("the second run", lambda: len(ui.runs_of_batches()) > before)
    return path


def _green(page: Page, ui: DagsterUi, key: str, folder: Path) -> Path:
    """The partition is green, with its numbers."""
    _shows(page, _partition(ui, key), "measured_peak_mib")
    page.get_by_text("Materialized (1)").first.wait_for()
    return screenshot(page, "ui-failed-4-green", folder)


def _partition(ui: DagsterUi, key: str) -> str:
    return f"{ui.url}/assets/embeddings?view=partitions&partition={key}"


def _shows(page: Page, url: str, text: str) -> None:
    page.goto(url)
    page.get_by_text(text).first.wait_for()


def prune(ui: DagsterUi) -> None:
    """Prune the history as if every run were old."""
    with connected(ui.ingest.url) as connection:
        pruned = list(event_log.prune_runs(connection, days=30, full_runs=0))
    assert sum(piece.rows for piece in pruned) > 0


def test_the_guide_shows_its_screenshots() -> None:
    """Each screenshot that docs/operations.md shows is there and small."""
    text = (REPOSITORY / "docs" / "operations.md").read_text()
    shown = {
        line.split("](")[1].rstrip(")") for line in text.splitlines() if line.startswith("![") and "ui-failed" in line
    }
    sizes: dict[str, Any] = {name: (REPOSITORY / "docs" / name).stat().st_size for name in shown}
    assert len(shown) == 4
    assert {name for name, size in sizes.items() if size > MAX_SCREENSHOT_BYTES} == set()
