"""Control groups: the limits on this process, and one of its own for each run, where the kernel lets us make one.

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
UNLIMITED = 1 << 60
"""cgroup v1 says `no limit` with a number near 2**63."""
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
    own = [group for group in memory_cgroups(proc, root) if group.path_is_ours and os.access(group.folder, os.W_OK)]
    if not own:
        return None
    parent, names = own[0].folder, own[0].names
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


@dataclass(frozen=True, slots=True)
class MemoryCgroup:
    """A cgroup that limits this process's memory."""

    folder: Path
    names: Names
    path_is_ours: bool
    """False in a container, where the path is the host's and does not exist: the folder then is the root."""


def memory_cgroups(proc: Path = Path("/proc/self"), root: Path = ROOT) -> list[MemoryCgroup]:
    """Return the cgroups, of either version, that this process is in; [] where there are none."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return []
    groups = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            groups.append(_inside(root / "memory", path, V1))
        elif not controllers:
            groups.append(_inside(root, path, V2))
    return groups


def limits_bytes(proc: Path = Path("/proc/self"), root: Path = ROOT) -> list[int]:
    """Return every memory limit on this process's cgroups and their ancestors, v1 and v2; [] if none.

    The group that was made for a run is left out: a run asks for what lies outside its own.
    """
    limits = []
    for group in memory_cgroups(proc, root):
        for folder in (group.folder, *group.folder.parents):
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
    """Remove the empty groups of runs whose supervisor was killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if not (folder / "cgroup.procs").read_text().strip():
                folder.rmdir()
