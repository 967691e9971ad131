"""Asks any server that speaks OpenAI's chat protocol; a PDF is sent with the question, in pieces from the disk."""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest_pipeline.errors import BadSetting, InputRejected
from ingest_pipeline.extraction.ask import REPAIR
from ingest_pipeline.extraction.base import Answer, CallSeconds, Finish, Note, Question, Remote, nothing
from ingest_pipeline.extraction.spec import ExtractSpec
from ingest_pipeline.remote.calls import Caller
from ingest_pipeline.remote.openai_client import KEY_VARIABLE, OPENAI_URL, OpenAiAccess, named_failures, openai_client

if TYPE_CHECKING:
    import openai

SERVER_URL = OPENAI_URL
MAX_DOCUMENT_BYTES = 32 * 1024**2
"""OpenAI takes 50 MB in one request, and base64 makes 43 MiB of these."""
PIECE_BYTES = 3 * 64 * 1024
"""A multiple of three: the base64 of the pieces is the base64 of the whole."""
FINISHES: dict[str | None, Finish] = {"stop": "stop", None: "stop", "length": "truncated"}
"""What is not here withholds the answer: content_filter, tool_calls."""


def load(spec: ExtractSpec, caller: Caller, seconds: CallSeconds) -> OpenAiChat:
    """Return the extractor.

    Raises:
        BadSetting: OpenAI itself is called without a key.
    """
    if not spec.url and not os.environ.get(KEY_VARIABLE, "").strip():
        raise BadSetting(KEY_VARIABLE, "", "the key of your account, in the environment")
    return OpenAiChat(spec.model, caller, OpenAiAccess(spec.url or OPENAI_URL, seconds.call))


class OpenAiChat:
    """Asks one model; see `Extractor`. Nothing stays on the server."""

    def __init__(self, model: str, caller: Caller, access: OpenAiAccess) -> None:
        self._model, self._caller, self._access = model, caller, access

    @cached_property
    def _client(self) -> openai.OpenAI:
        return openai_client(self._access)

    def uploaded(self, question: Question, note: Note = nothing) -> AbstractContextManager[None]:
        """Upload nothing: the document is sent with the question."""
        return nullcontext()

    def ask(self, question: Question, remote: Remote | None) -> Answer:
        """Return the server's answer, or its verdict."""
        return self._answer(question, [])

    def ask_again(self, question: Question, remote: Remote | None, *, answer: Answer, error: str) -> Answer:
        """Return the answer to the same question, given an invalid answer and what is wrong with it."""
        more = [
            {"role": "assistant", "content": answer.text},
            {"role": "user", "content": REPAIR.format(error=error)},
        ]
        return self._answer(question, more)

    def delete_remote(self, name: str) -> None:
        """Delete nothing."""

    def list_remote(self) -> Iterator[str]:
        """Yield nothing."""
        return iter(())

    def close(self) -> None:
        """Close the connections."""
        if client := self.__dict__.pop("_client", None):
            client.close()

    def _answer(self, question: Question, more: list[dict[str, Any]]) -> Answer:
        body = _body(self._model, question, more, own_server=self._access.url != OPENAI_URL)

        def ask() -> Answer:
            from openai.types.chat import ChatCompletion

            with named_failures():
                completion = self._client.post(
                    "/chat/completions",
                    cast_to=ChatCompletion,
                    content=body.pieces(),
                    options={"headers": {"Content-Type": "application/json", "Content-Length": str(body.size)}},
                )
                return _answer_of(completion)

        return self._caller.call(ask, tokens=question.tokens)


@dataclass(frozen=True, slots=True)
class Body:
    """A request, with a document between its two halves; it is never in memory as a whole."""

    head: bytes
    tail: bytes
    document: Path | None
    document_bytes: int

    @property
    def size(self) -> int:
        """The size of the request in bytes."""
        return len(self.head) + 4 * ((self.document_bytes + 2) // 3) + len(self.tail)

    def pieces(self) -> Iterator[bytes]:
        """Yield the request."""
        yield self.head
        if self.document:
            with self.document.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    yield base64.b64encode(piece)
        yield self.tail


def _body(model: str, question: Question, more: list[dict[str, Any]], *, own_server: bool) -> Body:
    """Return the request.

    Raises:
        InputRejected: the document is too large to be sent with a question.
    """
    size = question.document.stat().st_size if question.document else 0
    if size > MAX_DOCUMENT_BYTES:
        raise InputRejected(f"a document of {size:,} bytes; a question takes {MAX_DOCUMENT_BYTES:,}")
    place = uuid.uuid4().hex  # where the document will stand; no text can contain it by chance
    request: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": _content(question, place)}, *more],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": question.schema, "strict": False},
        },
        # OpenAI's newer models refuse the older name, and servers of one's own may not know the newer.
        "max_tokens" if own_server else "max_completion_tokens": question.max_output_tokens,
    }
    if question.temperature is not None:
        request["temperature"] = question.temperature
    head, _, tail = json.dumps(request).encode().partition(place.encode())
    return Body(head, tail, question.document, size)


def _content(question: Question, place: str) -> str | list[dict[str, Any]]:
    if question.document is None:
        return question.prompt
    file = {
        "filename": f"{question.display_name or 'section'}.pdf",
        "file_data": f"data:{question.media_type};base64,{place}",
    }
    return [{"type": "file", "file": file}, {"type": "text", "text": question.prompt}]


def _answer_of(completion: Any) -> Answer:
    usage = completion.usage
    tokens = (int(usage.prompt_tokens or 0), int(usage.completion_tokens or 0)) if usage else (0, 0)
    if not completion.choices:
        return Answer("", "empty", *tokens)
    choice = completion.choices[0]
    text = choice.message.content or ""
    if refusal := getattr(choice.message, "refusal", None):
        return Answer(str(refusal), "blocked", *tokens, detail="refusal")
    finish = FINISHES.get(choice.finish_reason, "blocked")
    if finish == "stop" and not text.strip():
        finish = "empty"
    return Answer(text, finish, *tokens, detail=str(choice.finish_reason or ""))
