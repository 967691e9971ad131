"""The price list: what holds of every machine and all work, and what the command says of files in a folder."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from ingest_pipeline.errors import FileNeedsMoreMemory
from ingest_pipeline.memory import machine
from ingest_pipeline.models import FileCost
from ingest_pipeline.planning.plan import BatchLimits, plan_batches
from ingest_pipeline.planning.prices import Box, FileWork, Price, Speed, Work, price, smallest_within
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages import prices as stage
from ingest_pipeline.stages.prices import price_list
from ingest_pipeline.stages.sealing import seal_waiting
from ingest_pipeline.store import costs, ledger
from ingest_pipeline.store import files as store_files
from ingest_pipeline.store.connection import Connection, scalar
from ingest_pipeline.store.ledger import AttemptCost
from ingest_pipeline_tests.command import Command
from ingest_pipeline_tests.documents import FINGERPRINT, add_file, files_of, seal

MIB, GIB = 1024**2, 1024**3
quick = examples(max_examples=60, deadline=None)
file_works = st.builds(
    FileWork,
    peak_bytes=st.integers(min_value=0, max_value=6 * GIB),
    seconds=st.floats(min_value=0, max_value=4000),
    core_seconds=st.floats(min_value=0, max_value=4000),
    waited_seconds=st.floats(min_value=0, max_value=100),
    alone=st.booleans(),
)
works = st.lists(file_works, max_size=30)
memories = st.integers(min_value=256 * MIB, max_value=64 * GIB)
core_counts = st.integers(min_value=1, max_value=16)
shares = st.floats(min_value=0, max_value=1)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has two, wherever the tests run."""
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    monkeypatch.setattr(stage, "usable_cores", lambda: 2)


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(settings, monkeypatch, capsys)


def work_of(*files: FileWork) -> Work:
    """The work on these files."""
    work = Work()
    for file in files:
        work.add(file)
    return work


