"""Predicted costs and a budget become batches: properties that hold for every input."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_pipeline.models import FileCost, Plan
from ingest_pipeline.planning.plan import MIN_BATCH_SECONDS, BatchLimits, pack, plan_batches, target_seconds

quick = settings(max_examples=30, deadline=None)
names = st.text(alphabet="abcñ/é語 .", min_size=1, max_size=6)
seconds = st.one_of(st.just(0.0), st.floats(min_value=0.001, max_value=1000.0, allow_nan=False, allow_infinity=False))


@st.composite
def cost_lists(draw: st.DrawFn) -> list[FileCost]:
    """Draw waiting files with unique ids; names and versions may be equal."""
    size = draw(st.integers(min_value=0, max_value=25))
    return [
        FileCost(
            file_id=number,
            name=draw(names),
            version=draw(st.sampled_from(["aa", "bb", "cc"])),
            predicted_peak_bytes=draw(st.integers(min_value=0, max_value=2000)),
            predicted_seconds=draw(seconds),
            alone=draw(st.booleans()) and draw(st.booleans()),
        )
        for number in range(size)
    ]


budgets = st.integers(min_value=0, max_value=2000)
limits = st.integers(min_value=1, max_value=8)
targets = st.floats(min_value=0.5, max_value=2000.0, allow_nan=False)
overheads = st.integers(min_value=0, max_value=500)
floors = st.integers(min_value=0, max_value=2500)


def plan(costs: list[FileCost], budget: int, limit: int, target: float, overhead: int = 0, floor: int = 0) -> Plan:
    """Plan with the arguments in a short order."""
    return plan_batches(costs, BatchLimits(budget, limit, target, overhead, floor))


def cost(name: str, *, peak: int = 10, length: float = 1.0, alone: bool = False, file_id: int = 0) -> FileCost:
    """A waiting file, by hand."""
    return FileCost(
        file_id=file_id or sum(name.encode()),
        name=name,
        version="v",
        predicted_peak_bytes=peak,
        predicted_seconds=length,
        alone=alone,
    )


def grouped(found: Plan) -> list[list[str]]:
    """The names in each batch."""
    return [[member.name for member in batch.costs] for batch in found.batches]


@given(cost_lists(), budgets, limits, targets)
@quick
def test_every_file_is_in_exactly_one_place(costs: list[FileCost], budget: int, limit: int, target: float) -> None:
    """Nothing is lost, nothing is done twice."""
    found = plan(costs, budget, limit, target)
    placed = [member.file_id for batch in found.batches for member in batch.costs]
    placed += [member.file_id for member in found.refused]
    assert sorted(placed) == sorted(member.file_id for member in costs)


@given(cost_lists(), budgets, limits, targets)
@quick
def test_only_memory_refuses_a_file(costs: list[FileCost], budget: int, limit: int, target: float) -> None:
    """A file is refused exactly when it alone is over the budget."""
    found = plan(costs, budget, limit, target)
    over = {member.file_id for member in costs if member.predicted_peak_bytes > budget}
    assert {member.file_id for member in found.refused} == over


@given(cost_lists(), budgets, limits, targets, overheads, floors)
@quick
def test_no_batch_is_over_a_runs_budget(
    costs: list[FileCost], budget: int, limit: int, target: float, overhead: int, floor: int
) -> None:
    """A batch peaks where its largest file peaks, and never below the floor."""
    found = plan(costs, budget, limit, target, overhead, floor)
    for batch in found.batches:
        largest = max(member.predicted_peak_bytes for member in batch.costs)
        assert largest <= budget
        assert batch.predicted_peak_bytes == max(floor, overhead + largest)
        assert batch.predicted_peak_bytes <= max(floor, overhead + budget)


@given(cost_lists(), budgets, limits, targets)
@quick
def test_batches_keep_to_the_file_limit(costs: list[FileCost], budget: int, limit: int, target: float) -> None:
    """A batch has at least one file and at most `max_files`."""
    found = plan(costs, budget, limit, target)
    assert all(1 <= len(batch.costs) <= limit for batch in found.batches)


@given(cost_lists(), budgets, limits, targets)
@quick
def test_only_single_files_pass_the_target(costs: list[FileCost], budget: int, limit: int, target: float) -> None:
    """A file longer than the target has its own batch; all others keep to it."""
    found = plan(costs, budget, limit, target)
    for batch in found.batches:
        if len(batch.costs) > 1:
            assert sum(member.predicted_seconds for member in batch.costs) <= target
            assert all(member.predicted_seconds <= target for member in batch.costs)


@given(cost_lists(), budgets, limits, targets)
@quick
def test_the_seconds_of_a_batch_add_up(costs: list[FileCost], budget: int, limit: int, target: float) -> None:
    """Files are processed one after another."""
    found = plan(costs, budget, limit, target)
    for batch in found.batches:
        assert batch.predicted_seconds == pytest.approx(sum(member.predicted_seconds for member in batch.costs))


@given(cost_lists(), budgets, limits, targets)
@quick
def test_a_file_marked_alone_is_alone(costs: list[FileCost], budget: int, limit: int, target: float) -> None:
    """A file that was open when a run was killed endangers no neighbour."""
    found = plan(costs, budget, limit, target)
    for batch in found.batches:
        if any(member.alone for member in batch.costs):
            assert len(batch.costs) == 1


@given(cost_lists(), budgets, limits, targets, st.integers())
@quick
def test_order_of_files_changes_no_plan(
    costs: list[FileCost], budget: int, limit: int, target: float, seed: int
) -> None:
    """Two scans that list in another order seal the same batches."""
    shuffled = list(costs)
    random.Random(seed).shuffle(shuffled)
    assert plan(shuffled, budget, limit, target) == plan(costs, budget, limit, target)


@given(cost_lists(), budgets, limits, targets)
@quick
def test_neighbours_could_not_have_been_one(costs: list[FileCost], budget: int, limit: int, target: float) -> None:
    """A batch closes only when the next file would take it over a limit: start-up is paid as rarely as may be."""
    found = plan(costs, budget, limit, target)
    shared = [batch for batch in found.batches if not any(member.alone for member in batch.costs)]
    for first, second in pairwise(shared):
        full = len(first.costs) >= limit
        long = sum(member.predicted_seconds for member in (*first.costs, second.costs[0])) > target * (1 - 1e-9)
        assert full or long


@given(cost_lists(), limits, targets)
@quick
def test_an_iterator_is_as_good_as_a_list(costs: list[FileCost], limit: int, target: float) -> None:
    """The ledger streams its rows."""
    assert plan_batches(iter(costs), BatchLimits(1000, limit, target)) == plan(costs, 1000, limit, target)


def test_a_batch_is_yielded_when_it_is_full() -> None:
    """Packing reads no further than it must: of a million files one batch is in memory."""

    def endless() -> Iterator[FileCost]:
        for number in range(10):
            yield cost(f"{number:02}")
        pytest.fail("it read on")

    packed = pack(endless(), BatchLimits(100, 3, 60.0))
    assert [len(next(packed).costs) for _ in range(3)] == [3, 3, 3]  # type: ignore[union-attr]


@given(st.floats(0, 1e6), st.integers(1, 64), st.floats(1.0, 3600.0))
@quick
def test_the_target_never_passes_the_setting(total: float, runs: int, most: float) -> None:
    """A batch is never longer than INGEST_BATCH_MINUTES, nor so short that its start would count."""
    target = target_seconds(total, runs=runs, most_seconds=most)
    assert min(most, MIN_BATCH_SECONDS) <= target <= most


@pytest.mark.parametrize(
    ("total", "runs", "target"),
    [
        (10, 2, 10),
        (30, 2, 16.5),
        (100, 2, 55),
        (320, 2, 176),
        (600, 2, 300),
        (700, 2, 192.5),
        (9000, 2, 300),
        (600, 3, 220),
    ],
)
def test_all_runs_have_work(total: float, runs: int, target: float) -> None:
    """The work is divided among the runs that are at work at once: two cores do not wait for one long batch."""
    assert target_seconds(total, runs=runs, most_seconds=300) == pytest.approx(target)


def test_no_files_make_no_batches() -> None:
    """An empty source is no work, and no error."""
    assert plan([], 100, 10, 60.0) == Plan(batches=())


def test_files_are_packed_by_name() -> None:
    """Names that sort together are searched together, and lie in one batch."""
    found = plan([cost("b"), cost("a"), cost("c")], 100, 2, 60.0)
    assert grouped(found) == [["a", "b"], ["c"]]


def test_a_long_file_between_neighbours() -> None:
    """A long file has a batch of its own: neither what comes before it nor what comes after it waits for it."""
    found = plan([cost("a"), cost("b", length=500.0), cost("c"), cost("d")], 100, 10, 60.0)
    assert grouped(found) == [["a"], ["b"], ["c", "d"]]


def test_a_long_file_among_empty_ones() -> None:
    """Files of zero seconds on either side do not slip into the batch of a long file."""
    found = plan([cost("a", length=0.0), cost("b", length=61.0), cost("c", length=0.0)], 100, 10, 60.0)
    assert grouped(found) == [["a"], ["b"], ["c"]]


def test_a_file_exactly_at_the_budget_fits() -> None:
    """The budget is what may be used, not what must stay free."""
    found = plan([cost("fits", peak=100), cost("not", peak=101)], 100, 10, 60.0)
    assert grouped(found) == [["fits"]]
    assert [member.name for member in found.refused] == ["not"]


def test_alone_is_no_way_around_the_budget() -> None:
    """A file over the budget is refused also when it is marked alone: a batch of its own makes it no smaller."""
    found = plan([cost("large", peak=101, alone=True)], 100, 10, 60.0)
    assert found.batches == ()
    assert [member.name for member in found.refused] == ["large"]


def test_alone_leaves_neighbours_together() -> None:
    """After a kill the others go on as they were."""
    costs = [cost("a"), cost("b"), cost("c")]
    found = plan([costs[0], replace(costs[1], alone=True), costs[2]], 100, 10, 60.0)
    assert grouped(found) == [["b"], ["a", "c"]]
