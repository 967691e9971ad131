"""EPUB chapters in reading order, one at a time, read directly from the archive."""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO
from urllib.parse import unquote

from ingest_pipeline.errors import EncryptedDocument
from ingest_pipeline.models import Gap, Heading, Page, ParseEvent, Properties
from ingest_pipeline.parsing.formats.archive import Archive, opened_archive
from ingest_pipeline.parsing.formats.html import streamed_html
from ingest_pipeline.parsing.request import ParseRequest

ENCRYPTION = "META-INF/encryption.xml"
CONTAINER = "META-INF/container.xml"
CHAPTER_TYPES = (
    "application/xhtml+xml", "text/html", "application/x-dtbook+xml", "application/xml", "text/xml",
    "text/x-oeb1-document",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chapter:
    """One document of the spine, with its title in the table of contents."""

    path: str
    title: str | None = None
    level: int = 1


class Book:
    """An open EPUB: its spine and its chapters' titles."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._folder = ""
        self.title: str | None = None

    def chapters(self) -> list[Chapter]:
        """Return the chapters in spine order, and set `title`.

        The list includes paths that are not in the archive and items that are not in the manifest: they become gaps.
        """
        container = next(path for path in self._archive.paths if path.endswith(CONTAINER))
        rootfile = next(self._archive.xml(container).iter("{*}rootfile")).get("full-path")
        prefix = container.removesuffix(CONTAINER)  # some writers pack the folder instead of its content
        package = self._archive.xml(prefix + rootfile)
        self._folder = posixpath.dirname(prefix + rootfile)
        title = next((element.text for element in package.iter("{http://purl.org/dc/elements/1.1/}title")), None)
        self.title = (title or "").strip() or None
        items = {item.get("id"): item for item in package.iter("{*}item")}
        titles = self._titles(items, package)
        references = [reference.get("idref", "") for reference in package.iter("{*}itemref")]
        named = [reference for reference in references if reference not in items or _is_chapter(items[reference])]
        paths = [self._path(items[name].get("href", "")) if name in items else f"#{name}" for name in named]
        self._refuse_encrypted(prefix, set(paths))
        # Each file once: two items of the spine may name the same file, as `a.xhtml` and `a.xhtml#b`.
        return [titles.get(path, Chapter(path)) for path in dict.fromkeys(paths)]

    def _refuse_encrypted(self, prefix: str, chapters: set[str]) -> None:
        """Raise EncryptedDocument if a chapter is encrypted; obfuscated fonts do not matter."""
        if prefix + ENCRYPTION not in self._archive:
            return
        for data in self._archive.xml(prefix + ENCRYPTION).iter("{*}EncryptedData"):
            paths = {prefix + unquote(reference.get("URI", "")) for reference in data.iter("{*}CipherReference")}
            if paths & chapters:
                raise EncryptedDocument(f"{self._archive.name}: its chapters are encrypted (DRM)")

    def _titles(self, items: dict[str, Any], package: Any) -> dict[str, Chapter]:
        navigation = [item for item in items.values() if "nav" in (item.get("properties") or "").split()]
        spine = package.find("{*}spine")
        ncx = items.get(spine.get("toc", "")) if spine is not None else None
        titles: dict[str, Chapter] = {}
        # The first title of a path is kept: EPUB 3's navigation document takes precedence over EPUB 2's NCX.
        for item in [*navigation, *([ncx] if ncx is not None else [])]:
            try:
                path = self._path(item.get("href", ""))
                for chapter in _links(self._archive.xml(path), posixpath.dirname(path)):
                    titles.setdefault(chapter.path, chapter)
            except Exception:  # noqa: S112  the table of contents is optional: chapters can be read without it
                continue
        return titles

    def _path(self, href: str) -> str:
        return _resolve(self._folder, href)


def epub_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield an EPUB's chapters in spine order; a chapter's sections share its number.

    Raises:
        UnreadableDocument: not an archive, no package, or an archive that unpacks to too much.
        EncryptedDocument: its chapters are encrypted.
    """
    with opened_archive(stream, request, kind="EPUB") as archive:
        book = Book(archive)
        chapters = book.chapters()
        yield Properties(book.title, len(chapters))
        yield from _chapters(archive, chapters, request)


def _chapters(archive: Archive, chapters: list[Chapter], request: ParseRequest) -> Iterator[ParseEvent]:
    for number, chapter in enumerate(chapters, start=1):
        if number < request.first_page:
            continue
        if chapter.title:
            yield Heading(chapter.level, chapter.title, number)
        try:
            events = streamed_html(
                lambda path=chapter.path: archive.open(path),  # type: ignore[misc]
                number=number,
                heading=chapter.title,
            )
            yield from _below(events, chapter)
        # Damage in one chapter's entry; KeyError: the archive has no such entry.
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
            yield Gap(number, number, f"chapter {chapter.path}: {error}")


def _below(events: Iterator[ParseEvent], chapter: Chapter) -> Iterator[ParseEvent]:
    """Yield a chapter's events with its headings below its title in the table of contents.

    A heading that repeats that title is dropped. `Properties` are dropped: a chapter's title is not the book's. Pages
    are not `whole`: the end of a section is not the end of the chapter.
    """
    for event in events:
        if isinstance(event, Page):
            yield replace(event, whole=False)
        elif isinstance(event, Heading) and chapter.title:
            if event.title.split() != chapter.title.split():
                yield Heading(chapter.level + event.level, event.title, event.page)
        elif not isinstance(event, Properties):
            yield event


def _is_chapter(item: Any) -> bool:
    return (item.get("media-type") or "") in CHAPTER_TYPES


def _links(root: Any, folder: str) -> Iterator[Chapter]:
    for link in root.iter("{*}a"):
        depth = sum(1 for _ in link.iterancestors("{*}ol"))
        yield _chapter(folder, link.get("href", ""), "".join(link.itertext()), depth)
    for point in root.iter("{*}navPoint"):
        label, content = point.find(".//{*}text"), point.find("{*}content")
        if label is not None and content is not None:
            depth = 1 + sum(1 for _ in point.iterancestors("{*}navPoint"))
            yield _chapter(folder, content.get("src", ""), label.text or "", depth)


def _chapter(folder: str, href: str, title: str, depth: int) -> Chapter:
    return Chapter(_resolve(folder, href), " ".join(title.split()) or None, max(1, depth))


def _resolve(folder: str, href: str) -> str:
    return posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0])))
