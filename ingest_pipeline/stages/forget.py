"""Documents are erased: every row, Dagster's records, log files; with a receipt."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ingest_pipeline.errors import ConfigurationError, FileError, FileVanished, IngestError
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import canonical_sources, source_of
from ingest_pipeline.stages.access import access_of
from ingest_pipeline.store import erasure, ignored, locks
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.erasure import ErasableFile

LOG_FOLDERS = ("runs", "dagster/storage")
"""Under INGEST_HOME: a traceback in a log may name a file."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was erased of one file, or would be."""

    source: str
    path: str
    before: dict[str, int]
    """Rows of the document in each table."""
    after: dict[str, int]
    """The same afterwards: vectors and answers that other documents rely on."""
    dead_rows: dict[str, int] = field(default_factory=dict)
    """Rows that a transaction may still see, by table; none are left after a VACUUM without runs at work."""
    dagster_rows: int = 0
    """Of Dagster's tables, in which the name stood."""
    log_files: int = 0
    copies: tuple[str, ...] = ()
    """Other files with the same bytes, which stay searchable."""
    is_in_source: bool | None = None
    """Whether its source still holds it: the next catalog run brings it back then. None: it could not be asked."""
    ignored: bool = False
    """Whether it is kept out from now on."""
    dry_run: bool = False


def forget(
    connection: Connection, path: str, *, settings: Settings, and_ignore: bool = False, dry_run: bool = False
) -> Iterator[Receipt]:
    """Erase the files of a path, with or without its source; yield a receipt for each.

    The ledger forgets a file last: if this process is killed, the same command finds it again and goes on.

    Raises:
        ConfigurationError: the ledger has no such file.
        IngestError: a run is at work on it.
    """
    files = _idle_files(connection, path)
    for file in files:
        receipt = _receipt(connection, file, settings, ignored=and_ignore, dry_run=dry_run)
        yield receipt if dry_run else _erased(connection, file, receipt, settings)


def admit(connection: Connection, path: str, *, settings: Settings) -> bool:
    """Let the next catalog run take up a file that was kept out; return whether it was.

    Args:
        connection: to the store.
        path: with its source, or relative to one of the sources of the settings.
        settings: the sources.
    """
    names = [(source, path) for source in canonical_sources(settings.sources)]
    names += [(source, path.removeprefix(f"{source}/")) for source, _ in names if path.startswith(f"{source}/")]
    admitted = [ignored.admit_file(connection, source, relative) for source, relative in names]
    return any(admitted)


def _idle_files(connection: Connection, path: str) -> list[ErasableFile]:
    files = erasure.select_files(connection, path)
    if not files:
        raise ConfigurationError(f"{path}: no file of the ledger has this path; `ingest files` lists them")
    if any(file.is_at_work for file in files):
        raise IngestError(f"{path}: a run is at work on its batch; try again when it has ended")
    return files


def _receipt(
    connection: Connection, file: ErasableFile, settings: Settings, *, ignored: bool, dry_run: bool
) -> Receipt:
    """Return what is known before the document is erased."""
    rows = erasure.count_rows(connection, file)
    return Receipt(
        file.source, file.path, rows, rows, copies=tuple(erasure.copies_of(connection, file)),
        is_in_source=_is_in_source(file, settings), ignored=ignored, dry_run=dry_run,
    )  # fmt: skip


def _erased(connection: Connection, file: ErasableFile, receipt: Receipt, settings: Settings) -> Receipt:
    log_files = sum(_erase_in_log(path, file) for path in _log_files(settings.home))
    dagster_rows = erasure.erase_in_dagster(connection, file)
    erasure.erase_replaced(connection)
    with connection.transaction():
        locks.hold_sealing(connection)  # whoever seals locks batches first, and files then
        _idle_files(connection, file.name)
        if receipt.ignored:
            ignored.ignore_file(connection, file.source, file.path)
        rows = erasure.erase(connection, file)
    dead_rows = erasure.vacuum(connection)
    return replace(
        receipt, before=rows.before, after=rows.after, dead_rows=dead_rows, dagster_rows=dagster_rows,
        log_files=log_files,
    )  # fmt: skip


def _is_in_source(file: ErasableFile, settings: Settings) -> bool | None:
    """Return whether the source of a file still holds it; None if it cannot be asked."""
    try:
        source_of(file.source, access_of(settings)).read_head(file.path)
    except FileVanished:
        return False
    except FileError:
        return True
    except IngestError:
        return None
    return True


def _log_files(home: Path) -> Iterator[Path]:
    for folder in LOG_FOLDERS:
        yield from (path for path in (home / folder).rglob("*") if path.is_file() and path.suffix != ".json")


def _erase_in_log(path: Path, file: ErasableFile) -> bool:
    """Erase the name of a file in a log; return whether it stood there. Logs are small."""
    name, mark = os.fsencode(file.name), erasure.MARK.encode()
    with contextlib.suppress(FileNotFoundError):  # it has just been removed
        content = path.read_bytes()
        if name in content:
            path.write_bytes(content.replace(name, mark))
            return True
    return False
