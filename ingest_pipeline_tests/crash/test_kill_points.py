"""An ingestion that is killed anywhere, and a recovery that is killed, too, end as if nothing had happened."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from itertools import islice
from typing import Any

import pytest

from ingest_pipeline.store.connection import store
from ingest_pipeline_tests.conftest import WHOLE_PROOF
from ingest_pipeline_tests.crash.kill_points import KillAt
from ingest_pipeline_tests.crash.lanes import Lane, Passed, Record, in_lanes
from ingest_pipeline_tests.crash.plans import Trial, every_point, pairs, rivals, sample, storms
from ingest_pipeline_tests.crash.results import write_result
from ingest_pipeline_tests.crash.scenes import SCENES
from ingest_pipeline_tests.crash.trials import MOST_RUNS

pytestmark = [pytest.mark.proof, pytest.mark.timeout(4 * 3600)]

SAMPLED_POINTS, PAIRS, STORMS, RIVALS = (None, 2000, 100, 100) if WHOLE_PROOF else (30, 12, 3, 3)
SEED = 1
PAIR_SEEDS, STORM_SEEDS, RIVAL_SEEDS = 10_000, 20_000, 30_000
"""The first seed of each."""
TIMES = """
SELECT table_name, column_name
FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
WHERE table_schema = 'ingest' AND table_type = 'BASE TABLE' AND data_type = 'timestamp with time zone'
"""
NAMED = os.environ.get("KILL_AT", "first 573:before 175:before")
"""A trial to repeat, as a failure names it; without the variable the pair by which lost warnings were found."""
PAIRS_AT_A_TIME = 100 if WHOLE_PROOF else 12


def require_all_passed(tried: Iterable[Passed]) -> None:
    """Each trial ended as the undisturbed job did, or the first problems of those that did not."""
    failed = [f"{one.name}\n  " + "\n  ".join(one.problems[:5]) for one in tried if one.problems]
    assert failed == [], f"{len(failed)} trials failed:\n" + "\n".join(failed[:10])


def report(part: str, tried: list[Passed], began: float, **figures: Any) -> None:
    """Write the result of a part that has passed."""
    seconds, of_trials = time.monotonic() - began, sum(one.seconds for one in tried)
    most = max(one.runs for one in tried)
    write_result(part, **figures, most_runs=most, seconds=round(seconds), seconds_of_trials=round(of_trials))


def test_every_point_is_survived(lanes: list[Lane], record: Record) -> None:
    """Killed at any statement, message or step, one more run ends with the rows of the undisturbed one."""
    began, lane = time.monotonic(), lanes[0]
    assert all(other.points == lane.points for other in lanes)
    planned = list(every_point(lane.points))
    chosen = sample(planned, SAMPLED_POINTS or len(planned), seed=SEED)
    tried = in_lanes(lanes, chosen, record)
    require_all_passed(tried)
    hit = sum(one.kills == 1 for one in tried)
    assert hit == len(chosen), [one.name for one in tried if not one.kills]
    report("kill points", tried, began, hit=hit, of=len(planned), seeds=[SEED])


@pytest.mark.parametrize("scene", SCENES)
def test_no_point_is_left_out(lanes: list[Lane], scene: str) -> None:
    """A kill behind the last point of a job kills nothing: the points are all there are."""
    behind = [Trial(scene, (KillAt(last + 1, "before", kind),)) for kind, last in lanes[0].points[scene].items()]
    tried: list[Passed] = []
    lanes[0].try_all(behind, tried.append)
    assert [one.kills for one in tried] == [0] * len(behind)


def test_killed_recoveries(lanes: list[Lane], record: Record) -> None:
    """A recovery that is killed, too, is recovered from: the same rows again."""
    began, seeds = time.monotonic(), iter(pairs(lanes[0].points, range(PAIR_SEEDS, PAIR_SEEDS + 10 * PAIRS)))
    tried: list[Passed] = []
    while sum(one.kills == 2 for one in tried) < PAIRS:
        tried += in_lanes(lanes, list(islice(seeds, PAIRS_AT_A_TIME)), record)
        require_all_passed(tried)
    killed_twice = sum(one.kills == 2 for one in tried)
    report("pairs", tried, began, pairs=killed_twice, seeds=[PAIR_SEEDS, PAIR_SEEDS + len(tried) - 1])


def test_storms_come_to_an_end(lanes: list[Lane], record: Record) -> None:
    """After up to eight kills in a row, at most three runs end with every file final and nothing damaged."""
    began = time.monotonic()
    tried = in_lanes(lanes, list(storms(lanes[0].points, range(STORM_SEEDS, STORM_SEEDS + STORMS))), record)
    require_all_passed(tried)
    assert max(one.runs for one in tried) <= MOST_RUNS
    kills = sum(one.kills for one in tried)
    assert kills >= 2 * STORMS
    report("storms", tried, began, storms=STORMS, kills=kills, seeds=[STORM_SEEDS, STORM_SEEDS + STORMS - 1])


def test_two_jobs_at_once(lanes: list[Lane], record: Record) -> None:
    """Two that run at the same files and batches, of which one is killed, end with the rows of one."""
    began = time.monotonic()
    tried = in_lanes(lanes, list(rivals(lanes[0].points, range(RIVAL_SEEDS, RIVAL_SEEDS + RIVALS))), record)
    require_all_passed(tried)
    kills = sum(one.kills for one in tried)
    report("rivals", tried, began, rivals=RIVALS, kills=kills, seeds=[RIVAL_SEEDS, RIVAL_SEEDS + RIVALS - 1])


def test_named_trial(lanes: list[Lane]) -> None:
    """The trial that KILL_AT names ends as the undisturbed job did: to look at a failure."""
    tried: list[Passed] = []
    lanes[0].try_all([Trial.parse(NAMED)], tried.append)
    require_all_passed(tried)
    assert tried[0].kills > 0, "no point was reached"


def test_clock_that_was_set_back(lanes: list[Lane]) -> None:
    """Rows that were written a day in the future change nothing: work is ordered by numbers, not by times."""
    lane, scene = lanes[0], SCENES[1]
    lane.begin(scene)
    with store(lane.stage.url) as connection:
        columns = connection.execute(TIMES).fetchall()
        for table, column in columns:
            connection.execute(f"UPDATE ingest.{table} SET {column} = {column} + interval '1 day'".encode())
    outcome = lane.stage.recovered([KillAt(lane.points[scene]["sql"] // 2)], lane.expected[scene])
    assert len(columns) >= 10
    assert (outcome.runs, outcome.problems) == (1, ())
