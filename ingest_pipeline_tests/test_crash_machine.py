"""Whatever users, runs, kills and sweeps do in whatever order, the invariants hold and every file comes to its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis.stateful import run_state_machine_as_test

from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.conftest import WHOLE_PROOF
from ingest_pipeline_tests.crash import machine
from ingest_pipeline_tests.crash.results import figures
from ingest_pipeline_tests.crash.stages import StagedStore


@pytest.fixture(autouse=True)
def opened(connection: Connection, settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine works on this store."""
    monkeypatch.setattr(machine, "opened", lambda: StagedStore(connection, settings, source), raising=False)


def test_any_order_of_events() -> None:
    """Some orders of everything that may happen: no invariant is hurt, and every file ends as the folder says."""
    machine.counted.clear()
    run_state_machine_as_test(machine.StoreMachine, settings=machine.machine_settings(12))
    assert machine.counted["examples"] >= 12
    assert machine.counted["kills"] > 0


@pytest.mark.parametrize("seed", range(12))
def test_walks_of_a_seed(seed: int) -> None:
    """The same by plain chance, with fewer events that do nothing."""
    machine.walk(seed)


@pytest.mark.proof
@pytest.mark.timeout(1500)
def test_many_orders_of_events() -> None:
    """The same, for longer."""
    machine.counted.clear()
    examples = 2000 if WHOLE_PROOF else 120
    with figures("machine", seeds=["derandomized"]) as found:
        run_state_machine_as_test(machine.StoreMachine, settings=machine.machine_settings(examples))
        found |= {name: machine.counted[name] for name in ("examples", "steps", "kills")}
        found["rules"] = dict(machine.counted)
    assert machine.counted["examples"] >= examples
