"""What a request is refused with: a status, a reason for programs, a sentence for people. Never a traceback."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping

from starlette.responses import JSONResponse

logger = logging.getLogger(__name__)
RETRY_AFTER = {"retry-after": "2"}


def refusal(status: int, reason: str, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return a refusal.

    Args:
        status: of HTTP.
        reason: a name that programs compare.
        message: what to do about it.
        headers: further ones.
    """
    return JSONResponse({"error": reason, "message": message}, status, headers)


def unexpected(error: BaseException) -> JSONResponse:
    """Log where an error that nobody handled came from, and return what the client is told: nothing of it.

    Its message is not logged, for it may have a text or a name of a document in it.
    """
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(frames))
    logger.error("a request failed: %s at %s", type(error).__name__, places)
    return refusal(500, "InternalError", "the service has failed with this request; its log says where")
