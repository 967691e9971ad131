"""OpenAI's chat protocol: a real llama.cpp server with SmolLM2, and a server of ours for what it does not say."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.errors import (
    AccessRefused,
    AnswerBlocked,
    AnswerEmpty,
    AnswerTruncated,
    BadSetting,
    CallFailed,
    InputRejected,
)
from ingest_pipeline.extraction import openai_chat
from ingest_pipeline.extraction.ask import answered
from ingest_pipeline.extraction.base import Extractor, Question, Usage
from ingest_pipeline.extraction.load import PROVIDERS, load_extractor
from ingest_pipeline.extraction.openai_chat import OpenAiChat
from ingest_pipeline.extraction.sections import SectionChoice
from ingest_pipeline.extraction.spec import ExtractSpec
from ingest_pipeline.remote.calls import Caller, CallLimits, Clock
from ingest_pipeline.remote.openai_client import OpenAiAccess
from ingest_pipeline_tests.llm_servers import CHAT_KEY
from ingest_pipeline_tests.test_house import imported_by

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "year": {"type": "integer"}},
    "required": ["title", "year"],
}
BOOK = "Text: 'Steam boxes' is a book of 1987 by Ada Smith. Give the title and the year of the book as JSON."


def chat(url: str, model: str = "smollm2") -> OpenAiChat:
    """An extractor whose waits take no time."""
    return OpenAiChat(model, Caller("chat", CallLimits(), Clock(sleep=lambda _: None)), OpenAiAccess(url))


@pytest.fixture
def smol(smollm2: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAiChat]:
    """An extractor of the real server."""
    monkeypatch.setenv("OPENAI_API_KEY", CHAT_KEY)
    extractor = chat(smollm2)
    yield extractor
    extractor.close()


def ask(extractor: Extractor, question: Question, usage: Usage | None = None) -> Any:
    """One question, as a stage asks it."""
    with extractor.uploaded(question) as remote:
        return answered(extractor, question, remote, usage if usage is not None else Usage())


def test_a_real_model_answers_by_the_schema(smol: OpenAiChat) -> None:
    """The server enforces the schema; the tokens are its own count."""
    usage = Usage()
    assert ask(smol, Question(BOOK, SCHEMA, 60), usage) == {"title": "Steam boxes", "year": 1987}
    assert usage.calls == 1
    assert 40 < usage.prompt_tokens < 90
    assert 10 < usage.completion_tokens < 40


def test_a_real_answer_is_cut(smol: OpenAiChat) -> None:
    """At `max_output_tokens` the JSON breaks off: a verdict, with what there is."""
    usage = Usage()
    with pytest.raises(AnswerTruncated, match="length") as caught:
        ask(smol, Question(BOOK, SCHEMA, 5), usage)
    assert caught.value.raw.startswith("{")
    assert usage.completion_tokens == 5


def test_a_real_context_overflow(smol: OpenAiChat) -> None:
    """The text is too long for the model: of this section, and not asked again."""
    with pytest.raises(InputRejected, match=r"HTTP 400.*exceeds the available context size"):
        ask(smol, Question("word " * 5000, SCHEMA, 5))


def test_a_real_refusal_of_a_document(smol: OpenAiChat, tmp_path: Path) -> None:
    """A server that takes no PDF says so after it has read all of it."""
    document = tmp_path / "x.pdf"
    document.write_bytes(b"%PDF-1.7" + bytes(300_000))
    with pytest.raises(InputRejected, match=r"HTTP 400: unsupported content\[\].type"):
        ask(smol, Question(BOOK, SCHEMA, 5, document=document))


def test_a_real_wrong_key(smollm2: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict of the run; the key is in no message."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-and-secret")
    with pytest.raises(AccessRefused, match="HTTP 401") as caught:
        ask(chat(smollm2), Question(BOOK, SCHEMA, 5))
    assert "sk-wrong" not in str(caught.value)


def test_a_second_attempt_on_a_real_server(smol: OpenAiChat) -> None:
    """The conversation with the invalid answer and the error is accepted."""
    question = Question(BOOK, SCHEMA, 60)
    first = smol.ask(question, None)
    again = smol.ask_again(question, None, answer=first, error="at $: 'title' is a required property")
    assert set(json.loads(again.text)) == {"title", "year"}
    assert again.prompt_tokens > first.prompt_tokens + 20


class Replies(http.server.BaseHTTPRequestHandler):
    """Gives the server's replies in turn, the last again and again."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert self.path == "/v1/chat/completions"
        replies, asked = self.server.replies, self.server.asked  # type: ignore[attr-defined]
        asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        code, media_type, content = replies[min(len(asked), len(replies)) - 1]
        self.send_response(code)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def chat_server(*replies: tuple[int, str, bytes]) -> Iterator[tuple[OpenAiChat, list[dict[str, Any]]]]:
    """A server that gives these replies; yields an extractor of it and what was asked."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Replies)
    server.replies, server.asked = replies, []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    extractor = chat(f"http://127.0.0.1:{server.server_port}/v1", "m")
    try:
        yield extractor, server.asked  # type: ignore[attr-defined]
    finally:
        extractor.close()
        server.shutdown()
        server.server_close()


def said(content: str | None, finish: str | None = "stop", **message: Any) -> tuple[int, str, bytes]:
    """A completion."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return 200, "application/json", json.dumps({"id": "x", "choices": [choice], "usage": usage}).encode()


GOOD = said('{"title": "T", "year": 1}')
QUESTION = Question("Q {x}", SCHEMA, 77, temperature=0.5)


