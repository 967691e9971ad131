"""The first thing that every request meets: headers on each answer, names of hosts, origins, the token.

Pure ASGI, so that a body of 50 MB is neither read nor held here.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest_pipeline.service.access import Access, is_foreign
from ingest_pipeline.service.errors import defect_response
from ingest_pipeline.service.refusals import refusal
from ingest_pipeline.service.sign_in import SIGN_IN, sign_in_page

HEADER_BYTES = 32 * 1024
"""Of all headers together. The server's own limit counts what has not come whole: more in one packet passes it."""
READING = ("GET", "HEAD")
READING_POSTS = ("/mcp",)
"""Paths whose POST changes nothing: agents ask by one."""
OPEN = ("/healthz", SIGN_IN)
"""Paths that need no token: one tells a balancer whether the service works, the other asks for the token."""
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
STORED = "cache-control"
WRITING_IS_OFF = "writing needs a token: start the service with INGEST_SERVICE_TOKEN"
SHOW_IT = "send the header `Authorization: Bearer TOKEN` with the value of INGEST_SERVICE_TOKEN"
CHALLENGE = {"www-authenticate": 'Bearer realm="ingest"'}


class Security:
    """The outermost middleware: refuses what may not be asked, and lets no error out.

    Args:
        app: what answers the rest.
        access: who may ask what.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = False

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                _add_headers(MutableHeaders(raw=message["headers"]))
            await send(message)

        try:
            await (self._refusal(scope) or self.app)(scope, receive, send_with_headers)
        except Exception as error:
            answer = defect_response(Request(scope), error)
            if began:  # half an answer is out: the connection is all that can be ended
                raise ConnectionError from None
            await answer(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            return refusal(431, "LargeHeaders", f"headers of at most {HEADER_BYTES:,} bytes")
        if not self.access.knows(headers.get("host")):
            return refusal(421, "UnknownHost", "the service is not called by this name: see INGEST_SERVICE_NAMES")
        if is_foreign(headers, writes=method not in READING):
            return refusal(403, "ForeignOrigin", "a page of another site must not call this service")
        if path in OPEN:
            return None
        if method not in READING and path not in READING_POSTS:
            return self._of_writer(headers)
        return self._of_reader(scope, headers)

    def _of_writer(self, headers: Headers) -> Response | None:
        if not self.access.token:
            return refusal(403, "NoToken", WRITING_IS_OFF)
        return None if self.access.shows_token(headers) else refusal(401, "WrongToken", SHOW_IT, CHALLENGE)

    def _of_reader(self, scope: Scope, headers: Headers) -> Response | None:
        access = self.access
        if access.is_local(headers) or access.shows_token(headers) or access.has_session(headers):
            return None
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            path, query = (scope[part].decode("latin-1") for part in ("raw_path", "query_string"))
            return sign_in_page(f"{path}?{query}" if query else path, status=401)
        return refusal(401, "WrongToken", SHOW_IT, CHALLENGE)


def _add_headers(headers: MutableHeaders) -> None:
    for name, value in HEADERS.items():
        headers.setdefault(name, value)  # the picture of a file's memory has a stricter policy of its own
    headers.setdefault(STORED, "no-store")
