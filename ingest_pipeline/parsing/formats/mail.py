"""E-mail: one page for each message, with headers and body; attachments are listed in a warning, not read."""

from __future__ import annotations

import codecs
import email
import email.policy
import io
import logging
import re
from collections.abc import Iterator
from email.errors import CloseBoundaryNotFoundDefect
from email.message import EmailMessage
from typing import Any, BinaryIO

from ingest_pipeline.models import Gap, Heading, Page, ParseEvent, ParseWarning, Properties
from ingest_pipeline.parsing.formats.encoding import decoded, decodes, detect_encoding
from ingest_pipeline.parsing.formats.html import streamed_html
from ingest_pipeline.parsing.request import ParseRequest, drained

logger = logging.getLogger(__name__)
HEADERS = ("From", "To", "Cc", "Date", "Subject")
MAX_MESSAGE_BYTES = 16 * 1024**2  # in a mailbox; the stdlib's parser holds a message three times (docs/findings.md, E8)
FROM_LINE = re.compile(rb"From \S+ .*\d")
"""`From a@b Mon Sep 17 00:00:00 2001`; without digits of a date it may be a sentence of the body."""
BASE64_LINE = re.compile(r"[A-Za-z0-9+/]{50,}={0,2}")
MAX_HEADER_CHARACTERS = 20_000
"""Longer headers are kept undecoded: the stdlib needs 3 GB for 16,000 encoded words in one header."""
MAX_LINE_BYTES = 64 * 1024  # a longer line is read in pieces: a mailbox of one line must not be in memory as a whole


def eml_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield one message."""
    yield Properties(total_pages=1)
    yield from _message_or_gap(stream.read(), 1)


def mbox_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield the messages of a mailbox; a message over 16 MiB is a gap."""
    for number, message in enumerate(_messages(stream), start=1):
        if number < request.first_page:
            continue
        if message is None:
            yield Gap(number, number, f"a message of over {MAX_MESSAGE_BYTES:,} bytes")
        else:
            yield from _message_or_gap(message, number)


def _messages(stream: BinaryIO) -> Iterator[bytes | None]:
    """Yield the bytes of each message, or None if it is too large; a `From ` line after an empty line begins one."""
    parts: list[bytes] = []
    size, after_empty, begun = 0, True, False
    while line := stream.readline(MAX_LINE_BYTES):
        if after_empty and FROM_LINE.match(line.removeprefix(codecs.BOM_UTF8)):
            if begun:
                yield b"".join(parts) if size <= MAX_MESSAGE_BYTES else None
            parts, size, begun = [], 0, True
            continue
        size += len(line)
        if size <= MAX_MESSAGE_BYTES:
            parts.append(line)
        after_empty = not line.strip()
    if parts or begun:
        yield b"".join(parts) if size <= MAX_MESSAGE_BYTES else None


def _message_or_gap(raw: bytes, number: int) -> Iterator[ParseEvent]:
    """Yield the events of a message, or a gap where the stdlib's parser fails on it."""
    try:
        events = list(_message_events(raw, number))  # whole, so that a failure leaves a gap and not half of a message
    except MemoryError:  # concerns the process, not the message
        raise
    except Exception as error:  # on damaged headers it raises errors of many types
        events = [Gap(number, number, f"message {number}: {type(error).__name__}: {error}")]
    yield from events


def _message_events(raw: bytes, number: int) -> Iterator[ParseEvent]:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    subject = _header(message, "Subject")
    if subject:
        yield Properties(subject)
        yield Heading(1, subject, number)
    attached, warnings = list[str](), list[str]()
    body = _body(message, warnings, attached)
    if attached:
        warnings.append(f"message {number}: attachments not read: {', '.join(attached)}")
    if any(isinstance(defect, CloseBoundaryNotFoundDefect) for part in message.walk() for defect in part.defects):
        warnings.append(f"message {number}: it ends before its last part does")
    yield from drained(warnings)
    yield Page(number, f"{_headers(message)}\n\n{body}", subject)