def priced(files: list[FileWork], memory: int, cores: int, share: float = 0.9) -> Price:
    """The price as the stage computes it, on a machine of so many cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "usable_cores", lambda: cores)
        return stage._price(work_of(*files), memory, Settings(), Speed(cores, share))


@quick
@given(works, memories, memories, core_counts, shares)
def test_larger_never_worse(files: list[FileWork], one: int, other: int, cores: int, share: float) -> None:
    """A larger machine never refuses more files; where it refuses as many, it is never slower."""
    small, large = (priced(files, memory, cores, share) for memory in sorted((one, other)))
    if small.run_memory_bytes:
        assert large.run_memory_bytes
        assert large.refused <= small.refused
        if large.refused == small.refused:
            assert large.seconds <= small.seconds * (1 + 1e-9)


@quick
@given(works, memories, core_counts)
def test_refused_as_planned(files: list[FileWork], memory: int, cores: int) -> None:
    """Refusals and batches are those of the planner under the run memory of the row."""
    found = priced(files, memory, cores)
    if not found.run_memory_bytes:
        return
    parser_bytes = found.run_memory_bytes - 190 * MIB
    listed = [FileCost(n, f"{n}", "v", file.peak_bytes, file.seconds, file.alone) for n, file in enumerate(files)]
    refused = [cost for cost in listed if cost.predicted_peak_bytes > parser_bytes]
    assert found.refused == len(refused)
    # No other run memory on this machine refuses fewer: only what exceeds the whole machine is left out.
    assert found.refused == sum(file.peak_bytes > int(memory * 0.8) - 190 * MIB for file in files)
    assert found.run_memory_bytes <= int(memory * 0.8)


@quick
@given(works, st.integers(0, 6 * GIB), st.integers(1, 5), st.floats(1, 3000))
def test_batches_as_planned(files: list[FileWork], budget: int, most: int, target: float) -> None:
    """Number of batches and refused files are what the planner makes of the same costs in the same order."""
    limits = BatchLimits(budget, most, target)
    found = price(work_of(*files), Box(GIB, GIB, 1, limits), Speed(2, 0.9))
    listed = [FileCost(n, f"{n:03}", "v", file.peak_bytes, file.seconds, file.alone) for n, file in enumerate(files)]
    plan = plan_batches(listed, limits)
    assert (found.batches, found.refused) == (len(plan.batches), len(plan.refused))
    kept = [cost for batch in plan.batches for cost in batch.costs]
    assert found.near == sum(cost.predicted_peak_bytes > 0.8 * budget for cost in kept)


@quick
@given(st.integers(1, 64), st.floats(0, 1), st.integers(1, 63))
def test_speed_of_runs(cores: int, share: float, runs: int) -> None:
    """More runs are never slower together, never faster than the cores, and each is slower than alone."""
    speed = Speed(cores, share)
    assert speed.of_runs(runs) <= speed.of_runs(runs + 1) + 1e-9
    assert speed.of_runs(runs) <= cores + 1e-9
    assert speed.of_one(runs + 1) <= speed.of_one(runs) + 1e-9


def test_two_threads_no_two_runs() -> None:
    """Two runs on two cores do twice the work of one core, one run with both less than that, and more than one."""
    speed = Speed(2, 0.9)
    assert speed.of_runs(2) == 2
    assert speed.of_runs(1) == pytest.approx(1 / 0.55)


def test_longest_file_decides() -> None:
    """One file is never divided: more runs do not end before it."""
    files = work_of(FileWork(MIB, 3600, 3600), *(FileWork(MIB, 1, 1) for _ in range(10)))
    limits = BatchLimits(GIB, 1000, 300)
    assert price(files, Box(GIB, GIB, 8, limits), Speed(8, 0.5)).seconds >= 3600 * 0.5


def test_near_the_limit() -> None:
    """A file above 80 % of what the parser may use is near the limit; refused ones are not counted."""
    files = work_of(*(FileWork(peak * MIB, 1, 1) for peak in (80, 81, 100, 101)))
    found = price(files, Box(GIB, GIB, 1, BatchLimits(100 * MIB, 10, 60)), Speed(2, 0.9))
    assert (found.near, found.refused, found.near_share) == (2, 1, pytest.approx(2 / 3))


def test_smallest_that_ends() -> None:
    """The smallest that ends in time, among those that refuse the fewest files; a smaller one that refuses is none."""
    small, middle, large = (
        Price(memory, memory, 1, files=9, refused=refused, seconds=seconds)
        for memory, refused, seconds in ((1, 2, 10.0), (2, 0, 100.0), (3, 0, 50.0))
    )
    assert smallest_within([small, middle, large], 100) == middle
    assert smallest_within([small, middle, large], 60) == large
    assert smallest_within([small, middle, large], 20) is None
    assert smallest_within([Price(1, too_small="a run needs more")], 20) is None


def test_many_files_are_numbers() -> None:
    """100,000 files take less than 8 MiB, whatever the number of machines."""
    tracemalloc.start()
    work = work_of(*())
    for number in range(100_000):
        work.add(FileWork(number, 1.0, 1.0))
    for memory in (GIB, 2 * GIB, 4 * GIB):
        stage._price(work, memory, Settings(), Speed(2, 0.9))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * MIB


def add_sized(connection: Connection, path: str, size: int) -> None:
    """A file that waits, of so many bytes."""
    add_file(connection, path, version=path)
    connection.execute("UPDATE files SET size_bytes = %s, media_type = 'application/pdf' WHERE path = %s", (size, path))


def refuse(connection: Connection, path: str, peak_bytes: int) -> None:
    """A file whose predicted peak no run holds."""
    add_sized(connection, path, (peak_bytes - 46 * MIB) // 4)
    error = FileNeedsMoreMemory(f"{path}: too large")
    file_id = scalar(connection, "SELECT file_id FROM files WHERE path = %s", (path,))
    store_files.refuse_file(connection, file_id, error, fingerprint="f", predicted_peak_bytes=peak_bytes)


def test_what_is_priced(connection: Connection, settings: Settings, source: Path) -> None:
    """Once each: what waits, in a batch or not, what was refused for memory, and what is new; with `all` the rest."""
    add_sized(connection, "sealed", 100)
    seal(connection)
    for path in ("waiting", "indexed", "scan", "gone"):
        add_sized(connection, path, 100)
    refuse(connection, "huge", 1200 * MIB)
    for path, status in (("indexed", "indexed"), ("scan", "failed"), ("gone", "deleted")):
        connection.execute("UPDATE files SET status = %s WHERE path = %s", (status, path))
    (source / "new.txt").write_text("some words")
    for memory, refused in ((GIB, 1), (4 * GIB, 0)):
        [one] = price_list(connection, settings, [memory]).prices
        assert (one.files, one.refused) == (4, refused)
    assert price_list(connection, settings, [GIB], everything=True).prices[0].files == 5


def test_changed_file_counts_once(connection: Connection, settings: Settings, source: Path) -> None:
    """A file that waits and has changed again is one file."""
    (source / "a.txt").write_text("some words")
    add_file(connection, "a.txt", source=str(source))
    [one] = price_list(connection, settings, [GIB]).prices
    assert one.files == 1


def test_same_refusals_as_sealing(connection: Connection, settings: Settings) -> None:
    """Sealing under the run memory of the row refuses the files that the row counts."""
    for number in range(1, 9):
        add_sized(connection, f"{number}.pdf", number * 40 * MIB)
    settings = replace(settings, machine_memory=64 * GIB)
    for memory in (GIB, 3 * GIB // 2):
        [one] = price_list(connection, settings, [memory]).prices
        with connection.transaction(force_rollback=True):
            sealed = seal_waiting(
                connection, settings=replace(settings, run_memory=one.run_memory_bytes), fingerprint=FINGERPRINT
            )
        assert one.refused == sealed.refused > 0


def test_concurrency_of_history(connection: Connection) -> None:
    """Time of all runs by the time in which one was at work; 1 where none was measured."""
    assert costs.runs_at_once(connection) == 1.0
    for path, began, ended in (("a", 0, 60), ("b", 30, 90), ("c", 200, 210)):
        add_file(connection, path, version=path)
        connection.execute(
            "UPDATE batches SET status = 'done', started_at = now() + make_interval(secs => %s), "
            "ended_at = now() + make_interval(secs => %s) WHERE batch = %s",
            (began, ended, seal(connection)),
        )
    assert costs.runs_at_once(connection) == pytest.approx(130 / 100, rel=0.01)


def test_command_rows(command: Command, source: Path) -> None:
    """One object for each machine, then the answer; a machine that holds no run is a row that says why."""
    for number in range(3):
        (source / f"{number}.txt").write_text("words " * 20_000)
    *machines, answer = command.json("plan", "--memory", "4GiB,256MiB,1GiB", "--within", "8h")
    assert [row["memory_bytes"] for row in machines] == [256 * MIB, GIB, 4 * GIB]
    assert machines[0]["too_small"].startswith("a run needs ")
    assert (machines[0]["hours"], machines[0]["run_memory_bytes"], machines[0]["files_refused"]) == (None, None, None)
    assert machines[1]["files"] == machines[2]["files"] == 3
    assert list(machines[1]) == [
        "memory_bytes", "run_memory_bytes", "files", "too_small", "files_refused", "runs_at_once", "hours",
        "near_limit_share", "batches", "cores", "measured_share",
    ]  # fmt: skip
    assert machines[2]["run_memory_bytes"] == GIB
    assert machines[2]["measured_share"] == 0
    assert answer["smallest_memory_bytes"] == GIB


def test_command_table(command: Command, source: Path) -> None:
    """A table for people, with the run memory to set, and a sentence on cores where more memory cannot help."""
    for number in range(4):
        (source / f"{number}.csv").write_text("id,text\n" + "1,words and words\n" * 40_000)
    ended = command.ended("plan", "--memory", "1GiB,8GiB", "--within", "10s")
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert lines[0].split() == ("machine run memory files refused runs at once time near limit batches".split())
    assert lines[1].split()[:7] == ["1.0", "GiB", "819.2", "MiB", "4", "0", "1"]
    assert lines[2].split()[:7] == ["8.0", "GiB", "1.0", "GiB", "4", "0", "2"]
    assert "more memory does not help: the limit is 2 cores" in lines[-1]


def test_command_mistakes(command: Command) -> None:
    """The other options need machines; sizes and times are checked; nothing to price is a sentence."""
    assert "--memory 1GiB,4GiB" in command.mistake("plan", "--within", "8h")
    assert "--memory" in command.mistake("plan", "--all")
    assert command.ended("plan", "--memory", "lots").code == 2
    assert command.ended("plan", "--memory", "1GiB", "--within", "soon").code == 2
    assert command("plan", "--memory", "1GiB").startswith("nothing to price")


def test_history_makes_the_price(connection: Connection, settings: Settings, source: Path) -> None:
    """What eight files took is what the next costs, without planning between; two runs shared the two cores."""
    for number in range(8):
        add_sized(connection, f"{number}.pdf", MIB)
        key = seal(connection)
        [file] = files_of(connection, key).values()
        ledger.open_attempt(connection, file, batch=key, run_id=key, stage="chunks")
        ledger.add_embedded(connection, file, run_id=key, chunks=1)
        cost = AttemptCost(pages=1, parse_seconds=100.0, parse_peak_bytes=40 * MIB)
        ledger.close_attempt(connection, file, run_id=key, cost=cost)
    connection.execute("UPDATE files SET status = 'indexed'")
    (source / "new.pdf").write_bytes(b"%PDF-1.7\n" + bytes(MIB - 9))
    listed = price_list(connection, settings, [4 * GIB])
    assert listed.measured_share == 1
    assert listed.prices[0].seconds == pytest.approx(102, rel=0.02)  # one run with both cores, as when it was measured
    connection.execute(
        "UPDATE batches SET status = 'done', started_at = now() - interval '1 hour', ended_at = now() "
        "WHERE batch IN (SELECT batch FROM batches ORDER BY batch LIMIT 2)"
    )
    [shared] = price_list(connection, settings, [4 * GIB]).prices
    assert shared.seconds == pytest.approx(102 * 0.55, rel=0.02)  # it was measured with a core, and has two alone
