"""What a run would do, without doing it."""

from __future__ import annotations

from collections.abc import Iterator

from ingest_pipeline import sources
from ingest_pipeline.errors import PermanentError, TransientFileError
from ingest_pipeline.models import CostModel, FileCost, ListedFile, Plan
from ingest_pipeline.parsing import detect
from ingest_pipeline.planning import predict as predicting
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.access import access_of
from ingest_pipeline.stages.catalog import looks_unchanged, plan_of, slabs, waiting_costs
from ingest_pipeline.store import ledger
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.costs import latest_model


def preview(connection: Connection, *, settings: Settings) -> Plan:
    """Return the batches that the next run would make: what waits, and what is new or changed in the sources.

    Reads listings and the first 4 KiB of new files; hashes nothing and writes nothing. A file that was merely
    touched therefore counts as changed.

    Raises:
        BadSetting, SourceUnavailable: as for a scan.
    """
    model = latest_model(connection)
    costs = {cost.name: cost for cost in waiting_costs(connection, model)}
    for source in sources.canonical_sources(settings.sources):
        costs |= {cost.name: cost for cost in _changed(connection, source, settings, model)}
    return plan_of(costs.values(), settings)


def _changed(connection: Connection, source: str, settings: Settings, model: CostModel) -> Iterator[FileCost]:
    for slab in slabs(sources.list_files(source, access_of(settings))):
        yield from _changed_in(connection, source, slab, settings, model)


def _changed_in(
    connection: Connection, source: str, slab: list[ListedFile], settings: Settings, model: CostModel
) -> Iterator[FileCost]:
    known = ledger.known_files(connection, source, [file.path for file in slab])
    for file in slab:
        same = looks_unchanged(source, file, known.get(file.path), settings)
        if same or file.refusal or file.size_bytes > settings.max_file_size:
            continue
        try:
            head = sources.read_head(source, file.path, access_of(settings))
        except (PermanentError, TransientFileError):  # the scan will record it as failed, or gone
            continue
        media_type = detect.media_type(file.path, head)
        if media_type in detect.SUPPORTED:
            yield predicting.predict(
                model,
                file_id=0,
                name=f"{source}/{file.path}",
                version="",
                media_type=media_type,
                size_bytes=file.size_bytes,
            )
