"""Gemini's calls as recorded: every way in which they fail has a type, and no remote file is ever left."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.errors import (
    AccessRefused,
    AnswerBlocked,
    AnswerEmpty,
    AnswerInvalid,
    AnswerTruncated,
    BadSetting,
    CallFailed,
    ExtractError,
    InputRejected,
    ServiceUnavailable,
)
from ingest_pipeline.extraction.ask import answered
from ingest_pipeline.extraction.base import CallSeconds, Question, Remote, Usage, new_remote_name
from ingest_pipeline.extraction.gemini import Gemini, GeminiAccess
from ingest_pipeline.remote.calls import Caller, CallLimits, Clock
from ingest_pipeline_tests.gemini_server import CALLS, KEY, NAME, GeminiServer, gemini_server
from ingest_pipeline_tests.llm_servers import started_server

SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
MIB = 1024**2


class Waits:
    """A clock on which waiting takes no time, and is remembered."""

    def __init__(self) -> None:
        self.time, self.waits = 0.0, list[float]()

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds


@pytest.fixture(scope="module")
def running() -> Iterator[GeminiServer]:
    """One server for all tests."""
    with gemini_server() as server:
        yield server


@pytest.fixture
def server(running: GeminiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[GeminiServer]:
    """The server, which knows nothing; after the test no file is left, and every fault was met."""
    running.reset()
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    running.script.key = KEY
    yield running
    assert sorted(running.state.files) == []
    assert [call for call in CALLS if running.faults[call]] == []


@pytest.fixture
def waits() -> Waits:
    """The clock of the extractor's caller."""
    return Waits()


@pytest.fixture
def gemini(server: GeminiServer, waits: Waits) -> Iterator[Gemini]:
    """An extractor of the server; each call may take a second."""
    caller = Caller("gemini", CallLimits(), Clock(waits.now, waits.sleep))
    extractor = Gemini("gemini-2.5-flash", caller, GeminiAccess(server.url, seconds=CallSeconds(1.0, 1.0)))
    yield extractor
    extractor.close()


@pytest.fixture
def question(tmp_path: Path) -> Question:
    """A question about a document of 100 KB."""
    document = tmp_path / "Прихований заголовок.pdf"
    document.write_bytes(b"%PDF-1.7\n" + os.urandom(100_000))
    return Question("Name the title.", SCHEMA, 100, document=document, remote_name=new_remote_name(), pages=2)


def cycle(gemini: Gemini, question: Question, notes: list[str] | None = None) -> Any:
    """Upload, ask, delete."""
    with gemini.uploaded(question, (notes if notes is not None else []).append) as remote:
        return answered(gemini, question, remote, Usage())


