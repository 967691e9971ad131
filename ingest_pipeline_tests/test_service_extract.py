"""`POST /extract`: answers as JSON lines while they come, one document at a time, ended by the client's disconnect."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest_pipeline.settings import Settings
from ingest_pipeline.stages import one_document
from ingest_pipeline.stages.own_question import OwnQuestion, asking_this
from ingest_pipeline_tests.gemini_server import GeminiServer
from ingest_pipeline_tests.running_service import address_of, running_service
from ingest_pipeline_tests.serving import BEARER, TOKEN
from ingest_pipeline_tests.test_service_documents import BOUNDARY, END, FORM, part, until
from ingest_pipeline_tests.test_stages_extracts import (  # noqa: F401
    Asking,
    asking,
    gemini,
    running,
    write_pdf,
    write_spec,
)


@pytest.fixture
def service(asking: Asking, gemini: GeminiServer, source: Path) -> Iterator[str]:  # noqa: F811
    """A service whose store has a PDF of three pages and a text."""
    write_pdf(source / "a.pdf", "Bread and flour", "Ovens and heat", "Salt")
    (source / "b.txt").write_text("# Tea\n\nGreen leaves.\n\n# Coffee\n\nRoasted beans.\n")
    spec = asking.settings.extract
    asking.settings = replace(asking.settings, extract="")
    asking.ingest()
    asking.settings = replace(asking.settings, extract=spec)
    write_spec(asking.settings, gemini.url)
    with running_service(asking.settings) as url:
        yield url


def ask(url: str, known: dict[str, Any] | None = None, **fields: Any) -> httpx.Response:
    return httpx.post(f"{url}/extract", json=(known or {}) | fields, headers=BEARER, timeout=60)


def rows_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def test_as_configured(service: str, gemini: GeminiServer) -> None:  # noqa: F811
    """A document alone is asked what INGEST_EXTRACT says, once: the second time the answers come from the store."""
    for _ in range(2):
        rows = rows_of(ask(service, document="a.pdf"))
        assert [(row["section"], row["page_from"], row["status"]) for row in rows] == [
            (0, 1, "done"), (1, 2, "done"), (2, 3, "done"),
        ]  # fmt: skip
        assert all("topic" in row["answer"] for row in rows)
    assert gemini.state.calls["generate"] == 3


def test_own_prompt(service: str, gemini: GeminiServer, asking: Asking) -> None:  # noqa: F811
    """Prompt and sections of the request are used in place of the file's, whose own answers stay; asked once each."""
    rows_of(ask(service, document="a.pdf"))
    rows = rows_of(ask(service, document="a.pdf", prompt="Count the words of {title}: 😀", sections={"pages": 2}))
    assert [(row["page_from"], row["page_to"]) for row in rows] == [(1, 2), (3, 3)]
    assert any("Count the words" in json.dumps(request) for request in gemini.state.requests)
    assert len(rows_of(ask(service, document="a.pdf"))) == 3
    rows_of(ask(service, document="a.pdf", prompt="Count the words of {title}: 😀", sections={"pages": 2}))
    assert gemini.state.calls["generate"] == 5


def test_titles(service: str, gemini: GeminiServer, asking: Asking) -> None:  # noqa: F811
    """Sections may be named by their titles, which are texts and no regular expressions."""
    write_spec(asking.settings, gemini.url, input="text", prompt="About {text}?", sections={"whole": True})
    rows = rows_of(
        ask(service, document="b.txt", prompt="Which drink is this?", sections=["(x+x+)+y", "whole document"])
    )
    assert [row["title"] for row in rows] == ["whole document"]  # it has no outline: one part
    assert "Green leaves." in json.dumps(gemini.state.requests[-1])


BAD: list[tuple[dict[str, Any], int, str]] = [
    ({}, 400, "document"),
    ({"document": ""}, 400, "document"),
    ({"document": 7}, 400, "document"),
    ({"document": "a\x00.pdf"}, 400, "NUL"),
    ({"document": "x" * 5000}, 400, "document"),
    ({"document": "../../etc/passwd"}, 404, "no searchable file"),
    ({"document": "a.pdf", "url": "http://evil"}, 400, "no field"),
    ({"document": "a.pdf", "prompt": 1}, 400, "prompt"),
    ({"document": "a.pdf", "prompt": " "}, 400, "prompt"),
    ({"document": "a.pdf", "prompt": "{text}"}, 400, "prompt"),
    ({"document": "a.pdf", "prompt": "x" * 40_000}, 400, "prompt"),
    ({"document": "a.pdf", "sections": "x"}, 400, "sections"),
    ({"document": "a.pdf", "sections": []}, 400, "sections"),
    ({"document": "a.pdf", "sections": [1]}, 400, "sections"),
    ({"document": "a.pdf", "sections": {}}, 400, "sections"),
    ({"document": "a.pdf", "sections": {"title": ["a"]}}, 400, "sections"),
    ({"document": "a.pdf", "sections": {"pages": -1}}, 400, "sections"),
    ({"document": "a.pdf", "sections": {"file": "../../x.yaml"}}, 400, "sections"),
]


