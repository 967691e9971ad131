"""Sources against the ledger, and what waits into sealed batches."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from ingest_pipeline import sources
from ingest_pipeline.embedding.batching import activation_bytes, batch_tokens
from ingest_pipeline.embedding.model import model_card
from ingest_pipeline.errors import (
    FileNeedsMoreMemory,
    FileTooLarge,
    FileVanished,
    LinkLeavesSource,
    PermanentError,
    TransientFileError,
    UnreadableDocument,
    UnsupportedFormat,
)
from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.models import CostModel, FileCost, ListedFile, ModelCard, Plan, ScanCounts
from ingest_pipeline.parsing import detect
from ingest_pipeline.planning import plan as planning
from ingest_pipeline.planning import predict as predicting
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import format_size
from ingest_pipeline.stages.access import access_of
from ingest_pipeline.stages.costs import refit
from ingest_pipeline.stages.fingerprint import locked_fingerprint
from ingest_pipeline.store import batches, generations, ledger
from ingest_pipeline.store.connection import Connection

logger = logging.getLogger(__name__)
SLAB_FILES = 500  # listed, looked up and compared together; a bucket of a million files is never in memory


@dataclass(frozen=True, slots=True)
class Sealed:
    """What planning did: the keys of new batches, and how many files no batch can hold."""

    batches: tuple[str, ...]
    files: int
    refused: int
    predicted_seconds: float
    cost_model: int = 0
    """The edition of the model that the predictions were made with."""


def scan_sources(connection: Connection, names: Sequence[str], *, settings: Settings, fingerprint: str) -> ScanCounts:
    """Bring the ledger up to date with the sources; return what was found.

    A source is read to its end before anything in it counts as deleted.

    Raises:
        BadSetting: a source that is not there.
        SourceUnavailable: a folder that cannot be read; nothing of its source is deleted then.
    """
    counts = ScanCounts()
    ledger.requeue_outdated(connection, fingerprint, locked_fingerprint(fingerprint, settings))
    if repaired := ledger.requeue_without_vector(connection):
        logger.warning("%d indexed files had chunks without a vector: they are embedded again", repaired)
    for source in sources.canonical_sources(names):
        counts += _scan(connection, source, settings, fingerprint)
    return counts


def _scan(connection: Connection, source: str, settings: Settings, fingerprint: str) -> ScanCounts:
    scan, counts = ledger.next_scan(connection), ScanCounts()
    for slab in slabs(sources.list_files(source, access_of(settings))):
        counts += _compare(connection, source, slab, scan, settings)
    renamed = ledger.adopt_known_versions(connection, fingerprint)
    deleted = ledger.delete_unseen(connection, source, scan)
    if deleted:
        generations.drop_unused_generations(connection)
    logger.info(
        "%s: %d files listed, %d new, %d changed, %d deleted",
        source,
        counts.listed,
        counts.new,
        counts.changed,
        deleted,
    )
    return counts + ScanCounts(renamed=renamed, deleted=deleted)


def slabs(files: Iterable[ListedFile]) -> Iterator[list[ListedFile]]:
    """Yield a listing in pieces of 500 files."""
    iterator = iter(files)
    while slab := list(islice(iterator, SLAB_FILES)):
        yield slab


def _compare(connection: Connection, source: str, slab: list[ListedFile], scan: int, settings: Settings) -> ScanCounts:
    known = ledger.known_files(connection, source, [file.path for file in slab])
    unchanged = [file.path for file in slab if looks_unchanged(source, file, known.get(file.path), settings)]
    ledger.mark_seen(connection, source, unchanged, scan)
    counts, skip = ScanCounts(listed=len(slab)), set(unchanged)
    for file in slab:
        if file.path not in skip:
            counts += _look_closer(connection, source, file, known.get(file.path), scan, settings)
    return counts


def looks_unchanged(source: str, file: ListedFile, known: ledger.KnownFile | None, settings: Settings) -> bool:
    """Return whether the cheap check says that nothing needs to be read: size, time and ETag are as they were."""
    if known is None or known.status == "deleted" or file.refusal:
        return False
    if known.error == FileTooLarge.__name__ and file.size_bytes <= settings.max_file_size:
        return False  # the limit was raised
    if known.retryable or (not known.version and known.error != FileTooLarge.__name__):
        return False  # it failed by no fault of its own, or was never read to its end
    remote = sources.is_remote(source)
    if remote and not file.etag and not file.modified_ns:
        return False  # the server says nothing that could be compared
    same_size = known.size_bytes == file.size_bytes or (remote and not file.size_bytes)
    return same_size and (known.modified_ns, known.etag) == (file.modified_ns, file.etag)


def _look_closer(
    connection: Connection,
    source: str,
    file: ListedFile,
    known: ledger.KnownFile | None,
    scan: int,
    settings: Settings,
) -> ScanCounts:
    """Read one file's bytes, if they may be read, and record what they are."""
    try:
        version, length, head = _version_of(source, file, settings)
    except FileVanished:
        return ScanCounts()  # listed a moment ago, gone now: deleted at the end of this scan
    except (PermanentError, TransientFileError) as error:  # any other: nothing of this source is to be judged now
        ledger.record_refusal(connection, source, file, scan, error, media_type=detect.media_type(file.path, b""))
        return ScanCounts(refused=1)
    file = replace(file, size_bytes=length)  # a server may not have said it, or not the truth
    media_type = detect.media_type(file.path, head)
    hashed = ScanCounts(hashed_bytes=file.size_bytes)
    waits = known is None or known.status == "deleted" or known.error == FileTooLarge.__name__ or known.retryable
    if known and known.version == version and not waits:
        ledger.record_touch(connection, source, file, scan)
        return hashed
    if media_type not in detect.SUPPORTED:
        unsupported = UnsupportedFormat(
            f"{source}/{file.path}: neither its first bytes nor its name tell a format we read"
        )
        ledger.record_refusal(connection, source, file, scan, unsupported, media_type=media_type, version=version)
        return hashed + ScanCounts(refused=1)
    ledger.record_version(connection, source, file, scan, version=version, media_type=media_type)
    is_new = known is None or known.status == "deleted"
    return hashed + (ScanCounts(new=1) if is_new else ScanCounts(changed=1))


