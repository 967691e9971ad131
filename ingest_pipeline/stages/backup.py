"""`ingest backup`: the database in one file, with a manifest, and the documents of the sources if asked."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tarfile import PAX_FORMAT
from tarfile import open as open_tar
from typing import Any, cast

from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.access import access_of
from ingest_pipeline.stages.documents import CopiedDocuments, count_documents, folder_names, write_documents
from ingest_pipeline.store import backup as content
from ingest_pipeline.store.backup_file import DOCUMENTS, DUMP, VIEWS, BackupWriter, new_backup, refuse_existing
from ingest_pipeline.store.connection import connected, database_url
from ingest_pipeline.store.dump import dump_schemas, dump_views, require_old_enough

PRODUCT = "ingest-pipeline"


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup holds, or would hold."""

    file: str
    written: bool
    size_bytes: int
    """Of the file; of a dry run: of the tables and the documents on their disks, before compression."""
    seconds: float
    counts: dict[str, int]
    """Rows, by table."""
    documents: CopiedDocuments | None
    left_out_sources: list[str] = field(default_factory=list)
    """Sources whose documents are not copied: lists of URLs take no files back."""


def write_backup(settings: Settings, path: Path, *, with_documents: bool = False) -> BackupReport:
    """Write a backup; the file has its name when it is whole, and not before.

    Raises:
        BackupRefused: the name is taken, there is nothing to back up, or a source cannot be read.
        ConfigurationError: the server is newer than our pg_dump.
    """
    began, url = time.monotonic(), database_url(settings)
    with new_backup(path, int(time.time())) as writer:
        manifest = _write_database(writer, url)
        sources = [source["name"] for source in manifest["sources"]] if with_documents else []
        documents = _write_documents(writer, settings, url, sources) if with_documents else None
        size_bytes = writer.finish(manifest | {"documents": documents})
    return BackupReport(
        file=str(path), written=True, size_bytes=size_bytes, seconds=time.monotonic() - began,
        counts=manifest["counts"], documents=CopiedDocuments(**documents["copied"]) if documents else None,
        left_out_sources=_left_out(sources),
    )  # fmt: skip


def preview_backup(settings: Settings, path: Path, *, with_documents: bool = False) -> BackupReport:
    """Return what a backup would hold; nothing is written.

    Raises:
        BackupRefused, ConfigurationError: as for `write_backup`.
    """
    began = time.monotonic()
    refuse_existing(path)
    with content.frozen(database_url(settings)) as (connection, _):
        require_old_enough(connection)
        manifest, size_bytes = content.content_of(connection), content.table_bytes(connection)
    sources = [source["name"] for source in manifest["sources"]] if with_documents else []
    copied = count_documents(list(folder_names(sources).values()), access_of(settings)) if with_documents else None
    return BackupReport(
        file=str(path), written=False, size_bytes=size_bytes + (copied.size_bytes if copied else 0),
        seconds=time.monotonic() - began, counts=manifest["counts"], documents=copied,
        left_out_sources=_left_out(sources),
    )  # fmt: skip


def _write_database(writer: BackupWriter, url: str) -> dict[str, Any]:
    """Write the dump, the views and the functions of `public`; return the manifest of the same snapshot."""
    with content.frozen(url) as (connection, snapshot):
        require_old_enough(connection)
        manifest = {"product": PRODUCT, "version": version(PRODUCT), **content.content_of(connection)}
        with writer.member(DUMP) as member, closing(dump_schemas(url, snapshot)) as pieces:  # type: ignore[type-var]
            for piece in pieces:
                member.write(piece)
        views = content.public_views(connection)
        with writer.member(VIEWS) as member, closing(dump_views(url, snapshot, views)) as pieces:  # type: ignore[type-var]
            for piece in pieces:
                member.write(piece)
            member.write(content.public_functions(connection).encode())
    return manifest


def _write_documents(writer: BackupWriter, settings: Settings, url: str, sources: list[str]) -> dict[str, Any]:
    folders = folder_names(sources)
    with (
        connected(url) as connection,
        writer.member(DOCUMENTS) as member,
        open_tar(fileobj=cast(Any, member), mode="w|", format=PAX_FORMAT) as tar,
    ):
        versions_of = partial(content.versions_of, connection)
        copied = write_documents(tar, folders, versions_of, access_of(settings))
    return {"folders": folders, "copied": asdict(copied)}


def _left_out(sources: list[str]) -> list[str]:
    return [source for source in sources if source not in folder_names(sources).values()]
