"""pypdf with bounded memory: walks the page tree one page at a time and clears pypdf's caches on the way.

`len(reader.pages)` flattens the page tree, and each access to an object stream parses and keeps all of its objects:
283 MB for 600 pages of pgfmanual.pdf. Walking `/Kids` with a stack and clearing the cache every 32 pages gives the same
text with 27 MB (docs/findings.md, C2: identical on 160 of 160 files).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from ingest_pipeline.errors import IngestError
from ingest_pipeline.models import Heading

CLEAR_EVERY_PAGES = 32  # every 8, 32, 128 pages: 21, 27, 49 MB; every page halves the speed (docs/findings.md, C3)
# The attributes that a page inherits from the nodes above it (PDF 1.7, 7.7.3.4).
INHERITED = ("/Resources", "/MediaBox", "/CropBox", "/Rotate")
# A damaged page tree or outline may contain itself.
MAX_DEPTH = 100
MAX_NODES = 200_000
MAX_OUTLINE_ENTRIES = 20_000
# A file of 145 kB that unpacks to 60 MB of operators took 14 s and 354 MB with pypdf's defaults, 0.1 s and 17 MB with
# these limits (docs/findings.md, C5).
LIMITS: dict[str, int] = {
    "zlib_maximum_output_length": 8 * 1024**2,
    "stream_parsing_work_maximum_count": 300_000,
}


class Damaged(Exception):
    """pypdf cannot read the file."""


class PasswordNeeded(Exception):
    """The empty password does not open the file."""


class WalkedPdf:
    """An open PDF that gives its pages one at a time."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    @property
    def title(self) -> str | None:
        """The title in the document information; None if there is none."""
        try:
            return str(self._reader.metadata.title or "") or None
        except Exception:  # any damage in the information dictionary
            return None

    def texts(self, first_page: int = 1) -> Iterator[tuple[int, str | Exception]]:
        """Yield `(number, text)` for each page, or `(number, error)` for one that cannot be read."""
        for number, page in enumerate(self._pages(), start=1):
            if number >= first_page:
                yield number, _text_or_error(page)
            if number % CLEAR_EVERY_PAGES == 0:
                self._reader.resolved_objects.clear()

    def pages_to(self, last_page: int) -> Iterator[tuple[int, Any]]:
        """Yield the number and the object of each page up to `last_page`."""
        for number, page in enumerate(self._pages(), start=1):
            yield number, page
            if number % CLEAR_EVERY_PAGES == 0:
                self._reader.resolved_objects.clear()
            if number >= last_page:
                return

    def page_text(self, number: int) -> str:
        """Return the text of one page; numbers begin at 1.

        Raises:
            Damaged: there is no such page, or it cannot be read.
        """
        for current, text in self.texts(number):
            if current == number:
                if isinstance(text, str):
                    return text
                raise Damaged(str(text)) from text
        raise Damaged(f"no page {number}")

    def outline(self) -> list[Heading]:
        """Return the outline entries that lead to a page; [] if the outline is damaged."""
        try:
            return list(self._outline_entries())
        except Exception:  # the outline is optional: the pages can be read without it
            return []

    def _pages(self) -> Iterator[Any]:
        from pypdf._page import PageObject

        for reference, node, inherited in self._leaves():
            page = PageObject(self._reader, reference)
            page.update(node)
            for key, value in inherited.items():
                page.setdefault(key, value)
            yield page

    def _leaves(self) -> Iterator[tuple[Any, Any, dict[Any, Any]]]:
        from pypdf.generic import NameObject

        stack: list[tuple[Any, dict[Any, Any], int]] = [(self._reader.root_object.raw_get("/Pages"), {}, 0)]
        for _ in range(MAX_NODES):
            if not stack:
                return
            reference, inherited, depth = stack.pop()
            node = reference.get_object()
            if node is None or depth > MAX_DEPTH:
                continue
            kids = node.get("/Kids")
            if kids is None:
                yield reference, node, inherited
                continue
            passed = {**inherited, **{NameObject(key): node[key] for key in INHERITED if key in node}}
            stack.extend((kid, passed, depth + 1) for kid in reversed(kids))  # reversed: the last one is popped first
        raise Damaged("the page tree has no end")

    def _outline_entries(self) -> Iterator[Heading]:
        # Entries point to page objects, not to numbers: one walk over the tree numbers them all.
        numbers = {_id(reference): number for number, (reference, _, _) in enumerate(self._leaves(), start=1)}
        self._reader.resolved_objects.clear()
        node = self._reader.root_object.get("/Outlines", {}).get("/First")
        stack = [(node, 1)] if node is not None else []
        for count in range(MAX_OUTLINE_ENTRIES):
            if not stack:
                return
            reference, level = stack.pop()
            entry = reference.get_object()
            below = (("/Next", level), ("/First", level + 1))
            stack.extend((entry.raw_get(key), depth) for key, depth in below if key in entry)
            number = numbers.get(_id(self._target(entry)))
            if number is not None:
                yield Heading(level, str(entry.get("/Title", "")).strip(), number)
            if count % CLEAR_EVERY_PAGES == 0:
                self._reader.resolved_objects.clear()

    def _target(self, entry: Any) -> Any:
        """Return the reference to the page that an entry leads to; None if it leads to none."""
        action = entry.get("/A")
        target = entry.get("/Dest") or (action.get_object().get("/D") if action is not None else None)
        if isinstance(target, (str, bytes)):  # a named destination
            target = self._named(str(target))
        target = target.get_object() if target is not None else None
        if hasattr(target, "get") and target is not None:  # a dictionary whose `/D` is the destination
            target = target.get("/D")
        return target[0] if isinstance(target, list) and target else None

    def _named(self, name: str) -> Any:
        root = self._reader.root_object
        direct = root.get("/Dests", {}).get(f"/{name.removeprefix('/')}")  # a dictionary in PDF 1.1, a tree since 1.2
        if direct is not None:
            return direct
        stack = [root.get("/Names", {}).get("/Dests")]
        for _ in range(MAX_NODES):
            if not stack or stack[-1] is None:
                return None
            node = stack.pop().get_object()
            limits = node.get("/Limits")
            if limits and not str(limits[0]) <= name <= str(limits[1]):
                continue
            names = node.get("/Names", [])
            for key, value in zip(names[::2], names[1::2], strict=False):
                if str(key) == name:
                    return value
            stack.extend(node.get("/Kids", []))
        return None