def test_a_whole_cycle(gemini: Gemini, server: GeminiServer, question: Question) -> None:
    """The document is there while it is asked about, under our name, and gone afterwards."""
    notes: list[str] = []
    usage = Usage()
    with gemini.uploaded(question, notes.append) as remote:
        assert notes == ["uploaded"]
        assert remote is not None
        assert remote.name == question.remote_name
        assert list(gemini.list_remote()) == [question.remote_name]
        assert answered(gemini, question, remote, usage) == {"title": "text"}
    assert notes == ["uploaded", "deleted"]
    assert usage == Usage(1, len(question.prompt) // 4, 7)
    assert dict(server.state.calls) == {"start": 1, "upload": 1, "list": 1, "generate": 1, "delete": 1}


def test_what_is_sent(gemini: Gemini, server: GeminiServer, question: Question) -> None:
    """The question as recorded: the document before the prompt, the schema, the limits."""
    cycle(gemini, question)
    (sent,) = server.state.requests
    (content,) = sent["contents"]
    assert content["role"] == "user"
    assert content["parts"][0]["fileData"]["file_uri"].endswith(f"/files/{question.remote_name}")
    assert content["parts"][1] == {"text": "Name the title."}
    assert sent["generationConfig"] == {
        "responseMimeType": "application/json", "responseJsonSchema": SCHEMA,
        "maxOutputTokens": 100, "temperature": 0.0,
    }  # fmt: skip


def test_a_question_in_words(gemini: Gemini, server: GeminiServer) -> None:
    """Nothing is uploaded and nothing deleted; a temperature of None is not sent."""
    assert cycle(gemini, Question("Name it.", SCHEMA, 100, temperature=None)) == {"title": "text"}
    assert dict(server.state.calls) == {"generate": 1}
    assert "temperature" not in server.state.requests[0]["generationConfig"]


def test_large_documents_go_in_pieces(gemini: Gemini, server: GeminiServer, tmp_path: Path) -> None:
    """9 MiB are two pieces."""
    document = tmp_path / "large.pdf"
    document.write_bytes(os.urandom(9 * MIB))
    cycle(gemini, Question("Q", SCHEMA, 100, document=document, remote_name=new_remote_name()))
    assert server.state.calls["upload"] == 2


def test_the_document_is_waited_for(gemini: Gemini, server: GeminiServer, question: Question) -> None:
    """PROCESSING is polled until ACTIVE."""
    server.script.polls = 2
    assert cycle(gemini, question) == {"title": "text"}
    assert server.state.calls["get"] == 2


def test_a_document_that_is_never_readable(gemini: Gemini, server: GeminiServer, question: Question) -> None:
    """Our own deadline ends the wait."""
    server.script.polls = 10_000
    with pytest.raises(CallFailed, match="not readable after 1 s"):
        cycle(gemini, question)


@pytest.mark.parametrize("polls", [0, 1])
def test_a_document_that_the_server_cannot_read(
    gemini: Gemini, server: GeminiServer, question: Question, polls: int
) -> None:
    """FAILED is of this document; the others are asked about."""
    server.script.polls, server.script.state = polls, "FAILED"
    notes: list[str] = []
    with pytest.raises(InputRejected, match="FAILED"):
        cycle(gemini, question, notes)
    assert notes == ["deleted"]


def test_a_name_that_is_taken(gemini: Gemini, server: GeminiServer, question: Question) -> None:
    """What a killed run left under the name is replaced."""
    with gemini.uploaded(question):
        server.state.calls.clear()
        assert cycle(gemini, question) == {"title": "text"}
    assert server.state.calls["start"] == 2
    assert server.state.documents.most_common(1)[0][1] == 2


def test_an_upload_that_arrived_without_an_answer(gemini: Gemini, server: GeminiServer, question: Question) -> None:
    """The connection is lost after the last byte: the next try finds the name taken, and replaces the file."""
    server.fail("upload", "reset_after")
    assert cycle(gemini, question) == {"title": "text"}
    assert server.state.calls["start"] == 3
    assert server.state.most_files == 1


def test_names_are_allowed() -> None:
    """At most 40 characters, and only those that the server takes."""
    names = {new_remote_name() for _ in range(100)}
    assert len(names) == 100
    assert all(NAME.fullmatch(f"files/{name}") and len(name) <= 40 for name in names)


ANYWHERE = ["start", "upload", "get", "generate", "delete"]


@pytest.mark.parametrize("call", ANYWHERE)
@pytest.mark.parametrize(
    ("do", "how"),
    [
        ("status", {"code": 500}), ("status", {"code": 503}), ("reset", {}), ("cut", {}), ("html", {}),
        ("half_json", {}), ("rate_limit", {}),
    ],
)  # fmt: skip
def test_errors_that_pass(
    gemini: Gemini, server: GeminiServer, question: Question, call: str, do: str, how: dict[str, Any]
) -> None:
    """Whichever call it is, one error of the server or the network costs one more call and nothing else."""
    server.script.polls = 1
    server.fail(call, do, **how)
    notes: list[str] = []
    assert cycle(gemini, question, notes) == {"title": "text"}
    assert notes == ["uploaded", "deleted"]
    assert server.state.calls[call] == 2


@pytest.mark.parametrize("call", ["start", "upload", "get", "generate"])
def test_a_call_that_always_fails(gemini: Gemini, server: GeminiServer, question: Question, call: str) -> None:
    """Three tries, then the section has failed, and its file is deleted."""
    server.script.polls = 1
    for _ in range(3):
        server.fail(call, "status", code=503)
    with pytest.raises(CallFailed, match="HTTP 503: it failed"):
        cycle(gemini, question)
    assert server.state.calls[call] == 3
    assert server.state.calls["delete"] == 1


@pytest.mark.parametrize("seconds", ["7s", "0.5s"])
def test_the_server_says_how_long_to_wait(
    gemini: Gemini, server: GeminiServer, question: Question, waits: Waits, seconds: str
) -> None:
    """RetryInfo is obeyed; five rate limits in a row are no failure."""
    for _ in range(5):
        server.fail("generate", "rate_limit", retry_delay=seconds)
    assert cycle(gemini, question) == {"title": "text"}
    assert waits.waits == pytest.approx([float(seconds[:-1])] * 5)


@pytest.mark.parametrize("delay", ["soon", "-3s", "1e9s", "nans", ""])
def test_a_delay_that_is_none(gemini: Gemini, server: GeminiServer, question: Question, delay: str) -> None:
    """Then `Retry-After` counts, else our own backoff."""
    server.fail("generate", "rate_limit", retry_delay=delay, retry_after="2")
    assert cycle(gemini, question) == {"title": "text"}


def test_retry_after(gemini: Gemini, server: GeminiServer, question: Question, waits: Waits) -> None:
    """A gateway says it in the header."""
    server.fail("generate", "rate_limit", retry_after="3")
    cycle(gemini, question)
    assert waits.waits == pytest.approx([3.0])


def test_the_quota_of_the_day(gemini: Gemini, server: GeminiServer, question: Question) -> None:
    """It lasts until midnight, whatever RetryInfo says: the run stops."""
    server.fail("generate", "rate_limit", retry_delay="7s", quota="GenerateRequestsPerDayPerProjectPerModel-FreeTier")
    with pytest.raises(AccessRefused, match="quota of the day is spent"):
        cycle(gemini, question)


def test_one_layer_of_retries_for_uploads(gemini: Gemini, server: GeminiServer, question: Question) -> None:
    """The client would send a refused piece three times within seven seconds."""
    server.fail("upload", "rate_limit", retry_delay="7s")
    cycle(gemini, question)
    assert server.state.calls["upload"] == 2


VERDICTS: list[tuple[dict[str, Any], type[ExtractError]]] = [
    ({"do": "blocked"}, AnswerBlocked),
    ({"do": "blocked", "reason": "PROHIBITED_CONTENT"}, AnswerBlocked),
    ({"do": "finish", "reason": "SAFETY", "text": None}, AnswerBlocked),
    ({"do": "finish", "reason": "RECITATION", "text": '{"title": "half'}, AnswerBlocked),
    ({"do": "finish", "reason": "A_REASON_TO_COME", "text": None}, AnswerBlocked),
    ({"do": "finish", "reason": "MAX_TOKENS", "text": '{"title": "half'}, AnswerTruncated),
    ({"do": "finish", "reason": "MAX_TOKENS", "text": None}, AnswerTruncated),
    ({"do": "text", "text": ""}, AnswerEmpty),
    ({"do": "text", "text": None}, AnswerEmpty),
    ({"do": "empty"}, AnswerEmpty),
]


@pytest.mark.parametrize(("fault", "kind"), VERDICTS, ids=[str(fault) for fault, _ in VERDICTS])
def test_verdicts(
    gemini: Gemini, server: GeminiServer, question: Question, fault: dict[str, Any], kind: type[ExtractError]
) -> None:
    """What raises nothing in the client is a verdict here, after one call, and the file is deleted."""
    server.fail("generate", **fault)
    with pytest.raises(kind) as caught:
        cycle(gemini, question)
    assert caught.value.raw == (fault.get("text") or "")
    assert server.state.calls["generate"] == 1


def test_an_invalid_answer_and_a_valid_one(gemini: Gemini, server: GeminiServer, question: Question) -> None:
    """The second question has the same document, the answer, and what is wrong with it."""
    server.fail("generate", "text", text='{"name": "x"}')
    assert cycle(gemini, question) == {"title": "text"}
    first, second = server.state.requests
    assert second["contents"][0] == first["contents"][0]
    assert second["contents"][1] == {"role": "model", "parts": [{"text": '{"name": "x"}'}]}
    assert "'title' is a required property" in second["contents"][2]["parts"][0]["text"]
    assert server.state.calls["start"] == 1


def test_two_invalid_answers(gemini: Gemini, server: GeminiServer, question: Question) -> None:
    """Then the section has failed."""
    server.script.answer = "I cannot"
    with pytest.raises(AnswerInvalid) as caught:
        cycle(gemini, question)
    assert caught.value.raw == "I cannot"
    assert server.state.calls["generate"] == 2


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ({"code": 400, "status": "INVALID_ARGUMENT", "message": "The document has no pages."}, InputRejected),
        ({"code": 400, "status": "FAILED_PRECONDITION", "message": "User location is not supported"}, AccessRefused),
        ({"code": 401, "status": "UNAUTHENTICATED"}, AccessRefused),
        ({"code": 403, "status": "PERMISSION_DENIED", "message": "denied"}, AccessRefused),
        ({"code": 404, "status": "NOT_FOUND", "message": "models/x is not found for API version v1"}, AccessRefused),
        ({"code": 413, "message": "too large"}, InputRejected),
    ],
)
@pytest.mark.parametrize("call", ["start", "generate"])
def test_refusals(
    gemini: Gemini, server: GeminiServer, question: Question, call: str, how: dict[str, Any], kind: type[Exception]
) -> None:
    """A refused question is not asked again; a refused key stops the run."""
    server.fail(call, "status", **how)
    with pytest.raises(kind) as caught:
        cycle(gemini, question)
    assert type(caught.value) is kind
    assert server.state.calls[call] == 1