def _headers(message: EmailMessage) -> str:
    return "\n".join(f"{name}: {text}" for name in HEADERS if (text := _header(message, name)))


def _header(message: EmailMessage, name: str) -> str | None:
    raw = next((str(value) for key, value in message.raw_items() if key.lower() == name.lower()), None)
    if raw is None:
        return None
    if len(raw) <= MAX_HEADER_CHARACTERS:
        try:
            return " ".join(str(message[name]).split())
        except MemoryError:
            raise
        except Exception as error:  # on damaged headers the stdlib raises errors of many types
            logger.info("header kept undecoded: %s", type(error).__name__)
    return " ".join(raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace").split())


def _body(message: Any, warnings: list[str], attached: list[str]) -> str:
    """Return the readable text of a whole message, whatever the declared type of its parts."""
    return _text_of(message, warnings, attached, whole=True) or _as_it_stands(message, warnings)


def _text_of(part: Any, warnings: list[str], attached: list[str], *, whole: bool = False) -> str:
    """Return the readable text of a part and its subparts, forwarded messages included.

    Args:
        part: a message or one of its parts.
        warnings: receives the warnings.
        attached: receives the names of attachments, which are not read.
        whole: the part is a whole message: its text is the body even if it is marked as an attachment.
    """
    kind = part.get_content_type()  # a variable, because each call parses the header again
    if kind.startswith("multipart/"):
        if not part.is_multipart():
            return "" if whole else _as_it_stands(part, warnings)
        return _text_of_parts(list(part.iter_parts()), warnings, attached, alternative=kind == "multipart/alternative")
    if kind == "message/rfc822" and part.is_multipart():
        inner = part.get_payload(0)
        return f"{_headers(inner)}\n\n{_body(inner, warnings, attached)}".strip()
    if kind.startswith("text/") and (whole or not part.is_attachment()):
        return _part_text(part, kind, warnings).strip()
    attached.append(part.get_filename() or kind)
    return ""


def _text_of_parts(parts: list[Any], warnings: list[str], attached: list[str], *, alternative: bool) -> str:
    """Return the texts of all parts; of alternatives the plain text, or else the first that is not empty."""
    if not alternative:
        return "\n\n".join(text for part in parts if (text := _text_of(part, warnings, attached)))
    chosen, forwarded = "", []
    typed = ((part.get_content_type(), part) for part in parts)
    for kind, part in sorted(typed, key=lambda entry: entry[0] != "text/plain"):
        text = _text_of(part, [] if chosen else warnings, attached)  # alternatives not chosen may hold attachments
        if kind == "message/rfc822":  # a forwarded message is not an alternative form of the same text
            forwarded.append(text)
        chosen = chosen or text
    return "\n\n".join(dict.fromkeys([chosen, *forwarded]))


def _as_it_stands(part: Any, warnings: list[str]) -> str:
    """Return the raw lines of a part that cannot be split into its parts, without lines of base64."""
    payload = part.get_payload()
    if part.get_content_type() == "text/html" or not isinstance(payload, str) or "\0" in payload:
        return ""  # an HTML mail of images only has no text
    text = "\n".join(line for line in payload.splitlines() if not BASE64_LINE.fullmatch(line)).strip()
    if text:
        warnings.append("a message without a part that is text: read as it stands")
    return text


def _part_text(part: Any, kind: str, warnings: list[str]) -> str:
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else str(part.get_payload() or "").encode("utf-8", "replace")
    declared = part.get_content_charset()
    fits = bool(declared) and decodes(content, declared)
    if kind == "text/html":
        if fits:  # the charset of the message takes precedence over the one that the HTML declares
            content = content.decode(declared, "replace").encode()
        events = list(streamed_html(lambda: io.BytesIO(content), number=1))
        warnings += [event.text for event in events if isinstance(event, ParseWarning)]
        return "\n".join(event.text for event in events if isinstance(event, Page))
    encoding, warning = (declared, None) if fits else detect_encoding(lambda: io.BytesIO(content), declared=declared)
    warnings += [warning] if warning else []
    with decoded(io.BytesIO(content), encoding) as text:
        return text.read()
