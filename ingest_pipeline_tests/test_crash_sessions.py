"""Sessions that meet statement by statement, in any order: none fails, and nothing is lost, doubled or stuck."""

from __future__ import annotations

import pytest

from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.conftest import WHOLE_PROOF
from ingest_pipeline_tests.crash.figures import figures
from ingest_pipeline_tests.crash.sessions import SCENARIOS, Scenario, theatre


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_some_orders(connection: Connection, url: str, scenario: Scenario) -> None:
    """Some orders of the statements of each scenario."""
    with theatre(connection, url) as stage:
        orders = [stage.play(scenario, seed) for seed in range(6)]
    assert len(set(orders)) > 1


@pytest.mark.proof
@pytest.mark.timeout(1500)
def test_many_orders(connection: Connection, url: str) -> None:
    """Many orders of each."""
    orders = 300 if WHOLE_PROOF else 20
    with figures("sessions", seeds=[0, orders - 1]) as found, theatre(connection, url) as stage:
        played = {one.name: {stage.play(one, seed) for seed in range(orders)} for one in SCENARIOS}
        found |= {"scenarios": len(SCENARIOS), "interleavings": orders * len(SCENARIOS)}
        found["different"] = sum(map(len, played.values()))
    assert found["different"] > len(SCENARIOS) * 10
