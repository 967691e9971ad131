"""What was typed onto a PDF's pages: filled form fields and free text, which are annotations, not content."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Iterator
from typing import Any

logger = logging.getLogger(__name__)
MAX_FIELDS = 10_000
"""Annotations of a document with a form: pdfium keeps each one for ever, 2.5 KiB. A form of four pages has 111."""
MAX_NOTES = 1_000
"""Of a document without one: most are links. The 24,600 of R's manual would be 62 MiB (2026-11)."""
MAX_CHARACTERS = 1_000_000
"""Of one field or note: a book in one field is no form."""


class TypedText:
    """Reads the annotations of one document's pages; to be made before its pages are counted, as pdfium wants."""

    def __init__(self, document: Any, warnings: list[str]) -> None:
        self._warnings = warnings
        self._looked_at = 0
        self._found = False
        self._form = None
        try:
            self._form = _form_of(document, warnings)
        except Exception as error:  # a damaged form is no reason to lose the pages
            warnings.append(f"form fields unreadable: {type(error).__name__}")

    def on(self, page: Any) -> str:
        """Return a line for each filled field, ticked box and free text on the page, in the file's order."""
        try:
            return "\n".join(dict.fromkeys(self._lines(page)))  # a field may stand there twice
        except MemoryError:
            raise
        except Exception as error:  # the page's own text is there
            logger.info("annotations unreadable: %s", error)
            return ""

    def _lines(self, page: Any) -> Iterator[str]:
        import pypdfium2.raw as pdfium

        most = MAX_FIELDS if self._form else MAX_NOTES
        for index in range(pdfium.FPDFPage_GetAnnotCount(page.raw)):
            self._looked_at += 1
            if self._looked_at > most:
                return self._warn_once(most)
            annotation = pdfium.FPDFPage_GetAnnot(page.raw, index)
            try:
                if text := _text_of(annotation, self._form) if annotation else "":
                    self._found = True
                    yield text
            finally:
                pdfium.FPDFPage_CloseAnnot(annotation)

    def _warn_once(self, most: int) -> None:
        warning = f"only the first {most:,} annotations were looked at for typed text"
        if (self._form or self._found) and warning not in self._warnings:  # else they are links, most likely
            self._warnings.append(warning)


def _form_of(document: Any, warnings: list[str]) -> Any:
    """Return the document's form, or None; one of XFA is a warning.

    A dynamic XFA form has its text in XML that no free library lays out: its page says "Please wait".
    """
    import pypdfium2.raw as pdfium

    kind = document.get_formtype()
    if kind == pdfium.FORMTYPE_XFA_FULL:
        warnings.append("an XFA form: only what it shows to readers without XFA is read")
    if kind != pdfium.FORMTYPE_NONE:
        document.init_forms()
    return document.formenv


def _text_of(annotation: Any, form: Any) -> str:
    import pypdfium2.raw as pdfium

    kind = pdfium.FPDFAnnot_GetSubtype(annotation)
    if kind == pdfium.FPDF_ANNOT_FREETEXT:
        return _wide(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents")
    return _filled(form, annotation) if form and kind == pdfium.FPDF_ANNOT_WIDGET else ""


def _filled(form: Any, annotation: Any) -> str:
    """Return `name: value` of a field; without a name where it has none that is meant for readers.

    A ticked box without one is left out: its value is `Yes`, `On` or `1`.
    """
    import pypdfium2.raw as pdfium

    kind = pdfium.FPDFAnnot_GetFormFieldType(form.raw, annotation)
    if kind in (pdfium.FPDF_FORMFIELD_PUSHBUTTON, pdfium.FPDF_FORMFIELD_SIGNATURE):
        return ""
    box = kind in (pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON)
    if box and not pdfium.FPDFAnnot_IsChecked(form.raw, annotation):
        return ""
    value = _wide(pdfium.FPDFAnnot_GetFormFieldValue, form.raw, annotation)
    name = _wide(pdfium.FPDFAnnot_GetFormFieldAlternateName, form.raw, annotation)
    return f"{name}: {value}" if name and value else "" if box else value


def _wide(read: Callable[..., int], *of: Any) -> str:
    """Return a string that pdfium writes as UTF-16 into a buffer, whose length in bytes it says first."""
    import pypdfium2.raw as pdfium

    length = read(*of, None, 0)
    if not 0 < length <= 2 * MAX_CHARACTERS:
        return ""
    buffer = ctypes.create_string_buffer(length)
    read(*of, ctypes.cast(buffer, ctypes.POINTER(pdfium.FPDF_WCHAR)), length)
    return buffer.raw.decode("utf-16-le", "replace").rstrip("\0").strip()
