"""E-mail: a page for each message, its headers and its body; attachments are named, not read."""

from __future__ import annotations

import codecs
import email
import email.policy
import io
import re
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any, BinaryIO

from ingest_pipeline.models import Gap, OutlineEntry, Page
from ingest_pipeline.parsing.encoding import decoded, decodes, detect_encoding
from ingest_pipeline.parsing.html import streamed_html
from ingest_pipeline.parsing.request import Found, ParseFacts, ParseRequest

HEADERS = ("From", "To", "Cc", "Date", "Subject")
MAX_MESSAGE_BYTES = 16 * 1024**2  # of a mailbox; the stdlib's parser holds a message three times
FROM_LINE = re.compile(rb"From \S+ .*\d")
"""`From a@b Mon Sep 17 00:00:00 2001`: without a date it is a sentence."""
MAX_LINE_BYTES = 64 * 1024


def eml_pages(stream: BinaryIO, request: ParseRequest, facts: ParseFacts) -> Iterator[Found]:
    """Yield one message."""
    facts.total_pages = 1
    yield from _message_or_gap(stream.read(), 1, facts)


def mbox_pages(stream: BinaryIO, request: ParseRequest, facts: ParseFacts) -> Iterator[Found]:
    """Yield the messages of a mailbox; one that is too large to be read at once is a gap."""
    for number, message in enumerate(_messages(stream), start=1):
        if number < request.first_page:
            continue
        if message is None:
            yield Gap(number, number, f"a message of over {MAX_MESSAGE_BYTES:,} bytes")
        else:
            yield from _message_or_gap(message, number, facts)


def _messages(stream: BinaryIO) -> Iterator[bytes | None]:
    """Yield each message's bytes, None for one that is too large: a line `From ` after an empty one begins the next."""
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


def _message_or_gap(raw: bytes, number: int, facts: ParseFacts) -> Iterator[Found]:
    """Yield a message; where the stdlib's parser trips over it, or finds no text in all of it, a gap."""
    try:
        found = list(_message_pages(raw, number, facts))
    except MemoryError:
        raise
    except Exception as error:  # it meets damaged headers with errors of many kinds
        found = [Gap(number, number, f"message {number}: {type(error).__name__}: {error}")]
    yield from found


def _message_pages(raw: bytes, number: int, facts: ParseFacts) -> Iterator[Found]:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    subject = _header(message, "Subject")
    if subject:
        facts.title = facts.title or subject
        yield OutlineEntry(1, subject, number)
    attached = [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]
    if attached:
        facts.warnings.append(f"message {number}: attachments not read: {', '.join(attached)}")
    headers = "\n".join(f"{name}: {text}" for name in HEADERS if (text := _header(message, name)))
    yield Page(number, f"{headers}\n\n{_body(message, facts)}", subject)


def _header(message: EmailMessage, name: str) -> str | None:
    try:
        return " ".join(str(message[name]).split()) if message[name] is not None else None
    except Exception:  # the stdlib's header parser trips over some damaged headers in many ways
        return None


def _body(message: EmailMessage, facts: ParseFacts) -> str:
    """Return what people read: the preferred alternative, else every part that is text, else what there is."""
    part = message.get_body(preferencelist=("plain", "html"))
    parts = [part] if part is not None else [one for one in message.walk() if one.get_content_maintype() == "text"]
    text = "\n\n".join(text for one in parts if (text := _part_text(one, facts).strip()))
    if text or not message.get_payload():
        return text
    facts.warnings.append("a message without a part that is text: read as it stands")
    payload: Any = message.get_payload()
    return "\n\n".join(str(one) for one in (payload if isinstance(payload, list) else [payload]))


def _part_text(part: Any, facts: ParseFacts) -> str:
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else str(part.get_payload() or "").encode("utf-8", "replace")
    declared = part.get_content_charset()
    if part.get_content_type() == "text/html":
        found = streamed_html(lambda: io.BytesIO(content), ParseFacts(title="", warnings=facts.warnings), number=1)
        return "\n".join(page.text for page in found if isinstance(page, Page))
    encoding, warning = (
        (declared, None)
        if declared and decodes(content, declared)
        else detect_encoding(lambda: io.BytesIO(content), declared=declared)
    )
    facts.warnings += [warning] if warning else []
    with decoded(io.BytesIO(content), encoding) as text:
        return text.read()
