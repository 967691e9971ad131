"""The record of a run: what its supervisor wrote, read again at each question."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.instance import run_record
from ingest_pipeline.instance.run_record import KEEP_SECONDS, RunRecord, live_records, remove_old_records
from ingest_pipeline.memory.process import identity_of

LIMIT = 500 * 1024**2
SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of records of an empty home."""
    monkeypatch.setenv("INGEST_HOME", str(tmp_path))
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def supervised() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a script under a real supervisor, by the run's name; ends it after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(run: str, script: str = SLEEP) -> subprocess.Popen[bytes]:
        record = RunRecord.of(run)
        command = [sys.executable, "-m", "ingest_pipeline.instance.supervisor", str(record.path), str(LIMIT), "1", "--"]
        started.append(subprocess.Popen([*command, sys.executable, "-c", script]))
        wait_for(lambda: "pid" in record.read())
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(done: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def write(run: str, **facts: Any) -> RunRecord:
    record = RunRecord.of(run)
    record.path.write_text(json.dumps(facts))
    return record


def me() -> dict[str, int]:
    """The pid and start of this process."""
    process = identity_of(os.getpid())
    assert process is not None
    return {"pid": process.pid, "started": process.started}


def test_record_and_log_lie_side_by_side(runs: Path) -> None:
    """Both are named after the run, in the home's folder of runs."""
    record = RunRecord.of("abc")
    assert record.path == runs / "abc.json"
    assert record.log == runs / "abc.log"


@pytest.mark.parametrize("text", [None, "", "{", "\x00\x00"])
def test_unreadable_records_say_nothing(text: str | None) -> None:
    """A record that is missing, empty or half written reads as if nothing was written yet."""
    record = RunRecord.of("run")
    if text is not None:
        record.path.write_text(text)
    assert record.read() == {}
    assert not record.is_alive
    assert not record.ended_by_itself
    assert not record.stop()


def test_without_a_record_nothing_ran() -> None:
    """A run whose process was never started has an end with a cause."""
    assert RunRecord.of("run").exit_cause() == "no process was ever started for this run"


@pytest.mark.parametrize(("code", "by_itself"), [(0, True), (1, True), (255, True), (-9, False), (-15, False)])
def test_an_exit_code_is_an_own_end(code: int, by_itself: bool) -> None:
    """A process that exits was not killed; one that a signal ended was."""
    assert write("run", pid=1, code=code).ended_by_itself is by_itself


def test_a_running_process_has_not_ended() -> None:
    """Without a code the run did not end by itself."""
    assert not write("run", **me()).ended_by_itself


def test_a_written_code_means_gone() -> None:
    """A record with a code is of a run that has ended, even where its pid lives again."""
    assert write("run", **me()).is_alive
    assert not write("run", **me(), code=0).is_alive


def test_the_cause_is_quoted() -> None:
    """The cause that the supervisor wrote, with the pid."""
    record = write("run", pid=77, started=1, code=-9, cause="SIGKILL: killed from outside")
    assert record.exit_cause() == "process 77 ended: SIGKILL: killed from outside"


def test_vanished_with_its_supervisor() -> None:
    """Neither process is there and no cause was written: a power cut."""
    record = write("run", pid=77, started=1, supervisor=78, supervisor_started=1)
    assert record.exit_cause().startswith("process 77 vanished together with its supervisor: power cut")


def test_a_silent_supervisor_is_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that lives and writes nothing gets a few seconds, then the answer is given without it."""
    monkeypatch.setattr(run_record, "SUPERVISOR_SECONDS", 0.2)
    mine = me()
    record = write("run", pid=77, started=1, supervisor=mine["pid"], supervisor_started=mine["started"])
    began = time.monotonic()
    assert "vanished" in record.exit_cause()
    assert 0.2 <= time.monotonic() - began < 2


def test_stop_asks_a_process_without_supervisor() -> None:
    """A run that `ingest run` executes itself is stopped by a signal to that process, and not to its parent."""
    process = subprocess.Popen([sys.executable, "-c", SLEEP])
    identity = identity_of(process.pid)
    assert identity is not None
    before = signal.signal(signal.SIGTERM, lambda number, frame: pytest.fail("the parent was asked to stop"))
    try:
        record = write("run", pid=process.pid, started=identity.started)
        assert not record.is_orphan
        assert record.stop()
        assert process.wait(timeout=10) == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


def test_stop_asks_the_supervisor(supervised: Callable[..., subprocess.Popen[bytes]]) -> None:
    """A stop ends the run's process by SIGTERM, and the supervisor lives to write it down."""
    process = supervised("run")
    record = RunRecord.of("run")
    assert record.is_alive
    assert record.stop()
    assert process.wait(timeout=10) == 0
    assert record.exit_cause() == f"process {record.read()['pid']} ended: SIGTERM"
    assert not record.stop()


def test_stop_without_a_supervisor() -> None:
    """A run whose supervisor is gone is asked itself."""
    with subprocess.Popen([sys.executable, "-c", f"print('up', flush=True); {SLEEP}"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        process = identity_of(child.pid)
        assert process is not None
        record = write("run", pid=child.pid, started=process.started)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run_record, "parent_of", lambda pid: None)
            assert record.stop()
        assert child.wait(timeout=10) == -signal.SIGTERM


def test_a_process_that_just_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends between the look and the signal was not stopped by us."""
    record = write("run", **me())

    def gone(pid: int, number: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    assert not record.stop()


def test_a_killed_supervisor_takes_its_run_along(supervised: Callable[..., subprocess.Popen[bytes]]) -> None:
    """SIGKILL of the supervisor ends the run's process too, although it ignores SIGTERM."""
    process = supervised("run", STUBBORN)
    record = RunRecord.of("run")
    process.kill()
    process.wait()
    wait_for(lambda: not record.is_alive)
    assert "vanished together with its supervisor" in record.exit_cause()


def test_orphans_have_no_launcher(
    supervised: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is an orphan once whoever started its supervisor is gone, or the supervisor itself."""
    supervisor = supervised("run").pid
    record = RunRecord.of("run")
    assert not record.is_orphan
    real = run_record.parent_of
    monkeypatch.setattr(run_record, "parent_of", lambda pid: None if pid == supervisor else real(pid))
    assert record.is_orphan
    monkeypatch.setattr(run_record, "parent_of", lambda pid: None)
    assert record.is_orphan
    monkeypatch.setattr(run_record, "parent_of", lambda pid: 4321 if pid == supervisor else real(pid))
    assert record.is_orphan, "adopted by a subreaper, such as `systemd --user`"


def test_a_foreign_record_is_empty() -> None:
    """A file in the records' folder that no supervisor wrote says nothing."""
    write("list", a=1)
    record = RunRecord.of("list")
    record.path.write_text("[1, 2]")
    assert record.read() == {}


def test_live_records_are_those_of_processes(supervised: Callable[..., subprocess.Popen[bytes]]) -> None:
    """Of a living run, a finished run and a record of nobody only the living one is returned."""
    supervised("living")
    write("ended", **me(), code=0)
    write("nobody", pid=77, started=1)
    assert live_records() == [RunRecord.of("living")]


def test_no_folder_has_no_live_records(runs: Path) -> None:
    """A home in which nothing ran."""
    runs.rmdir()
    assert live_records() == []


def test_old_records_are_removed(runs: Path) -> None:
    """Records and logs of two weeks ago go; newer ones stay, and a folder in between stops nothing."""
    now = time.time()
    for name, age in (("old.json", KEEP_SECONDS + 60), ("old.log", KEEP_SECONDS + 60), ("new.json", KEEP_SECONDS - 60)):
        (runs / name).write_text("{}")
        os.utime(runs / name, (now - age, now - age))
    (runs / "folder").mkdir()
    os.utime(runs / "folder", (1, 1))
    remove_old_records(runs)
    assert sorted(path.name for path in runs.iterdir()) == ["folder", "new.json"]


def test_living_runs_keep_their_records(runs: Path) -> None:
    """A clock that jumps by weeks makes every record old; that of a run at work is kept, with its log."""
    record = write("run", **me())
    record.log.write_text("a line")
    for path in (record.path, record.log):
        os.utime(path, (1, 1))
    remove_old_records(runs)
    assert record.is_alive
    assert record.log.exists()


def test_a_code_that_comes_late(runs: Path) -> None:
    """A run that has reported its failure and is about to exit ended by itself: its supervisor is waited for."""
    process = me()
    record = write("run", **process, supervisor=process["pid"], supervisor_started=process["started"])
    late = threading.Timer(0.3, lambda: write("run", **process, code=1))
    late.start()
    assert record.ended_by_itself
    late.join()
