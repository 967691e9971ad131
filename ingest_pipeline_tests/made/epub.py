"""EPUB 2 and 3: books of chapters, with a navigation document or an `.ncx`."""

from __future__ import annotations

import io
import zipfile

CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">'
    '<rootfiles><rootfile full-path="{}" media-type="application/oebps-package+xml"/></rootfiles>'
    "</container>"
)
OEBPS = CONTAINER.format("OEBPS/content.opf")
NAV_ITEM = '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
NCX_ITEM = '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'

Entry = tuple[str, str, int]
"""A line of a table of contents: href, title, level from 1."""


def package(names: list[str], *, title: str = "A Book", more: str = "", spine: str | None = None, toc: str = "") -> str:
    """A package file whose spine holds the chapters in order."""
    items = "".join(
        f'<item id="i{number}" href="{name}" media-type="application/xhtml+xml"/>' for number, name in enumerate(names)
    )
    references = "".join(f'<itemref idref="i{number}"/>' for number in range(len(names)))
    return (
        f'<package xmlns="http://www.idpf.org/2007/opf" version="{2 if toc else 3}.0"><metadata '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></metadata>'
        f"<manifest>{items}{more}</manifest><spine{toc}>{references if spine is None else spine}</spine></package>"
    )


def chapter(text: str) -> str:
    """A chapter of one paragraph."""
    return f'<html xmlns="http://www.w3.org/1999/xhtml"><body><p>{text}</p></body></html>'


def archive(entries: dict[str, str | bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive with these entries after `mimetype`."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as opened:
        opened.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        for name, entry in entries.items():
            opened.writestr(name, entry)
    return content.getvalue()


def book(chapters: dict[str, str | bytes], **options: str) -> bytes:
    """A correct book of these chapters."""
    return archive(entries_of(chapters, **options))


def entries_of(chapters: dict[str, str | bytes], **options: str) -> dict[str, str | bytes]:
    """The entries of a correct book of these chapters."""
    entries: dict[str, str | bytes] = {
        "META-INF/container.xml": OEBPS,
        "OEBPS/content.opf": package(list(chapters), **options),
    }
    return entries | {f"OEBPS/{name}": content for name, content in chapters.items()}


def navigation(*entries: Entry) -> str:
    """An EPUB 3 navigation document; lists in lists for the levels."""
    body, level = "", 0
    for href, title, wanted in entries:
        body += "<ol>" * (wanted - level) if wanted > level else "</li>" + "</ol></li>" * (level - wanted)
        body += f'<li><a href="{href}">{title}</a>'
        level = wanted
    closing = "</li></ol>" * level
    return f'<html xmlns="http://www.w3.org/1999/xhtml"><body><nav>{body}{closing}</nav></body></html>'


def ncx(*entries: Entry) -> str:
    """An EPUB 2 `toc.ncx`."""
    body, level = "", 0
    for href, title, wanted in entries:
        body += "</navPoint>" * max(0, level - wanted + 1)
        body += f'<navPoint><navLabel><text>{title}</text></navLabel><content src="{href}"/>'
        level = wanted
    body += "</navPoint>" * level
    return f'<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>{body}</navMap></ncx>'


def epub3(chapters: dict[str, str | bytes], *entries: Entry, title: str = "A Book") -> bytes:
    """A book of EPUB 3."""
    made = entries_of(chapters, title=title, more=NAV_ITEM)
    return archive(made | {"OEBPS/nav.xhtml": navigation(*entries)})


def epub2(chapters: dict[str, str | bytes], *entries: Entry, title: str = "A Book", folder: str = "") -> bytes:
    """A book of EPUB 2; `folder` is what some writers zip instead of its content."""
    made = entries_of(chapters, title=title, more=NCX_ITEM, toc=' toc="ncx"') | {"OEBPS/toc.ncx": ncx(*entries)}
    return archive({f"{folder}{name}": content for name, content in made.items()})
