"""The supervisor of a run: its limits, its requests to stop, and the record of how the run ended."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.instance import supervisor as module
from ingest_pipeline.instance.supervisor import Supervisor, cause_of_end, main
from ingest_pipeline.memory.process import identity_of

MIB = 1024**2
LIMIT = 4096 * MIB  # above the size of this process, which its child has until it executes its command


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The signal handlers of this process are put back: a supervisor sets its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "run.json"


def supervise(record: Path, script: str, *, threads: int = 1) -> dict[str, Any]:
    """Run a script to its end in this process's supervisor; return the record."""
    Supervisor(record, LIMIT, threads).run([sys.executable, "-c", script])
    return dict(json.loads(record.read_text()))


def test_record_of_a_good_end(record: Path) -> None:
    """Limit, both processes with their starts, code, cause, CPU seconds, and when it ended."""
    began = time.time()
    facts = supervise(record, "sum(range(10**6))")
    assert {"limit_bytes", "pid", "started", "supervisor", "supervisor_started", "code", "cause", "cpu_seconds",
            "ended"} <= set(facts)  # fmt: skip
    assert (facts["limit_bytes"], facts["code"], facts["cause"]) == (LIMIT, 0, "exit code 0")
    assert facts["supervisor"] == os.getpid()
    mine = identity_of(os.getpid())
    assert mine is not None
    assert facts["supervisor_started"] == mine.started
    assert began <= facts["ended"] <= time.time()
    assert facts["cpu_seconds"] > 0


@pytest.mark.parametrize(
    ("script", "code", "cause"),
    [
        ("raise SystemExit(7)", 7, "exit code 7"),
        ("import os; os.kill(os.getpid(), 15)", -15, "SIGTERM"),
        ("import os; os.kill(os.getpid(), 9)", -9, "SIGKILL: killed from outside"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -11, "SIGSEGV"),
    ],
)
def test_record_of_a_bad_end(record: Path, script: str, code: int, cause: str) -> None:
    """An exit code or a signal, in words."""
    facts = supervise(record, script)
    assert facts["code"] == code
    assert facts["cause"].startswith(cause)


@pytest.mark.parametrize(
    ("code", "kills", "words"),
    [
        (0, None, "exit code 0"),
        (-2, 1, "SIGINT"),
        (-200, None, "signal 200"),
        (-9, None, "SIGKILL: killed from outside, most likely by the kernel for memory (its limit was 1,000 bytes)"),
        (-9, 0, "SIGKILL: killed from outside, not by the limit of its own group (its limit was 1,000 bytes)"),
        (-9, 2, "SIGKILL: killed from outside, by the kernel, for memory (its limit was 1,000 bytes)"),
    ],
)
def test_cause_in_words(code: int, kills: int | None, words: str) -> None:
    """An exit code, a signal's name or number; for SIGKILL who sent it, as far as that is known."""
    assert cause_of_end(code, 1000, oom_kills=kills) == words


def test_the_record_is_there_while_it_runs(record: Path) -> None:
    """The run's own process finds itself in the record, without a code."""
    script = (
        "import json, os, pathlib, time\n"
        f"path = pathlib.Path({str(record)!r})\n"
        "while not path.exists(): time.sleep(0.01)\n"
        "facts = json.loads(path.read_text())\n"
        "raise SystemExit(0 if facts['pid'] == os.getpid() and 'code' not in facts else 3)\n"
    )
    assert supervise(record, script)["code"] == 0


def test_limits_are_the_kernels(record: Path) -> None:
    """RLIMIT_DATA is the run's limit, and the kernel prefers the run when it has to kill."""
    script = (
        "import resource\n"
        f"assert resource.getrlimit(resource.RLIMIT_DATA) == ({LIMIT}, {LIMIT})\n"
        "assert open('/proc/self/oom_score_adj').read() == '800\\n'\n"
    )
    assert supervise(record, script)["code"] == 0
    assert resource.getrlimit(resource.RLIMIT_DATA) != (LIMIT, LIMIT)


def test_more_than_the_limit_fails(record: Path) -> None:
    """An allocation beyond the limit is a MemoryError in the run, not a kill."""
    script = f"\ntry:\n    bytearray({LIMIT})\nexcept MemoryError:\n    raise SystemExit(5)\n"
    assert supervise(record, script)["code"] == 5


def test_threads_are_in_the_environment(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of the cores for all three libraries; what the user set himself stays."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX", "TOKENIZERS_PARALLELISM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "9")
    script = (
        "import os\n"
        "names = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'MALLOC_ARENA_MAX')\n"
        "assert [os.environ[name] for name in names] == ['3', '3', '9', '2']\n"
        "assert os.environ['TOKENIZERS_PARALLELISM'] == 'false'\n"
    )
    assert supervise(record, script, threads=3)["code"] == 0


def test_standard_input_is_empty(record: Path) -> None:
    """A run never reads the terminal of whoever launched it."""
    assert supervise(record, "import sys; raise SystemExit(len(sys.stdin.read()))")["code"] == 0


def asked_to_stop(supervisor: Supervisor, record: Path, script: str) -> dict[str, Any]:
    """Send this process SIGTERM once the script is up."""
    ready = record.with_name("ready")

    def ask() -> None:
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask)
    thread.start()
    supervisor.run([sys.executable, "-c", f"{script}\nopen({str(ready)!r}, 'w').close()\nimport time; time.sleep(60)"])
    thread.join()
    return dict(json.loads(record.read_text()))


def test_a_stop_is_passed_on(record: Path) -> None:
    """SIGTERM to the supervisor is SIGTERM to the run, which may end in its own way."""
    script = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))"
    facts = asked_to_stop(Supervisor(record, LIMIT, 1), record, script)
    assert (facts["code"], facts["cause"]) == (4, "exit code 4")


def test_a_deaf_run_is_killed(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that does not listen to SIGTERM is killed when its time is over."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.1)
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    facts = asked_to_stop(Supervisor(record, LIMIT, 1), record, script)
    assert facts["code"] == -signal.SIGKILL


def test_a_second_stop_gives_no_more_time(record: Path) -> None:
    """The time to stop counts from the first request."""
    supervisor = Supervisor(record, LIMIT, 1)
    supervisor.child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    supervisor._ask_to_stop(signal.SIGTERM, None)
    first = supervisor.stop_at
    supervisor._ask_to_stop(signal.SIGINT, None)
    assert supervisor.child.wait(timeout=10) == -signal.SIGTERM
    assert first is not None
    assert supervisor.stop_at == first


def test_command_line(record: Path) -> None:
    """Record, limit and threads before `--`, the command behind it as it is, also with a `--` of its own."""
    script = "import sys; raise SystemExit(sys.argv[1:] != ['--', 'a b', ''])"
    main([str(record), str(LIMIT), "2", "--", sys.executable, "-c", script, "--", "a b", ""])
    facts = json.loads(record.read_text())
    assert (facts["limit_bytes"], facts["code"]) == (LIMIT, 0)


def test_no_half_written_record(record: Path) -> None:
    """The record is replaced as a whole; no temporary file stays."""
    supervise(record, "pass")
    assert [path.name for path in record.parent.iterdir()] == ["run.json"]


def test_ctrl_c_in_a_terminal(record: Path) -> None:
    """As a process of its own, SIGINT is a request to stop like SIGTERM."""
    command = [sys.executable, "-m", "ingest_pipeline.instance.supervisor", str(record), str(LIMIT), "1", "--"]
    process = subprocess.Popen([*command, sys.executable, "-c", "import time; time.sleep(60)"])
    while not record.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0
    assert json.loads(record.read_text())["cause"] == "SIGTERM"