def test_bad_request(service: str) -> None:
    """What cannot be asked is refused with the field's name, and no path of the server's."""
    for fields, status, word in BAD:
        answer = ask(service, fields)
        assert (answer.status_code, word in answer.json()["message"]) == (status, True), answer.text
        assert "/tmp" not in answer.text


def test_not_configured(settings: Settings) -> None:
    """Without INGEST_EXTRACT there is nobody to ask, and the answer says so."""
    with running_service(settings) as url:
        answer = ask(url, document="a.pdf")
    assert answer.status_code == 409 and "INGEST_EXTRACT" in answer.json()["message"]


def test_one_at_a_time(service: str, gemini: GeminiServer) -> None:  # noqa: F811
    """Rows come while the work goes on; meanwhile another document is not asked about; then the slot is free."""
    gemini.script.seconds = 0.6
    seen: list[float] = []
    with httpx.stream("POST", f"{service}/extract", json={"document": "a.pdf"}, headers=BEARER, timeout=30) as answer:
        for _ in answer.iter_lines():
            seen.append(time.monotonic())
            if len(seen) == 1:
                busy = ask(service, document="b.txt")
    assert busy.status_code == 503 and int(busy.headers["retry-after"]) > 0
    assert len(seen) == 3 and seen[2] - seen[0] > 0.8
    assert ask(service, document="a.pdf").status_code == 200


def test_disconnect_ends_it(service: str, gemini: GeminiServer) -> None:  # noqa: F811
    """When the client goes, no further section is asked about, nothing is left at the provider, the slot is free."""
    gemini.script.seconds = 0.3
    body = b'{"document": "a.pdf"}'
    head = f"POST /extract HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(address_of(service), timeout=20) as connection:
        connection.sendall(head.encode() + body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    time.sleep(1.2)
    assert gemini.state.calls["generate"] == 2  # the second had begun
    gemini.script.seconds = 0.0
    assert [row["status"] for row in rows_of(ask(service, document="a.pdf"))] == ["done"] * 3
    assert gemini.state.calls["generate"] == 3


def test_error_on_the_way(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error behind the first row is the last line; one before it is the status."""
    from ingest_pipeline.errors import ServiceUnavailable
    from ingest_pipeline.service import extract

    def failing(*arguments: Any, **more: Any) -> Iterator[dict[str, Any]]:
        if not failing.at_once:  # type: ignore[attr-defined]
            yield {"section": 0, "status": "done"}
        raise ServiceUnavailable("the LLM's server fails")

    monkeypatch.setattr(extract, "extract_document", failing)
    failing.at_once = False  # type: ignore[attr-defined]
    rows = rows_of(ask(service, document="a.pdf"))
    assert rows == [
        {"section": 0, "status": "done"}, {"error": "ServiceUnavailable", "message": "the LLM's server fails"},
    ]  # fmt: skip
    failing.at_once = True  # type: ignore[attr-defined]
    assert ask(service, document="a.pdf").status_code == 502


def test_uploaded_document(service: str, source: Path, asking: Asking) -> None:  # noqa: F811
    """A document that comes with the question is stored, waited for, asked about; 202 if it is not indexed by then."""
    write_pdf(source.parent / "new.pdf", "Sugar")
    content = (source.parent / "new.pdf").read_bytes()
    form = part("prompt", b"What is {title}?") + part("document", content, '; filename="new.pdf"')
    form += part("sections", b'{"whole": true}') + END

    def post(timeout: str, **parameters: str) -> httpx.Response:
        query = {"timeout": timeout} | parameters
        return httpx.post(f"{service}/extract", params=query, content=form, headers=FORM | BEARER, timeout=60)

    answer = post("0")
    assert answer.status_code == 202 and answer.json()["document"].endswith("/new.pdf")
    assert post("0").status_code == 409
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(post("30", replace="1")))
    waiting.start()
    until(lambda: (source / "new.pdf").exists())
    time.sleep(0.3)
    asking.settings, spec = replace(asking.settings, extract=""), asking.settings.extract
    asking.ingest()
    waiting.join()
    [row] = rows_of(answers[0])
    assert (row["title"], row["status"]) == ("whole document", "done")
    asking.settings = replace(asking.settings, extract=spec)


def test_form_with_a_path(service: str) -> None:
    """A form may also name a searchable document; what is no such form is refused."""
    form = part("document", b"a.pdf") + part("sections", b"whole document") + END
    answer = httpx.post(f"{service}/extract", content=form, headers=FORM | BEARER, timeout=60)
    assert answer.status_code == 200
    broken = httpx.post(f"{service}/extract", content=form[: -len(BOUNDARY)], headers=FORM | BEARER)
    assert broken.status_code == 400


def test_nothing_is_written(service: str, asking: Asking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """What a question is written to is gone afterwards, and outside of every source and home."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    with asking_this(asking.settings, OwnQuestion("About {title}?", {"whole": True})) as changed:
        path = Path(changed.extract)
        assert path.is_file() and path.is_relative_to(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    assert one_document.spec_of(asking.settings) is not None
