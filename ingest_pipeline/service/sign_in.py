"""The form that asks a person for the token: a browser cannot send it in a header."""

from __future__ import annotations

import re
from html import escape
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ingest_pipeline.service.access import COOKIE, SESSION_SECONDS, Access
from ingest_pipeline.service.state import service_of

SIGN_IN = "/sign-in"
MOST_BYTES = 8192
OWN_PATH = re.compile(r"/(?![/\\])[ -\[\]-~]*")
"""A path of this service: `//host` and `/\\host` would lead to another one."""
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Sign in</title>
<main>
<h1>Sign in</h1>
{note}<form method="post" action="{action}">
<input type="hidden" name="next" value="{next}">
<p><label>Token <input type="password" name="token" required autofocus autocomplete="current-password"></label>
<p><button>Sign in</button>
</form>
</main>
"""
WRONG = "<p role=alert>This is not the token.</p>\n"


def routes() -> list[Route]:
    """Return the routes of this module."""
    return [Route(SIGN_IN, show), Route(SIGN_IN, sign_in, methods=["POST"])]


def show(request: Request) -> Response:
    """Show the form."""
    return sign_in_page(request.query_params.get("next", "/"))


async def sign_in(request: Request) -> Response:
    """Give a browser that shows the token a session, and lead it to where it wanted to go."""
    fields = await _fields(request)
    wanted = _own_path(fields.get("next", "/"))
    access = Access.of(service_of(request).settings)
    if not access.is_token(fields.get("token", "")):
        return sign_in_page(wanted, status=401, note=WRONG)
    answer = RedirectResponse(wanted, 303)
    # A proxy with TLS before the service shows in what the browser takes for the origin.
    secure = request.headers.get("origin", "").startswith("https:")
    answer.set_cookie(
        COOKIE, access.new_session(), max_age=SESSION_SECONDS, httponly=True, samesite="strict", secure=secure
    )
    return answer


def sign_in_page(wanted: str, *, status: int = 200, note: str = "") -> Response:
    """Return the form.

    Args:
        wanted: the path that is shown afterwards.
        status: of HTTP.
        note: a line above the form, as HTML.
    """
    text = PAGE.format(note=note, action=SIGN_IN, next=escape(_own_path(wanted)))
    return HTMLResponse(text, status)


def _own_path(wanted: str) -> str:
    return wanted if OWN_PATH.fullmatch(wanted) else "/"


async def _fields(request: Request) -> dict[str, str]:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            return {}
    try:
        parsed = parse_qs(body.decode("utf-8", "replace"), max_num_fields=8)
    except ValueError:  # more fields than a form of ours has
        return {}
    return {name: values[0] for name, values in parsed.items()}
