"""Sessions that meet statement by statement, in any order: none fails, and nothing is lost, doubled or stuck."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ingest_pipeline.store import embedding_models, files, generations
from ingest_pipeline.store.connection import Connection, store
from ingest_pipeline_tests.conftest import CARD, WHOLE_PROOF
from ingest_pipeline_tests.crash.figures import figures
from ingest_pipeline_tests.crash.sessions import SCENARIOS, Scenario, indexed, theatre
from ingest_pipeline_tests.documents import FINGERPRINT, SOURCE, add_file, status_of


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_some_orders(connection: Connection, url: str, scenario: Scenario) -> None:
    """Some orders of the statements of each scenario."""
    with theatre(connection, url) as stage:
        orders = [stage.play(scenario, seed) for seed in range(6)]
    assert len(set(orders)) > 1


def test_copy_of_what_is_swept(connection: Connection, url: str) -> None:
    """A catalog run that finds a copy of bytes whose chunks are just being deleted leaves the copy waiting."""
    indexed(connection, "a.txt", "v1")
    files.delete_unseen(connection, SOURCE, 9)
    model = embedding_models.model_id(connection, CARD)
    with store(url) as other, ThreadPoolExecutor(1) as pool:
        with connection.transaction():
            assert generations.drop_unused_generations(connection) == 1
            add_file(other, "b.txt", "v1")
            adopted = pool.submit(files.adopt_known_versions, other, FINGERPRINT, model=model)
            with pytest.raises(TimeoutError):
                adopted.result(timeout=0.5)
        assert adopted.result(timeout=60) == 0
    assert status_of(connection, "b.txt") == ("synced", None)


@pytest.mark.proof
@pytest.mark.timeout(1500)
def test_many_orders(connection: Connection, url: str) -> None:
    """Many orders of each."""
    orders = 400 if WHOLE_PROOF else 40
    with figures("sessions", seeds=[0, orders - 1]) as found, theatre(connection, url) as stage:
        played = {one.name: {stage.play(one, seed) for seed in range(orders)} for one in SCENARIOS}
        found |= {"scenarios": len(SCENARIOS), "interleavings": orders * len(SCENARIOS)}
        found["different"] = sum(map(len, played.values()))
    assert found["different"] > len(SCENARIOS) * 10