def test_a_wrong_key(gemini: Gemini, server: GeminiServer, question: Question) -> None:
    """The real server answers 400 to it."""
    server.script.key = "another"
    notes: list[str] = []
    with pytest.raises(AccessRefused, match="API key not valid") as caught:
        cycle(gemini, question, notes)
    assert KEY not in str(caught.value)
    assert notes == ["left"]


def test_a_file_that_vanished(gemini: Gemini, server: GeminiServer, question: Question) -> None:
    """A file that a sweep or the 48 hours deleted is of this section: 403 is no refusal of the key."""
    with pytest.raises(InputRejected, match="may not exist"), gemini.uploaded(question) as remote:
        server.state.files.clear()
        gemini.ask(question, remote)
    gone = Remote(question.remote_name, f"{server.url}/v1/files/{question.remote_name}", "application/pdf")
    with pytest.raises(InputRejected, match="may not exist"):
        gemini.ask(question, gone)


def test_delete_is_idempotent(gemini: Gemini, server: GeminiServer) -> None:
    """403, as the real server says it, and 404 mean that it is not there."""
    gemini.delete_remote("ingest-absent")
    server.fail("delete", "status", code=404, status="NOT_FOUND", message="Requested entity was not found.")
    gemini.delete_remote("ingest-absent")
    assert server.state.calls["delete"] == 2


