"""Whatever users, runs, kills and sweeps do in whatever order, the invariants hold and every file comes to its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis.stateful import run_state_machine_as_test

from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.conftest import WHOLE_PROOF
from ingest_pipeline_tests.crash import machine
from ingest_pipeline_tests.crash.figures import figures
from ingest_pipeline_tests.crash.invariants import violations
from ingest_pipeline_tests.crash.stages import StagedStore


@pytest.fixture(autouse=True)
def opened(connection: Connection, settings: Settings, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine works on this store."""
    monkeypatch.setattr(machine, "open_store", lambda: StagedStore(connection, settings, source))


def test_any_order_of_events() -> None:
    """Some orders of everything that may happen: no invariant is hurt, and every file ends as the folder says."""
    machine.counted.clear()
    run_state_machine_as_test(machine.StoreMachine, settings=machine.machine_settings(6))
    assert machine.counted["examples"] >= 6
    assert machine.counted["kills"] > 0


@pytest.mark.parametrize("seed", range(6))
def test_walks_of_a_seed(seed: int) -> None:
    """The same by plain chance, with fewer events that do nothing."""
    machine.walk(seed)


def test_killed_at_exchanges() -> None:
    """A run that dies at one of its exchanges with the server: nothing is broken, and the next runs do the rest."""
    assert killed_at(range(2, 200, 9)) > 5


def killed_at(exchanges: range) -> int:
    """Kill a run of one file at these exchanges, before and after the server's answer; return how often it died."""
    for count, number in enumerate(exchanges):
        store = machine.open_store()
        store.write("a.txt", "one two\fthree")
        store.scan()
        store.seal()
        run = store.begin(store.keys("waiting")[0])
        run.connection.after_answer, run.connection.exchanges_left = bool(count % 2), number
        while not (run.ended or run.killed):
            run.step()
        assert violations(store.connection, store.settings) == [], number
        store.ingest_run()
        assert store.shown() == {"a.txt": ["one two", "three"]}, number
        if run.ended:
            return count
    raise AssertionError("it never came to its end")


@pytest.mark.proof
@pytest.mark.timeout(1500)
def test_many_orders_of_events() -> None:
    """The same, for longer."""
    machine.counted.clear()
    examples = 240 if WHOLE_PROOF else 24
    with figures("machine", seeds=["derandomized"]) as found:
        run_state_machine_as_test(machine.StoreMachine, settings=machine.machine_settings(examples))
        found |= {name: machine.counted[name] for name in ("examples", "steps", "kills")}
        found["rules"] = dict(machine.counted)
        machine.counted.clear()
        for seed in range(walks := 160 if WHOLE_PROOF else 16):
            machine.walk(seed)
        found |= {
            "walks": walks,
            "steps_of_walks": machine.counted["steps"],
            "kills_of_walks": machine.counted["kills"],
        }
        found["exchanges"] = killed_at(range(200))
    assert found["examples"] >= examples
