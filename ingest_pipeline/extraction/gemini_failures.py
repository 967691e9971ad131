"""One name for all the ways in which Gemini's calls fail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ingest_pipeline.errors import AccessRefused, CallFailed, InputRejected, RateLimited
from ingest_pipeline.remote.openai_client import MAX_MESSAGE_CHARACTERS, failure_of_status, retry_after_seconds

if TYPE_CHECKING:
    import httpx2
    from google.genai.errors import APIError

UPLOAD_COMMAND, UPLOAD_STATUS = "x-goog-upload-command", "x-goog-upload-status"


class NameTaken(InputRejected):
    """There is a file with this name on the server."""


class NotThere(InputRejected):
    """There is no file with this name on the server."""


def raise_for_upload(response: httpx2.Response) -> None:
    """Raise for a piece of an upload that went wrong; for the HTTP client's hook.

    google-genai sends such a piece three times within seven seconds, whatever the error is: also after a 429.

    Raises:
        APIError: the server refuses the piece.
        CallFailed: its answer does not say what became of the piece.
    """
    from google.genai.errors import APIError

    if "upload" not in response.request.headers.get(UPLOAD_COMMAND, ""):
        return
    APIError.raise_for_response(response)
    if UPLOAD_STATUS not in response.headers:
        raise CallFailed("the server does not say what became of an upload")


@contextmanager
def named_failures() -> Iterator[None]:
    """Raise what a call of google-genai raises as one of our errors.

    Raises:
        RateLimited, CallFailed, InputRejected, AccessRefused: see their docstrings.
        NameTaken, NotThere: of remote files.
    """
    import httpx2
    from google.genai import errors

    try:
        yield
    except errors.APIError as error:
        raise _failure(error) from None
    except httpx2.HTTPError as error:
        raise CallFailed(f"{type(error).__name__}: {error}") from None
    except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
        # A page of HTML, half a JSON document: the client raises whatever it stumbles over.
        raise CallFailed(f"the answer is not of the protocol ({type(error).__name__})") from None


def _failure(error: APIError) -> Exception:
    text = f"HTTP {error.code}: {_message(error)}"
    details = _details(error)
    if error.code == 409:
        return NameTaken(text)
    if _no_file(error):
        return NotThere(text)
    if any(detail.get("reason") == "API_KEY_INVALID" for detail in details):  # with status 400
        return AccessRefused(text)
    if error.code == 400 and error.status == "FAILED_PRECONDITION":  # the account's country or billing
        return AccessRefused(text)
    if error.code == 429:
        return _rate_limit(text, details, _headers(error))
    return failure_of_status(int(error.code or 0), _message(error), headers=_headers(error))


def _no_file(error: APIError) -> bool:
    # A file that is not there is answered with 403, so that nobody learns the names of others' files.
    if error.code == 403:
        return "may not exist" in str(error.message)
    return error.code == 404 and "/files/" in str(getattr(error.response, "url", ""))


def _rate_limit(text: str, details: list[dict[str, Any]], headers: Any) -> Exception:
    quotas = [str(one.get("quotaId")) for detail in details for one in _dicts(detail.get("violations"))]
    if any("PerDay" in quota for quota in quotas):  # its RetryInfo says seconds, and it lasts until midnight
        return AccessRefused(f"{text}; the quota of the day is spent")
    waits = [_seconds(detail.get("retryDelay")) for detail in details]
    return RateLimited(text, next((wait for wait in waits if wait is not None), retry_after_seconds(headers)))


def _seconds(delay: object) -> float | None:
    """Return the seconds of a protobuf Duration: `7s`, `0.5s`."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)s", delay) if isinstance(delay, str) else None
    return float(match[1]) if match else None


def _details(error: APIError) -> list[dict[str, Any]]:
    body = error.details if isinstance(error.details, dict) else {}
    inner = body.get("error")
    return _dicts(inner.get("details")) if isinstance(inner, dict) else []


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _message(error: APIError) -> str:
    """Return the server's reason in one line; of a page of HTML its status only."""
    message = error.message if isinstance(error.message, str) else ""
    if not message or message.lstrip().startswith("<"):
        message = str(error.status or "no reason")
    return " ".join(message.split())[:MAX_MESSAGE_CHARACTERS]


def _headers(error: APIError) -> Any:
    return getattr(error.response, "headers", None) or {}
