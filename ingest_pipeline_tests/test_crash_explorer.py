"""In no state that files, batches, runs and the sweep can reach is an invariant hurt, and work can always end."""

from __future__ import annotations

import pytest

from ingest_pipeline_tests.conftest import WHOLE_PROOF
from ingest_pipeline_tests.crash.edges import table_edges
from ingest_pipeline_tests.crash.explorer import Explored, Limits, Model, State, explore, initial
from ingest_pipeline_tests.crash.figures import figures

OPERATORS = {
    "record_refusals", "requeue_affordable", "requeue_with_gaps", "requeue_outdated", "requeue_without_vector",
    "requeue_without_extract", "requeue_without_entities", "dissolve_waiting", "release_stuck", "reset_failed",
    "requeue_indexed", "withdraw_files", "withdraw_generations", "refuse_unread",
}  # fmt: skip
"""What the model leaves out: other settings, refusals, and repairs. They lead to a status that it has."""


SHAPES = ((1, 2, Limits()), (2, 1, Limits()), (2, 2, Limits(kills=1, versions=1)))


def require_sound(explored: Explored) -> None:
    """No state is broken, and from each one every file can come to its end without a further kill."""
    assert explored.broken == []
    assert explored.stuck == []
    assert explored.final > 0
    assert explored.edges <= table_edges(), "the model moves a file in a way that the table does not have"


def test_one_file_one_run() -> None:
    """Every state of one file, with everything that can happen to it."""
    explored = explore(initial(files=1, runs=1), Limits())
    require_sound(explored)
    assert explored.states > 1000


def test_broken_model_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose runs publish a version that is not the file's any more has broken states."""
    published = Model._published

    def careless(self: Model, state: State, number: int, run: object) -> State:
        file = state.files[0]
        state = published(self, state, number, run)  # type: ignore[arg-type]
        return state._replace(files=(file._replace(status="indexed", shown=run.version), *state.files[1:]))  # type: ignore[attr-defined]

    monkeypatch.setattr(Model, "_published", careless)
    assert explore(initial(files=1, runs=1), Limits(), until_broken=True).broken


def test_batch_ended_under_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends its batch after another one has taken it up leaves states in which a file is stuck."""
    steps = Model._next_file

    def by_anybody(self: Model, state: State, number: int, run: object) -> object:
        batch = state.batches[run.batch]  # type: ignore[attr-defined]
        mine = state._replace(batches=tuple(one._replace(run=number) if one is batch else one for one in state.batches))
        yield from steps(self, mine, number, run)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "_next_file", by_anybody)
    assert explore(initial(files=1, runs=2), Limits(), until_broken=True).broken


@pytest.mark.proof
@pytest.mark.timeout(1500)
def test_files_and_runs() -> None:
    """One file and two runs, two files and one run; two files and two runs in the whole form."""
    with figures("explorer") as found:
        for files, runs, limits in SHAPES if WHOLE_PROOF else SHAPES[:1]:
            explored = explore(initial(files=files, runs=runs), limits)
            require_sound(explored)
            shape = f"{files}_files_{runs}_runs"
            found |= {f"states_{shape}": explored.states, f"transitions_{shape}": explored.transitions}
        found["edges_of_the_table"] = len(table_edges())
        found["edges_taken"] = len(explored.edges)
    moved = {function for function, _, _ in explored.edges}
    assert {function for function, _, _ in table_edges()} - OPERATORS == moved
