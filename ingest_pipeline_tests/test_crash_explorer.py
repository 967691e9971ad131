"""In no state that files, batches, runs and the sweep can reach is an invariant hurt, and work can always end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ingest_pipeline_tests.conftest import WHOLE_PROOF
from ingest_pipeline_tests.crash.edges import table_edges
from ingest_pipeline_tests.crash.explorer import Explored, explore
from ingest_pipeline_tests.crash.figures import figures
from ingest_pipeline_tests.crash.lifecycle import Batch, File, Limits, Model, Run, State, initial
from ingest_pipeline_tests.crash.packing import pack, unpack

OPERATORS = {
    "record_refusals", "requeue_affordable", "requeue_with_gaps", "requeue_outdated", "requeue_without_vector",
    "requeue_without_extract", "requeue_without_entities", "dissolve_waiting", "release_stuck", "reset_failed",
    "requeue_indexed", "withdraw_files", "withdraw_generations", "refuse_unread",
}  # fmt: skip
"""What the model leaves out: other settings, refusals, and repairs. They lead to a status that it has."""


SHAPES = ((1, 2, Limits()), (2, 1, Limits()), (2, 2, Limits(versions=1)))
"""Files, runs, and how far the model goes. Two files and two runs never see other bytes, only a file that goes and
comes back: two versions have more than 2.7 million states within 20 steps, already with one kill (2026-11)."""


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


def test_lost_batch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that forgets a dead run, and leaves its batch running, has states in which a file is stuck."""

    def forgotten(self: Model, state: State, number: int, run: object) -> Iterator[State]:
        yield state._replace(runs=(Run(),))

    monkeypatch.setattr(Model, "_reconciled", forgotten)
    assert explore(initial(files=1, runs=1), Limits()).stuck


def test_names_make_no_difference() -> None:
    """A state has one number under all names of files, batches and runs, and comes back from it."""
    files = (File("processing", 0, kills=1), File("processed", 1, shown=0))
    batches, runs = (Batch("running", 0), Batch("running", 1)), (Run("alive", 0, "chunking", 0), Run("dead", 1))
    state = State(files, batches, runs, 1)
    other = State(
        (File("processed", 0, shown=0), File("processing", 1, kills=1)), batches,
        (Run("dead", 0), Run("alive", 1, "chunking", 1)), 1,
    )  # fmt: skip
    assert pack(state) == pack(other)
    assert pack(unpack(pack(state), files=2, runs=2)) == pack(state)
    assert pack(state._replace(files=files[::-1])) != pack(state)


@pytest.mark.proof
@pytest.mark.timeout(1500)
def test_files_and_runs() -> None:
    """One file and two runs, two files and one run; two files and two runs in the whole form."""
    edges: set[tuple[str, str, str]] = set()
    with figures("explorer") as known:
        for files, runs, limits in SHAPES if WHOLE_PROOF else SHAPES[:1]:
            explored = explore(initial(files=files, runs=runs), limits)
            require_sound(explored)
            shape = f"{files}_files_{runs}_runs_{limits.kills}_kills_{limits.versions}_versions"
            known |= {f"states_{shape}": explored.states, f"transitions_{shape}": explored.transitions}
            edges |= explored.edges
        known |= {"edges_taken": len(edges), "edges_of_the_table": len(table_edges())}
    moved = {function for function, _, _ in edges}
    assert {function for function, _, _ in table_edges()} - OPERATORS == moved
