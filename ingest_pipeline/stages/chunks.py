"""A batch's files become chunks in the store: checked, parsed in the sandbox, split, written page by page."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

from ingest_pipeline.chunking import Chunker, Encode, text_hash
from ingest_pipeline.errors import FileError, TransientFileError, UnreadablePages
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.models import Checkpoint, Chunk, Gap, ParsedFile, RawFile, Section
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.fold import ParseFold
from ingest_pipeline.parsing.sandbox.steps import STEP_AFTER_KILLS, EventParser, events_in_steps
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import source_of
from ingest_pipeline.stages.access import access_of
from ingest_pipeline.stages.fingerprint import generation_fingerprint
from ingest_pipeline.stages.gaps import parse_limits
from ingest_pipeline.stages.run import Attempt, BatchRun, FileOutcome, attempt, record_failure
from ingest_pipeline.store import extracts, files, generations, lengths, vectors
from ingest_pipeline.store.generations import Generation
from ingest_pipeline.store.ledger import AttemptCost

logger = logging.getLogger(__name__)
MIN_CHARACTERS = 4 * 1024**2
MAX_EXPANSION = 100  # characters of text for a byte of file; text in a PDF or EPUB packs 10:1, a bomb 400:1 and more
WRITE_CHUNKS = 64  # a commit costs 3.5 ms: one for 64 chunks is nothing beside embedding them
WAITING = ("synced", "processing")


def check_files(run: BatchRun) -> Iterator[FileOutcome]:
    """Make sure that each waiting file still holds the bytes of its version; yield an outcome for each.

    If the batch had ended, its partition was materialized by hand: its failed files get another attempt.
    """
    if run.status_before in ("done", "failed"):
        vectors.forget_rejections(run.connection, run.model_id, run.batch)
        files.reopen_failed(run.connection, run.batch)
        extracts.reopen_parts(run.connection, run.batch)
    files.requeue_unparsed(run.connection, run.batch, fingerprint=run.fingerprint, card=run.card)
    for file in run.files():
        if file.status in WAITING:
            yield _checked(run, file)
        else:
            yield FileOutcome(file, done=file.status != "failed")


def _checked(run: BatchRun, file: RawFile) -> FileOutcome:
    try:
        source = source_of(file.source, access_of(run.settings))
        source.verify(file, max_bytes=run.settings.max_file_size)
    except FileError as error:
        record_failure(run, file, error)
        return FileOutcome(file, done=False, reason=error.reason)
    return FileOutcome(file, done=True)


def chunk_files(
    run: BatchRun, *, encode: Encode, sandbox: EventParser, degradation: Degradation
) -> Iterator[FileOutcome]:
    """Parse and split each waiting file, one page in memory at a time; yield an outcome for each.

    Raises:
        StoreUnavailable, ParserUnavailable, RunOutOfMemory: no file's fault; the run stops, what is committed stays.
    """
    for file in run.files():
        if file.status in WAITING:
            yield _chunk_file(run, file, encode, sandbox)
            degradation.after_micro_batch(file.name)
            if degradation.unloads:
                sandbox.close()


def _chunk_file(run: BatchRun, file: RawFile, encode: Encode, sandbox: EventParser) -> FileOutcome:
    if fitting := _fitting_generation(run, file, encode):
        _mark_processed(run, file, fitting, fitting)
        return FileOutcome(file, done=True, pages=fitting.pages)
    with run.claimed(file) as generation:
        if generation.complete:  # another run was faster
            _mark_processed(run, file, generation, generation)
            return FileOutcome(file, done=True, pages=generation.pages)
        writer = GenerationWriter(run, file, generation, encode)
        try:
            with attempt(run, file, "chunks") as work:
                writer.write(sandbox, work)
        except FileError as error:
            if isinstance(error, TransientFileError):
                generations.discard_progress(run.connection, generation)  # its last pages may be of another version
            record_failure(run, file, error)
            return _outcome(file, writer.parsed, chunks=0, error=error)
        generations.complete_generation(run.connection, generation, writer.parsed, limits=parse_limits(run.settings))
        _mark_processed(run, file, generation, writer.parsed)
        return _outcome(file, writer.parsed, chunks=writer.written)


def _fitting_generation(run: BatchRun, file: RawFile, encode: Encode) -> Generation | None:
    """Return stored chunks of these bytes that the model takes: of another path, an earlier try, another model."""
    fingerprint, card = generation_fingerprint(run.fingerprint, file.media_type), run.card
    for generation in generations.complete_generations(run.connection, file, fingerprint=fingerprint):
        longest = lengths.longest_tokens(
            run.connection, generation, tokenizer=card.tokenizer, count=lambda text: len(encode(text))
        )
        if longest <= card.takes_tokens:
            return generation
    return None


def _mark_processed(run: BatchRun, file: RawFile, generation: Generation, done: Generation | ParsedFile) -> None:
    files.mark_processed(
        run.connection, file, generation_id=generation.generation_id, pages=done.pages, gaps=done.gaps,
        warnings=done.warnings,
    )  # fmt: skip


def _outcome(file: RawFile, parsed: ParsedFile, *, chunks: int, error: FileError | None = None) -> FileOutcome:
    reason = error.reason if error else None
    return FileOutcome(file, error is None, reason, parsed.pages, chunks, parsed.seconds, parsed.peak_memory_bytes)


class GenerationWriter:
    """Streams one file through parser, splitter and store, from where an earlier run stopped."""

    def __init__(self, run: BatchRun, file: RawFile, generation: Generation, encode: Encode) -> None:
        self._run, self._file, self._generation, self._encode = run, file, generation, encode
        self.parsed = ParsedFile()
        self.written = 0
        """Chunks of this run."""

    def write(self, sandbox: EventParser, work: Attempt) -> None:
        """Write the file's chunks, sections and gaps, in transactions of some chunks each.

        Raises:
            FileError: the file cannot be parsed, or changed meanwhile; `parsed` says how far it came.
        """
        began = time.monotonic()
        start, sections = generations.resume_generation(self._run.connection, self._generation)
        self._run.position.move(self._file.file_id, start.pages)
        gaps = [gap for gap in self._generation.gaps if gap.page_to <= start.pages]
        fold = ParseFold(gaps=gaps, sections=sections, warnings=self._generation.warnings)
        try:
            waiting = self._stream(sandbox, start, fold)
        finally:
            self.parsed = fold.result()
            work.cost = AttemptCost(
                pages=self.parsed.pages,
                parse_seconds=time.monotonic() - began,  # of the child, and of splitting and storing
                parse_peak_bytes=self.parsed.peak_memory_bytes or None,
            )
        self._write(waiting, self.parsed.sections)  # all of them: now it is known where each ends

    def _stream(self, sandbox: EventParser, start: Checkpoint, fold: ParseFold) -> list[Chunk]:
        """Write the file's chunks but for the last few, and return these."""
        settings, file = self._run.settings, self._file
        self._chunker = Chunker(self._encode, max_tokens=self._run.card.max_tokens, start=start)
        self._fold, self._sections_stored = fold, len(fold.sections)
        waiting: list[Chunk] = []
        source = source_of(file.source, access_of(settings))
        with source.open_version(file, max_bytes=settings.max_file_size) as stream:
            width = STEP_AFTER_KILLS[min(file.kills, len(STEP_AFTER_KILLS) - 1)]
            events = events_in_steps(sandbox, stream, request_for(file, settings, start), width=width)
            for chunks in self._chunker.split(fold.pages_of(events)):
                waiting += chunks
                if len(waiting) >= WRITE_CHUNKS:
                    source.refuse_changed(stream, file)
                    self._write(waiting, fold.sections[self._sections_stored :])
                    waiting = []
        if fold.gaps and not settings.allow_gaps:
            raise UnreadablePages(f"{file.name}: {_in_words(fold.gaps)}; INGEST_ALLOW_GAPS=on would index the rest")
        return waiting

    def _write(self, chunks: Sequence[Chunk], sections: Sequence[Section]) -> None:
        generations.write_chunks(
            self._run.connection,
            self._generation,
            [(chunk, text_hash(chunk.text)) for chunk in chunks],
            checkpoint=self._chunker.checkpoint,
            gaps=self._fold.gaps,
            warnings=self._fold.warnings,
            sections=sections,
        )
        self._run.position.page = self._chunker.checkpoint.pages
        self.written += len(chunks)
        self._sections_stored = len(self._fold.sections)


def request_for(file: RawFile, settings: Settings, start: Checkpoint) -> ParseRequest:
    """Return what the parser is asked for a file that goes on from a checkpoint."""
    return ParseRequest(
        name=file.name,
        media_type=file.media_type,
        first_page=start.pages + 1,
        max_pages=settings.max_pages,
        max_characters=MIN_CHARACTERS + MAX_EXPANSION * file.size_bytes,
        passwords=settings.pdf_passwords,
        record_text=settings.record_text,
        record_id=settings.record_id,
    )


def _in_words(gaps: Sequence[Gap]) -> str:
    first = gaps[0]
    where = str(first.page_from) if first.page_from == first.page_to else f"{first.page_from}-{first.page_to}"
    more = f" and {len(gaps) - 1} more gaps" if len(gaps) > 1 else ""
    return f"page {where} could not be read ({first.reason}){more}"
