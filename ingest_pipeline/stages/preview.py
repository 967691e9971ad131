"""What a run would do, without doing it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ingest_pipeline.errors import FileError
from ingest_pipeline.models import CostModel, FileCost, ListedFile, Plan
from ingest_pipeline.parsing import detect
from ingest_pipeline.planning import predict as predicting
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import Source, canonical_sources, source_of
from ingest_pipeline.stages.access import access_of
from ingest_pipeline.stages.costs import current_model
from ingest_pipeline.stages.scan import looks_unchanged, slabs
from ingest_pipeline.stages.sealing import asking_seconds, plan_of, waiting_costs
from ingest_pipeline.store import ledger
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.ignored import without_ignored
from ingest_pipeline.store.ledger import KnownFile


def preview(connection: Connection, *, settings: Settings) -> Plan:
    """Return the batches that the next run would make: what waits, and what is new or changed in the sources.

    Reads listings and the first 4 KiB of new files; hashes nothing and writes nothing. A file that was merely
    touched therefore counts as changed.

    Raises:
        BadSetting, SourceUnavailable: as for a scan.
    """
    model = current_model(connection)
    costs = {cost.name: cost for cost in waiting_costs(connection, model, asking_seconds(connection, settings))}
    for one in changed_files(connection, settings):
        cost = _predicted(one, model)
        costs[cost.name] = cost
    return plan_of(costs.values(), settings)


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file that a catalog run would find new or changed."""

    source: str
    path: str
    media_type: str
    size_bytes: int
    known: KnownFile | None
    """As the ledger knows it; None if it is new."""


def changed_files(connection: Connection, settings: Settings) -> Iterator[ChangedFile]:
    """Yield what is new or changed in the sources and has a parser; 500 files are in memory at a time.

    Raises:
        BadSetting, SourceUnavailable: as for a scan.
    """
    for name in canonical_sources(settings.sources):
        source = source_of(name, access_of(settings))
        for listed in slabs(source.files()):
            slab = without_ignored(connection, source.name, listed)
            known = ledger.known_files(connection, source.name, [file.path for file in slab])
            for file in slab:
                before = known.get(file.path)
                if _would_be_read(file, before, settings) and (media_type := _media_type(source, file)):
                    yield ChangedFile(source.name, file.path, media_type, file.size_bytes, before)


def _would_be_read(file: ListedFile, known: KnownFile | None, settings: Settings) -> bool:
    if file.refusal or file.size_bytes > settings.max_file_size:
        return False
    return not looks_unchanged(file, known, settings)


def _media_type(source: Source, file: ListedFile) -> str | None:
    """Return a file's type, or None: a catalog run will record it as failed, or as deleted."""
    try:
        head = source.read_head(file.path)
    except FileError:
        return None
    media_type = detect.media_type(file.path, head)
    return media_type if media_type in detect.SUPPORTED else None


def _predicted(file: ChangedFile, model: CostModel) -> FileCost:
    return predicting.predict(
        model,
        file_id=0,
        name=f"{file.source}/{file.path}",
        version="",
        media_type=file.media_type,
        size_bytes=file.size_bytes,
    )
