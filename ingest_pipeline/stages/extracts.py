"""An LLM answers about each section of a batch's files: one after another, stored at once, nothing accumulates."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from ingest_pipeline.errors import (
    BadSetting,
    CallError,
    CallFailed,
    FileError,
    RunError,
    ServiceUnavailable,
    TokenLimitReached,
)
from ingest_pipeline.extraction.answers import entities_of
from ingest_pipeline.extraction.base import CallSeconds, Extractor, new_remote_name
from ingest_pipeline.extraction.load import load_extractor
from ingest_pipeline.extraction.sections import Part
from ingest_pipeline.extraction.spec import ExtractSpec
from ingest_pipeline.memory.log_lines import at_file, log_memory
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import RawFile, TextEntities, Usage
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.remote.calls import MAX_TRIES, Caller, CallLimits
from ingest_pipeline.remote.slots import answers_in_slots
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import source_of
from ingest_pipeline.stages.access import access_of
from ingest_pipeline.stages.asking import Asked, Asker, PartQuestion
from ingest_pipeline.stages.extract_plan import MAX_PROMPT_CHARACTERS, plan_file, spec_of, text_of, unplanned
from ingest_pipeline.stages.run import BatchRun
from ingest_pipeline.store import entities, extracts, generations, ledger, usage
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.extracts import PlanKey, StoredPart
from ingest_pipeline.store.generations import Generation

logger = logging.getLogger(__name__)
STAGE = "extracts"
PDF = "application/pdf"


@dataclass(frozen=True, slots=True)
class ExtractOutcome:
    """What became of the parts of one file in this run."""

    file: RawFile
    parts: int = 0
    """Of the file, whether they were asked about now or before."""
    asked: Counter[str] = field(default_factory=Counter)
    """How many parts ended in each status now."""
    reason: str | None = None
    """Why the file was not asked about."""
    seconds: float = 0.0


@dataclass(slots=True)
class ExtractRun:
    """One run's questions, and what it may spend on them."""

    run: BatchRun
    spec: ExtractSpec
    extractor: Extractor
    caller: Caller
    sandbox: Sandbox
    watch: TreeWatch
    began: float = field(default_factory=time.monotonic)
    _failing: list[StoredPart] = field(default_factory=list)
    """Parts in a row that the server failed with."""
    _writing: threading.Lock = field(default_factory=threading.Lock)
    """Held by the thread that writes to the store: each stores its own answer."""

    def files(self) -> Iterator[ExtractOutcome]:
        """Ask about each part of each searchable file that waits for an answer; yield an outcome for each file.

        Raises:
            ServiceUnavailable, TokenLimitReached: no more can be asked; what was answered is stored.
        """
        self.delete_abandoned()
        if self.run.status_before in ("done", "failed"):
            extracts.reopen_parts(self.run.connection, self.run.batch)
        for file in self.run.files():
            generation = generations.shown_of(self.run.connection, file)
            if generation is not None and file.status == "indexed":
                with at_file(file.file_id):
                    outcome = self.file(file, generation)
                    log_memory(f"{STAGE} of file {file.file_id}", limit_bytes=self.run.settings.run_memory)
                yield outcome

    def delete_abandoned(self) -> None:
        """Delete the files that killed runs left at the provider.

        Raises:
            ServiceUnavailable: the provider cannot be used.
        """
        delete_abandoned(self.run.connection, self.spec, self.extractor, run_id=self.run.run_id)

    def file(self, file: RawFile, generation: Generation) -> ExtractOutcome:
        """Ask about the parts of one file."""
        began = time.monotonic()
        try:
            key = plan_file(self.run.connection, self.spec, file, generation, self.run.settings)
        except FileError as error:
            logger.warning("file %d: its sections file cannot be used: %s", file.file_id, error.reason)
            extracts.fail_plan(self.run.connection, unplanned(self.spec, generation), error)
            return ExtractOutcome(file, reason=error.reason, seconds=time.monotonic() - began)
        try:
            asked = Counter(self._status(one) for one in self._asked(file, key))
        except FileError as error:
            logger.warning("file %d was not asked about: %s", file.file_id, error.reason)
            return ExtractOutcome(file, reason=error.reason, seconds=time.monotonic() - began)
        seconds, parts = time.monotonic() - began, extracts.count_parts(self.run.connection, key)
        if asked:
            ledger.add_extract_seconds(self.run.connection, file, run_id=self.run.run_id, seconds=seconds)
        return ExtractOutcome(file, parts, asked, seconds=seconds)

    def stored(self, file: RawFile, key: PlanKey) -> Iterator[int]:
        """Ask about the waiting parts of one file; yield the number of each when what became of it is stored.

        Raises:
            FileError: the file cannot be read.
            ServiceUnavailable, TokenLimitReached: no more can be asked; what was answered is stored.
        """
        began = time.monotonic()
        try:
            yield from (asked.part.ordinal for asked in self._asked(file, key))
        finally:
            seconds = time.monotonic() - began
            ledger.add_extract_seconds(self.run.connection, file, run_id=self.run.run_id, seconds=seconds)

    def _asked(self, file: RawFile, key: PlanKey) -> Iterator[Asked]:
        """Ask about each waiting part; yield what became of it, stored."""
        total = extracts.count_parts(self.run.connection, key)
        with self._document(file) as stream:
            begun: dict[int, StoredPart] = {}
            asker = Asker(
                self.spec, self.extractor, self.sandbox, stream, file.name, self.run.settings.pdf_passwords,
                self.run.settings.home / "spool", partial(self._keep, file, begun),
            )  # fmt: skip
            try:
                for asked in answers_in_slots(asker.ask, self._questions(file, key, begun), slots=self._slots(file)):
                    del begun[asked.part.ordinal]
                    with self._writing:
                        self._store(file, asked)
                    logger.info(
                        "section %d/%d: %s (%.1f s)", asked.part.ordinal + 1, total, ", ".join(asked.steps),
                        asked.seconds,
                    )  # fmt: skip
                    yield asked
                    self.watch.degradation.after_micro_batch(file.name)
            except (RunError, GeneratorExit):  # no part's fault
                with self._writing:
                    for part in begun.values():
                        extracts.give_back_part(self.run.connection, part)
                raise
            finally:
                with self._writing:
                    begun.clear()  # who still waits for an answer keeps it no more
                    self._count(file, Usage())

    def _questions(self, file: RawFile, key: PlanKey, begun: dict[int, StoredPart]) -> Iterator[PartQuestion]:
        """Yield what is asked next, written down; stop when the time of the document or the run is over."""
        document_ends = time.monotonic() + self.run.settings.extract_document_seconds
        run_ends = self.began + self.run.settings.extract_run_seconds
        for part in extracts.waiting_parts(self.run.connection, key):
            if time.monotonic() > min(document_ends, run_ends):
                logger.info("file %d: its time is over, the rest of its sections waits", file.file_id)
                return
            with self._writing:
                question = self._question(file, part)
                if question is not None:
                    begun[part.ordinal] = part
            if question is not None:
                yield question

    def _question(self, file: RawFile, part: StoredPart) -> PartQuestion | None:
        """Return what is asked about a part, written down; None if there is nothing to ask about."""
        self._require_tokens()
        text = self._text(file, part)
        if text is None:
            return None
        name = new_remote_name() if self._sends_pages(file) else ""
        extracts.begin_part(
            self.run.connection, part, remote_name=name, provider=provider_of(self.spec), run_id=self.run.run_id
        )
        return PartQuestion(part, text, name)

    def _text(self, file: RawFile, part: StoredPart) -> str | None:
        """Return the text of a part, '' where its pages are sent; None, with the reason noted, if there is nothing."""
        connection = self.run.connection
        if self.spec.input == "pdf":
            if self._sends_pages(file):
                return ""
            extracts.skip_part(connection, part, f"{file.media_type}: only PDFs can be sent as pages; input: text")
            return None
        pieces, size = [], 0
        for text, _ in text_of(connection, self.spec, part.generation_id, _plain(part)):
            pieces.append(text)
            size += len(text)
            if size > MAX_PROMPT_CHARACTERS:
                message = f"over {MAX_PROMPT_CHARACTERS:,} characters; ask about smaller sections"
                extracts.fail_part(connection, part, error="InputRejected", message=message)
                return None
        if not pieces:
            extracts.skip_part(connection, part, "there is no text on its pages")
            return None
        return "\n\n".join(pieces)

    def _keep(self, file: RawFile, begun: Mapping[int, StoredPart], asked: Asked) -> None:
        """Store an answer; perhaps in a thread, and perhaps after the run has ended without it."""
        tokens = {"prompt_tokens": asked.usage.prompt_tokens, "completion_tokens": asked.usage.completion_tokens}
        with self._writing:
            if asked.part.ordinal in begun:
                extracts.store_answer(self.run.connection, asked.part, asked.value, seconds=asked.seconds, **tokens)
                if self.spec.entities:
                    self._store_entities(asked)
                self._count(file, asked.usage)

    def _store(self, file: RawFile, asked: Asked) -> None:
        """Note what became of a part whose answer, if there is one, is kept already."""
        connection, error = self.run.connection, asked.error
        if error is not None:
            raw = getattr(error, "raw", "")
            extracts.fail_part(
                connection, asked.part, error=error.reason, message=str(error), raw=raw, final=asked.is_final
            )
        if asked.remote_name and not asked.remote_left:
            extracts.forget_remote(connection, asked.remote_name)
        self._count(file, asked.usage if error else Usage())
        self._notice_outage(asked)

    def _notice_outage(self, asked: Asked) -> None:
        """Count parts in a row that the server failed with: uploads may work while no question is answered.

        Raises:
            ServiceUnavailable: there were `INGEST_MAX_ERRORS` failed calls in them; none costs its part an attempt.
        """
        if not isinstance(asked.error, CallFailed):
            self._failing.clear()
            return
        self._failing.append(asked.part)
        if len(self._failing) * MAX_TRIES >= self.run.settings.max_errors:
            for part in self._failing:
                extracts.give_back_part(self.run.connection, part)
            raise ServiceUnavailable(f"{len(self._failing)} sections in a row were not answered: {asked.error}")

    def _store_entities(self, asked: Asked) -> None:
        """Store the entities of an answer where they stand in the chunks of its part."""
        part = asked.part
        for text, text_hash in text_of(self.run.connection, self.spec, part.generation_id, _plain(part)):
            found = TextEntities(text_hash, entities_of(asked.value, text).entities)
            entities.write_entities(self.run.connection, self.spec.model_key, [found])

    def _count(self, file: RawFile, used: Usage) -> None:
        """Count what calls cost, also failed ones."""
        failed = self.caller.take_failed_calls()
        total = used + Usage(calls=failed, failed_calls=failed)
        run = self.run
        usage.add_usage(
            run.connection, total, run_id=run.run_id, file_id=file.file_id, stage=STAGE, model=self.spec.model_key
        )

    def _require_tokens(self) -> None:
        most = self.run.settings.max_tokens_per_run
        used = usage.tokens_of_run(self.run.connection, self.run.run_id) if most else 0
        if most and used >= most:
            raise TokenLimitReached(f"{used:,} tokens used; INGEST_MAX_TOKENS_PER_RUN={most}; the rest waits")

    @contextmanager
    def _document(self, file: RawFile) -> Iterator[BinaryIO | None]:
        """Open a document whose pages are sent."""
        if not self._sends_pages(file):
            yield None
            return
        source = source_of(file.source, access_of(self.run.settings))
        with source.open_version(file, max_bytes=self.run.settings.max_file_size) as stream:
            yield stream

    def _sends_pages(self, file: RawFile) -> bool:
        return self.spec.input == "pdf" and file.media_type == PDF

    def _slots(self, file: RawFile) -> int:
        settings = self.run.settings
        large = settings.extract_mode == "hybrid" and file.size_bytes > settings.extract_hybrid_size
        return 1 if settings.extract_mode == "sequential" or large else settings.extract_concurrency

    @staticmethod
    def _status(asked: Asked) -> str:
        return "done" if asked.error is None else "failed"


