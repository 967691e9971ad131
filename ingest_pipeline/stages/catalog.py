"""Sources are compared with the ledger, and the files that wait are sealed into batches."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from ingest_pipeline.embedding.batching import activation_bytes, batch_tokens
from ingest_pipeline.embedding.choice import budget_of, card_of
from ingest_pipeline.errors import (
    FileError,
    FileNeedsMoreMemory,
    FileTooLarge,
    FileVanished,
    UnsupportedFormat,
)
from ingest_pipeline.memory.budget import RunBudget
from ingest_pipeline.models import CostModel, FileCost, ListedFile, ModelCard, Plan, ScanCounts
from ingest_pipeline.parsing import detect
from ingest_pipeline.planning import plan as planning
from ingest_pipeline.planning import predict as predicting
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import format_size
from ingest_pipeline.sources import Source, canonical_sources, source_of
from ingest_pipeline.sources.base import file_name
from ingest_pipeline.sources.wording import too_large
from ingest_pipeline.stages.access import access_of
from ingest_pipeline.stages.costs import refit
from ingest_pipeline.stages.fingerprint import formats_fingerprint, valid_fingerprints
from ingest_pipeline.store import batches, files, generations, ledger
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.ledger import KnownFile

logger = logging.getLogger(__name__)
SLAB_FILES = 500  # listed and compared together; a bucket of a million files is never in memory


@dataclass(frozen=True, slots=True)
class Sealed:
    """What planning did: the keys of new batches, and how many files no batch can hold."""

    batches: tuple[str, ...]
    files: int
    refused: int
    predicted_seconds: float
    cost_model: int = 0
    """The edition of the model that the predictions were made with."""


@dataclass(frozen=True, slots=True)
class SourceScan:
    """One scan of one source, and what each step of it needs."""

    connection: Connection
    source: Source
    settings: Settings
    number: int
    fingerprint: str
    valid: tuple[str, ...]
    """The fingerprints that are not outdated."""

    def known(self, slab: Sequence[ListedFile]) -> dict[str, KnownFile]:
        """Return what the ledger remembers of these files, by path."""
        return ledger.known_files(self.connection, self.source.name, [file.path for file in slab])

    def is_outdated(self, known: KnownFile) -> bool:
        """Return whether a file was indexed or refused under another fingerprint: it will be parsed again."""
        return known.fingerprint is not None and known.fingerprint not in self.valid

    def mark_seen(self, paths: Sequence[str]) -> None:
        """Note that these files are there and unchanged."""
        files.mark_seen(self.connection, self.source.name, paths, self.number)

    def record_touch(self, file: ListedFile) -> None:
        """Note the new revision of a file whose bytes are the same."""
        files.record_touch(self.connection, self._scanned(file))

    def record_version(self, file: ListedFile, version: str, media_type: str) -> None:
        """Note a new or changed file: it waits."""
        files.record_version(self.connection, self._scanned(file, version, media_type))

    def refuse(self, file: ListedFile, error: FileError, *, media_type: str = "", version: str = "") -> ScanCounts:
        """Note a file that will not be parsed, and why."""
        scanned = self._scanned(file, version, media_type or detect.media_type(file.path, b""))
        if isinstance(error, UnsupportedFormat):
            scanned = replace(scanned, fingerprint=formats_fingerprint())
        files.record_refusal(self.connection, scanned, error)
        return ScanCounts(refused=1)

    def _scanned(self, file: ListedFile, version: str = "", media_type: str = "") -> files.ScannedFile:
        return files.ScannedFile(self.source.name, file, self.number, version, media_type)


def scan_sources(connection: Connection, names: Sequence[str], *, settings: Settings, fingerprint: str) -> ScanCounts:
    """Bring the ledger up to date with the sources; return what was found.

    A source is read to its end before anything in it counts as deleted.

    Raises:
        BadSetting: a source that is not there.
        SourceUnavailable: a source that cannot be read; nothing of it is deleted then.
    """
    counts = ScanCounts()
    valid = (*valid_fingerprints(fingerprint, settings), formats_fingerprint())
    files.requeue_outdated(connection, valid)
    if repaired := files.requeue_without_vector(connection):
        logger.warning("%d indexed files had chunks without a vector: they are embedded again", repaired)
    for name in canonical_sources(names):
        source = source_of(name, access_of(settings))
        counts += _scan(SourceScan(connection, source, settings, ledger.next_scan(connection), fingerprint, valid))
    return counts


def _scan(scan: SourceScan) -> ScanCounts:
    counts = ScanCounts()
    for slab in slabs(scan.source.files()):
        counts += _compare(scan, slab)
    renamed = files.adopt_known_versions(scan.connection, scan.fingerprint)
    deleted = files.delete_unseen(scan.connection, scan.source.name, scan.number)
    if deleted:
        generations.drop_unused_generations(scan.connection)
    logger.info(
        "%s: %d files listed, %d new, %d changed, %d deleted",
        scan.source.name,
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


def _compare(scan: SourceScan, slab: list[ListedFile]) -> ScanCounts:
    known = scan.known(slab)
    unchanged = {file.path for file in slab if looks_unchanged(file, known.get(file.path), scan.settings)}
    scan.mark_seen(list(unchanged))
    counts = ScanCounts(listed=len(slab))
    for file in slab:
        if file.path not in unchanged:
            counts += _read(scan, file, known.get(file.path))
        elif scan.is_outdated(known[file.path]):
            counts += _detect_again(scan, file, known[file.path])
    return counts


def looks_unchanged(file: ListedFile, known: KnownFile | None, settings: Settings) -> bool:
    """Return whether a file need not be read: its revision is the one that the ledger has."""
    if known is None or file.refusal or not file.revision or file.revision != known.revision:
        return False
    return not _must_be_read_again(file, known, settings)


def _must_be_read_again(file: ListedFile, known: KnownFile, settings: Settings) -> bool:
    """Return whether there is a reason to read a file whose revision is the same."""
    if _reason_may_be_gone(known):
        return True
    if known.error == FileTooLarge.__name__:
        return file.size_bytes <= settings.max_file_size  # the limit was raised
    return not known.version  # it was never read to its end


def _detect_again(scan: SourceScan, file: ListedFile, known: KnownFile) -> ScanCounts:
    """Look at the first bytes of a file that will be parsed again: its format may be one that was added since."""
    try:
        media_type = detect.media_type(file.path, scan.source.read_head(file.path))
    except FileError:
        return ScanCounts()  # its run finds out, with the reason
    if media_type == known.media_type or media_type not in detect.SUPPORTED:
        return ScanCounts()
    scan.record_version(file, known.version, media_type)
    return ScanCounts(changed=1)


def _is_new(known: KnownFile | None) -> bool:
    return known is None or known.status == "deleted"


def _read(scan: SourceScan, file: ListedFile, known: KnownFile | None) -> ScanCounts:
    """Read a file's bytes, if they may be read, and record what they are."""
    if file.refusal:
        return scan.refuse(file, file.refusal)
    try:
        version, length, head = _version_of(scan, file)
    except FileVanished:
        return ScanCounts()  # listed a moment ago, gone now: deleted at the end of this scan
    except FileError as error:  # any other is the source's: nothing of it is judged now
        return scan.refuse(file, error)
    file = replace(file, size_bytes=length)  # a server may not have said it, or not the truth
    return ScanCounts(hashed_bytes=length) + _record(scan, file, known, version, detect.media_type(file.path, head))


