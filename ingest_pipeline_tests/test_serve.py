"""`ingest serve` as a process: its start, its end, and clients without manners."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest

from ingest_pipeline.service import server
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.server import EmbeddedServer
from ingest_pipeline_tests.command import Command
from ingest_pipeline_tests.conftest import fresh_database, share_models
from ingest_pipeline_tests.serving import BEARER, TOKEN, Served, free_port, read_all, serving, started

HOST = b"Host: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def standing(
    server: EmbeddedServer, template: str, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """One service for all tests that do not end it."""
    home = share_models(tmp_path_factory.mktemp("standing") / "home", models)
    with fresh_database(server, template) as url:
        settings = replace(Settings(), home=home, database_url=url, service_token=TOKEN)
        with serving(settings) as service:
            yield service


@pytest.fixture
def served(standing: Served) -> Served:
    """It, still alive."""
    assert standing.process.poll() is None
    return standing


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_well(settings: Settings, number: int) -> None:
    """It prints its address when it is ready; each signal ends it with code 0, and the port is free again."""
    with serving(settings) as service:
        port = service.settings.service_port
        assert service.line == f"http://127.0.0.1:{port}  Ctrl-C ends it\n"
        assert service.ended(number) == (0, "", "")
    socket.create_server(("127.0.0.1", port)).close()


def test_the_line_for_programs(settings: Settings) -> None:
    """`--json` says address and process."""
    with serving(settings, "--json") as service:
        assert json.loads(service.line) == {"url": service.url, "pid": service.process.pid}


def test_a_request_at_work_is_finished(settings: Settings) -> None:
    """A request that was begun before the signal is answered."""
    with serving(settings) as service, service.connect() as connection:
        connection.sendall(b"POST /sign-in HTTP/1.1\r\n" + HOST + b"Content-Length: 7\r\n\r\ntoken")
        time.sleep(0.3)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        connection.sendall(b"=x")
        assert read_all(connection).startswith(b"HTTP/1.1 401 ")
        assert service.process.wait(20) == 0


def test_health_of_a_service(served: Served) -> None:
    """The health check says what there is: database, model, version."""
    from importlib.metadata import version

    answer = served.get("/healthz")
    assert (answer.status_code, answer.json()) == (
        200, {"status": "ok", "database": True, "model": "loaded", "version": version("ingest-pipeline")},
    )  # fmt: skip


def test_metrics_for_a_scraper(served: Served) -> None:
    """The metrics are those of the command, in the format that a scraper asks for."""
    answer = served.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
    assert 'ingest_files{status="synced"} 0.0' in answer.text


def test_no_query_is_logged(settings: Settings) -> None:
    """Neither queries nor names nor the token come into the log, whatever the answer is."""
    with serving(settings, service_token=TOKEN) as service:
        for path in ("/search.json?q=plugh", "/search.json?q=plugh&top=0", "/plugh", "/search.json?q=plugh%00"):
            service.get(path, headers=BEARER | {"x-plugh": "plugh"})
        service.raw(b"GET /plugh plugh\r\n\r\n")
        service.get("/", headers={"host": "plugh.example"})
        code, out, err = service.ended()
    assert (code, out) == (0, "")
    assert "plugh" not in err and TOKEN not in err


def test_a_taken_port_is_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The port and the setting are named, with exit code 2; nothing is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = Command(replace(settings, service_port=port), monkeypatch, capsys)
        assert command.mistake("serve") == f"port {port} on 127.0.0.1 is taken: set INGEST_SERVICE_PORT"


def test_other_machines_without_token(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bind that others reach needs a token: one line, exit code 2."""
    command = Command(replace(settings, service_host="0.0.0.0"), monkeypatch, capsys)
    assert "set INGEST_SERVICE_TOKEN too" in command.mistake("serve")


def test_no_database_is_one_line(settings: Settings) -> None:
    """A database that is away at the start ends the command in one line, without a traceback."""
    process = started(replace(settings, database_url="postgresql://127.0.0.1:1/none", service_port=free_port()))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("ingest: Postgres: ") and len(err.splitlines()) == 1


def test_pipelined_requests(served: Served) -> None:
    """Requests that come in one packet are answered one after another, each by its own rules."""
    one, denied = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n", b"POST /documents HTTP/1.1\r\n" + HOST + b"\r\n"
    last = b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    answers = served.raw(one + denied + last)
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"401", b"200"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X\x00: y\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["header", "path", "no-host", "two-hosts", "two-lengths", "negative", "smuggled", "nul", "tls", "http2"],
)
def test_requests_that_are_none(served: Served, request_bytes: bytes) -> None:
    """What is no request, or is too large for one, is refused, and the next one is answered."""
    with served.connect() as connection:
        connection.settimeout(10)
        connection.sendall(request_bytes)
        first = connection.recv(65536)
    assert first.split(b" ")[1][:1] == b"4", first[:100]
    assert b"Traceback" not in first
    assert served.get("/healthz").status_code == 200


@pytest.mark.parametrize("target", [b"http://evil.example/", b"//evil.example/search.json", b"/../../etc/passwd"])
def test_targets_lead_nowhere_else(served: Served, target: bytes) -> None:
    """A whole URL in the place of a path, and a path that climbs, are unknown paths."""
    answer = served.raw(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")


def test_an_upgrade_is_not_made(served: Served) -> None:
    """A websocket is not opened: the request is one like others."""
    upgrade = b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    assert served.raw(upgrade).startswith(b"HTTP/1.1 200 ")


def test_headers_that_do_not_arrive(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that says nothing, or a header bit by bit without end, is closed in time; others are answered."""
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.6)
    with in_this_process(settings) as port:
        address = ("127.0.0.1", port)
        with socket.create_connection(address, 10) as silent, socket.create_connection(address, 10) as slow:
            began = time.monotonic()
            slow.sendall(b"GET / HTTP/1.1\r\n")
            threading.Thread(target=dripping, args=(slow,), daemon=True).start()
            assert (read_all(silent), read_all(slow)) == (b"", b"")
            assert time.monotonic() - began < 5
        polite = HTTPConnection(*address, timeout=10)
        polite.connect()
        local = polite.sock.getsockname()
        for _ in range(3):  # one connection may live longer than the time for one request
            time.sleep(0.4)
            polite.request("GET", "/nowhere")
            answer = polite.getresponse()
            assert (answer.status, answer.read()[:10]) == (404, b'{"error":"')
        assert polite.sock.getsockname() == local
        polite.close()


def dripping(connection: socket.socket) -> None:
    try:
        while True:
            connection.sendall(b"X: y\r\n")
            time.sleep(0.1)
    except OSError:
        return


@contextmanager
def in_this_process(settings: Settings) -> Iterator[int]:
    """The server in a thread, where its times can be made short."""
    from ingest_pipeline.service.app import create_app
    from ingest_pipeline.service.state import opened_service
    from ingest_pipeline.stages.listening import bound_socket

    up = threading.Event()
    with opened_service(settings) as service, bound_socket("127.0.0.1", 0, service="SERVICE") as bound:
        serving_one = server.Server(create_app(service), up.set)
        serving_one.capture_signals = no_signals  # type: ignore[method-assign]
        thread = threading.Thread(target=serving_one.run, kwargs={"sockets": [bound]})
        thread.start()
        assert up.wait(20)
        try:
            yield bound.getsockname()[1]
        finally:
            serving_one.should_exit = True
            thread.join(20)
        assert not thread.is_alive()


@contextmanager
def no_signals() -> Iterator[None]:
    yield
