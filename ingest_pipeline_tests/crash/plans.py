"""Which trials there are: every point, pairs of points, and storms of kills, each known by a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ingest_pipeline_tests.crash.kill_points import KillAt
from ingest_pipeline_tests.crash.scenes import SCENES

RECOVERY_POINTS = 80
"""What a recovery does beside the work that is left: catalog, reconciling, opening batches again."""
STORM_KILLS = range(3, 9)
Points = dict[str, Counter[str]]
"""How many points a job has, by scene and kind."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A scene, and where its jobs are killed."""

    scene: str
    kills: tuple[KillAt, ...]
    kind: str = "point"
    """`point`, `pair`, `rivals` (two jobs at once) or `storm`: after a storm files may have failed, because three runs
    were killed at them."""
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Trial:
        """Read `first 573:before 175:after`: a scene, and points; also the name of a trial that failed."""
        words = text.split()
        kind = words.pop(0) if words[0] not in SCENES else "point"
        return cls(words[0], tuple(map(KillAt.parse, words[1:])), kind)

    @property
    def name(self) -> str:
        """By which a passed trial is known again."""
        return " ".join([self.kind, self.scene, *map(str, self.kills)])


def every_point(points: Points) -> Iterator[Trial]:
    """Yield a trial for each point, before and after it."""
    for scene in SCENES:
        for kind, last in sorted(points[scene].items()):
            for number in range(1, last + 1):
                for when in ("before", "after") if kind == "sql" else ("after",):
                    yield Trial(scene, (KillAt(number, when, kind),))


def sample(trials: Sequence[Trial], count: int, *, seed: int) -> list[Trial]:
    """Return some trials of all, or all in another order, by a seed."""
    return random.Random(seed).sample(trials, min(count, len(trials)))


def pairs(points: Points, seeds: Iterable[int]) -> Iterator[Trial]:
    """Yield a trial for each seed: a kill anywhere, and one in the recovery from it."""
    for seed in seeds:
        chance = random.Random(seed)
        scene = _scene(points, chance)
        first = _point(points[scene], chance)
        second = _point(_left_after(first, points[scene]), chance)
        yield Trial(scene, (first, second), "pair", seed)


def storms(points: Points, seeds: Iterable[int]) -> Iterator[Trial]:
    """Yield a trial for each seed: three to eight kills in a row, mostly early in what is left."""
    for seed in seeds:
        chance = random.Random(seed)
        scene = _scene(points, chance)
        last = points[scene]["sql"]
        numbers = [int(last * chance.random() ** 2) + 1 for _ in range(chance.choice(STORM_KILLS))]
        kills = tuple(KillAt(number, chance.choice(("before", "after"))) for number in numbers)
        yield Trial(scene, kills, "storm", seed)


def rivals(points: Points, seeds: Iterable[int]) -> Iterator[Trial]:
    """Yield a trial for each seed: a kill anywhere in one of two jobs that run at once."""
    for seed in seeds:
        chance = random.Random(seed)
        scene = _scene(points, chance)
        yield Trial(scene, (_point(points[scene], chance),), "rivals", seed)


def _left_after(killed_at: KillAt, points: Counter[str]) -> Counter[str]:
    """Return how many points the recovery has, about."""
    share = 1 - killed_at.number / points[killed_at.kind]
    return Counter({kind: int(share * last) + RECOVERY_POINTS * (kind == "sql") for kind, last in points.items()})


def _scene(points: Points, chance: random.Random) -> str:
    return chance.choices(SCENES, [points[scene].total() for scene in SCENES])[0]


def _point(points: Counter[str], chance: random.Random) -> KillAt:
    kinds = sorted(kind for kind, last in points.items() if last)
    [kind] = chance.choices(kinds, [points[kind] for kind in kinds])
    when = chance.choice(("before", "after")) if kind == "sql" else "after"
    return KillAt(chance.randint(1, points[kind]), when, kind)
