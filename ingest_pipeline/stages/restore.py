"""`ingest restore`: a backup into an empty database, in one transaction, and its documents into sources."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tarfile import TarError, TarFile
from tarfile import open as open_tar

from ingest_pipeline.errors import BackupRefused, ConfigurationError
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources.registry import make_source, spelled_source, takes_files
from ingest_pipeline.stages.access import access_of
from ingest_pipeline.stages.documents import CopiedDocuments, read_documents, refuse_hostile
from ingest_pipeline.store import backup as content
from ingest_pipeline.store import batches, run_ends, vectors
from ingest_pipeline.store.backup_file import DOCUMENTS, DUMP, VIEWS, BackupFile, opened_backup
from ingest_pipeline.store.connection import Connection, connected, database_url, place_of, store
from ingest_pipeline.store.dump import Timing, restored_script
from ingest_pipeline.store.migrate import migrate
from ingest_pipeline.store.server import EmbeddedServer

RESTORED = "restored from a backup, which was taken while a run was at work on it"


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """What is restored where."""

    path: Path
    to: str | None = None
    """The URL of a database; None: that of the settings."""
    with_documents: bool = False
    documents_to: str | None = None
    """A folder or bucket with a folder for the documents of each source; None: into the sources themselves."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Other names of sources, by those that they have in the backup."""


@dataclass(slots=True)
class RestoreReport:
    """What was restored, or would be."""

    file: str
    database: str
    restored: bool = False
    seconds: float = 0.0
    data_seconds: float = 0.0
    index_seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    documents: CopiedDocuments | None = None
    sources: dict[str, str] = field(default_factory=dict)
    """The names that sources of the backup have now."""
    migrations: list[str] = field(default_factory=list)
    """What the schema of the backup lacked; of a dry run as well."""
    waiting_batches: int = 0
    """Batches that a run was at work on when the backup was taken: they wait for another run."""


def restore_backup(settings: Settings, request: RestoreRequest, *, dry_run: bool = False) -> RestoreReport:
    """Restore a backup; documents first, so that a restore that was interrupted can simply be repeated.

    Raises:
        BackupRefused: the file is damaged or of a newer schema, the database is not empty, or the counts differ.
        ConfigurationError: the request does not fit the backup, or the database cannot be used.
    """
    began, database = time.monotonic(), _place(settings, request)
    with opened_backup(request.path) as backup:
        content.refuse_newer(backup.manifest, request.path)
        _refuse_misfit(backup, request)
        _check_database(settings, request)
        backup.verify()
        folders = _folders(backup, request)
        report = _report(backup, request, folders, database)
        if not dry_run:
            report.documents = _restore_documents(backup, settings, folders) if request.with_documents else None
            _restore_database(backup, request.to or database_url(settings), report)
    report.seconds = time.monotonic() - began
    return report


def _refuse_misfit(backup: BackupFile, request: RestoreRequest) -> None:
    """Make sure that the backup has what is asked for."""
    known = [source["name"] for source in backup.manifest["sources"]]
    for name in request.sources:
        if name not in known:
            raise ConfigurationError(f"--source {name}=…: the backup has the sources {', '.join(known) or 'none'}")
    if request.with_documents and backup.manifest["documents"] is None:
        raise ConfigurationError(f"{request.path}: has no documents; `ingest backup --with-documents` copies them")


def _place(settings: Settings, request: RestoreRequest) -> str:
    return place_of(request.to or settings.database_url or EmbeddedServer(settings.home).url)


def _report(backup: BackupFile, request: RestoreRequest, folders: Mapping[str, str], database: str) -> RestoreReport:
    documents = backup.manifest["documents"]
    return RestoreReport(
        file=str(request.path),
        database=database,
        counts=backup.manifest["counts"],
        documents=CopiedDocuments(**documents["copied"]) if request.with_documents else None,
        sources=_renamed(backup, request, folders),
        migrations=content.missing_migrations(backup.manifest),
    )


def _folders(backup: BackupFile, request: RestoreRequest) -> dict[str, str]:
    """Return the source that takes the documents of each folder of the tar; {} if none are restored."""
    documents = backup.manifest["documents"]
    if not request.with_documents:
        return {}
    for folder in documents["folders"]:  # made by `folder_names`; the file may come from somebody else
        if folder in ("", ".", "..") or "/" in folder:
            raise BackupRefused(f"{request.path}: its folder {folder!r} leaves the place of documents")
    if request.documents_to:
        place = spelled_source(request.documents_to)
        folders = {folder: f"{place.rstrip('/')}/{folder}" for folder in documents["folders"]}
    else:
        renamed = {name: spelled_source(text) for name, text in request.sources.items()}
        folders = {folder: renamed.get(name, name) for folder, name in documents["folders"].items()}
    with _documents_of(backup) as tar:
        refuse_hostile(tar, folders)
    for name in folders.values():
        if not takes_files(name):
            raise ConfigurationError(f"{name}: this source takes no documents; --documents-to a folder or a bucket")
    return folders


def _renamed(backup: BackupFile, request: RestoreRequest, folders: Mapping[str, str]) -> dict[str, str]:
    """Return the new names of sources by the old ones."""
    moved = {backup.manifest["documents"]["folders"][folder]: name for folder, name in folders.items()}
    names = {name: spelled_source(text) for name, text in request.sources.items()} | moved
    return {before: name for before, name in names.items() if before != name}


def _check_database(settings: Settings, request: RestoreRequest) -> None:
    """Make sure that the database is empty and can be used; an embedded server that was never started is."""
    if not (request.to or settings.database_url or EmbeddedServer(settings.home).exists):
        return
    with connected(request.to or database_url(settings)) as connection:
        content.check_target(connection)


def _restore_documents(backup: BackupFile, settings: Settings, folders: Mapping[str, str]) -> CopiedDocuments:
    for name in folders.values():
        make_source(name)
    torn = backup.manifest["documents"]["copied"]["torn"]
    with _documents_of(backup) as tar:
        return read_documents(tar, folders, torn, access_of(settings))


def _documents_of(backup: BackupFile) -> TarFile:
    try:
        return open_tar(fileobj=backup.open_member(DOCUMENTS), mode="r:")
    except TarError as error:
        raise BackupRefused(f"{backup.path}: its documents cannot be read: {error}") from None


def _restore_database(backup: BackupFile, url: str, report: RestoreReport) -> None:
    with content.restoring(url) as connection:
        timing = _run_scripts(backup, connection)
        content.refuse_other_counts(connection, report.counts)
        content.rename_sources(connection, report.sources)
    report.restored = True
    report.data_seconds, report.index_seconds = timing.data_seconds, timing.index_seconds
    report.migrations = migrate(url)
    with store(url) as connection:
        report.waiting_batches = _release_batches(connection)
        run_ends.end_unfinished(connection, RESTORED)  # else they count as at work elsewhere, for hours
        vectors.vacuum(connection)


def _run_scripts(backup: BackupFile, connection: Connection) -> Timing:
    descriptor = backup.descriptor_at(DUMP)
    try:
        with restored_script(descriptor) as script:
            timing = content.run_dump(connection, script, backup.manifest)
    finally:
        os.close(descriptor)
    content.run_dump(connection, backup.open_member(VIEWS), backup.manifest)
    content.show_schema(connection)
    return timing


def _release_batches(connection: Connection) -> int:
    """Let batches wait whose run is on another machine, or was: it is no kill of a file."""
    running = batches.list_batches(connection, status="running")
    for batch in running:
        batches.reconcile_batch(
            connection, batch.key, batch.run_id or "", killed=False, canceled=True, message=RESTORED
        )
    return len(running)
