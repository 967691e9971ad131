"""Processes as the kernel knows them, on real small processes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest_pipeline.memory import process as module
from ingest_pipeline.memory.process import (
    ProcessId,
    command_of,
    descendants_of,
    end_with_parent,
    identity_of,
    is_running_as,
    limit_data_bytes,
    parent_of,
    peak_memory_bytes,
    prefer_for_oom_kill,
    private_bytes,
    reset_peak,
    resident_bytes,
    return_free_memory,
)
from ingest_pipeline_tests.conftest import UP

MIB = 1024**2
NOBODY = 2**22 + 1
"""Above the largest pid that a kernel gives."""


def zombie(started: Callable[..., subprocess.Popen[str]]) -> subprocess.Popen[str]:
    """A process that has ended and was not reaped."""
    process = started("print('up')")
    deadline = time.monotonic() + 5
    while "State:\tZ" not in Path(f"/proc/{process.pid}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_identity_is_pid_and_start(started: Callable[..., subprocess.Popen[str]]) -> None:
    """The same process is the same; another start under its pid is another process."""
    pid = started().pid
    found = identity_of(pid)
    assert found is not None
    assert found == identity_of(pid)
    assert found.pid == pid
    assert found.is_alive
    assert not ProcessId(pid, found.started + 1).is_alive


def test_a_zombie_is_nobody(started: Callable[..., subprocess.Popen[str]]) -> None:
    """A process that ended and was not reaped is not alive, and runs as nothing."""
    pid = zombie(started).pid
    assert identity_of(pid) is None
    assert not is_running_as(pid, Path("/proc/self/exe").readlink().name)
    assert command_of(pid) in ([], [""])
    assert peak_memory_bytes(pid) == 0
    assert private_bytes(pid) == 0


def test_nobody_is_nothing() -> None:
    """A pid without a process: no identity, parent, children, words or bytes."""
    assert identity_of(NOBODY) is None
    assert parent_of(NOBODY) is None
    assert descendants_of(NOBODY) == []
    assert command_of(NOBODY) == []
    assert not is_running_as(NOBODY, "python")
    assert (peak_memory_bytes(NOBODY), resident_bytes(NOBODY), private_bytes(NOBODY)) == (0, 0, 0)


def test_parents_and_children(started: Callable[..., subprocess.Popen[str]]) -> None:
    """A child's parent is this process; a grandchild is among the descendants; init is no parent."""
    script = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {UP!r}], stdout=-1)\n"
        "child.stdout.readline(); print(child.pid, flush=True)\n"
        "try: child.wait()\nfinally: child.kill()\n"
    )
    process = started(script)
    grandchild = int(process.first)  # type: ignore[attr-defined]
    assert parent_of(process.pid) == os.getpid()
    assert parent_of(grandchild) == process.pid
    assert descendants_of(process.pid) == [grandchild]
    assert {process.pid, grandchild} <= set(descendants_of(os.getpid()))
    assert parent_of(1) is None
    os.kill(grandchild, signal.SIGKILL)


def test_command_lines_are_words(started: Callable[..., subprocess.Popen[str]]) -> None:
    """Words with spaces, other scripts and bytes that are no text keep their places."""
    words = command_of(started(UP, "a b", "歌", os.fsdecode(b"\xff")).pid)
    assert words[1:] == ["-c", UP, "a b", "歌", "\ufffd"]


@pytest.mark.parametrize("name", ["plain", "with space", "clos) 1 2 (ing", "S 1 1 1"])
def test_any_name_of_a_process(started: Callable[..., subprocess.Popen[str]], name: str) -> None:
    """A process may call itself anything: its parent and start are read all the same."""
    script = f"import ctypes; ctypes.CDLL(None).prctl(15, {name.encode()!r}); {UP}"
    pid = started(script).pid
    assert is_running_as(pid, name[:15])
    assert not is_running_as(pid, "postgres")
    assert parent_of(pid) == os.getpid()
    found = identity_of(pid)
    assert found is not None
    assert found.started > 0


def test_a_child_ends_with_its_parent() -> None:
    """SIGKILL of the parent ends the child, which only waits."""
    child = (
        f"from ingest_pipeline.memory.process import end_with_parent; import os; end_with_parent(os.getppid()); {UP}"
    )
    script = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=-1)\n"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert identity_of(pid) is not None
        parent.kill()
    deadline = time.monotonic() + 5
    while identity_of(pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_parent_that_is_gone_already() -> None:
    """Where the parent ended before the kernel was asked, the child ends at once."""
    script = "from ingest_pipeline.memory.process import end_with_parent; end_with_parent(2**22 + 1); print('lived')"
    result = run_script(script)
    assert (result.returncode, result.stdout) == (1, "")


def test_end_with_the_real_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: with the parent that it has, it goes on; with another, it exits with 1."""

    class Gone(Exception):
        pass

    def leave(code: int) -> None:
        raise Gone(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(sys, "platform", "other")  # no request to the kernel: it would outlive the test
    end_with_parent(os.getppid())
    with pytest.raises(Gone, match="1"):
        end_with_parent(NOBODY)


def test_kernels_choice_for_memory() -> None:
    """The score is the one that was asked for."""
    script = (
        "from ingest_pipeline.memory.process import prefer_for_oom_kill\n"
        "prefer_for_oom_kill(555); print(open('/proc/self/oom_score_adj').read().strip())\n"
    )
    assert run_script(script).stdout == "555\n"


def test_the_kernels_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The score goes into this process's own file; elsewhere than on Linux nothing is written."""
    (tmp_path / "self").mkdir()
    monkeypatch.setattr(module, "PROC", tmp_path)
    prefer_for_oom_kill(300)
    assert (tmp_path / "self" / "oom_score_adj").read_text() == "300"
    monkeypatch.setattr(sys, "platform", "other")
    prefer_for_oom_kill(400)
    assert (tmp_path / "self" / "oom_score_adj").read_text() == "300"


def test_data_limit_is_set() -> None:
    """Soft and hard limit, so that the process cannot raise it; more memory than that is refused."""
    script = (
        "import resource\n"
        "from ingest_pipeline.memory.process import limit_data_bytes\n"
        f"limit_data_bytes({200 * MIB})\n"
        "print(resource.getrlimit(resource.RLIMIT_DATA))\n"
        f"try: bytearray({250 * MIB})\nexcept MemoryError: print('refused')\n"
    )
    assert run_script(script).stdout.splitlines() == [str((200 * MIB, 200 * MIB)), "refused"]


def test_what_limit_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """RLIMIT_DATA with the same number twice; elsewhere than on Linux nothing."""
    asked: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: asked.append((kind, limits)))
    limit_data_bytes(5 * MIB)
    monkeypatch.setattr(sys, "platform", "other")
    limit_data_bytes(6 * MIB)
    assert asked == [(resource.RLIMIT_DATA, (5 * MIB, 5 * MIB))]


