"""PDF pages by pdfium, with filled form fields and free text; by pypdf, page by page, where pdfium fails."""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any, BinaryIO

from ingest_pipeline.errors import EncryptedDocument, TooManyPages, UnreadableDocument
from ingest_pipeline.models import Gap, Heading, Page, ParseEvent, ParseWarning, Properties
from ingest_pipeline.parsing.formats import pypdf_walker
from ingest_pipeline.parsing.formats.pdf_annotations import AnnotationText
from ingest_pipeline.parsing.request import CutRequest, ParseRequest, drained

logger = logging.getLogger(__name__)
BLANK_PAGES_TRIED = 3
"""pdfium opens some damaged files as blank pages without an error; blank pages at the start are read by pypdf, too."""
WRONG_PASSWORD = 4  # FPDF_ERR_PASSWORD


class Outline:
    """The outline of a document, for finding the entries and the heading of a page."""

    def __init__(self, entries: list[Heading]) -> None:
        self._entries = sorted(entries, key=lambda entry: entry.page)  # stable: outline order within a page
        self._pages = [entry.page for entry in self._entries]

    def beginning_on(self, number: int) -> list[Heading]:
        """Return the entries that begin on a page, in outline order."""
        return self._entries[bisect_left(self._pages, number) : bisect_right(self._pages, number)]

    def at(self, number: int) -> str | None:
        """Return the first heading that begins on the page, or the last one before it."""
        after = bisect_right(self._pages, number)
        entries = self.beginning_on(number) or self._entries[:after][-1:]
        return entries[0].title if entries else None


def pdf_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield the pages of a PDF from `request.first_page` on; a page that cannot be read is a gap.

    Raises:
        EncryptedDocument, TooManyPages, UnreadableDocument: see `errors.py`.
    """
    import pypdfium2

    try:
        document, password = opened_by_pdfium(stream, request)
        typed = None if request.plain else AnnotationText(document)
        count = len(document)  # inside the `try`: with a damaged page tree only this fails
    except pypdfium2.PdfiumError as error:
        yield ParseWarning(f"pdfium: {error}; read with pypdf")
        yield from _by_pypdf(stream, request)
        return
    try:
        yield from _by_pdfium(document, count, typed, stream, request, password)
    finally:
        document.close()


def opened_by_pdfium(stream: BinaryIO, request: ParseRequest | CutRequest) -> tuple[Any, str]:
    """Return the document and the password that opened it.

    Raises:
        EncryptedDocument: neither the empty password nor one of the request opens it.
        PdfiumError: pdfium cannot open it.
    """
    import pypdfium2

    for password in ("", *request.passwords):
        try:
            return pypdfium2.PdfDocument(stream, password=password or None), password
        except pypdfium2.PdfiumError as error:
            if getattr(error, "err_code", None) != WRONG_PASSWORD:  # damage: no password would help
                raise
    raise password_needed(request)


def password_needed(request: ParseRequest | CutRequest) -> EncryptedDocument:
    """Return the refusal of a PDF that no password opens."""
    tried = f"; none of the {len(request.passwords)} in INGEST_PDF_PASSWORDS opens it" if request.passwords else ""
    return EncryptedDocument(f"{request.name}: the PDF needs a password{tried or ': set INGEST_PDF_PASSWORDS'}")


def _by_pdfium(
    document: Any,
    count: int,
    typed: AnnotationText | None,
    stream: BinaryIO,
    request: ParseRequest,
    password: str,
) -> Iterator[ParseEvent]:
    _check_page_count(count, request)
    if typed is None:
        yield ParseWarning("form fields and notes on its pages were not read: a parser failed on this file")
    yield Properties(_title(document), count)
    entries, warning = _outline(document)
    yield from [ParseWarning(warning)] if warning else []
    headings, seen, blank = Outline(entries), False, 0
    for number in range(request.first_page, count + 1):
        yield from headings.beginning_on(number)
        try:
            text = _page_text(document, number - 1, typed)
        except MemoryError:
            raise
        except Exception as error:  # on a damaged page pdfium and ctypes raise errors of many types
            logger.info("page %d: pdfium: %s", number, error)
            yield _page_by_pypdf(stream, number, headings, error, password)
            continue
        yield from drained(typed.warnings if typed else [])
        seen, blank = seen or bool(text.strip()), blank + (not text.strip())
        # Only until the first text: a blank page later in a document is most likely blank.
        if not seen and blank <= BLANK_PAGES_TRIED:
            second = _page_by_pypdf(stream, number, headings, ValueError("blank"), password)
            text = second.text if isinstance(second, Page) else text
        yield Page(number, text, headings.at(number), label=_label(document, number))


def _page_text(document: Any, index: int, typed: AnnotationText | None) -> str:
    page = document[index]
    try:
        text_page = page.get_textpage()
        try:
            text = str(text_page.get_text_range())
        finally:
            text_page.close()
        annotations = typed.on(page) if typed else ""
        return f"{text}\n{annotations}" if annotations else text
    finally:
        page.close()  # without it pdfium keeps every page's objects until the document closes


def _label(document: Any, number: int) -> str | None:
    """Return the printed page number where it differs from the page's number; else None."""
    try:
        label = str(document.get_page_label(number - 1)).strip()
    except Exception:  # the page can be read even if the tree of labels is damaged
        return None
    return label if label and label != str(number) else None


