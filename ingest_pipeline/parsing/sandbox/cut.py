"""The parent's side of a cut: what must hold of the output before and after the child writes it."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import BinaryIO

from ingest_pipeline.models import CutPages, ParseCost
from ingest_pipeline.parsing.request import CutRequest
from ingest_pipeline.parsing.sandbox.protocol import CUT_KINDS, Message, ProtocolError, decode, receive

SIGNATURE = b"%PDF-"
FULL_BYTES = 1024**2  # a disk with less free space than a page of an image may take is full


def prepare(stream: BinaryIO, output: BinaryIO) -> None:
    """Set both files to their start, and empty the output."""
    os.ftruncate(output.fileno(), 0)
    for file in (stream, output):  # duplicates of a descriptor share its position, and a child moved it
        os.lseek(file.fileno(), 0, os.SEEK_SET)


def answer(sock: socket.socket, deadline_seconds: float) -> CutPages | Message:
    """Return what the child says of the output, or the message of its failure.

    Raises:
        DeadlinePassed, Disconnected, ProtocolError: see `protocol.py`.
    """
    deadline = time.monotonic() + deadline_seconds  # of all messages: a child cannot extend it by sending costs
    while True:
        message = receive(sock, deadline=deadline)
        if message["kind"] == "failed":
            return message
        event: CutPages | ParseCost = decode(message, CUT_KINDS)
        if isinstance(event, CutPages):
            return event


def check(cut: CutPages, request: CutRequest, output: BinaryIO) -> None:
    """Compare the output with what the child says: a child that a document took over may say anything.

    The bytes behind the signature are not checked: the output is as hostile as the document.

    Raises:
        ProtocolError: it is not as the child says, or not as requested.
    """
    size_bytes = os.fstat(output.fileno()).st_size
    if cut.size_bytes != size_bytes or size_bytes > request.max_bytes:
        raise ProtocolError(f"the output has {size_bytes:,} bytes, {cut.size_bytes:,} were reported")
    if not 1 <= cut.pages <= request.pages:
        raise ProtocolError(f"{cut.pages:,} pages were reported, {request.pages:,} requested")
    if os.pread(output.fileno(), len(SIGNATURE), 0) != SIGNATURE:
        raise ProtocolError("the output is not a PDF")
    os.lseek(output.fileno(), 0, os.SEEK_SET)  # the child moved it


def check_space(output: BinaryIO) -> None:
    """Tell a full disk, which is no fault of the document, from a document that cannot be cut.

    Raises:
        OSError: ENOSPC.
    """
    disk = os.fstatvfs(output.fileno())  # not from the child's message: a document must not be able to end the run
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < FULL_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