def extract_run(run: BatchRun, *, sandbox: Sandbox, watch: TreeWatch) -> ExtractRun:
    """Return what asks about the sections of a batch; no server is called yet.

    Raises:
        BadSetting: it is not said what to ask, or the client library or the key is missing.
    """
    spec = spec_of(run.settings)
    if spec is None:
        raise BadSetting("INGEST_EXTRACT", "", "a YAML file that says what to ask")
    extractor, caller = _connect(spec, run.settings)
    return ExtractRun(run, spec, extractor, caller, sandbox, watch)


def _connect(spec: ExtractSpec, settings: Settings) -> tuple[Extractor, Caller]:
    limits = CallLimits(pause_seconds=settings.extract_delay_seconds, max_errors=settings.max_errors)
    caller = Caller(f"the LLM's server ({spec.provider})", limits)
    return load_extractor(spec, caller, CallSeconds(call=settings.extract_call_seconds)), caller


def provider_of(spec: ExtractSpec) -> str:
    """Return the provider and its server in one string: only there a file can be deleted."""
    return f"{spec.provider} {spec.url}".strip()


def delete_abandoned(connection: Connection, spec: ExtractSpec, extractor: Extractor, *, run_id: str) -> None:
    """Delete the files that killed runs left at the provider.

    Args:
        connection: to the store.
        spec: the provider.
        extractor: deletes them.
        run_id: of this run, which has none yet; '' outside of a run.

    Raises:
        ServiceUnavailable: the provider cannot be used.
    """
    for name in extracts.abandoned_remotes(connection, provider_of(spec), run_id=run_id):
        try:
            extractor.delete_remote(name)
        except CallError as error:
            logger.warning("remote file %s: not deleted (%s), tried again by the next run", name, error)
            continue
        logger.info("remote file %s of an earlier run: deleted", name)
        extracts.forget_remote(connection, name)


def _plain(part: StoredPart) -> Part:
    return Part(part.ordinal, part.title, part.page_from, part.page_to)


def sweep_remote(connection: Connection, settings: Settings) -> None:
    """Delete what killed runs left at the provider; one that cannot be used is asked by the next run or index."""
    spec = spec_of(settings)
    if spec is None or not extracts.abandoned_remotes(connection, provider_of(spec), run_id=""):
        return
    try:
        extractor, _ = _connect(spec, settings)
        delete_abandoned(connection, spec, extractor, run_id="")
    except (BadSetting, ServiceUnavailable) as error:
        logger.warning("files of killed runs may be left at the provider: %s", error)
