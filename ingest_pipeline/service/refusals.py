"""What a request is refused with: a status, a reason for programs, a sentence for people. Never a traceback."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

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
