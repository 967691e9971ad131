"""Requests that are not served: with a status of HTTP and one line of JSON, never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from ingest_pipeline.errors import (
    AccessRefused,
    CallError,
    ConfigurationError,
    FileTooLarge,
    IngestError,
    InputRejected,
    RunError,
    ServiceUnavailable,
    StoreUnavailable,
    UploadRefused,
)
from ingest_pipeline.service.parameters import BadParameter
from ingest_pipeline.service.refusals import refusal

logger = logging.getLogger(__name__)
BAD_REQUEST, TIMED_OUT, CONFLICT, TOO_LARGE = 400, 408, 409, 413
BROKEN, FAULTY_SERVER, BUSY, NO_ROOM = 500, 502, 503, 507
CLIENT_GONE = 499
"""nginx's number for a client that broke off; nobody reads it."""
STATUSES: tuple[tuple[type[IngestError], int], ...] = (
    (FileTooLarge, TOO_LARGE),
    (BadParameter, BAD_REQUEST),
    (InputRejected, BAD_REQUEST),
    (CallError, FAULTY_SERVER),
    (AccessRefused, FAULTY_SERVER),
    (ServiceUnavailable, FAULTY_SERVER),
    (StoreUnavailable, BUSY),
    (RunError, BUSY),
    (ConfigurationError, BROKEN),
)
"""The first type that fits says the status."""
Endpoint = Callable[[Any, Request], Awaitable[Response]]


class Refused(IngestError):
    """A request that is not served.

    Args:
        status: of HTTP.
        message: what is wrong and what to do; shown to the client.
        error: a short name of the reason.
        retry_after_seconds: when to ask again; 0 says nothing about it.
    """

    def __init__(self, status: int, message: str, *, error: str = "BadRequest", retry_after_seconds: int = 0) -> None:
        self.status, self.error, self.retry_after_seconds = status, error, retry_after_seconds
        super().__init__(message)


def refusal_of(error: IngestError) -> Refused:
    """Return how a client is told about an error."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, UploadRefused):
        message = str(error).replace("--replace", "replace=1")  # the command's way to say it
        return Refused(_upload_status(error), message, error=error.reason)
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), BROKEN)
    return Refused(status, str(error), error=error.reason, retry_after_seconds=5 if status == BUSY else 0)


def refusal_headers(refused: Refused) -> dict[str, str]:
    """Return the headers of a refusal.

    The connection is closed: the rest of a body that was not read would be taken for the next request, or be read for
    nothing.
    """
    more = {"Retry-After": str(refused.retry_after_seconds)} if refused.retry_after_seconds else {}
    return {"Connection": "close"} | more


def refusal_response(error: IngestError) -> JSONResponse:
    """Return the answer to a request that is not served."""
    refused = refusal_of(error)
    return refusal(refused.status, refused.error, str(refused), refusal_headers(refused))


def refusing(endpoint: Endpoint) -> Endpoint:
    """Answer for an endpoint that raises why it does not serve a request."""

    @wraps(endpoint)
    async def answered(self: Any, request: Request) -> Response:
        try:
            return await endpoint(self, request)
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        except IngestError as error:
            response = refusal_response(error)
            if response.status_code >= BROKEN:
                logger.warning("%s: %s", request.url.path, refusal_of(error).error)
            return response

    return answered


def _upload_status(error: UploadRefused) -> int:
    if error.is_taken:
        return CONFLICT
    cause = error.__cause__
    if isinstance(cause, NotADirectoryError | IsADirectoryError | FileExistsError):
        return CONFLICT
    return NO_ROOM if isinstance(cause, OSError) else BAD_REQUEST
