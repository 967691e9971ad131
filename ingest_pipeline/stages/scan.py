"""Sources are compared with the ledger: what is new, changed, gone, or cannot be read.

A slab of 500 files is one transaction. While it is written, another thread reads and hashes the next one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from ingest_pipeline.errors import FileError, FileTooLarge, FileVanished, SourceUnavailable, UnsupportedFormat
from ingest_pipeline.models import ListedFile, ScanCounts
from ingest_pipeline.parsing import detect
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import Source, canonical_sources, source_of
from ingest_pipeline.sources.ahead import in_background
from ingest_pipeline.sources.base import file_name
from ingest_pipeline.sources.wording import too_large
from ingest_pipeline.stages.access import access_of
from ingest_pipeline.stages.fingerprint import formats_fingerprint, valid_fingerprints
from ingest_pipeline.stages.requeue import requeue_unfinished
from ingest_pipeline.store import files, generations, ledger, locks, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.files import ScannedFile
from ingest_pipeline.store.ignored import without_ignored
from ingest_pipeline.store.ledger import KnownFile

logger = logging.getLogger(__name__)
SLAB_FILES = 500  # listed, compared and written together; a bucket of a million files is never in memory
SLAB_BYTES = 256 * 1024**2  # what is read again at most, twice, when a scan is interrupted
Known = dict[str, KnownFile]


@dataclass(frozen=True, slots=True)
class SourceScan:
    """One scan of one source, and what each step of it needs. Nothing here uses the store: a thread reads files."""

    source: Source
    settings: Settings
    number: int
    valid: tuple[str, ...]
    """The fingerprints that are not outdated."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set when the scan is given up: the thread stops at the next file."""

    def is_outdated(self, known: KnownFile) -> bool:
        """Return whether a file was indexed or refused under another fingerprint: it will be parsed again."""
        return known.fingerprint is not None and known.fingerprint not in self.valid

    def scanned(self, file: ListedFile, version: str = "", media_type: str = "") -> ScannedFile:
        """Return a file as this scan knows it."""
        return ScannedFile(self.source.name, file, self.number, version, media_type)


@dataclass(slots=True)
class SlabChanges:
    """What a slab of files changes in the ledger."""

    seen: list[str] = field(default_factory=list)
    """There and unchanged."""
    versions: list[ScannedFile] = field(default_factory=list)
    """New or changed: they wait."""
    touched: list[ScannedFile] = field(default_factory=list)
    """Another revision of the same bytes."""
    refused: list[tuple[ScannedFile, FileError]] = field(default_factory=list)
    """They will not be parsed, and why."""
    counts: ScanCounts = field(default_factory=ScanCounts)
    error: SourceUnavailable | None = None
    """Why the rest of the slab was not read; what was read is written all the same."""

    def write(self, connection: Connection, scan: SourceScan) -> ScanCounts:
        """Write the changes in one transaction; return their counts.

        Raises:
            SourceUnavailable: the slab was not read to its end.
        """
        with connection.transaction():
            locks.hold_sealing(connection)  # whoever seals locks the same rows, in another order
            files.mark_seen(connection, scan.source.name, self.seen, scan.number)
            files.record_versions(connection, *self.versions)
            files.record_touches(connection, *self.touched)
            files.record_refusals(connection, *self.refused)
        if self.error:
            raise self.error
        return self.counts


def scan_sources(connection: Connection, *, settings: Settings, fingerprint: str, model: int) -> ScanCounts:
    """Bring the ledger up to date with the sources, for a model by its number; return what was found.

    A source is read to its end before anything in it counts as deleted.

    Raises:
        BadSetting: a source that is not there.
        SourceUnavailable: a source that cannot be read; nothing of it is deleted then.
    """
    counts = ScanCounts()
    valid = (*valid_fingerprints(fingerprint, settings), formats_fingerprint())
    files.requeue_outdated(connection, valid)
    if settings.embed == "now":
        vectors.request_deferred(connection, model)
    files.show_under_model(connection, model)
    requeue_unfinished(connection, settings, given_up=True)
    if waiting := files.requeue_without_vector(connection, model):
        logger.info("%d indexed files have chunks that wait for a vector: they are embedded again", waiting)
    for name in canonical_sources(settings.sources):
        source = source_of(name, access_of(settings))
        scan = SourceScan(source, settings, ledger.next_scan(connection), valid)
        counts += _scan(connection, scan, fingerprint, model)
    return counts


def _scan(connection: Connection, scan: SourceScan, fingerprint: str, model: int) -> ScanCounts:
    counts = ScanCounts()
    for changes in _read_ahead(connection, scan):
        counts += changes.write(connection, scan)
    renamed = files.adopt_known_versions(connection, fingerprint, model=model)
    deleted = files.delete_unseen(connection, scan.source.name, scan.number)
    if deleted:
        generations.drop_unused_generations(connection)
    logger.info(
        "%s: %d files listed, %d new, %d changed, %d deleted",
        scan.source.name,
        counts.listed,
        counts.new,
        counts.changed,
        deleted,
    )
    return counts + ScanCounts(renamed=renamed, deleted=deleted)


