"""One answer for each kind of error: a page for people, JSON for programs, never a traceback."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ingest_pipeline.errors import BadSetting, ConfigurationError, IngestError, ModelMismatch, RunError
from ingest_pipeline.service.refusals import refusal
from ingest_pipeline.service.rendering import html_page

logger = logging.getLogger(__name__)
STATUSES: tuple[tuple[type[IngestError], int], ...] = (
    (BadSetting, 503),  # the service's own: the model cannot be used
    (ModelMismatch, 503),
    (ConfigurationError, 400),  # a parameter of the request
    (RunError, 503),  # the store, or a server that embeds
)
"""The first kind that an error is of; all others are 500."""
HINTS = {
    400: "Change the address, or go back and correct the field.",
    404: "It may have been erased, or the address is wrong.",
    503: "Try again in a moment; `ingest doctor` says what is missing.",
}
PLAIN = {404: "nothing is at this address", 405: "this address cannot be asked in this way"}
"""For errors that say no more than their status."""
RETRY_SECONDS = "5"


def handlers() -> Mapping[Any, Any]:
    """Return who answers for each kind of exception; for all others `Security` does, by `defect_response`."""
    return {HTTPException: _of_http, IngestError: _of_ours}


def error_response(request: Request, status: int, reason: str, message: str) -> Response:
    """Return an error as a page, or as JSON where a program asks.

    Args:
        request: that is answered.
        status: of HTTP.
        reason: a name that programs compare.
        message: what is wrong, for people.
    """
    headers = {"Retry-After": RETRY_SECONDS} if status == 503 else {}
    if wants_json(request):
        return refusal(status, reason, message, headers)
    content = {"status": status, "phrase": HTTPStatus(status).phrase, "message": message, "hint": HINTS.get(status, "")}
    response = html_page(request, "error.html", content, status=status)
    response.headers.update(headers)
    return response


def wants_json(request: Request) -> bool:
    """Return whether a program asks: by the ending of the path, a method that is no page's, or what it accepts."""
    reads = request.method in ("GET", "HEAD")
    return not reads or request.url.path.endswith(".json") or "text/html" not in request.headers.get("accept", "")


def status_of(error: IngestError) -> int:
    """Return the status of HTTP for an error."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


def _of_http(request: Request, error: HTTPException) -> Response:
    if error.status_code < 400:  # no error: `304`
        return Response(status_code=error.status_code, headers=error.headers)
    phrase = HTTPStatus(error.status_code).phrase
    message = error.detail if error.detail != phrase else PLAIN.get(error.status_code, phrase)
    response = error_response(request, error.status_code, phrase.replace(" ", ""), message)
    response.headers.update(error.headers or {})
    return response


def _of_ours(request: Request, error: IngestError) -> Response:
    status = status_of(error)
    if status >= 500:
        logger.warning("a request was answered with %d: %s", status, error.reason)
    return error_response(request, status, error.reason, str(error))


def defect_response(request: Request, error: BaseException) -> Response:
    """Log where an error that nobody handled came from, and return what the client is told: nothing of it.

    Its message is not logged, for it may have a text or a name of a document in it.
    """
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(frames))
    logger.error("a request failed: %s at %s", type(error).__name__, places)
    return error_response(request, 500, "InternalError", "the service has failed with this request; its log says where")
