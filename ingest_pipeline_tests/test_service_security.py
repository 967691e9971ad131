"""Who may ask the service what: names of hosts, origins, the token, a browser's session, headers of answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.service import access as access_module
from ingest_pipeline.service.access import COOKIE, Access, name_of
from ingest_pipeline.service.app import create_app
from ingest_pipeline.service.security import Security
from ingest_pipeline.service.state import opened_service
from ingest_pipeline.settings import Settings
from ingest_pipeline_tests.serving import BEARER, TOKEN

LOCAL = replace(Settings(), service_port=3080)
GUARDED = replace(LOCAL, service_token=TOKEN)
PUBLIC = replace(GUARDED, service_host="0.0.0.0", service_names=("search.example.org",))
HTML = {"accept": "text/html,*/*"}


def said(request: Request) -> Response:
    return PlainTextResponse(f"{request.method} done")


def broken(request: Request) -> Response:
    raise ValueError("the secret text of a document")


def half(request: Request) -> Response:
    def pieces() -> Iterator[str]:
        yield "half of it"
        raise ValueError("the secret text of a document")

    return StreamingResponse(pieces())


def cached(request: Request) -> Response:
    return PlainTextResponse("a stylesheet", headers={"cache-control": "max-age=600"})


METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
ROUTES = [
    Route("/said", said, methods=METHODS), Route("/mcp", said, methods=METHODS), Route("/healthz", said),
    Route("/broken", broken), Route("/half", half), Route("/cached", cached),
]  # fmt: skip


def client_of(settings: Settings, host: str = "127.0.0.1:3080") -> TestClient:
    app = Starlette(routes=ROUTES, middleware=[Middleware(Security, access=Access.of(settings))])
    return TestClient(app, base_url=f"http://{host}", raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"service_host": "0.0.0.0"}, "INGEST_SERVICE_HOST=0.0.0.0"),
        ({"service_host": "192.0.2.1"}, "INGEST_SERVICE_HOST=192.0.2.1"),
        ({"service_names": ("search.example.org",)}, "INGEST_SERVICE_NAMES"),
    ],
)
def test_others_need_a_token(changes: dict[str, Any], name: str) -> None:
    """Settings that let other machines call are refused without a token, by their name, and taken with one."""
    with pytest.raises(ConfigurationError, match=re.escape(name)):
        Access.of(replace(LOCAL, **changes))
    assert Access.of(replace(GUARDED, **changes)).token == TOKEN


@pytest.mark.parametrize(
    ("host", "local", "public"),
    [
        ("127.0.0.1:3080", True, True),
        ("localhost", True, True),
        ("LOCALHOST.:9", True, True),
        ("[::1]:3080", True, True),
        ("10.1.2.3:3080", False, True),
        ("search.example.org", False, True),
        ("evil.example", False, False),
        ("localhost.evil.example", False, False),
        ("127.0.0.1.evil.example:3080", False, False),
        ("127.0.0.1@evil.example", False, False),
        ("127.0.0.1:3080:1", False, False),
        ("[::1", False, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_names_of_the_service(host: str | None, local: bool, public: bool) -> None:
    """On a loopback address only its names are known; elsewhere also addresses and the names of the setting."""
    assert Access.of(LOCAL).knows(host) is local
    assert Access.of(PUBLIC).knows(host) is public


def test_a_rebound_name_is_refused() -> None:
    """A page whose name points here gets 421, and nothing is asked; a name with a port is a name."""
    answer = client_of(LOCAL, "evil.example:3080").get("/said")
    assert (answer.status_code, answer.json()["error"]) == (421, "UnknownHost")
    assert name_of("evil.example:3080") == "evil.example"


@pytest.mark.parametrize(
    ("headers", "method", "status"),
    [
        ({}, "POST", 200),
        ({"origin": "http://127.0.0.1:3080"}, "POST", 200),
        ({"origin": "https://127.0.0.1:3080"}, "POST", 200),
        ({"origin": "null"}, "POST", 403),
        ({"origin": "null"}, "GET", 403),
        ({"origin": "http://evil.example"}, "POST", 403),
        ({"origin": "http://127.0.0.1:3081"}, "POST", 403),
        ({"origin": "http://127.0.0.1"}, "POST", 403),
        ({"origin": "file://127.0.0.1:3080"}, "POST", 403),
        ({"origin": "http://127.0.0.1:3080.evil.example"}, "POST", 403),
        ({"origin": ""}, "POST", 403),
        ({"origin": "http://evil.example"}, "OPTIONS", 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, "GET", 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, "GET", 200),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, "GET", 200),
    ],
)
def test_pages_of_others_are_refused(headers: dict[str, str], method: str, status: int) -> None:
    """Also with the token: an `Origin` that is not this service's ends as 403; of reads only a followed link passes."""
    answer = client_of(GUARDED).request(method, "/said", headers=headers | BEARER)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_writes_need_the_token(method: str) -> None:
    """Without a configured token nobody writes; with one only who shows it, by the scheme Bearer."""
    answer = client_of(LOCAL).request(method, "/said", headers=BEARER)
    assert (answer.status_code, answer.json()["error"]) == (403, "NoToken")
    assert "INGEST_SERVICE_TOKEN" in answer.json()["message"]
    client = client_of(GUARDED)
    for shown in ("", f"Basic {TOKEN}", TOKEN, "Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", "Bearer é"):
        answer = client.request(method, "/said", headers={"authorization": shown.encode()})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="ingest"'), shown
    assert client.request(method, "/said", headers=BEARER).status_code == 200
    assert client.request(method, "/said", headers={"authorization": f"bearer  {TOKEN} "}).status_code == 200


