"""Work on files in a forked process that is killed before or after each call that changes a folder."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ingest_pipeline_tests.crash.kill_points import KillAt, Points, count_files

FAILED = 70
MOST_POINTS = 200


@dataclass(slots=True)
class FileTrials:
    """Does some work again and again, each time in a new folder, and kills it one point later."""

    folder: Path
    work: Callable[[Path], None]
    """Is given an empty folder."""
    after_kill: Callable[[Path], None]
    """Asserts what holds in the folder of a killed process."""
    after_rerun: Callable[[Path], None]
    """Asserts what holds when the work was done again in that folder."""
    kills: int = field(default=0, init=False)

    def run(self) -> int:
        """Kill the work at each of its points; return how many there were."""
        for when in ("before", "after"):
            number = 1
            while self._killed(KillAt(number, when, "file")):
                number += 1
                assert number < MOST_POINTS
        return self.kills

    def _killed(self, kill_at: KillAt) -> bool:
        folder = self.folder / f"{kill_at.number}-{kill_at.when}"
        folder.mkdir()
        code = self._done(folder, kill_at)
        if code == -signal.SIGKILL:
            self.kills += 1
            self.after_kill(folder)
            assert self._done(folder, None) == 0
        self.after_rerun(folder)
        return code == -signal.SIGKILL

    def _done(self, folder: Path, kill_at: KillAt | None) -> int:
        """Do the work in a process of its own; return how that ended."""
        pid = os.fork()
        if not pid:
            self._in_child(folder, kill_at)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, -signal.SIGKILL), (folder / "error.txt").read_text()
        return code

    def _in_child(self, folder: Path, kill_at: KillAt | None) -> None:
        code = FAILED
        try:
            count_files(Points(kill_at))
            self.work(folder)
            code = 0
        except BaseException:
            (folder / "error.txt").write_text(traceback.format_exc())
        finally:
            os._exit(code)
