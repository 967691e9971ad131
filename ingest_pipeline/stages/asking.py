"""One question about one part of a document: its pages are cut out, uploaded, asked about, and deleted."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ingest_pipeline.errors import CallFailed, ExtractError, FileError, InputRejected, SourceUnavailable
from ingest_pipeline.extraction.ask import answered
from ingest_pipeline.extraction.base import Extractor, Question
from ingest_pipeline.extraction.base import Usage as AnswerUsage
from ingest_pipeline.extraction.sections import Part
from ingest_pipeline.extraction.spec import ExtractSpec
from ingest_pipeline.models import Usage
from ingest_pipeline.parsing.request import CutRequest
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.store.extracts import StoredPart

MAX_CUT_BYTES = 100 * 1024**2
"""What is uploaded at most; Gemini takes 50 MB of PDF (its documentation, 2026-11) and refuses more with a reason."""
FINAL = (ExtractError, InputRejected, FileError)
"""What would happen again: the part is not asked about again by itself."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of one part."""

    part: StoredPart
    value: Any = None
    error: ExtractError | InputRejected | CallFailed | FileError | None = None
    usage: Usage = field(default_factory=Usage)
    steps: tuple[str, ...] = ()
    """What was done: cut, uploaded, answered, deleted."""
    seconds: float = 0.0
    remote_name: str = ""
    remote_left: bool = False
    """Whether a file may still be at the provider."""

    @property
    def is_final(self) -> bool:
        """Whether the same question would end the same."""
        return isinstance(self.error, FINAL)


@dataclass(frozen=True, slots=True)
class PartQuestion:
    """A part, the text that is asked about, and the name of the file to upload, if there is one."""

    part: StoredPart
    text: str
    remote_name: str


def _spent(usage: AnswerUsage) -> Usage:
    return Usage(usage.calls, 0, usage.prompt_tokens, usage.completion_tokens)


@dataclass(slots=True)
class Asker:
    """Asks about the parts of one document; several threads may ask at once, but one cuts at a time."""

    spec: ExtractSpec
    extractor: Extractor
    sandbox: Sandbox
    stream: BinaryIO | None
    """The document, if its pages are sent."""
    name: str
    """Of the document, for messages."""
    passwords: tuple[str, ...]
    spool: Path
    keep: Callable[[Asked], None]
    """Stores an answer, before its document is deleted at the provider: a kill in between loses nothing paid for."""
    _cutting: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: PartQuestion) -> Asked:
        """Return the answer, or why there is none.

        Raises:
            RunError: no question can be answered.
        """
        began, steps, usage = time.monotonic(), [], AnswerUsage()
        error, kept, answer = None, False, None

        def note(what: str) -> None:
            nonlocal kept
            kept = what == "left"
            steps.append("not deleted" if kept else what)

        try:
            with self._document(question.part) as document:
                asked = self._question(question, document)
                if document is not None:
                    steps.append("cut")
                with self.extractor.uploaded(asked, note) as remote:
                    value = answered(self.extractor, asked, remote, usage)
                    steps.append("answered")
                    answer = Asked(question.part, value, usage=_spent(usage), seconds=time.monotonic() - began)
                    self.keep(answer)
        except (ExtractError, InputRejected, CallFailed, FileError) as failure:
            error = failure
            steps.append(failure.reason)
        seconds, value = time.monotonic() - began, answer.value if answer else None
        return Asked(question.part, value, error, _spent(usage), tuple(steps), seconds, question.remote_name, kept)

    def _question(self, question: PartQuestion, document: Path | None) -> Question:
        part, spec = question.part, self.spec
        pages = Part(part.ordinal, part.title, part.page_from, part.page_to).pages
        return Question(
            prompt=spec.prompt_for(title=part.title, pages=pages, text=question.text),
            schema=spec.schema,
            max_output_tokens=spec.max_output_tokens,
            temperature=spec.temperature,
            document=document,
            remote_name=question.remote_name,
            display_name=f"generation {part.generation_id} part {part.ordinal}",
            pages=part.page_to - part.page_from + 1 if document else 0,
        )

    @contextmanager
    def _document(self, part: StoredPart) -> Iterator[Path | None]:
        """Yield a file of exactly the pages of a part; None if their text is in the question."""
        if self.stream is None:
            yield None
            return
        request = CutRequest(self.name, part.page_from, part.page_to, MAX_CUT_BYTES, self.passwords)
        self.spool.mkdir(parents=True, exist_ok=True)
        # Without a name: nothing is left behind even after a SIGKILL.
        with tempfile.TemporaryFile(dir=self.spool) as output:
            try:
                with self._cutting:
                    self.sandbox.cut(self.stream, request, output)
            except OSError as error:
                raise SourceUnavailable(f"{self.name}: no room in {self.spool}: {error.strerror}") from error
            yield Path(f"/proc/self/fd/{output.fileno()}")
