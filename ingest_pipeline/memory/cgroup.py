"""Control groups: reads the limits on this process, and creates a cgroup for each run where the kernel allows it.

RLIMIT_DATA applies to each process separately, and always; a cgroup applies to all processes of a run together, and its
OOM killer kills the parser's child first (oom_score_adj). Containers usually mount `/sys/fs/cgroup` read-only: then
there is no cgroup, and only the run's own watch remains. Stdlib only, because the supervisor must stay small.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "ingest-"
UNLIMITED = 1 << 60
"""cgroup v1 writes a number near 2**63 where there is no limit."""
STARTING_SECONDS = 60.0  # a supervisor makes the cgroup, and its child joins it milliseconds later
REMOVE_SECONDS = 2.0  # a cgroup can be removed only after the kernel has released its last process


@dataclass(frozen=True, slots=True)
class Names:
    """File names that differ between the two versions of cgroups."""

    limit: str
    swap: str
    peak: str
    events: str


V1 = Names("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control")
V2 = Names("memory.max", "memory.swap.max", "memory.peak", "memory.events")


class RunCgroup:
    """The cgroup of one run."""

    def __init__(self, folder: Path, names: Names) -> None:
        self.folder, self._names = folder, names

    def join(self) -> None:
        """Move the calling process into the cgroup; its future children inherit it."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def peak_bytes(self) -> int | None:
        """Return the peak of the cgroup, file cache included; None if the kernel does not report it."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / self._names.peak).read_text())
        return None

    def oom_kills(self) -> int:
        """Return how many processes of the cgroup the kernel's OOM killer has killed."""
        with contextlib.suppress(OSError, ValueError):
            for line in (self.folder / self._names.events).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0

    def remove(self) -> None:
        """Remove the cgroup when it is empty."""
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
    """Return a new cgroup below this process's own, with a limit and without swap; None if that is not allowed."""
    own = [group for group in memory_cgroups(proc, root) if group.path_is_ours and os.access(group.folder, os.W_OK)]
    if not own:
        return None
    parent, names = own[0].folder, own[0].names
    _remove_abandoned(parent)  # a killed supervisor cannot remove its own
    folder = parent / f"{prefix}{name}"
    try:
        folder.mkdir()
    except OSError:  # read-only, no permission, or it is another's, who may not have joined it yet: it must stay
        return None
    try:
        (folder / names.limit).write_text(str(limit_bytes))
    except OSError:  # (v2) the memory controller is not delegated to children
        with contextlib.suppress(OSError):
            folder.rmdir()
        return None
    with contextlib.suppress(OSError):  # a kernel without swap accounting
        # v1 limits memory and swap together, v2 limits swap alone.
        (folder / names.swap).write_text(str(limit_bytes) if names is V1 else "0")
    return RunCgroup(folder, names)


@dataclass(frozen=True, slots=True)
class MemoryCgroup:
    """A cgroup that limits this process's memory."""

    folder: Path
    names: Names
    path_is_ours: bool
    """False in a container that shows the host's path, which does not exist there: `folder` is then the root."""


def memory_cgroups(proc: Path = Path("/proc/self"), root: Path = ROOT) -> list[MemoryCgroup]:
    """Return the memory cgroups of this process, of both versions; [] if there are none."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return []
    groups = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            groups.append(_inside(root / "memory", path, V1))
        elif not controllers:  # the unified hierarchy, v2
            groups.append(_inside(root, path, V2))
    return groups


def limits_bytes(proc: Path = Path("/proc/self"), root: Path = ROOT) -> list[int]:
    """Return the memory limits on this process's cgroups and their ancestors, v1 and v2; [] if none.

    The cgroup of a run is left out: inside a run this must return the same limits as outside.
    """
    limits = []
    for group in memory_cgroups(proc, root):
        for folder in (group.folder, *group.folder.parents):
            # The lowest limit on the way up to the root applies.
            limit = _read_limit(folder / group.names.limit)
            if limit is not None and not folder.name.startswith(PREFIX):
                limits.append(limit)
            if folder in (root, root / "memory") or root not in folder.parents:
                break
    return limits


def _inside(top: Path, path: str, names: Names) -> MemoryCgroup:
    folder = top / path.lstrip("/")
    return MemoryCgroup(folder if folder.is_dir() else top, names, folder.is_dir())


def _read_limit(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        text = path.read_text().strip()
        return int(text) if text.isdigit() and int(text) < UNLIMITED else None
    return None


def _remove_abandoned(parent: Path) -> None:
    """Remove the empty cgroups of runs whose supervisor was killed; not those of runs that are just starting."""
    oldest = time.time() - STARTING_SECONDS
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_mtime < oldest and not (folder / "cgroup.procs").read_text().strip():
                folder.rmdir()
