"""EPUB chapters in reading order, one at a time, straight from the archive."""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, BinaryIO
from urllib.parse import unquote

from ingest_pipeline.errors import EncryptedDocument, UnreadableDocument
from ingest_pipeline.models import Gap, Page
from ingest_pipeline.parsing.html import streamed_html
from ingest_pipeline.parsing.request import ParseFacts, ParseRequest

MAX_ENTRIES = 50_000
MAX_XML_BYTES = 8 * 1024**2  # a package file of 10,000 chapters is 2 MB
MAX_RATIO = 200  # deflate cannot do better than 1:1032; prose stays under 1:10
ENCRYPTION = "META-INF/encryption.xml"
READS = 5  # of a chapter at most: declaration, encoding twice, a look at its navigation, text
CONTAINER = "META-INF/container.xml"
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, StopIteration, LookupError, ValueError, TypeError, OSError)
CHAPTER_TYPES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


class _LimitedEntry(io.RawIOBase):
    """An archive entry that stops when it unpacks to more than the file may; every read is counted."""

    def __init__(self, entry: IO[bytes], left: list[int], name: str) -> None:
        self._entry, self._left, self._name = entry, left, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._entry.read(len(buffer))
        self._left[0] -= len(piece)
        if self._left[0] < 0:
            raise UnreadableDocument(f"{self._name}: unpacks to more than an EPUB may; it looks like a bomb")
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._entry.close()
        super().close()


class Book:
    """An open EPUB: its spine, its chapter titles, its entries."""

    def __init__(self, archive: zipfile.ZipFile, request: ParseRequest) -> None:
        self._archive, self._name = archive, request.name
        compressed = sum(entry.compress_size for entry in archive.infolist())
        allowed = min(request.max_expanded_bytes, 1024**2 + compressed * MAX_RATIO)
        self._left = [allowed * READS]
        self._folder = ""

    def open(self, path: str) -> BinaryIO:
        """Open an entry by its path in the archive.

        Raises:
            KeyError: no such entry.
        """
        return io.BufferedReader(_LimitedEntry(self._archive.open(path), self._left, self._name))

    def xml(self, path: str) -> Any:
        """Return the root of a small XML entry, read without entities and without network."""
        from lxml import etree

        with self.open(path) as entry:
            text = entry.read(MAX_XML_BYTES + 1)
        if len(text) > MAX_XML_BYTES:
            raise UnreadableDocument(f"{self._name}: {path} is over {MAX_XML_BYTES:,} bytes")
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=True)
        try:
            root = etree.fromstring(text, parser)
        except etree.XMLSyntaxError:
            root = None
        if root is None:
            raise UnreadableDocument(f"{self._name}: {path} is not XML")
        return root

    def chapters(self, facts: ParseFacts) -> list[tuple[str, str | None]]:
        """Return `(path, title)` of each chapter in spine order; fills the book's title.

        A path that is not in the archive, or an item that is not in the manifest, is in the list: it is a gap.
        """
        container = next(name for name in self._archive.namelist() if name.endswith(CONTAINER))
        rootfile = next(self.xml(container).iter("{*}rootfile")).get("full-path")
        prefix = container.removesuffix(CONTAINER)  # some writers zip the folder, not its content
        package = self.xml(prefix + rootfile)
        self._folder = posixpath.dirname(prefix + rootfile)
        title = next((element.text for element in package.iter("{http://purl.org/dc/elements/1.1/}title")), None)
        facts.title = (title or "").strip() or None
        items = {item.get("id"): item for item in package.iter("{*}item")}
        titles = self._titles(items, package)
        references = [reference.get("idref", "") for reference in package.iter("{*}itemref")]
        named = [reference for reference in references if reference not in items or _is_chapter(items[reference])]
        paths = [self._path(items[name].get("href", "")) if name in items else f"#{name}" for name in named]
        self._refuse_encrypted(prefix, set(paths))
        return [(path, titles.get(path)) for path in dict.fromkeys(paths)]  # `a.xhtml#b` names the same file again

    def _refuse_encrypted(self, prefix: str, chapters: set[str]) -> None:
        """Raise EncryptedDocument if a chapter is encrypted; obfuscated fonts are no hindrance."""
        if prefix + ENCRYPTION not in self._archive.namelist():
            return
        for data in self.xml(prefix + ENCRYPTION).iter("{*}EncryptedData"):
            paths = {prefix + unquote(reference.get("URI", "")) for reference in data.iter("{*}CipherReference")}
            if paths & chapters:
                raise EncryptedDocument(f"{self._name}: its chapters are encrypted (DRM)")

    def _titles(self, items: dict[str, Any], package: Any) -> dict[str, str]:
        navigation = [item for item in items.values() if "nav" in (item.get("properties") or "").split()]
        spine = package.find("{*}spine")
        ncx = items.get(spine.get("toc", "")) if spine is not None else None
        found: dict[str, str] = {}
        for item in [*navigation, *([ncx] if ncx is not None else [])]:
            try:
                path = self._path(item.get("href", ""))
                found = {**dict(_links(self.xml(path), posixpath.dirname(path))), **found}
            except Exception:  # noqa: S112  a table of contents is a help: chapters stand without it
                continue
        return found

    def _path(self, href: str) -> str:
        return _resolve(self._folder, href)


def epub_pages(stream: BinaryIO, request: ParseRequest, facts: ParseFacts) -> Iterator[Page | Gap]:
    """Yield an EPUB's chapters in spine order; a chapter's sections share its number.

    Raises:
        UnreadableDocument: no archive, no package, or an archive that unpacks to too much.
        EncryptedDocument: its chapters are encrypted.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            if len(archive.infolist()) > MAX_ENTRIES:
                raise UnreadableDocument(f"{request.name}: over {MAX_ENTRIES:,} entries in the archive")
            book = Book(archive, request)
            yield from _chapters(book, book.chapters(facts), request, facts)
    except DAMAGE as error:
        raise UnreadableDocument(f"{request.name}: not a readable EPUB: {error}") from error
    except RuntimeError as error:  # also NotImplementedError: a compression that zipfile does not know
        if "encrypted" in str(error) or "password" in str(error):
            raise EncryptedDocument(f"{request.name}: the archive is encrypted") from None
        raise UnreadableDocument(f"{request.name}: not a readable EPUB: {error}") from error


def _chapters(
    book: Book, chapters: list[tuple[str, str | None]], request: ParseRequest, facts: ParseFacts
) -> Iterator[Page | Gap]:
    facts.total_pages, facts.one_text_per_page = len(chapters), False
    for number, (path, title) in enumerate(chapters, start=1):
        if number < request.first_page:
            continue
        try:
            yield from streamed_html(
                lambda path=path: book.open(path),  # type: ignore[misc]
                ParseFacts(title="", warnings=facts.warnings),
                number=number,
                heading=title,
            )
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
            yield Gap(number, number, f"chapter {path}: {error}")


def _is_chapter(item: Any) -> bool:
    return (item.get("media-type") or "") in CHAPTER_TYPES


def _links(root: Any, folder: str) -> Iterator[tuple[str, str]]:
    for link in root.iter("{*}a"):
        yield _resolve(folder, link.get("href", "")), "".join(link.itertext()).strip()
    for point in root.iter("{*}navPoint"):
        label, content = point.find(".//{*}text"), point.find("{*}content")
        if label is not None and content is not None:
            yield _resolve(folder, content.get("src", "")), (label.text or "").strip()


def _resolve(folder: str, href: str) -> str:
    return posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0])))