@pytest.mark.parametrize("limit", [0, -1])
def test_no_limit_is_refused(limit: int) -> None:
    """A limit of nothing would be none at all."""
    with pytest.raises(ValueError, match="would be none at all"):
        limit_data_bytes(limit)


def test_peak_outlives_what_made_it() -> None:
    """The peak counts memory that was given back, until it is reset; what is held now does not."""
    script = (
        "import os\n"
        "from ingest_pipeline.memory.process import peak_memory_bytes, reset_peak, resident_bytes\n"
        f"held = bytearray(b'x') * {100 * MIB}\n"
        "del held\n"
        "before = peak_memory_bytes(); reset_peak(); after = peak_memory_bytes()\n"
        "print(before // 2**20, after // 2**20, resident_bytes(os.getpid()) // 2**20)\n"
    )
    before, after, held = map(int, run_script(script).stdout.split())
    assert before > 100
    assert after < 60
    assert held < 60


def test_a_kernel_that_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the peak in its status, this process answers with what it holds; of others nothing is known."""
    for name in ("self", "77"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "status").write_text("Name:\tpython\nVmRSS:\t  100 kB\n")
    monkeypatch.setattr(module, "PROC", tmp_path)
    assert peak_memory_bytes("77") == 0
    monkeypatch.setattr(module, "_portable_peak", lambda: 12345)
    assert peak_memory_bytes() == 12345


def test_portable_peak_is_what_is_held() -> None:
    """Where there is no `/proc`, the resident size stands in for the peak."""
    assert 10 * MIB < module._portable_peak() < 64 * 1024 * MIB


def test_private_is_without_what_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak less file pages and shared memory, never below 0."""
    (tmp_path / "77").mkdir()
    status = tmp_path / "77" / "status"
    monkeypatch.setattr(module, "PROC", tmp_path)
    status.write_text("VmHWM:\t  100 kB\nRssAnon:\t  70 kB\nRssFile:\t  20 kB\nRssShmem:\t  5 kB\nThreads:\t1\n")
    assert private_bytes(77) == 75 * 1024
    status.write_text("VmHWM:\t  10 kB\nRssFile:\t  20 kB\n")
    assert private_bytes(77) == 0


def test_no_right_to_reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that refuses the reset is not an error."""
    monkeypatch.setattr(module, "PROC", tmp_path / "none")
    reset_peak()
    assert peak_memory_bytes() == 0


def test_children_of_a_thread_that_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that ends between the listing and the look has no children any more."""
    for thread in ("77", "78"):
        (tmp_path / "77" / "task" / thread).mkdir(parents=True)
    (tmp_path / "77" / "task" / "77" / "children").write_text("80 81 ")
    (tmp_path / "77" / "task" / "78" / "children").mkdir()
    monkeypatch.setattr(module, "PROC", tmp_path)
    assert descendants_of(77) == [80, 81]


def test_freed_memory_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is free on the heap is given back to the kernel; elsewhere than on Linux nothing is called."""
    script = (
        "import os\n"
        "from ingest_pipeline.memory.process import resident_bytes, return_free_memory\n"
        "kept = []\n"
        "blocks = [os.urandom(4000) for _ in range(20000)]\n"
        "kept.append(os.urandom(4000)); blocks.clear()\n"
        "before = resident_bytes(os.getpid()); return_free_memory(); after = resident_bytes(os.getpid())\n"
        "print((before - after) // 2**20)\n"
    )
    assert int(run_script(script).stdout) > 30
    return_free_memory()
    monkeypatch.setattr(sys, "platform", "other")
    monkeypatch.setattr(module.ctypes, "CDLL", lambda name: pytest.fail("called"))
    return_free_memory()


def test_a_process_that_has_not_started_its_program(tmp_path: Path) -> None:
    """Between vfork and exec a child has its parent's memory: it is told from one that runs a program or is a copy."""
    script = (
        "import os, subprocess, sys, time\n"
        "from ingest_pipeline.memory.process import is_starting_from\n"
        "own = os.getpid()\n"
        "program = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(30)'])\n"
        "copy = os.fork()\n"
        "if copy == 0:\n"
        "    hoard = bytearray(b'x' * 2**20 * 8); time.sleep(30)\n"
        "time.sleep(0.5)\n"
        "print(is_starting_from(program.pid, own), is_starting_from(copy, own), is_starting_from(own, own))\n"
        "program.kill(); os.kill(copy, 9)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False", "True"]  # a process has the memory that it has itself
