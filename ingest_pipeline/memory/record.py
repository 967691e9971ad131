"""The memory of one stage of a run over time, read from the file that the run's recorder writes as it goes.

The file has one entry a line, so that a line that a kill cut short costs no other:

    begin <stage> <batch> <seconds since 1970> <limit in bytes>
    <slot> <KiB> <file id, 0: none> <page reached, 0: none>
    step <seconds since the beginning> <degradation step> <bytes>

A slot is an eighth of a second. Stdlib only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SLOTS_PER_SECOND = 8
MOST_POINTS = 600
"""Of a stored record: as many as a picture of this width can show."""
MEMORY_SUFFIX = ".memory"


class Sample(NamedTuple):
    """The highest memory use within one slot, and what the run was at."""

    slot: int
    used_kib: int
    file_id: int = 0
    page: int = 0


@dataclass(frozen=True, slots=True)
class StepMark:
    """A degradation step that was taken."""

    second: float
    """Since the stage began."""
    step: str
    used_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """The memory of one stage of a run, in points of equal length; each is the highest use within it."""

    run_id: str
    batch: str
    stage: str
    began_at: float
    """Seconds since 1970."""
    limit_bytes: int
    seconds_per_point: float
    used_kib: list[int]
    file_ids: list[int]
    """The file that was at work at the highest use of each point; 0: none."""
    pages: list[int]
    """The page that was reached; 0: none."""
    steps: list[StepMark] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long the stage took, or how long it went before it was killed."""
        return len(self.used_kib) * self.seconds_per_point

    @property
    def peak_bytes(self) -> int:
        """The highest use."""
        return max(self.used_kib, default=0) * 1024


@dataclass(slots=True)
class _Stage:
    """What the file says of one stage."""

    stage: str
    batch: str
    began_at: float
    limit_bytes: int
    samples: list[Sample] = field(default_factory=list)
    steps: list[StepMark] = field(default_factory=list)


def memory_file(home: Path, run_id: str) -> Path:
    """Return where a run writes down its memory, beside the record of its process."""
    return home / "runs" / f"{run_id}{MEMORY_SUFFIX}"


def read_records(path: Path, *, stage: str | None = None) -> list[MemoryRecord]:
    """Return the records of a run's stages, in order; [] if the run has written none.

    Args:
        path: of the file `RUN_ID.memory`.
        stage: only of this one.
    """
    try:
        with path.open(errors="replace") as lines:
            stages = list(_stages(lines))
    except OSError:
        return []
    return [_record(path.stem, one) for one in stages if one.samples and stage in (None, one.stage)]


def _stages(lines: Iterable[str]) -> Iterator[_Stage]:
    stage: _Stage | None = None
    for line in lines:
        with contextlib.suppress(ValueError, IndexError):  # a line that was cut short
            kind, *words = line.split()
            if kind == "begin":
                if stage:
                    yield stage
                stage = _Stage(words[0], words[1], float(words[2]), int(words[3]))
            elif stage and kind == "step":
                stage.steps.append(StepMark(float(words[0]), words[1], int(words[2])))
            elif stage and kind.isdecimal() and len(words) == 3:
                stage.samples.append(Sample(int(kind), *map(int, words)))
    if stage:
        yield stage


def _record(run_id: str, stage: _Stage) -> MemoryRecord:
    points, slots = _points(stage.samples)
    return MemoryRecord(
        run_id=run_id,
        batch=stage.batch,
        stage=stage.stage,
        began_at=stage.began_at,
        limit_bytes=stage.limit_bytes,
        seconds_per_point=slots / SLOTS_PER_SECOND,
        used_kib=[point.used_kib for point in points],
        file_ids=[point.file_id for point in points],
        pages=[point.page for point in points],
        steps=stage.steps,
    )


def _points(samples: list[Sample]) -> tuple[list[Sample], int]:
    """Return at most `MOST_POINTS` points of equal length, each its highest sample, and the slots in a point."""
    slots = samples[-1].slot // MOST_POINTS + 1
    highest: list[Sample | None] = [None] * (samples[-1].slot // slots + 1)
    for sample in samples:
        point = min(sample.slot // slots, len(highest) - 1)
        before = highest[point]
        if before is None or sample.used_kib > before.used_kib:
            highest[point] = sample
    points: list[Sample] = []
    following = samples[-1]
    for point_sample in reversed(highest):
        # A sample is the peak since the one before it: it also holds where none was taken.
        following = point_sample or following
        points.append(following)
    return points[::-1], slots
