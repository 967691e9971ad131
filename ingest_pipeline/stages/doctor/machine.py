"""The machine: disks, memory and its limits, the fence around parsers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ingest_pipeline.embedding.choice import budget_of
from ingest_pipeline.errors import BadSetting
from ingest_pipeline.memory import cgroup
from ingest_pipeline.memory.machine import machine_budget_bytes, machine_memory_bytes, run_slots, usable_cores
from ingest_pipeline.models import Finding
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import counted, format_size
from ingest_pipeline.stages.doctor.bounded import Seen, fail, looked, ok, warn
from ingest_pipeline.stages.doctor.model_on_disk import with_model_on_disk

MIB = 1024**2
HOME_BYTES = 512 * MIB
"""The exported model (43 MiB, twice while it is made), Dagster's logs, records of runs."""
DATABASE_BYTES = 1024 * MIB
"""WAL takes up to 1 GiB (max_wal_size) beside the data."""
TEMPORARY_BYTES = 256 * MIB
LEAST_FILES = 10_000
"""Inodes: Dagster keeps some files for each run."""
SWAPPED_SHARE = 0.5
CONFINE = """
import json, os
from ingest_pipeline.parsing.sandbox.confinement import confine
print(json.dumps(confine(1 << 30, os.getppid())))
"""


def checks(settings: Settings) -> Iterator[Finding]:
    """Yield the findings about this machine."""
    for name, folder, needed_bytes in _folders(settings):
        look = partial(_disk, folder, needed_bytes)
        yield looked(f"disk {name}", look, advice="free some space there, or use another folder")
    yield looked("memory", lambda: _memory(settings), advice="give the machine or the container more memory")
    yield looked("swap", _swap, advice="")
    yield looked("cgroup", lambda: _cgroup(settings), advice="")
    yield looked("confinement", _confinement, advice="reinstall ingest-pipeline: the parser's child does not start")


def runs_at_once(settings: Settings) -> int:
    """Return how many runs may be at work; as many as the cores allow where memory cannot be computed."""
    try:
        located = with_model_on_disk(settings)
        return run_slots(budget_of(located), located)
    except BadSetting:
        return settings.max_runs or usable_cores()


def _folders(settings: Settings) -> Iterator[tuple[str, Path, Callable[[], int]]]:
    """Yield a name, the folder, and how many bytes must be free there."""
    yield "home", settings.home, lambda: HOME_BYTES
    if settings.reads_servers or settings.extract:
        yield "spool", settings.home / "spool", lambda: runs_at_once(settings) * settings.max_file_size
    yield "tmp", Path(tempfile.gettempdir()), lambda: TEMPORARY_BYTES
    if not settings.database_url:
        yield "database", settings.home / "postgres" / "data", lambda: DATABASE_BYTES


def _disk(folder: Path, needed: Callable[[], int]) -> Seen:
    needed_bytes = needed()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        return fail(f"{there} is no folder", "move that file away")
    if not os.access(there, os.W_OK | os.X_OK):
        return fail(f"{there} cannot be written", "let this user write there, or use another folder")
    status = os.statvfs(there)
    free_bytes = status.f_bavail * status.f_frsize
    seen = f"{format_size(free_bytes)} free of {format_size(status.f_blocks * status.f_frsize)} at {there}"
    advice = f"free some space there: {format_size(needed_bytes)} are needed"
    if free_bytes < needed_bytes:
        return fail(seen, advice)
    if status.f_files and status.f_favail < LEAST_FILES:
        return fail(
            f"{seen}, but only {counted(status.f_favail, 'more file')}",
            "delete some files: the file system has no inodes",
        )
    return warn(seen, f"{advice}, and documents need more") if free_bytes < 2 * needed_bytes else ok(seen)


def _memory(settings: Settings) -> Seen:
    located = with_model_on_disk(settings)
    memory, budget = machine_memory_bytes(), machine_budget_bytes(settings.machine_memory)
    limits = cgroup.limits_bytes()
    where = "the cgroup's limit" if limits and min(limits) == memory else "the machine's"
    slots = run_slots(budget_of(located), located)  # refuses what does not fit
    seen = (
        f"{format_size(memory)} ({where}); {format_size(budget)} for everything, {counted(slots, 'run')} at once with "
        f"{format_size(settings.run_memory)} each"
    )
    if settings.machine_memory > memory:
        return fail(seen, f"INGEST_MACHINE_MEMORY is more than there is: at most {format_size(memory)}")
    return ok(seen)


def _swap() -> Seen:
    import psutil

    swap = psutil.swap_memory()
    if not swap.total:
        return ok("none")
    seen = f"{format_size(swap.used)} of {format_size(swap.total)} in use"
    if swap.used > SWAPPED_SHARE * swap.total:
        return warn(seen, "the machine is short of memory, and slow: lower INGEST_MACHINE_MEMORY or end something else")
    return ok(seen)


def _cgroup(settings: Settings) -> Seen:
    made = cgroup.make_cgroup(f"doctor-{os.getpid()}", settings.run_memory)
    if made is None:
        return warn(
            "none can be made for a run",
            "nothing, usual in a container: each process has its kernel limit and a run watches itself; for a limit of "
            "the whole run, make /sys/fs/cgroup writable",
        )
    made.remove()
    return ok("each run gets one of its own")


def _confinement() -> Seen:
    # In a process of its own: what it gives up does not come back.
    result = subprocess.run(
        [sys.executable, "-P", "-c", CONFINE], capture_output=True, text=True, timeout=10, check=False
    )
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        return fail(lines[-1], "reinstall ingest-pipeline: the parser's child does not start")
    rights: dict[str, str] = json.loads(result.stdout)
    seen = ", ".join(f"{name}: {how}" for name, how in rights.items())
    if "open" in rights.values():
        return warn(
            seen, "parsers of documents are not shut off: use a kernel with Landlock (5.13), or allow namespaces"
        )
    return ok(seen)
