"""The memory of a run over time: written as it goes, read also after a kill, small, no peak lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_pipeline.memory import recorder as module
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.record import MOST_POINTS, MemoryRecord, StepMark, memory_file, read_records
from ingest_pipeline.memory.recorder import WHOLE_SLOTS, Position, Recorder
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline_tests.conftest import REPOSITORY

MIB = 1024**2
LIMIT = 512 * MIB


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return memory_file(tmp_path, "run1")


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1.7e9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def recorder(path: Path, position: Position | None = None, *, stage: str = "chunks") -> Recorder:
    return Recorder(path, stage=stage, batch="batch1", limit_bytes=LIMIT, position=position or Position())


def only(path: Path) -> MemoryRecord:
    [record] = read_records(path)
    return record


def test_what_was_measured_is_read(path: Path, clock: Clock) -> None:
    """Highest use, file and page of each eighth of a second; of two measurements in one the higher."""
    position = Position()
    made = recorder(path, position)
    for second, mib, file_id, page in ((0, 90, 0, 0), (0.13, 100, 7, 0), (0.14, 140, 7, 2), (0.15, 80, 8, 0)):
        clock.now = 100 + second
        position.move(file_id, page)
        made.note(mib * MIB, [])
    made.close()
    assert only(path) == MemoryRecord(
        run_id="run1", batch="batch1", stage="chunks", began_at=1.7e9, limit_bytes=LIMIT, seconds_per_point=0.125,
        used_kib=[90 * 1024, 140 * 1024], file_ids=[0, 7], pages=[0, 2],
    )  # fmt: skip
    assert (only(path).seconds, only(path).peak_bytes) == (0.25, 140 * MIB)


def test_steps_are_marked_at_once(path: Path, clock: Clock) -> None:
    """A degradation step is in the file as soon as it is noticed: the run may be killed at any moment."""
    made, degradation = recorder(path), Degradation(limit_bytes=LIMIT)
    made.note(10 * MIB, degradation.steps_taken)
    clock.now += 0.5
    degradation.observe(460 * MIB)
    made.note(460 * MIB, degradation.steps_taken)
    assert only(path).steps == [StepMark(0.5, "smaller_batches", 460 * MIB)]
    made.note(460 * MIB, degradation.steps_taken)
    assert len(only(path).steps) == 1


def test_a_kill_loses_a_second(tmp_path: Path) -> None:
    """What a killed process had measured up to a second before is in the file, and a line that is cut short."""
    script = (
        "import sys, time; from pathlib import Path\n"
        "from ingest_pipeline.memory.recorder import Position, Recorder\n"
        "from ingest_pipeline.memory.watch import TreeWatch\n"
        "recorder = Recorder(Path(sys.argv[1]), stage='chunks', batch='b', limit_bytes=0, position=Position(5, 3))\n"
        "with TreeWatch(recorder=recorder):\n"
        "    time.sleep(2.6); print('up', flush=True); time.sleep(60)\n"
    )
    path = tmp_path / "run1.memory"
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        assert process.wait() == -signal.SIGKILL
    with path.open("a") as file:
        file.write("23 40")
    record = only(path)
    assert 1.5 < record.seconds < 4
    assert {*record.file_ids} == {5}
    assert record.peak_bytes > 5 * MIB


def test_stages_follow_each_other(path: Path) -> None:
    """Each stage of a run is a record; one that measured nothing is none."""
    for stage in ("chunks", "embeddings"):
        with TreeWatch(recorder=recorder(path, stage=stage)):
            pass
    path.open("a").write("begin entities batch1 1.0 1\n")
    assert [record.stage for record in read_records(path)] == ["chunks", "embeddings"]
    assert [record.stage for record in read_records(path, stage="embeddings")] == ["embeddings"]


def test_four_hours_stay_small(path: Path, clock: Clock) -> None:
    """After five minutes one line a second: 400 kB for four hours, and the highest measurement of all is there."""
    made = recorder(path, Position(123, 4567))
    for slot in range(4 * 3600 * 8):
        clock.now = 100 + slot / 8
        made.note((300 if slot != 77_777 else 511) * MIB, [])
    made.close()
    lines = path.read_text().splitlines()
    assert WHOLE_SLOTS + 14_000 < len(lines) < WHOLE_SLOTS + 14_400
    assert path.stat().st_size < 400_000
    record = only(path)
    assert 500 < len(record.used_kib) <= MOST_POINTS
    assert record.seconds == pytest.approx(4 * 3600, rel=0.01)
    assert record.peak_bytes == 511 * MIB


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 2**20)), min_size=1, max_size=1500))
def test_no_peak_is_lost(tmp_path_factory: pytest.TempPathFactory, gaps: list[tuple[int, int]]) -> None:
    """However many samples, the points are at most 600, hold the highest of all, and cover the time."""
    path, slot = tmp_path_factory.mktemp("run") / "r.memory", 0
    lines = ["begin chunks b 1.0 1"]
    for gap, used in gaps:
        lines.append(f"{slot} {used} 1 0")
        slot += gap
    path.write_text("\n".join(lines))
    record = only(path)
    assert len(record.used_kib) <= MOST_POINTS
    assert max(record.used_kib) == max(used for _, used in gaps)
    assert record.seconds >= (slot - gaps[-1][0]) / 8


def test_a_full_disk_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where the file cannot be written the run goes on, says so once, and has no record."""
    (tmp_path / "file").write_text("")
    made = recorder(tmp_path / "file" / "run.memory")
    for _ in range(3):
        made.note(1, [])
        made.close()
    assert made.record() is None
    assert len(caplog.records) == 1


def test_nobody_has_a_record(path: Path) -> None:
    """A run that wrote nothing, and a file that no recorder wrote."""
    assert read_records(path) == []
    path.parent.mkdir()
    path.write_text("\x00\x01\nno such line\n5 5 5 5\nbegin x\n")
    assert read_records(path) == []


def test_recording_costs_little(path: Path) -> None:
    """A measurement that is recorded takes less than 50 microseconds: 0.04 % of a core at eight a second."""
    made = recorder(path, Position(1, 1))
    began = time.process_time()
    for number in range(10_000):
        made.note(number, [])
    assert (time.process_time() - began) / 10_000 < 50e-6
