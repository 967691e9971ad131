"""A batch's files become chunks in the store: checked, parsed in the sandbox, split, written page by page."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ingest_pipeline import sources
from ingest_pipeline.chunking import Chunker, Encode, text_hash
from ingest_pipeline.errors import (
    EncryptedDocument,
    IngestError,
    PermanentError,
    TransientFileError,
    UnreadablePages,
)
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.models import Chunk, Gap, ModelCard, ParsedFile, RawFile
from ingest_pipeline.parsing.sandbox.outline import with_ends
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.parsing.sandbox.steps import STEP_AFTER_KILLS, pages_in_steps
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.access import access_of
from ingest_pipeline.stages.fingerprint import generation_fingerprint, locked_fingerprint
from ingest_pipeline.store import generations, ledger
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.generations import Generation

logger = logging.getLogger(__name__)
MIN_CHARACTERS = 4 * 1024**2
MAX_EXPANSION = 100  # characters of text for a byte of file; text in a PDF or EPUB packs 10:1, a bomb 400:1 and more
WRITE_CHUNKS = 64  # a commit costs 3.5 ms: one for 64 chunks is nothing beside embedding them


@dataclass(frozen=True, slots=True)
class BatchRun:
    """What every step of a batch's run knows."""

    batch: str
    run_id: str
    settings: Settings
    card: ModelCard
    model_id: int
    fingerprint: str
    failures: int = 0
    """Runs of this batch that ended without finishing it: this one takes smaller micro-batches."""


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What happened to one file in one stage."""

    file: RawFile
    done: bool
    reason: str | None = None
    pages: int = 0
    chunks: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0


def check_files(connection: Connection, files: Sequence[RawFile], run: BatchRun) -> Iterator[FileOutcome]:
    """Make sure that each waiting file still holds the bytes of its version; yield an outcome for each."""
    for file in files:
        if file.status in ("synced", "processing"):
            yield _checked(connection, file, run)
        else:
            yield FileOutcome(file, done=file.status != "failed", reason=None)


def _checked(connection: Connection, file: RawFile, run: BatchRun) -> FileOutcome:
    try:
        sources.verify_version(file, access_of(run.settings), max_bytes=run.settings.max_file_size)
    except (PermanentError, TransientFileError) as error:
        _fail(connection, file, error, run)
        return FileOutcome(file, done=False, reason=error.reason)
    return FileOutcome(file, done=True)


def chunk_files(
    connection: Connection, files: Sequence[RawFile], run: BatchRun, *, encode: Encode, sandbox: Sandbox, degradation: Degradation
) -> Iterator[FileOutcome]:
    """Parse and split each waiting file, one page in memory at a time; yield an outcome for each.

    A file that fails is a row in the ledger; its neighbours go on.

    Raises:
        StoreUnavailable, ParserUnavailable, RunOutOfMemory: no file's fault; the run stops, what is committed stays.
    """
    for file in files:
        if file.status in ("synced", "processing"):
            yield _chunk_file(connection, file, run, encode, sandbox)
            degradation.after_micro_batch(file.name)
            if degradation.unloads:
                sandbox.close()


def _chunk_file(connection: Connection, file: RawFile, run: BatchRun, encode: Encode, sandbox: Sandbox) -> FileOutcome:
    fingerprint = generation_fingerprint(run.fingerprint, file.media_type)
    with generations.claimed_generation(connection, file, fingerprint=fingerprint, model_id=run.model_id) as generation:
        if generation.complete:  # equal bytes at another path, or this run's second try
            _mark_processed(connection, file, generation)
            return FileOutcome(file, done=True, pages=generation.pages)
        ledger.open_attempt(connection, file, batch=run.batch, run_id=run.run_id, stage="chunks")
        settled = [gap for gap in generation.gaps if gap.page_to <= generation.checkpoint.pages]
        parsed, written = ParsedFile(gaps=settled), 0
        try:
            written = _parse_and_write(connection, file, run, generation, parsed, encode, sandbox)
        except TransientFileError as error:
            generations.discard_progress(connection, generation)  # its last pages may be other bytes than its first
            return _failed(connection, file, error, run, parsed)
        except PermanentError as error:
            return _failed(connection, file, error, run, parsed)
        generations.complete_generation(connection, generation, parsed)
        ledger.close_attempt(connection, file, run_id=run.run_id, cost=_cost(parsed))
        done = generations.find_generation(connection, file, fingerprint)
        _mark_processed(connection, file, done)
        return FileOutcome(file, True, None, parsed.pages, written, parsed.seconds, parsed.peak_memory_bytes)


def _parse_and_write(
    connection: Connection,
    file: RawFile,
    run: BatchRun,
    generation: Generation,
    parsed: ParsedFile,
    encode: Encode,
    sandbox: Sandbox,
) -> int:
    """Stream one file through parser, splitter and store; return how many chunks were written."""
    start, parsed.sections = generations.resume_generation(connection, generation)
    request = ParseRequest(
        name=file.name,
        media_type=file.media_type,
        first_page=start.pages + 1,
        max_pages=run.settings.max_pages,
        max_characters=MIN_CHARACTERS + MAX_EXPANSION * file.size_bytes,
        passwords=run.settings.pdf_passwords,
        record_text=run.settings.record_text,
        record_id=run.settings.record_id,
    )
    chunker = Chunker(encode, max_tokens=run.card.max_tokens, start=start)
    waiting: list[Chunk] = []
    written = stored = 0
    with sources.open_version(file, access_of(run.settings), max_bytes=run.settings.max_file_size) as stream:
        width = STEP_AFTER_KILLS[min(file.kills, len(STEP_AFTER_KILLS) - 1)]
        for chunks in chunker.split(pages_in_steps(sandbox, stream, request, parsed, width=width)):
            waiting += chunks
            if len(waiting) >= WRITE_CHUNKS:
                sources.refuse_changed(stream, file)
                written += _write(connection, generation, waiting, chunker, parsed, since=stored)
                stored = len(parsed.sections)
    if parsed.gaps and not run.settings.allow_gaps:
        raise UnreadablePages(f"{file.name}: {_in_words(parsed.gaps)}; INGEST_ALLOW_GAPS=on would index the rest")
    parsed.sections = with_ends(parsed.sections, parsed.pages)
    return written + _write(connection, generation, waiting, chunker, parsed, since=0)


def _in_words(gaps: Sequence[Gap]) -> str:
    first = gaps[0]
    where = str(first.page_from) if first.page_from == first.page_to else f"{first.page_from}-{first.page_to}"
    more = f" and {len(gaps) - 1} more gaps" if len(gaps) > 1 else ""
    return f"page {where} could not be read ({first.reason}){more}"


def _write(
    connection: Connection,
    generation: Generation,
    waiting: list[Chunk],
    chunker: Chunker,
    parsed: ParsedFile,
    *,
    since: int,
) -> int:
    rows, sections = [(chunk, text_hash(chunk.text)) for chunk in waiting], parsed.sections[since:]
    generations.write_chunks(
        connection, generation, rows, checkpoint=chunker.checkpoint, gaps=parsed.gaps, sections=sections
    )
    waiting.clear()
    return len(rows)


def _mark_processed(connection: Connection, file: RawFile, generation: Generation) -> None:
    ledger.mark_processed(connection, file, pages=generation.pages, gaps=generation.gaps, warnings=generation.warnings)


def _failed(
    connection: Connection, file: RawFile, error: IngestError, run: BatchRun, parsed: ParsedFile
) -> FileOutcome:
    ledger.close_attempt(connection, file, run_id=run.run_id, cost=_cost(parsed), error=error)
    _fail(connection, file, error, run)
    return FileOutcome(file, False, error.reason, parsed.pages, 0, parsed.seconds, parsed.peak_memory_bytes)


def _fail(connection: Connection, file: RawFile, error: IngestError, run: BatchRun) -> None:
    logger.warning("file %d failed: %s", file.file_id, error.reason)
    if error.retryable:
        ledger.forget_facts(connection, file)
    locked = isinstance(error, EncryptedDocument)
    fingerprint = locked_fingerprint(run.fingerprint, run.settings) if locked else run.fingerprint
    ledger.refuse_file(connection, file.file_id, error, fingerprint=fingerprint)


def _cost(parsed: ParsedFile) -> ledger.AttemptCost:
    return ledger.AttemptCost(
        pages=parsed.pages, parse_seconds=parsed.seconds, parse_peak_bytes=parsed.peak_memory_bytes or None
    )