def _version_of(scan: SourceScan, file: ListedFile) -> tuple[str, int, bytes]:
    limit = scan.settings.max_file_size
    if file.size_bytes > limit:
        raise too_large(file_name(scan.source.name, file.path), file.size_bytes, limit)
    return scan.source.read_version(file.path, max_bytes=limit)


def _record(scan: SourceScan, file: ListedFile, known: KnownFile | None, version: str, media_type: str) -> ScanCounts:
    same = known is not None and (known.version, known.media_type) == (version, media_type)
    if known and same and not _waits_for_another_try(known):
        scan.record_touch(file)
        return ScanCounts()
    if media_type not in detect.SUPPORTED:
        name = file_name(scan.source.name, file.path)
        error = UnsupportedFormat(f"{name}: neither its first bytes nor its name tell a format we read")
        return scan.refuse(file, error, media_type=media_type, version=version)
    scan.record_version(file, version, media_type)
    return ScanCounts(new=1) if _is_new(known) else ScanCounts(changed=1)


def _waits_for_another_try(known: KnownFile) -> bool:
    return _reason_may_be_gone(known) or known.error == FileTooLarge.__name__


def _reason_may_be_gone(known: KnownFile) -> bool:
    """Return whether the same bytes may end in another way now: the file came back, or its failure may not last."""
    return _is_new(known) or known.retryable or _lacked_a_parser(known)


def _lacked_a_parser(known: KnownFile) -> bool:
    """Return whether no parser was for a file, and formats have been added or removed since."""
    return (
        known.error == UnsupportedFormat.__name__
        and (known.fingerprint or "formats:").startswith("formats:")  # a parser that refused it has another one
        and known.fingerprint != formats_fingerprint()
    )


def plan_of(costs: Iterable[FileCost], settings: Settings) -> Plan:
    """Return the batches that these files make under the settings."""
    budget = budget_of(settings)
    return planning.plan_batches(
        costs,
        file_budget_bytes=budget.parser_bytes,
        max_files=settings.batch_files,
        target_seconds=settings.batch_minutes * 60,
        overhead_bytes=budget.parent_bytes,
        floor_bytes=embedding_peak_bytes(budget, card_of(settings)),
    )


def embedding_peak_bytes(budget: RunBudget, card: ModelCard) -> int:
    """Return what a run is predicted to peak at while it embeds: the loaded model and one micro-batch."""
    tokens = batch_tokens(budget, dimension=card.dimension)
    return budget.model_bytes + activation_bytes(tokens, dimension=card.dimension)


def seal_waiting(connection: Connection, *, settings: Settings, fingerprint: str) -> Sealed:
    """Seal every waiting file into a batch, and refuse those that no batch can hold."""
    with batches.sealing(connection):
        files.dissolve_waiting(connection, memory_limit_bytes=settings.run_memory)
        if settings.allow_gaps:
            files.requeue_with_gaps(connection)
        files.requeue_affordable(connection, budget_of(settings).parser_bytes)
        model = refit(connection)
        plan = plan_of(waiting_costs(connection, model), settings)
        for cost in plan.refused:
            error = needs_more_memory(cost, settings)
            peak = cost.predicted_peak_bytes
            files.refuse_file(connection, cost.file_id, error, fingerprint=fingerprint, predicted_peak_bytes=peak)
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
    needs = cost.predicted_peak_bytes + budget_of(settings).parent_bytes
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