def _page_by_pypdf(stream: BinaryIO, number: int, headings: Outline, first: Exception, password: str) -> Page | Gap:
    try:
        with pypdf_walker.opened(stream, (password,)) as document:
            return Page(number, document.page_text(number), headings.at(number))
    except MemoryError:
        raise
    except Exception as error:  # any other error in one page is a gap of that page
        return Gap(number, number, f"{type(first).__name__}: {first}; pypdf: {type(error).__name__}")


def _by_pypdf(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    try:
        with pypdf_walker.opened(stream, request.passwords) as document:
            yield Properties(document.title)
            headings = Outline(document.outline())
            for number, text in document.texts(request.first_page):
                _check_page_count(number, request)  # the tree is walked lazily, so the count is not known before
                yield from headings.beginning_on(number)
                if isinstance(text, str):
                    yield Page(number, text, headings.at(number))
                else:
                    yield Gap(number, number, f"{type(text).__name__}: {text}")
    except pypdf_walker.PasswordNeeded:
        raise password_needed(request) from None
    except pypdf_walker.Damaged as error:
        raise UnreadableDocument(f"{request.name}: neither pdfium nor pypdf can open it: {error}") from None


def _check_page_count(count: int, request: ParseRequest) -> None:
    if count > request.max_pages:
        raise TooManyPages(
            f"{request.name}: page {count:,} and more, the limit is {request.max_pages:,}; raise INGEST_MAX_PAGES"
        )


def _title(document: Any) -> str | None:
    try:
        return document.get_metadata_value("Title") or None
    except Exception as error:  # the pages can be read even if the trailer is damaged
        logger.info("no metadata: %s", error)
        return None


def _outline(document: Any) -> tuple[list[Heading], str | None]:
    """Return the outline's entries, and a warning where it could not be read to its end."""
    # pdfium reads an outline of 1,182 entries in 6 ms, where pypdf needs 5.5 s and 283 MB (docs/findings.md, C4).
    entries: list[Heading] = []
    pending_titles: list[tuple[int, str]] = []  # entries without a target begin where their first child begins
    try:
        for bookmark in document.get_toc(max_depth=15):  # an outline may contain itself
            target, level = bookmark.get_dest(), bookmark.level + 1
            index = target.get_index() if target else None
            pending_titles = [(above, title) for above, title in pending_titles if above < level]
            if index is None:
                pending_titles.append((level, bookmark.get_title().strip()))
                continue
            entries += [Heading(above, title, index + 1) for above, title in pending_titles]
            entries.append(Heading(level, bookmark.get_title().strip(), index + 1))
            pending_titles = []
    except Exception as error:
        return entries, f"outline unreadable after {len(entries)} entries: {type(error).__name__}"
    return entries, None
