"""The record that a supervisor writes for its run: the processes, and later how the run ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest_pipeline.memory.process import ProcessId, parent_of
from ingest_pipeline.settings import read_settings

INIT = 1  # `parent_of` returns None for it; in a container it may be the launcher itself
KEEP_SECONDS = 14 * 86400
NEVER_STARTED = "no process was ever started for this run"
VANISHED = "vanished together with its supervisor: power cut, or its whole process tree was killed"
SUPERVISOR_SECONDS = 5.0  # for the supervisor to write the cause: 50 ms on an idle machine


def runs_folder() -> Path:
    """Return the folder where supervisors keep their records."""
    return read_settings().home / "runs"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The record of one run; each property reads the file again."""

    path: Path

    @classmethod
    def of(cls, run_id: str) -> RunRecord:
        """Return the record of a run, whether the file exists or not."""
        return cls(runs_folder() / f"{run_id}.json")

    @property
    def log(self) -> Path:
        """The file with what the run's process wrote outside of a step."""
        return self.path.with_suffix(".log")

    def read(self) -> dict[str, Any]:
        """Return the content of the record; {} if there is none yet."""
        with contextlib.suppress(OSError, ValueError):
            written = json.loads(self.path.read_text())
            return written if isinstance(written, dict) else {}
        return {}

    def write(self, entries: dict[str, Any]) -> None:
        """Write the content of the record; readers see all of it or none."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(entries))
        temporary.replace(self.path)

    @property
    def is_alive(self) -> bool:
        """Whether the run's process is alive, on this machine."""
        written = self.read()
        process = _process(written, "pid", "started")
        return "code" not in written and process is not None and process.is_alive

    @property
    def ended_by_itself(self) -> bool:
        """Whether the run's process ended with an exit code of its own, and was not killed by a signal.

        A run reports its failure to Dagster a moment before its process exits: the supervisor is waited for.
        """
        return int(self.final().get("code", -1)) >= 0

    def exit_cause(self) -> str:
        """Return a message about how the run's process ended; wait until its supervisor has recorded it."""
        written = self.final()
        if "cause" in written:
            return f"process {written.get('pid')} ended: {written['cause']}"
        return f"process {written['pid']} {VANISHED}" if "pid" in written else NEVER_STARTED

    @property
    def has_vanished(self) -> bool:
        """Whether the run's process and its supervisor are gone, and neither has said how it ended."""
        written = self.read()
        supervisor = _process(written, "supervisor", "supervisor_started")
        return "pid" in written and "code" not in written and not (supervisor and supervisor.is_alive)

    def stop(self) -> bool:
        """Ask the run's process to stop; return whether it was alive."""
        if not self.is_alive:
            return False
        written = self.read()
        pid = int(written["pid"])
        # To its supervisor, which kills it if it does not stop; a run within `ingest run` has none.
        target = (parent_of(pid) or pid) if "supervisor" in written else pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(target, signal.SIGTERM)
            return True
        return False

    @property
    def is_orphan(self) -> bool:
        """Whether the launcher of the run has ended: the supervisor then has another parent, init or a subreaper."""
        written = self.read()
        if "supervisor" not in written:  # executed by its launcher itself
            return False
        supervisor = parent_of(int(written.get("pid", 0)))
        return supervisor is None or (parent_of(supervisor) or INIT) != written.get("launcher", supervisor)

    def final(self) -> dict[str, Any]:
        """Return the content of the record; wait until a supervisor that is alive has written the end."""
        deadline = time.monotonic() + SUPERVISOR_SECONDS
        while True:
            written = self.read()
            supervisor = _process(written, "supervisor", "supervisor_started")
            # The supervisor is alive, but has not written the end yet.
            waits = "code" not in written and supervisor is not None and supervisor.is_alive
            if not waits or time.monotonic() > deadline:
                return written
            time.sleep(0.01)


def live_records() -> list[RunRecord]:
    """Return the records of all runs whose process is alive."""
    folder = runs_folder()
    records = [RunRecord(path) for path in folder.glob("*.json")] if folder.is_dir() else []
    return [record for record in records if record.is_alive]


def remove_old_records(folder: Path) -> None:
    """Delete records and logs that are older than two weeks, by whatever the clock says; not those of living runs."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            is_old = time.time() - path.stat().st_mtime > KEEP_SECONDS
            if is_old and not RunRecord(path.with_suffix(".json")).is_alive:
                path.unlink()


def _process(written: dict[str, Any], pid: str, started: str) -> ProcessId | None:
    if not written.get(pid) or written.get(started) is None:
        return None
    return ProcessId(int(written[pid]), int(written[started]))
