"""The protocol between parent and child: events as length-prefixed JSON over a Unix socket.

JSON, not pickle: the child reads hostile files, and if one takes it over, it must not be able to run code in the
parent. A file is passed as an open descriptor, so the child needs neither its path nor the right to open it: the
document, and for a cut the file into which the child writes.
"""

from __future__ import annotations

import json
import math
import os
import select
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, get_type_hints

from ingest_pipeline.models import (
    CutPages,
    Done,
    Gap,
    Heading,
    Page,
    ParseCost,
    ParseEvent,
    ParseWarning,
    Properties,
)

MAX_MESSAGE_BYTES = 1024 * 1024  # a piece of a page has at most 64 Ki characters of at most 4 bytes, plus escapes
MAX_PAGE_CHARACTERS = 64 * 1024
OUT_OF_MEMORY_EXIT = 77
"""The child's exit code when memory ran out while it reported that memory ran out."""
MAX_NUMBER = 2**53  # exact in every JSON reader, and within a bigint of Postgres
LENGTH = struct.Struct("!I")

Message = dict[str, Any]
Kinds = dict[str, type]
PARSE_KINDS: Kinds = {
    "page": Page,
    "gap": Gap,
    "heading": Heading,
    "warning": ParseWarning,
    "properties": Properties,
    "cost": ParseCost,
    "done": Done,
}
"""The answers to the request to parse a file."""
CUT_KINDS: Kinds = {"cost": ParseCost, "cut": CutPages}
"""The answers to the request to cut pages."""
MAX_DESCRIPTORS = 2  # of the document, and of the output of a cut
NAMES = {event: kind for kind, event in (PARSE_KINDS | CUT_KINDS).items()}
TYPES = {event: get_type_hints(event) for event in NAMES}


class ProtocolError(Exception):
    """The other side sent a message that is not in the protocol."""


class Disconnected(Exception):
    """The other side closed the connection."""


class DeadlinePassed(Exception):
    """No message arrived in time."""


def encode(event: ParseEvent | CutPages) -> Message:
    """Return an event as a message."""
    return {"kind": NAMES[type(event)], **asdict(event)}


def decode(message: Message, kinds: Kinds = PARSE_KINDS) -> Any:
    """Return the event in a message from the child; all fields must be present and of the right type.

    Args:
        message: as received.
        kinds: the answers that the request allows.

    Raises:
        ProtocolError: the message is not an event.
    """
    kind = kinds.get(message.pop("kind"))
    if kind is None or message.keys() != TYPES[kind].keys():
        raise ProtocolError("not an event")
    for name, expected in TYPES[kind].items():
        if not _is_of(message[name], expected):
            raise ProtocolError(f"{NAMES[kind]}: {name} is of the wrong type")
    return kind(**message)


def _is_of(value: object, expected: Any) -> bool:
    if isinstance(value, bool):  # first, because bool is a subclass of int
        return expected is bool
    if expected is float:
        return isinstance(value, int | float) and math.isfinite(value)
    if expected is int:
        return isinstance(value, int) and 0 <= value <= MAX_NUMBER
    return isinstance(value, expected) and (not isinstance(value, int) or 0 <= value <= MAX_NUMBER)


def send(sock: socket.socket, message: Message, descriptors: tuple[int, ...] = ()) -> None:
    """Send one message together with open file descriptors."""
    body = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
    # The descriptors go with the prefix, which is small enough for a single sendmsg.
    socket.send_fds(sock, [LENGTH.pack(len(body))], list(descriptors))
    sock.sendall(body)


def receive(sock: socket.socket, *, deadline: float | None = None) -> Message:
    """Return the next message.

    Args:
        sock: a blocking Unix stream socket.
        deadline: `time.monotonic()` value after which waiting ends; None waits without limit.

    Raises:
        DeadlinePassed, Disconnected, ProtocolError: see their docstrings.
    """
    (length,) = LENGTH.unpack(_read_exactly(sock, LENGTH.size, deadline))
    return _decode(sock, length, deadline)


def receive_with_descriptors(sock: socket.socket) -> tuple[Message, tuple[int, ...]]:
    """Return the next message and the descriptors sent with it; used by the child, waits without limit.

    The caller closes the descriptors; of more than MAX_DESCRIPTORS the kernel closes the rest.
    """
    prefix, descriptors, _, _ = socket.recv_fds(sock, LENGTH.size, MAX_DESCRIPTORS)
    try:
        if not prefix:
            raise Disconnected
        prefix += _read_exactly(sock, LENGTH.size - len(prefix), None)
        (length,) = LENGTH.unpack(prefix)
        return _decode(sock, length, None), tuple(descriptors)
    except BaseException:
        close_all(descriptors)
        raise


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors that nothing reads."""
    for descriptor in descriptors:
        os.close(descriptor)


def _decode(sock: socket.socket, length: int, deadline: float | None) -> Message:
    if length > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a message of {length} bytes")
    try:
        message = json.loads(_read_exactly(sock, length, deadline))
    except (ValueError, RecursionError) as error:
        raise ProtocolError("not JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ProtocolError("no kind")
    return message


def _read_exactly(sock: socket.socket, length: int, deadline: float | None) -> bytes:
    pieces = bytearray()
    while len(pieces) < length:
        # Checked before each read: a child that sends one byte at a time cannot extend its deadline.
        if deadline is not None and not select.select([sock], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise DeadlinePassed
        try:
            piece = sock.recv(min(length - len(pieces), 65536))
        except ConnectionError:
            raise Disconnected from None
        if not piece:
            raise Disconnected
        pieces += piece
    return bytes(pieces)
