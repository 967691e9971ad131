"""Office's old container: refused, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from ingest_pipeline.errors import EncryptedDocument, UnsupportedFormat
from ingest_pipeline.models import ParseEvent
from ingest_pipeline.parsing.request import ParseRequest

ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")  # the stream that holds a document of today, encrypted
READ_BYTES = 256 * 1024


def ole_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Refuse it: an encrypted document of today, a document of before 2007, or a message of Outlook.

    Raises:
        EncryptedDocument, UnsupportedFormat: which of them.
    """
    tail = b""
    while piece := stream.read(READ_BYTES):
        if ENCRYPTED_PACKAGE in tail + piece:
            raise EncryptedDocument(f"{request.name}: the Office document needs a password; save it without one")
        tail = piece[-len(ENCRYPTED_PACKAGE) :]
    raise UnsupportedFormat(
        f"{request.name}: an Office document of before 2007 or an Outlook message; save as .docx, .pptx, .csv or .eml"
    )