def test_this_machine_reads_freely() -> None:
    """On a loopback address reads and the questions of agents need no token, unless a proxy passes them on."""
    for settings in (LOCAL, GUARDED):
        client = client_of(settings)
        assert client.get("/said").text == "GET done"
        assert client.post("/mcp").text == "POST done"
        for name in ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip"):
            assert client.get("/said", headers={name: "1.2.3.4"}).status_code == 401
    proxied = replace(GUARDED, service_names=("search.example.org",))
    assert client_of(proxied, "search.example.org").get("/said").status_code == 401
    assert client_of(proxied, "search.example.org").get("/said", headers=BEARER).status_code == 200


def test_other_machines_show_it() -> None:
    """On another address reads and agents need the token; only the health check needs none."""
    client = client_of(PUBLIC)
    assert [client.get(path).status_code for path in ("/said", "/cached", "/healthz")] == [401, 401, 200]
    assert client.post("/mcp").status_code == 401
    assert client.get("/said", headers=BEARER).status_code == 200
    assert client.post("/mcp", headers=BEARER).status_code == 200


def test_a_browser_gets_the_form() -> None:
    """A browser without a session sees the form, which leads it to where it was going; a program sees JSON."""
    client = client_of(PUBLIC)
    answer = client.get('/said?q="><script>', headers=HTML)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert 'action="/sign-in"' in answer.text and "<script" not in answer.text
    assert client.get("/said").json()["error"] == "WrongToken"


@contextmanager
def whole(settings: Settings, **changes: Any) -> Iterator[TestClient]:
    """The real application."""
    settings = replace(settings, service_token=TOKEN, service_host="0.0.0.0", **changes)
    with opened_service(settings) as service, TestClient(create_app(service), base_url="http://10.0.0.1") as client:
        yield client