def _read_ahead(connection: Connection, scan: SourceScan) -> Iterator[SlabChanges]:
    """Yield the changes of each slab while a thread reads the files of the next."""
    reading: Future[SlabChanges] | None = None
    try:
        for listed in slabs(scan.source.files()):
            slab = without_ignored(connection, scan.source.name, listed)
            known = ledger.known_files(connection, scan.source.name, [file.path for file in slab])
            before, reading = reading, in_background(read_slab, scan, slab, known)
            if before:
                yield before.result()
    except SourceUnavailable:  # it cannot be listed to its end: what was read meanwhile is kept
        if reading:
            yield reading.result()
        raise
    else:
        if reading:
            yield reading.result()
    finally:
        scan.stopped.set()  # at the end without effect; after an error nobody wants the rest


def slabs(files: Iterable[ListedFile]) -> Iterator[list[ListedFile]]:
    """Yield a listing in pieces of 500 files, or of 256 MiB where files are large."""
    slab: list[ListedFile] = []
    size_bytes = 0
    for file in files:
        slab.append(file)
        size_bytes += file.size_bytes
        if len(slab) == SLAB_FILES or size_bytes >= SLAB_BYTES:
            yield slab
            slab, size_bytes = [], 0
    if slab:
        yield slab


def read_slab(scan: SourceScan, slab: Sequence[ListedFile], known: Known) -> SlabChanges:
    """Return what a slab changes; read and hash the files that may be new.

    Args:
        scan: of their source.
        slab: the listed files.
        known: what the ledger remembers of them, by path.

    If the source goes away, what was read until then is returned with the error.
    """
    changes = SlabChanges(counts=ScanCounts(listed=len(slab)))
    try:
        for file in slab:
            if scan.stopped.is_set():
                break
            changes.counts += _compare(scan, changes, file, known.get(file.path))
    except SourceUnavailable as error:
        changes.error = error
    return changes


def _compare(scan: SourceScan, changes: SlabChanges, file: ListedFile, known: KnownFile | None) -> ScanCounts:
    if known is None or not looks_unchanged(file, known, scan.settings):
        return _read(scan, changes, file, known)
    changes.seen.append(file.path)
    return _detect_again(scan, changes, file, known) if scan.is_outdated(known) else ScanCounts()


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


def _detect_again(scan: SourceScan, changes: SlabChanges, file: ListedFile, known: KnownFile) -> ScanCounts:
    """Look at the first bytes of a file that will be parsed again: its format may be one that was added since."""
    try:
        media_type = detect.media_type(file.path, scan.source.read_head(file.path))
    except FileError:
        return ScanCounts()  # its run finds out, with the reason
    if media_type == known.media_type or media_type not in detect.SUPPORTED:
        return ScanCounts()
    changes.versions.append(scan.scanned(file, known.version, media_type))
    return ScanCounts(changed=1)


def _is_new(known: KnownFile | None) -> bool:
    return known is None or known.status == "deleted"


def _read(scan: SourceScan, changes: SlabChanges, file: ListedFile, known: KnownFile | None) -> ScanCounts:
    """Read a file's bytes, if they may be read, and record what they are."""
    if file.refusal:
        return _refuse(changes, scan.scanned(file), file.refusal)
    try:
        version, length, head = _version_of(scan, file)
    except FileVanished:
        return ScanCounts()  # listed a moment ago, gone now: deleted at the end of this scan
    except FileError as error:  # any other is the source's: nothing of it is judged now
        return _refuse(changes, scan.scanned(file), error)
    file = replace(file, size_bytes=length)  # a server may not have said it, or not the truth
    scanned = scan.scanned(file, version, detect.media_type(file.path, head))
    return ScanCounts(hashed_bytes=length) + _record(changes, scanned, known)


def _version_of(scan: SourceScan, file: ListedFile) -> tuple[str, int, bytes]:
    limit = scan.settings.max_file_size
    if file.size_bytes > limit:
        raise too_large(file_name(scan.source.name, file.path), file.size_bytes, limit)
    return scan.source.read_version(file.path, max_bytes=limit)


def _record(changes: SlabChanges, scanned: ScannedFile, known: KnownFile | None) -> ScanCounts:
    same = known is not None and (known.version, known.media_type) == (scanned.version, scanned.media_type)
    if known and same and not _waits_for_another_try(known):
        changes.touched.append(scanned)
        return ScanCounts()
    if scanned.media_type not in detect.SUPPORTED:
        name = file_name(scanned.source, scanned.file.path)
        error = UnsupportedFormat(f"{name}: neither its first bytes nor its name tell a format we read")
        return _refuse(changes, scanned, error)
    changes.versions.append(scanned)
    return ScanCounts(new=1) if _is_new(known) else ScanCounts(changed=1)


def _refuse(changes: SlabChanges, scanned: ScannedFile, error: FileError) -> ScanCounts:
    """Note a file that will not be parsed, and why."""
    error.__cause__ = error.__context__ = None
    error.with_traceback(None)  # its frames hold the last piece read, and the connection that it came from
    scanned = replace(scanned, media_type=scanned.media_type or detect.media_type(scanned.file.path, b""))
    if isinstance(error, UnsupportedFormat):
        scanned = replace(scanned, fingerprint=formats_fingerprint())
    changes.refused.append((scanned, error))
    return ScanCounts(refused=1)


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