def _id(reference: Any) -> Any:
    # Pages and destinations are indirect references; anything else gets an id that matches none.
    return (getattr(reference, "idnum", None), getattr(reference, "generation", None))


def _text_or_error(page: Any) -> str | Exception:
    try:
        return str(page.extract_text())
    except MemoryError:
        raise
    except Exception as error:  # any other error in one page is a gap of that page
        return error


@contextmanager
def opened(stream: BinaryIO, passwords: Iterable[str] = ()) -> Iterator[WalkedPdf]:
    """Open a PDF from a seekable stream without reading it whole, under limits against decompression bombs.

    Raises:
        PasswordNeeded: neither the empty password nor one of `passwords` opens it.
        Damaged: pypdf cannot open it.
    """
    import pypdf
    from pypdf.errors import FileNotDecryptedError, WrongPasswordError

    stream.seek(0)
    with pypdf.apply_configuration(None, **LIMITS):
        try:
            reader = pypdf.PdfReader(stream, strict=False)
            if reader.is_encrypted and not any(reader.decrypt(password) for password in ("", *passwords)):
                raise PasswordNeeded
            yield WalkedPdf(reader)
        except (FileNotDecryptedError, WrongPasswordError):
            raise PasswordNeeded from None
        except (Damaged, PasswordNeeded, MemoryError, IngestError):
            raise
        except Exception as error:  # on damaged files pypdf raises errors of any type, also AssertionError
            raise Damaged(f"{type(error).__name__}: {error}") from error
