"""The client of the OpenAI protocol, and one name for all the ways in which its calls fail."""

from __future__ import annotations

import email.utils
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingest_pipeline.errors import AccessRefused, BadSetting, CallFailed, InputRejected, RateLimited

if TYPE_CHECKING:
    import openai

KEY_VARIABLE = "OPENAI_API_KEY"
NO_KEY = "none"  # the client wants one; servers of one's own do not
OPENAI_URL = "https://api.openai.com/v1"
REJECTED_CODES = (400, 413, 415, 422)
REFUSED_CODES = (401, 403, 404, 405)
MAX_MESSAGE_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class OpenAiAccess:
    """Where a server is and how long it may take. The key is not here: it is read from the environment when used."""

    url: str = OPENAI_URL
    call_seconds: float = 60.0


def openai_client(access: OpenAiAccess) -> openai.OpenAI:
    """Return a client that makes each call once.

    Raises:
        BadSetting: the client library is not installed, or OpenAI itself is called without a key.
    """
    try:
        import openai
    except ImportError:
        raise BadSetting("INGEST_EMBEDDER", "openai", "pip install 'ingest-pipeline[openai]' first") from None
    from ingest_pipeline.remote.transport import bounded_client

    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key and access.url == OPENAI_URL:
        raise BadSetting(KEY_VARIABLE, "", "the key of your account, in the environment")
    return openai.OpenAI(
        base_url=access.url,
        api_key=key or NO_KEY,
        max_retries=0,  # ours is the one layer of retries
        http_client=bounded_client(call_seconds=access.call_seconds),
    )


@contextmanager
def named_failures() -> Iterator[None]:
    """Raise what a call of the client raises as one of our errors.

    Raises:
        RateLimited, CallFailed, InputRejected, AccessRefused: see their docstrings.
    """
    import openai

    try:
        yield
    except openai.APIStatusError as error:
        raise failure_of_status(
            error.status_code, _message(error), headers=error.response.headers, code=_code(error)
        ) from None
    except openai.APIConnectionError as error:  # also its timeouts
        raise CallFailed(f"{type(error.__cause__ or error).__name__}: {error.__cause__ or error}") from None
    except (openai.OpenAIError, AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
        # A page of HTML, half a JSON document: the client raises whatever it stumbles over.
        raise CallFailed(f"the answer is not of the protocol ({type(error).__name__})") from None


def failure_of_status(status: int, message: str, *, headers: Mapping[str, str], code: str = "") -> Exception:
    """Return the error for an HTTP status of a server."""
    text = f"HTTP {status}: {message}"
    if code == "insufficient_quota":
        return AccessRefused(f"{text}; the quota is spent")
    if status == 429:
        return RateLimited(text, retry_after_seconds(headers))
    if status in REJECTED_CODES:
        return InputRejected(text)
    if status in REFUSED_CODES:
        return AccessRefused(text)
    return CallFailed(text, retry_after_seconds(headers))


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return for how long a server asks to wait: milliseconds, seconds or a date; None where it says nothing usable."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        if not (text := headers.get("retry-after")):
            return None
        try:
            return max(0.0, float(text))
        except ValueError:
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _message(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error.response.reason_phrase or "no reason")[:MAX_MESSAGE_CHARACTERS]


def _code(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("code") or "")
