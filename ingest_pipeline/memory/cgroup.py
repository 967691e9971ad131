"""A cgroup of its own for one run, where the kernel lets us make one: the limit then holds for the whole tree.

RLIMIT_DATA holds for each process alone, and always; the group holds for all of them together, and its kill takes the
parser's child first (oom_score_adj). Containers usually mount `/sys/fs/cgroup` read-only: then there is no group, and
the run's own watch is what is left. Stdlib only: the supervisor is to stay small.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "ingest-"
REMOVE_SECONDS = 2.0  # a group can be removed once the kernel has buried its last process


@dataclass(frozen=True, slots=True)
class Names:
    """How the two versions of cgroups call the same things."""

    limit: str
    swap: str
    peak: str
    events: str


V1 = Names("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control")
V2 = Names("memory.max", "memory.swap.max", "memory.peak", "memory.events")


class RunCgroup:
    """The kernel's group for one run."""

    def __init__(self, folder: Path, names: Names) -> None:
        self.folder, self._names = folder, names

    def join(self) -> None:
        """Move the calling process into the group; its children follow."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def peak_bytes(self) -> int | None:
        """Return the most that the group held, file cache included; None where the kernel does not say."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / self._names.peak).read_text())
        return None

    def oom_kills(self) -> int:
        """Return how many processes of the group the kernel killed for memory."""
        with contextlib.suppress(OSError, ValueError):
            for line in (self.folder / self._names.events).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0

    def remove(self) -> None:
        """Remove the group, once it is empty."""
        deadline = time.monotonic() + REMOVE_SECONDS
        while True:
            try:
                self.folder.rmdir()
                return
            except OSError:
                if time.monotonic() > deadline or not self.folder.is_dir():
                    return
                time.sleep(0.05)


def make_cgroup(
    name: str, limit_bytes: int, *, prefix: str = PREFIX, proc: Path = Path("/proc/self"), root: Path = ROOT
) -> RunCgroup | None:
    """Return a new group under this process's own, with a limit and no swap; None where that is not allowed."""
    found = _own_group(proc, root)
    if found is None:
        return None
    parent, names = found
    _remove_abandoned(parent)
    folder = parent / f"{prefix}{name}"
    try:
        folder.mkdir()
        (folder / names.limit).write_text(str(limit_bytes))
    except OSError:  # read-only, not ours, or (v2) the memory controller is not passed on to children
        with contextlib.suppress(OSError):
            folder.rmdir()
        return None
    with contextlib.suppress(OSError):  # a kernel without swap accounting
        (folder / names.swap).write_text(str(limit_bytes) if names is V1 else "0")
    return RunCgroup(folder, names)


def _own_group(proc: Path, root: Path) -> tuple[Path, Names] | None:
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        top, names = (root / "memory", V1) if "memory" in controllers.split(",") else (root, V2)
        folder = top / path.lstrip("/")
        if (names is V1 or not controllers) and folder.is_dir() and os.access(folder, os.W_OK):
            return folder, names
    return None


def _remove_abandoned(parent: Path) -> None:
    """Remove the empty groups of runs whose supervisor was killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if not (folder / "cgroup.procs").read_text().strip():
                folder.rmdir()