def test_what_is_sent() -> None:
    """The schema, the limits; other servers than OpenAI's know `max_tokens`."""
    with chat_server(GOOD) as (extractor, asked):
        assert ask(extractor, QUESTION) == {"title": "T", "year": 1}
    assert asked == [{
        "model": "m", "messages": [{"role": "user", "content": "Q {x}"}], "max_tokens": 77, "temperature": 0.5,
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": False},
        },
    }]  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 2, 3, 196_608, 196_609, 1_000_000])
def test_a_document_is_sent_whole(tmp_path: Path, size: int) -> None:
    """In pieces from the disk, and what arrives is the document."""
    document = tmp_path / "x.pdf"
    content = bytes(number % 251 for number in range(size))
    document.write_bytes(content)
    question = Question("Q", SCHEMA, 5, document=document, display_name="7-3", temperature=None)
    with chat_server(GOOD) as (extractor, asked):
        ask(extractor, question)
    file, text = asked[0]["messages"][0]["content"]
    assert text == {"type": "text", "text": "Q"}
    assert file["file"]["filename"] == "7-3.pdf"
    prefix, _, data = file["file"]["file_data"].partition(",")
    assert prefix == "data:application/pdf;base64"
    assert base64.b64decode(data) == content
    assert "temperature" not in asked[0]


def test_a_document_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before anything is sent."""
    monkeypatch.setattr(openai_chat, "MAX_DOCUMENT_BYTES", 10)
    document = tmp_path / "x.pdf"
    document.write_bytes(bytes(11))
    with (
        chat_server(GOOD) as (extractor, asked),
        pytest.raises(InputRejected, match="11 bytes; a question takes 10"),
    ):
        ask(extractor, Question("Q", SCHEMA, 5, document=document))
    assert asked == []


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (said('{"title": ', "length"), AnswerTruncated),
        (said(None, "content_filter"), AnswerBlocked),
        (said("", "tool_calls"), AnswerBlocked),
        (said(None, refusal="I will not."), AnswerBlocked),
        (said(""), AnswerEmpty),
        (said(None, None), AnswerEmpty),
        ((200, "application/json", b'{"id": "x", "choices": [], "usage": null}'), AnswerEmpty),
    ],
    ids=range(7),
)
def test_verdicts(reply: tuple[int, str, bytes], kind: type[Exception]) -> None:
    """What the server says about its answer is a verdict, after one call."""
    with chat_server(reply) as (extractor, asked), pytest.raises(kind):
        ask(extractor, QUESTION)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "reply",
    [
        (200, "text/html", b"<html>Sign in</html>"),
        (200, "application/json", b""),
        (200, "application/json", b'{"choices": [{"mess'),
        (200, "application/json", b"[]"),
        (200, "application/json", b"null"),
        (200, "application/json", b'{"choices": [{}]}'),
        (200, "application/json", b'{"choices": 5}'),
        (500, "application/json", b"{}"),
        (503, "text/html", b"<html>"),
        (429, "application/json", b"{}"),
    ],
    ids=range(10),
)
def test_errors_that_pass(reply: tuple[int, str, bytes]) -> None:
    """One of them costs one more call; three fail the section, but for a rate limit."""
    with chat_server(reply, GOOD) as (extractor, asked):
        assert ask(extractor, QUESTION) == {"title": "T", "year": 1}
        assert len(asked) == 2
    if reply[0] != 429:
        with chat_server(reply) as (extractor, asked), pytest.raises(CallFailed):
            ask(extractor, QUESTION)
        assert len(asked) == 3


def spec(**changes: Any) -> ExtractSpec:
    """A spec of one of the providers."""
    values = {"name": "n", "provider": "openai", "model": "m", "prompt": "{text}", "schema": {}, **changes}
    return ExtractSpec(**values, sections=SectionChoice("whole"))


@pytest.mark.parametrize("provider", ["gemini", "openai"])
def test_loading(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extractor for each provider; nothing is called, and nothing stays on a chat server."""
    monkeypatch.setenv("GEMINI_API_KEY", "key")
    extractor = load_extractor(spec(provider=provider, url="http://127.0.0.1:9"), Caller("x", CallLimits()))
    if provider == "openai":
        assert list(extractor.list_remote()) == []
        extractor.delete_remote("x")
    extractor.close()


def test_loading_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says which variable is missing; a server of one's own may need none."""
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BadSetting, match=r"GEMINI_API_KEY='': expected .*GOOGLE_API_KEY"):
        load_extractor(spec(provider="gemini"), Caller("x", CallLimits()))
    with pytest.raises(BadSetting, match="OPENAI_API_KEY=''"):
        load_extractor(spec(), Caller("x", CallLimits()))
    load_extractor(spec(url="http://127.0.0.1:9"), Caller("x", CallLimits()))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_loading_without_the_package(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        BadSetting, match=rf"INGEST_EXTRACT='{provider}': .*pip install 'ingest-pipeline\[{provider}\]'"
    ):
        load_extractor(spec(provider=provider), Caller("x", CallLimits()))


def test_the_package_is_cheap() -> None:
    """What a run that asks nothing imports: dataclasses, and no client, no YAML, no validator."""
    modules = "base, spec, sections, load, ask, answers, gemini, openai_chat"
    imported = imported_by(f"from ingest_pipeline.extraction import {modules}")
    assert imported & {"google", "openai", "httpx2", "httpx", "pydantic", "yaml", "jsonschema", "referencing"} == set()
