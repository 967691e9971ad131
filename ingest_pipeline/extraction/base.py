"""The interface of an extractor: what asks a server about one section."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Finish = Literal["stop", "truncated", "blocked", "empty"]
Note = Callable[[Literal["uploaded", "deleted", "left"]], None]
"""Is told what became of the remote file: `left` says that it may be there after all, and a sweep must delete it."""
REMOTE_PREFIX = "ingest-"
CHARACTERS_PER_TOKEN = 3
"""A low estimate, so that limits of tokens are kept: English has about four, other languages fewer."""
TOKENS_PER_PAGE = 258
"""What Gemini counts for a page of a PDF (its documentation, Document understanding)."""


def nothing(_: str) -> None:
    """A `Note` that nobody reads."""


def new_remote_name() -> str:
    """Return a new name for a remote file: 39 characters, and 40 are allowed; lower-case letters, digits, dashes."""
    return REMOTE_PREFIX + uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class CallSeconds:
    """How long the server may take."""

    call: float = 600.0
    """For one call, from the question to the end of the answer."""
    readable: float = 120.0
    """For a document, from its upload until the server can read it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about one section."""

    prompt: str
    """With everything filled in."""
    schema: dict[str, Any]
    max_output_tokens: int
    temperature: float | None = 0.0
    document: Path | None = None
    """A file that holds exactly the pages asked about; None: the prompt contains the text."""
    media_type: str = "application/pdf"
    remote_name: str = ""
    """The name of the document on the server, from `new_remote_name`; known before the upload, so that a sweep can
    delete what a killed run left. Not used by servers to which documents are sent with the question."""
    display_name: str = ""
    """Shown in the server's list of files; an id, no content."""
    pages: int = 0
    """Of the document, for the limit of tokens."""

    @property
    def tokens(self) -> int:
        """An estimate of what the question and its answer cost, for the limit of tokens per minute."""
        return len(self.prompt) // CHARACTERS_PER_TOKEN + TOKENS_PER_PAGE * self.pages


@dataclass(frozen=True, slots=True)
class Remote:
    """A document that the server has and can read."""

    name: str
    uri: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered. It is a verdict and no answer unless `finish` is `stop`."""

    text: str
    finish: Finish
    prompt_tokens: int = 0
    completion_tokens: int = 0
    detail: str = ""
    """The server's own word for `finish`: `MAX_TOKENS`, `SAFETY`, `content_filter`."""


@dataclass(slots=True)
class Usage:
    """What answers have cost so far, those that could not be used included."""

    calls: int = 0
    """Questions that were answered; failed calls are counted by the `Caller`."""
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, answer: Answer) -> None:
        """Count one answer."""
        self.calls += 1
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens

    @property
    def total_tokens(self) -> int:
        """The sum that budgets count."""
        return self.prompt_tokens + self.completion_tokens


class Extractor(Protocol):
    """Asks one model of one server. Each call is made within the limits of one `Caller`; threads may share it.

    What all methods raise: `InputRejected` (this question is refused, the others may be asked), `CallFailed` (the
    server failed with this one), `ServiceUnavailable` and `AccessRefused` (it fails with every one: the run stops).
    """

    def uploaded(self, question: Question, note: Note = nothing) -> AbstractContextManager[Remote | None]:
        """Keep the question's document on the server for the length of a `with`, and delete it in every case.

        The document can be read when the block begins. Yields None where nothing is uploaded: the question has no
        document, or the server takes it with the question. That the document cannot be deleted is no error of the
        block: it is logged, and `note` is told `left`; it is told that, too, when the upload did not end, because
        its last bytes may arrive after the deletion.
        """

    def ask(self, question: Question, remote: Remote | None) -> Answer:
        """Return the server's answer, or its verdict."""

    def ask_again(self, question: Question, remote: Remote | None, *, answer: Answer, error: str) -> Answer:
        """Return the answer to the same question, given an invalid answer and what is wrong with it."""

    def delete_remote(self, name: str) -> None:
        """Delete a remote file; one that is not there is no error."""

    def list_remote(self) -> Iterator[str]:
        """Yield the name of each remote file of the account, whoever uploaded it."""

    def close(self) -> None:
        """Close the connections; the extractor can be used again."""
