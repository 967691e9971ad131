"""A disk that is soon full: a tmpfs of some megabytes, filled up to what is to be left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1024**2


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A mounted folder."""

    path: Path

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def leave(self, free_bytes: int) -> None:
        """Fill the disk but for some bytes."""
        state = os.statvfs(self.path)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - free_bytes)

    def make_room(self) -> None:
        """Take out what only fills it."""
        self._ballast.unlink()


@contextmanager
def small_disk(path: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Mount a tmpfs; only root may do that, as in a container of CI."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(path)], check=True)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
