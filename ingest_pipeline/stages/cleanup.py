"""What is wrong in the store and beside it, and its repair, without Dagster."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.gaps import parse_limits
from ingest_pipeline.store import damage
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.damage import Damage

OLD_SECONDS = 3600.0  # nothing that is at work leaves a temporary file untouched for an hour


def find_damage(connection: Connection, settings: Settings) -> list[Damage]:
    """Return what is wrong in the store and in the files under INGEST_HOME; changes nothing."""
    return [*damage.find(connection, parse_limits(settings)), *_of_files(list(_leftover_files(settings.home)))]


def repair_damage(connection: Connection, settings: Settings) -> list[Damage]:
    """Repair what is wrong; return what was repaired. The next run does what is missing then."""
    paths = list(_leftover_files(settings.home))
    for path in paths:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return [*damage.repair(connection, parse_limits(settings)), *_of_files(paths)]


def _of_files(paths: list[Path]) -> list[Damage]:
    if not paths:
        return []
    text = "files and folders are left of killed exports, downloads or records"
    return [Damage("leftover_files", "leftover", len(paths), str(min(paths)), text, "they are deleted")]


def _leftover_files(home: Path) -> Iterator[Path]:
    """Yield what killed processes have left under INGEST_HOME."""
    yield from (path for path in home.glob("models/*.part") if not _is_exported_now(path))
    for pattern in ("spool/*", "runs/*.tmp", "dagster/.dagster.yaml.*"):
        yield from (path for path in home.glob(pattern) if _is_old(path))


def _is_exported_now(part: Path) -> bool:
    """Return whether an export that writes this folder is at work: it holds the lock beside it."""
    lock = part.with_name(f"{part.name.removesuffix('.part')}.lock")
    if not lock.exists():
        return False
    with lock.open("r") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > OLD_SECONDS
    except OSError:
        return False