def _version_of(source: str, file: ListedFile, settings: Settings) -> tuple[str, int, bytes]:
    name = f"{source}/{file.path}"
    if file.refusal:
        kind = LinkLeavesSource if "leaves its source" in file.refusal else UnreadableDocument
        raise kind(f"{name}: {file.refusal}")
    if file.size_bytes > settings.max_file_size:
        raise sources.too_large(name, file.size_bytes, settings.max_file_size)
    return sources.read_version(source, file.path, access_of(settings), max_bytes=settings.max_file_size)


def plan_of(costs: Iterable[FileCost], settings: Settings) -> Plan:
    """Return the batches that these files make under the settings."""
    budget = RunBudget.of(settings)
    return planning.plan_batches(
        costs,
        file_budget_bytes=budget.parser_bytes,
        max_files=settings.batch_files,
        target_seconds=settings.batch_minutes * 60,
        overhead_bytes=budget.parent_bytes,
        floor_bytes=embedding_peak_bytes(budget, model_card(settings.model)),
    )


def embedding_peak_bytes(budget: RunBudget, card: ModelCard) -> int:
    """Return what a run is predicted to peak at while it embeds: the loaded model and one micro-batch."""
    tokens = batch_tokens(budget, dimension=card.dimension)
    return budget.model_bytes + activation_bytes(tokens, dimension=card.dimension)


def seal_waiting(connection: Connection, *, settings: Settings, fingerprint: str) -> Sealed:
    """Seal every waiting file into a batch, and refuse those that no batch can hold."""
    with batches.sealing(connection):
        batches.dissolve_waiting(connection, memory_limit_bytes=settings.run_memory)
        if settings.allow_gaps:
            ledger.requeue_with_gaps(connection)
        ledger.requeue_affordable(connection, RunBudget.of(settings).parser_bytes)
        model = refit(connection)
        plan = plan_of(waiting_costs(connection, model), settings)
        for cost in plan.refused:
            error = needs_more_memory(cost, settings)
            peak = cost.predicted_peak_bytes
            ledger.refuse_file(connection, cost.file_id, error, fingerprint=fingerprint, predicted_peak_bytes=peak)
        limit = settings.run_memory
        keys = [
            batches.seal_batch(connection, batch, memory_limit_bytes=limit, cost_model=model.version)
            for batch in plan.batches
        ]
    return Sealed(
        batches=tuple(keys),
        files=sum(len(batch.costs) for batch in plan.batches),
        refused=len(plan.refused),
        predicted_seconds=sum(batch.predicted_seconds for batch in plan.batches),
        cost_model=model.version,
    )


def needs_more_memory(cost: FileCost, settings: Settings) -> FileNeedsMoreMemory:
    """Return the refusal of a file that no batch can hold: what it needs, what there is, what to raise."""
    needs = cost.predicted_peak_bytes + RunBudget.of(settings).parent_bytes
    has = format_size(settings.run_memory)
    return FileNeedsMoreMemory(f"{cost.name}: needs {format_size(needs)}, a run has {has}; raise INGEST_RUN_MEMORY")


def waiting_costs(connection: Connection, model: CostModel) -> list[FileCost]:
    """Return what each file that waits for a batch is predicted to cost."""
    return [
        predicting.predict(
            model,
            file_id=file.file_id,
            name=f"{file.source}/{file.path}",
            version=file.version,
            media_type=file.media_type,
            size_bytes=file.size_bytes,
            alone=file.alone,
        )
        for file in ledger.waiting_files(connection)
    ]