def test_a_session_only_reads(settings: Settings) -> None:
    """The token in the form gives a cookie that scripts and other sites cannot use, and that does not write."""
    with whole(settings) as client:
        assert client.get("/search.json?q=x").status_code == 401
        wrong = client.post("/sign-in", data={"token": "wrong", "next": "/metrics"})
        assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
        assert "This is not the token" in wrong.text and 'value="/metrics"' in wrong.text
        right = client.post("/sign-in", data={"token": TOKEN, "next": "/metrics?x=1"}, follow_redirects=False)
        assert (right.status_code, right.headers["location"]) == (303, "/metrics?x=1")
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie and "Secure" not in cookie
        assert TOKEN not in cookie
        assert client.get("/metrics").status_code == 200
        assert client.post("/documents").status_code == 401
        assert client.post("/sign-in", data={"token": TOKEN}, headers={"origin": "https://10.0.0.1"},
                           follow_redirects=False).headers["set-cookie"].endswith("Secure")  # fmt: skip


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "", "/a\r\nb", "x"]
)
def test_the_form_leads_nowhere_else(settings: Settings, wanted: str) -> None:
    """Whatever `next` says, a browser stays with this service."""
    with whole(settings) as client:
        answer = client.post("/sign-in", data={"token": TOKEN, "next": wanted}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_form_of_a_stranger(settings: Settings) -> None:
    """A form with thousands of fields, or of megabytes, signs nobody in."""
    with whole(settings) as client:
        bodies = [b"a=1&" * 20 + b"token=" + TOKEN.encode(), b"token=" + b"x" * 20_000, b"\xff\xfe", b""]
        assert [client.post("/sign-in", content=body).status_code for body in bodies] == [401] * 4


def test_sessions_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of 30 days ago, of another token, of another time or of no form at all is none."""
    access, other = Access.of(GUARDED), Access.of(replace(GUARDED, service_token="x" * 20))

    def is_one(value: str, of: Access = access) -> bool:
        return of.has_session(Headers({"cookie": f"a=b; {COOKIE}={value}"}))

    value = access.new_session()
    until, _, digest = value.partition(".")
    assert is_one(value)
    assert not is_one(value, other) and not is_one(value, Access.of(LOCAL))
    forged = [f"{int(until) + 1}.{digest}", until, "", ".", f"-1.{digest}", f"{'9' * 13}.{digest}", digest, "é.é"]
    assert [is_one(one) for one in forged] == [False] * len(forged)
    monkeypatch.setattr(access_module.time, "time", lambda: int(until) + 1.0)
    assert not is_one(value)


def test_headers_of_every_answer() -> None:
    """Success, refusal, unknown path and failure alike: no script, no frame, no guess at types, no copy kept."""
    client = client_of(GUARDED)
    for answer in (client.get("/said"), client.post("/said"), client.get("/nowhere"), client.get("/broken")):
        assert answer.headers["content-security-policy"] == (
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        )
        expected = {
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
        }
        assert {name: answer.headers[name] for name in expected} == expected
    assert client.get("/cached").headers["cache-control"] == "max-age=600"


def test_no_traceback_leaves(caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody handled is one sentence for the client, and a place without a text in the log."""
    answer = client_of(LOCAL).get("/broken")
    assert (answer.status_code, answer.json()["error"]) == (500, "InternalError")
    assert "Traceback" not in answer.text and "secret" not in answer.text
    assert "ValueError at test_service_security.py:" in caplog.text and "secret" not in caplog.text


def test_half_an_answer_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    """An answer that fails in the middle is not ended as if it were whole."""
    with pytest.raises(ConnectionError):
        TestClient(client_of(LOCAL).app, base_url="http://127.0.0.1").get("/half")
    assert "secret" not in caplog.text


def test_errors_have_one_form(settings: Settings) -> None:
    """A bad parameter, an unknown path and a wrong method are JSON with a reason and a sentence."""
    with whole(settings) as client:
        client.headers.update(BEARER)
        answers = [client.get("/search.json?top=0"), client.get("/no/such"), client.post("/metrics")]
    assert [(answer.status_code, answer.json()["error"]) for answer in answers] == [
        (400, "BadParameter"), (404, "NotFound"), (405, "MethodNotAllowed"),
    ]  # fmt: skip
    assert set(answers[2].headers["allow"].split(", ")) == {"GET", "HEAD"}
