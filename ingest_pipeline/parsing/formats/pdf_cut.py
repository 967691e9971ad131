"""Cuts pages out of a PDF: by pdfium; by pypdf where pdfium fails."""

from __future__ import annotations

import logging
import os
from typing import Any, BinaryIO

from ingest_pipeline.errors import FileTooLarge, IngestError, UnreadableDocument
from ingest_pipeline.parsing.formats import pypdf_walker
from ingest_pipeline.parsing.formats.pdf import BLANK_PAGES_TRIED, opened_by_pdfium, password_needed
from ingest_pipeline.parsing.request import CutRequest

logger = logging.getLogger(__name__)
LEADING_ELSEWHERE = ("/Annots", "/B")
"""Entries of a page from which other pages can be reached: links and article threads. pypdf copies whatever an object
refers to, so a page with a table of contents would bring the whole document. pdfium leaves such pages out by itself."""


class BlankPages(Exception):
    """Pdfium finds nothing on the pages: they are blank, or the file is damaged in a way that it does not notice."""


class LimitedOutput:
    """The file into which a library writes: stops it at a limit, and keeps the error that pdfium ignores."""

    def __init__(self, stream: BinaryIO, request: CutRequest) -> None:
        self._stream, self._request = stream, request
        self.size_bytes = 0
        self._error: Exception | None = None

    def write(self, data: Any) -> int:
        """Write all of a bytes-like object.

        Raises:
            FileTooLarge: the output exceeds the limit.
        """
        try:
            self._write(data)
        except Exception as error:
            # Raised again by `check`: ctypes drops what a callback raises, and FPDF_SaveAsCopy reports success.
            self._error = error
            raise
        return len(data)

    def _write(self, data: Any) -> None:
        if self.size_bytes + len(data) > self._request.max_bytes:
            raise too_large(self._request)
        self._stream.write(data)
        self.size_bytes += len(data)

    def tell(self) -> int:
        """Return the position, which is always the end; pypdf needs it for its table of objects."""
        return self.size_bytes

    def flush(self) -> None:
        """Write what is buffered; pypdf calls it."""
        self._stream.flush()

    def restart(self) -> None:
        """Drop what was written."""
        self._stream.seek(0)  # first, because it writes what is buffered
        os.ftruncate(self._stream.fileno(), 0)
        self.size_bytes, self._error = 0, None

    def check(self) -> None:
        """Write what is buffered; raise the error of an earlier write."""
        if self._error is not None:
            raise self._error
        self.flush()


def too_large(request: CutRequest) -> FileTooLarge:
    """Return the refusal of pages that are larger than the output may be."""
    limit = f"the limit is {request.max_bytes:,} bytes"
    return FileTooLarge(f"{request.name}: pages {request.page_from} to {request.page_to} are too large: {limit}")


def cut_pdf(stream: BinaryIO, request: CutRequest, output: LimitedOutput) -> int:
    """Write the requested pages as a PDF; return how many there are.

    The output is not encrypted and has neither outline nor form. Where pdfium fails it has no annotations, either.

    Raises:
        EncryptedDocument, FileTooLarge, UnreadableDocument: see `errors.py`; the output is not complete.
    """
    # Outside of the `try`: an import that fails is out of memory, and pypdf would need more of it than pdfium.
    import pypdfium2  # noqa: F401

    try:
        return _cut_by_pdfium(stream, request, output)
    except (MemoryError, IngestError):
        raise
    except BlankPages:
        return _cut_blank(stream, request, output)
    except Exception as error:  # on damaged files pdfium and ctypes raise errors of many types
        logger.info("cut: pdfium: %s", type(error).__name__)
    output.restart()
    return _cut_by_pypdf(stream, request, output)


def _cut_blank(stream: BinaryIO, request: CutRequest, output: LimitedOutput) -> int:
    """Cut pages by pypdf, which may find text where pdfium finds nothing; by pdfium after all where pypdf fails."""
    try:
        return _cut_by_pypdf(stream, request, output)
    except UnreadableDocument:
        output.restart()
        return _cut_by_pdfium(stream, request, output, blank=True)


def _cut_by_pdfium(stream: BinaryIO, request: CutRequest, output: LimitedOutput, *, blank: bool = False) -> int:
    import pypdfium2

    # Opened for each cut: pdfium keeps what it has read of a document until the document is closed.
    document, _ = opened_by_pdfium(stream, request)
    target = pypdfium2.PdfDocument.new()
    try:
        indices = _indices(request, len(document))
        if not blank and all(_is_blank(document, index) for index in indices[:BLANK_PAGES_TRIED]):
            raise BlankPages
        target.import_pages(document, indices)
        if len(target) != len(indices):
            raise pypdfium2.PdfiumError(f"{len(target)} of {len(indices)} pages")
        target.save(output)
        output.check()
        return len(indices)
    finally:
        target.close()
        document.close()


def _is_blank(document: Any, index: int) -> bool:
    """Return whether pdfium finds nothing on a page; a scan has an image."""
    import pypdfium2.raw as pdfium

    page = document[index]
    try:
        return not pdfium.FPDFPage_CountObjects(page.raw) and not pdfium.FPDFPage_GetAnnotCount(page.raw)
    finally:
        page.close()


def _indices(request: CutRequest, count: int) -> list[int]:
    """Return the indices of the requested pages in a document of so many pages."""
    import pypdfium2

    if not count:  # a damaged page tree, which pypdf may still walk
        raise pypdfium2.PdfiumError("no pages")
    if request.page_from > count:
        raise _past_the_end(request, count)
    return list(range(request.page_from - 1, min(request.page_to, count)))


def _cut_by_pypdf(stream: BinaryIO, request: CutRequest, output: LimitedOutput) -> int:
    from pypdf import PdfWriter

    try:
        with pypdf_walker.opened(stream, request.passwords) as document:
            writer, last = PdfWriter(), 0
            for last, page in document.pages_to(request.page_to):
                if last >= request.page_from:
                    writer.add_page(_alone(page))
            if last < request.page_from:
                raise _past_the_end(request, last)
            writer.write(output)
            output.check()
            return last - request.page_from + 1
    except pypdf_walker.PasswordNeeded:
        raise password_needed(request) from None
    except pypdf_walker.Damaged as error:
        raise UnreadableDocument(f"{request.name}: neither pdfium nor pypdf can cut it: {error}") from None


def _alone(page: Any) -> Any:
    for key in LEADING_ELSEWHERE:
        page.pop(key, None)
    return page


def _past_the_end(request: CutRequest, count: int) -> UnreadableDocument:
    return UnreadableDocument(f"{request.name}: no page {request.page_from}: the document has {count}")