def test_a_file_that_cannot_be_deleted(
    gemini: Gemini, server: GeminiServer, question: Question, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer stays; the log and the note say that a sweep has work, and the sweep does it."""
    for _ in range(3):
        server.fail("delete", "status", code=503)
    notes: list[str] = []
    assert cycle(gemini, question, notes) == {"title": "text"}
    assert notes == ["uploaded", "left"]
    assert f"remote file {question.remote_name}: not deleted" in caplog.text
    for name in gemini.list_remote():
        gemini.delete_remote(name)


def test_the_list_has_pages(gemini: Gemini, server: GeminiServer, question: Question) -> None:
    """250 files are three pages; an error between two pages is no end."""
    with gemini.uploaded(question):
        template = server.state.files.pop(question.remote_name)
    for number in range(250):
        server.state.files[f"f{number}"] = type(template)(f"f{number}", "application/pdf", "")
    server.state.files[question.remote_name] = template
    names = gemini.list_remote()
    first = next(names)
    server.fail("list", "status", code=503)
    assert [first, *names] == [*[f"f{number}" for number in range(250)], question.remote_name]
    assert server.state.calls["list"] == 4
    server.state.files.clear()
    assert list(gemini.list_remote()) == []


class Boom(Exception):
    """An error of whoever uses the extractor."""


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_file_is_deleted_after_any_error(
    gemini: Gemini, server: GeminiServer, question: Question, error: type[BaseException]
) -> None:
    """Whatever ends the block."""
    with pytest.raises(error), gemini.uploaded(question):
        assert len(server.state.files) == 1
        raise error
    assert server.state.calls["delete"] == 1


@pytest.mark.parametrize("call", ["start", "upload", "get", "generate"])
def test_ctrl_c_in_the_middle(gemini: Gemini, server: GeminiServer, question: Question, call: str) -> None:
    """A KeyboardInterrupt in any call leaves no file."""
    assert threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    server.script.polls = 1
    server.on_call = lambda called: os.kill(os.getpid(), signal.SIGINT) if called == call else None
    server.fail(call, "slow", seconds=0.3)
    notes: list[str] = []
    try:
        with pytest.raises(KeyboardInterrupt):
            cycle(gemini, question, notes)
    finally:
        signal.signal(signal.SIGINT, before)
    assert server.state.calls["delete"] == 1
    assert notes[-1] == ("left" if call in ("start", "upload") else "deleted")
    if call == "upload":  # its bytes arrive after the deletion: this is what the sweep is for
        time.sleep(0.6)
        gemini.delete_remote(question.remote_name)


def test_an_answer_that_takes_too_long(gemini: Gemini, server: GeminiServer) -> None:
    """A call ends within its seconds; the client alone would wait for ever."""
    server.script.seconds = 1.5
    with pytest.raises(CallFailed, match="ReadTimeout"):
        gemini.ask(Question("Q", SCHEMA, 100), None)
    assert server.state.calls["generate"] == 3


def test_a_server_that_is_not_there(waits: Waits, question: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten errors in a row of all calls together the run stops."""
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    caller = Caller("gemini", CallLimits(max_errors=3), Clock(waits.now, waits.sleep))
    gone = Gemini("m", caller, GeminiAccess("http://127.0.0.1:9"))
    with pytest.raises(ServiceUnavailable, match=r"3 errors in a row .*ConnectError"):
        cycle(gone, question)


def test_from_many_threads(gemini: Gemini, server: GeminiServer, question: Question) -> None:
    """Concurrent sections share one extractor."""
    questions = [
        Question(f"Q{number}", SCHEMA, 100, document=question.document, remote_name=new_remote_name())
        for number in range(12)
    ]
    results: list[Any] = []
    threads = [threading.Thread(target=lambda one=one: results.append(cycle(gemini, one))) for one in questions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [{"title": "text"}] * 12
    assert len(server.state.prompts) == 12


def test_nothing_secret_is_logged(
    gemini: Gemini, server: GeminiServer, question: Question, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither key, nor prompt, nor answer, nor the name of the local file."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpcore2").setLevel(logging.INFO)  # at DEBUG it prints headers; nobody switches it on
    server.fail("generate", "text", text="SECRET answer")
    server.fail("generate", "status", code=503)
    cycle(gemini, question)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("ingest_pipeline")]
    assert ours
    for text in (KEY, question.prompt, "SECRET", "Прихований"):
        assert text not in caplog.text
    assert all("Прихований" not in json.dumps(sent, ensure_ascii=False) for sent in server.state.requests)


def test_no_key(monkeypatch: pytest.MonkeyPatch, server: GeminiServer, waits: Waits) -> None:
    """The key is read when the client is made, from either variable, whatever other variables say."""
    monkeypatch.delenv("GEMINI_API_KEY")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    extractor = Gemini("m", Caller("gemini", CallLimits()), GeminiAccess(server.url))
    with pytest.raises(BadSetting, match="GEMINI_API_KEY=''"):
        extractor.ask(Question("Q", SCHEMA, 100), None)
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    assert extractor.ask(Question("Q", SCHEMA, 100), None).finish == "stop"
    extractor.close()


def test_close(gemini: Gemini) -> None:
    """An extractor can be used again after `close`, and closed twice."""
    for _ in range(2):
        assert gemini.ask(Question("Q", SCHEMA, 100), None).finish == "stop"
        gemini.close()
    gemini.close()


ASKS = """
import sys
from pathlib import Path
from ingest_pipeline.extraction.base import CallSeconds, Question
from ingest_pipeline.extraction.gemini import Gemini, GeminiAccess
from ingest_pipeline.remote.calls import Caller, CallLimits

gemini = Gemini("m", Caller("gemini", CallLimits()), GeminiAccess(sys.argv[1]))
question = Question("Q", {}, 9, document=Path(sys.argv[2]), remote_name=sys.argv[3])
with gemini.uploaded(question, lambda what: print(what, flush=True)) as remote:
    gemini.ask(question, remote)
"""


def talk(url: str, path: str, sent: dict[str, Any] | None = None) -> Any:
    """What the server, as a process, answers at `/_state` or `/_script`."""
    body = None if sent is None else json.dumps(sent).encode()
    with urllib.request.urlopen(url + path, data=body, timeout=10) as answer:
        return json.load(answer)


def test_a_kill_leaves_a_file_that_can_be_found(
    started: Callable[..., subprocess.Popen[str]], question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name was chosen before the upload: a sweep deletes it, and a rerun replaces it."""
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    with started_server(sys.executable, "-m", "ingest_pipeline_tests.gemini_server", "0") as url:
        talk(url, "/_script", {"polls": 1, "faults": [{"call": "generate", "do": "slow", "seconds": 30}]})
        asks = started(ASKS, url, str(question.document), question.remote_name)
        assert asks.first == "uploaded\n"  # type: ignore[attr-defined]
        while not talk(url, "/_state")["prompts"]:
            time.sleep(0.02)
        asks.kill()
        asks.wait()
        assert talk(url, "/_state")["files"] == [question.remote_name]
        extractor = Gemini("m", Caller("gemini", CallLimits()), GeminiAccess(url))
        assert list(extractor.list_remote()) == [question.remote_name]
        with extractor.uploaded(question) as remote:
            assert extractor.ask(question, remote).finish == "stop"
        extractor.close()
        state = talk(url, "/_state")
        assert (state["files"], list(state["prompts"].values())) == ([], [1, 1])
