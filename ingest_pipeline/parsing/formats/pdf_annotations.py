"""Filled form fields and free text of a PDF's pages: annotations, which pdfium leaves out of a page's text."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Iterator
from typing import Any

logger = logging.getLogger(__name__)
MAX_FIELDS = 10_000
"""Annotations read in a document with a form. pdfium keeps each, 2.5 KiB, until the document is closed; a form of four
pages has 111 (docs/findings.md, C6)."""
MAX_NOTES = 1_000
"""Annotations read in a document without a form: most are links. The 24,600 of R's manual would take 62 MiB."""
MAX_CHARACTERS = 1_000_000
"""Characters of all annotations of a document: a thousand fields may share one long value."""
INVISIBLE = 2 | 32  # hidden, no view
PASSWORD = 1 << 13
NO_FIELD = -1


class AnnotationText:
    """Reads the annotations of a document's pages; create it before the first page is loaded, as pdfium requires."""

    def __init__(self, document: Any) -> None:
        self.warnings: list[str] = []
        """What could not be read so far; the caller empties the list."""
        self._warned: set[str] = set()
        self._read = 0
        self._left = MAX_CHARACTERS
        self._form: Any = None
        try:
            self._form = _form_of(document, self.warnings)
        except Exception as error:  # the pages can be read even if the form is damaged
            self._warn(f"form fields unreadable: {type(error).__name__}")

    def on(self, page: Any) -> str:
        """Return one line for each filled field, checked box and free text on the page, in the file's order."""
        try:
            return "\n".join(dict.fromkeys(self._lines(page)))  # without duplicates: a field may have two widgets
        except MemoryError:
            raise
        except Exception as error:  # the page's own text was read
            logger.info("annotations unreadable: %s", error)
            self._warn(f"annotations unreadable: {type(error).__name__}")
            return ""

    def _lines(self, page: Any) -> Iterator[str]:
        import pypdfium2.raw as pdfium

        limit = MAX_FIELDS if self._form else MAX_NOTES
        for index in range(pdfium.FPDFPage_GetAnnotCount(page.raw)):
            self._read += 1
            if self._read > limit:
                return self._warn(f"typed text was looked for in the first {limit:,} annotations only")
            annotation = pdfium.FPDFPage_GetAnnot(page.raw, index)
            try:
                text = self._text_of(annotation) if annotation else ""
            finally:
                pdfium.FPDFPage_CloseAnnot(annotation)
            self._left -= len(text)
            if self._left < 0:
                return self._warn(f"only the first {MAX_CHARACTERS:,} characters of typed text were read")
            if text:
                yield text

    def _warn(self, warning: str) -> None:
        if warning not in self._warned:
            self._warned.add(warning)
            self.warnings.append(warning)

    def _text_of(self, annotation: Any) -> str:
        import pypdfium2.raw as pdfium

        kind = pdfium.FPDFAnnot_GetSubtype(annotation)
        if pdfium.FPDFAnnot_GetFlags(annotation) & INVISIBLE:
            return ""
        if kind == pdfium.FPDF_ANNOT_FREETEXT:
            return self._wide(pdfium.FPDFAnnot_GetStringValue, annotation, b"Contents")
        if kind != pdfium.FPDF_ANNOT_WIDGET:
            return ""
        field = pdfium.FPDFAnnot_GetFormFieldType(self._form.raw, annotation) if self._form else NO_FIELD
        if field == NO_FIELD:
            # A widget without a form: tools that merge documents leave such fields.
            return self._wide(pdfium.FPDFAnnot_GetStringValue, annotation, b"V")
        return self._filled(self._form.raw, annotation, field)

    def _filled(self, form: Any, annotation: Any, kind: int) -> str:
        """Return `name: value` of a field, or only the value if the field has no name for readers.

        A checked box without such a name is left out: its value is `Yes`, `On` or `1`.
        """
        import pypdfium2.raw as pdfium

        secret = pdfium.FPDFAnnot_GetFormFieldFlags(form, annotation) & PASSWORD
        if kind in (pdfium.FPDF_FORMFIELD_PUSHBUTTON, pdfium.FPDF_FORMFIELD_SIGNATURE):
            return ""
        if kind == pdfium.FPDF_FORMFIELD_TEXTFIELD and secret:
            return ""
        box = kind in (pdfium.FPDF_FORMFIELD_CHECKBOX, pdfium.FPDF_FORMFIELD_RADIOBUTTON)
        if box and not pdfium.FPDFAnnot_IsChecked(form, annotation):
            return ""
        value = self._chosen(form, annotation) or self._wide(pdfium.FPDFAnnot_GetFormFieldValue, form, annotation)
        name = self._wide(pdfium.FPDFAnnot_GetFormFieldAlternateName, form, annotation)
        return f"{name}: {value}" if name and value else "" if box else value

    def _chosen(self, form: Any, annotation: Any) -> str:
        """Return the labels of the options selected in a list: the value of the field may be a code."""
        import pypdfium2.raw as pdfium

        labels = []
        for index in range(min(pdfium.FPDFAnnot_GetOptionCount(form, annotation), MAX_FIELDS)):
            if pdfium.FPDFAnnot_IsOptionSelected(form, annotation, index):
                labels.append(self._wide(pdfium.FPDFAnnot_GetOptionLabel, form, annotation, index))
        return ", ".join(label for label in labels if label)

    def _wide(self, read: Callable[..., int], *of: Any) -> str:
        """Return a string from a pdfium function that writes UTF-16 into a buffer."""
        import pypdfium2.raw as pdfium

        length = read(*of, None, 0)  # without a buffer pdfium returns the length in bytes
        if length > 2 * MAX_CHARACTERS:
            self._warn(f"typed text of {length // 2:,} characters in one place was left out")
            return ""
        buffer = ctypes.create_string_buffer(max(2, length))
        read(*of, ctypes.cast(buffer, ctypes.POINTER(pdfium.FPDF_WCHAR)), length)
        return buffer.raw.decode("utf-16-le", "replace").rstrip("\0").strip()


def _form_of(document: Any, warnings: list[str]) -> Any:
    """Return the document's form, or None; add a warning for an XFA form.

    The text of a dynamic XFA form is in XML that no free library renders: its only page says "Please wait".
    """
    import pypdfium2.raw as pdfium

    kind = document.get_formtype()
    if kind == pdfium.FORMTYPE_XFA_FULL:
        warnings.append("an XFA form: only what it shows to readers without XFA is read")
    if kind != pdfium.FORMTYPE_NONE:
        document.init_forms()
    return document.formenv
