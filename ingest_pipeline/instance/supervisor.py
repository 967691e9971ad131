"""Supervises one run: starts it under its limits, forwards a request to stop, and records how it ended.

Run as `python -m ingest_pipeline.instance.supervisor <record> <memory limit> <threads> -- <command>`. It does not
depend on daemon and code server, so the end of a run is recorded even if these were killed. It imports little more than
the stdlib and takes 10 MB (docs/findings.md, G7).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from ingest_pipeline.memory.cgroup import make_cgroup
from ingest_pipeline.memory.process import end_with_parent, identity_of, limit_data_bytes, prefer_for_oom_kill

GRACE_SECONDS = 30.0  # for Dagster to record the end after SIGTERM; a long loop in torch does not react to it
OOM_SCORE_ADJ = 800  # killed before Postgres and Dagster's services, after the parser's child
# Two arenas: with more, each thread of torch keeps freed memory in its own. No M_MMAP_THRESHOLD: returning each tensor
# at once saves 40 MB at our micro-batches, but page faults take 9.2 s instead of 2.3, a third more CPU in total
# (docs/findings.md, G6).
MALLOC = {"MALLOC_ARENA_MAX": "2"}


def cause_of_end(code: int, limit_bytes: int, *, oom_kills: int | None = None) -> str:
    """Return a message that says why a run's process ended.

    Args:
        code: as `Popen.wait` returns it.
        limit_bytes: the memory limit of the run.
        oom_kills: how many processes of the run the OOM killer has killed; None if unknown (no cgroup).
    """
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in {s.value for s in signal.Signals} else f"signal {-code}"
    if -code == signal.SIGKILL:
        who = "most likely by the kernel for memory" if oom_kills is None else "not by the limit of its own group"
        who = "by the kernel, for memory" if oom_kills else who
        return f"{name}: killed from outside, {who} (its limit was {limit_bytes:,} bytes)"
    return name


class Supervisor:
    """Supervises one run and keeps its record."""

    def __init__(self, record: Path, limit_bytes: int, threads: int) -> None:
        self.record, self.limit_bytes, self.threads = record, limit_bytes, threads
        self.written: dict[str, Any] = _written_by_launcher(record) | {"limit_bytes": limit_bytes}
        self.stop_at: float | None = None
        self.group = make_cgroup(record.stem, limit_bytes)

    def run(self, command: list[str]) -> None:
        """Start the command, wait for its end, and write the record."""
        signal.signal(signal.SIGTERM, self._ask_to_stop)
        signal.signal(signal.SIGINT, self._ask_to_stop)
        parent = os.getpid()
        self.child = subprocess.Popen(
            command,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: self._confine(parent),
        )  # preexec_fn is safe here: this process has one thread
        self._write(
            pid=self.child.pid,
            started=_started(self.child.pid),
            launcher=os.getppid(),
            supervisor=parent,
            supervisor_started=_started(parent),
        )
        code = self._wait()
        group_counts = self._close_group()
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._write(
            code=code,
            cause=cause_of_end(code, self.limit_bytes, oom_kills=group_counts.get("oom_kills")),
            **group_counts,
            cpu_seconds=round(usage.ru_utime + usage.ru_stime, 2),
            ended=time.time(),
        )

    def _close_group(self) -> dict[str, int | None]:
        if self.group is None:
            return {}
        counts = {"group_peak_bytes": self.group.peak_bytes(), "oom_kills": self.group.oom_kills()}
        self.group.remove()
        return counts

    def _wait(self) -> int:
        while True:
            try:
                return self.child.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                if self.stop_at is not None and time.monotonic() > self.stop_at:
                    self.child.kill()

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop_at = self.stop_at or time.monotonic() + GRACE_SECONDS  # a second request does not extend it
        self.child.send_signal(signal.SIGTERM)

    def _confine(self, parent: int) -> None:
        end_with_parent(parent)
        prefer_for_oom_kill(OOM_SCORE_ADJ)
        if self.group is not None:
            self.group.join()
        limit_data_bytes(self.limit_bytes)  # last: this copy of its parent may be larger, and could allocate nothing

    def _environment(self) -> dict[str, str]:
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        # The user's own variables take precedence.
        return {**threads, **MALLOC, "TOKENIZERS_PARALLELISM": "false", **os.environ}

    def _write(self, **entries: Any) -> None:
        self.written |= entries
        temporary = self.record.with_suffix(".tmp")  # renamed: readers must not see half of a record
        temporary.write_text(json.dumps(self.written))
        temporary.replace(self.record)


def _written_by_launcher(record: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(record.read_text()))
    return {}


def _started(pid: int) -> int | None:
    process = identity_of(pid)
    return process.started if process else None


def main(arguments: list[str]) -> None:
    """Parse the command line and supervise."""
    record, limit_bytes, threads, _, *command = arguments
    Supervisor(Path(record), int(limit_bytes), int(threads)).run(command)


if __name__ == "__main__":
    main(sys.argv[1:])
