"""OLE, Office's container format before 2007: refused with a message that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from ingest_pipeline.errors import EncryptedDocument, UnsupportedFormat
from ingest_pipeline.models import ParseEvent
from ingest_pipeline.parsing.request import ParseRequest

ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")  # the OLE stream with an encrypted .docx, .pptx or .xlsx
READ_BYTES = 256 * 1024


def ole_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Refuse the file.

    Raises:
        EncryptedDocument: an encrypted document in a current format.
        UnsupportedFormat: a document in a format before 2007, or an Outlook message.
    """
    tail = b""  # the name may be split between two reads
    while piece := stream.read(READ_BYTES):
        if ENCRYPTED_PACKAGE in tail + piece:
            raise EncryptedDocument(f"{request.name}: the Office document needs a password; save it without one")
        tail = piece[-len(ENCRYPTED_PACKAGE) :]
    raise UnsupportedFormat(
        f"{request.name}: an Office document of before 2007 or an Outlook message; save as .docx, .pptx, .csv or .eml"
    )
