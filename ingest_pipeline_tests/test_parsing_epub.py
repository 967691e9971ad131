"""EPUB chapters in reading order; archives that are wrapped, broken, locked, or bombs."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.errors import EncryptedDocument, PermanentError, TooMuchText, UnreadableDocument
from ingest_pipeline.models import Page
from ingest_pipeline_tests import parsers
from ingest_pipeline_tests.made import epub as made
from ingest_pipeline_tests.made.epub import OEBPS, archive, book, chapter, package
from ingest_pipeline_tests.made.words import ENGLISH, GREEK, JAPANESE, UKRAINIAN, paragraphs
from ingest_pipeline_tests.parsers import Content, Parsed, epub_pages, events_of, parse


def parsed(content: Content, **fields: Any) -> Parsed:
    """Parse an EPUB in this process."""
    return parse(epub_pages, content, **fields)


def texts(content: bytes) -> list[tuple[int, str]]:
    """Number and text of every page."""
    return [(page.number, page.text.strip()) for page in parsed(content).pages]


FOUR: dict[str, str | bytes] = {
    f"c{number}.xhtml": chapter(text) for number, text in enumerate((ENGLISH, GREEK, UKRAINIAN, JAPANESE), start=1)
}
"""Four chapters in four scripts."""
CONTENTS = (
    ("c1.xhtml", "The harbour", 1), ("c1.xhtml#later", "Later", 2), ("c2.xhtml", "Ο γέρος", 2),
    ("c3.xhtml", "Ранок", 3), ("c4.xhtml", "粉屋", 1),
)  # fmt: skip


@pytest.mark.parametrize("make", [made.epub2, made.epub3])
def test_book_is_read(make: Any) -> None:
    """A book of EPUB 2 or 3 has its chapters in order, its title, and the levels of its table of contents."""
    found = parsed(make(FOUR, *CONTENTS, title="Four Mills"))
    assert [(page.number, page.heading, page.text.strip()) for page in found.pages] == [
        (1, "The harbour", ENGLISH), (2, "Ο γέρος", GREEK), (3, "Ранок", UKRAINIAN), (4, "粉屋", JAPANESE),
    ]  # fmt: skip
    assert (found.title, found.total_pages, found.gaps, found.warnings) == ("Four Mills", 4, [], [])
    assert [(entry.level, entry.title, entry.page) for entry in found.headings] == [
        (1, "The harbour", 1), (2, "Ο γέρος", 2), (3, "Ранок", 3), (1, "粉屋", 4),
    ]  # fmt: skip


def test_sections_of_a_chapter() -> None:
    """Sections share their chapter's number; their headings stand below its title, which is not repeated."""
    sections = "".join(f"<h2>{name}</h2><p>{paragraphs(ENGLISH, 500)}</p>" for name in ("First", "Second"))
    text = f"<html><body><h1>The  harbour</h1>{sections}</body></html>"
    found = parsed(made.epub3({"c1.xhtml": text, "c2.xhtml": text}, ("c1.xhtml", "The harbour", 1)))
    assert [page.number for page in found.pages] == [1, 1, 2, 2]
    assert found.outline == [
        (1, "The harbour"), (3, "First"), (3, "Second"),
        (1, "The harbour"), (2, "First"), (2, "Second"),
    ]  # fmt: skip


def test_zipped_folder() -> None:
    """A book whose folder was zipped instead of its content is read."""
    found = parsed(made.epub2(FOUR, *CONTENTS, folder="epub/"))
    assert [page.number for page in found.pages] == [1, 2, 3, 4]
    assert found.outline[0] == (1, "The harbour")


def test_repeated_chapters() -> None:
    """A chapter that the spine names many times is read once."""
    spine = '<itemref idref="i0"/><itemref idref="i1"/>' * 50
    names = ["c1.xhtml", "c2.xhtml"]
    assert texts(book({name: FOUR[name] for name in names}, spine=spine)) == [(1, ENGLISH), (2, GREEK)]


def test_chapters_with_other_suffixes() -> None:
    """Chapters need no special suffix; pictures in the spine are no chapters."""
    content = archive(
        {
            "META-INF/container.xml": OEBPS,
            "OEBPS/content.opf": package(
                ["one.xml", "two"],
                more='<item id="p" href="p.svg" media-type="image/svg+xml"/>',
                spine='<itemref idref="i0"/><itemref idref="p"/><itemref idref="i1"/>',
            ),
            "OEBPS/one.xml": chapter("one"),
            "OEBPS/two": chapter("two"),
            "OEBPS/p.svg": "<svg/>",
        }
    )
    assert texts(content) == [(1, "one"), (2, "two")]


@pytest.mark.parametrize("title", ["", " ", "\n\t"])
def test_blank_title(title: str) -> None:
    """A title of spaces is no title."""
    assert parsed(made.epub3(FOUR, title=title)).title is None


@pytest.mark.parametrize("folder", ["", "epub/"])
def test_encryption_of_nothing(folder: str) -> None:
    """An `encryption.xml` that names nothing locks no book."""
    content = made.epub2({"a.xhtml": chapter("one")}, folder=folder)
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        entries: dict[str, str | bytes] = {name: opened.read(name) for name in opened.namelist() if name != "mimetype"}
    assert texts(archive(entries | {f"{folder}META-INF/encryption.xml": "<encryption/>"})) == [(1, "one")]


def test_too_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive with more entries than any document has is refused."""
    monkeypatch.setattr(parsers.archive, "MAX_ENTRIES", 3)
    with pytest.raises(UnreadableDocument, match="name: over 3 entries in the archive"):
        parsed(made.epub3(FOUR))


def test_unknown_compression() -> None:
    """An archive whose entries are packed in a way that nobody knows is unreadable."""
    content = bytearray(book({"a.xhtml": chapter("one")}))
    position = 0
    while (position := content.find(b"PK\x01\x02", position)) >= 0:
        content[position + 10] = 93
        position += 4
    with pytest.raises(UnreadableDocument, match="name: not a readable EPUB"):
        parsed(bytes(content))


@pytest.mark.parametrize(
    ("name", "pages", "chapters", "title", "phrase"),
    [
        ("debian-policy.epub", 261, 25, "Debian Policy Manual", "This manual describes the policy requi"),
        ("developers-reference.ja.epub", 192, 11, "developers-reference", "Debian デベロッパー レファレンス"),
        ("project-history.ko.epub", 31, 7, "간단한 데비안 역사", "데비안 프로젝트는 무엇인가?"),
        ("project-history.ru.epub", 36, 7, "Краткая история Debian", "Введение -- что такое"),
        ("live-manual.ja.epub", 55, 47, "Live システムマニュアル", "Live システムプロジェクト"),
        ("ubuntu-packaging-guide-epub-uk.epub", 111, 17, "Ubuntu Packaging Guide", "Навігація"),
    ],
)
def test_real_book(corpus: Path, name: str, pages: int, chapters: int, title: str, phrase: str) -> None:
    """A real book has its chapters in reading order, its title and its words; sections share their chapter's number."""
    found = parsed(corpus / "epub" / name)
    numbers = [page.number for page in found.pages]
    assert len(numbers) == pages
    assert found.gaps == []
    assert numbers == sorted(numbers)
    assert numbers[-1] == chapters
    assert found.title == title
    assert found.warnings == []
    assert phrase in found.text


def test_real_zipped_folder(corpus: Path) -> None:
    """A real book with `epub/META-INF/container.xml` instead of `META-INF/container.xml` is read."""
    path = corpus / "epub" / "audacity-manual.uk.epub"
    assert "epub/META-INF/container.xml" in zipfile.ZipFile(path).namelist()
    found = parsed(path)
    assert (len(found.pages), found.gaps) == (10, [])
    assert found.pages[-1].number == 7
    assert found.title == "Debian-Edu / Skolelinux Audacity посібник"


def test_real_repeated_chapters(corpus: Path) -> None:
    """Of 190 references to 47 files each file is read once."""
    path = corpus / "epub" / "live-manual.en.epub"
    with zipfile.ZipFile(path) as archive:
        assert archive.read("OEBPS/content.opf").count(b"<itemref") == 190
    found = parsed(path)
    assert (len(found.pages), found.gaps) == (62, [])
    assert len({page.number for page in found.pages}) == 47
    assert found.text.count("This manual serves as a single access point to all documentation") == 1


def test_order_of_the_spine() -> None:
    """Chapters come in the order of the spine, not of the archive nor of the manifest."""
    content = archive(
        {
            "OEBPS/z.xhtml": chapter("first"),
            "OEBPS/a.xhtml": chapter("second"),
            "META-INF/container.xml": OEBPS,
            "OEBPS/content.opf": package(["a.xhtml", "z.xhtml"], spine='<itemref idref="i1"/><itemref idref="i0"/>'),
        }
    )
    assert texts(content) == [(1, "first"), (2, "second")]


def test_part_of_a_chapter() -> None:
    """`a.xhtml#b` names the same file again, which is read once."""
    content = archive(
        {
            "META-INF/container.xml": OEBPS,
            "OEBPS/content.opf": package(["a.xhtml", "a.xhtml#b"]),
            "OEBPS/a.xhtml": chapter("once"),
        }
    )
    assert texts(content) == [(1, "once")]


def test_names_with_escapes() -> None:
    """Names with escapes, spaces and scripts are found: a href is a URL, an entry's name is not."""
    content = archive(
        {
            "META-INF/container.xml": OEBPS,
            "OEBPS/content.opf": package(["my%20chapter.xhtml", "../%E7%AB%A0.xhtml"]),
            "OEBPS/my chapter.xhtml": chapter("one"),
            "章.xhtml": chapter("two"),
        }
    )
    assert texts(content) == [(1, "one"), (2, "two")]


def test_missing_chapter() -> None:
    """A missing chapter is a gap with its number; its neighbours are read."""
    content = archive(
        {
            "META-INF/container.xml": OEBPS,
            "OEBPS/content.opf": package(["a.xhtml", "gone.xhtml", "c.xhtml"]),
            "OEBPS/a.xhtml": chapter("one"),
            "OEBPS/c.xhtml": chapter("three"),
        }
    )
    assert texts(content) == [(1, "one"), (3, "three")]
    [gap] = parsed(content).gaps
    assert (gap.page_from, gap.page_to) == (2, 2)
    assert "gone.xhtml" in gap.reason


def test_damaged_chapter() -> None:
    """One flipped byte in one chapter loses that chapter alone, and says so."""
    content = bytearray(
        book({"a.xhtml": chapter("one"), "b.xhtml": chapter("two " * 500), "c.xhtml": chapter("three")})
    )
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        entry = archive.getinfo("OEBPS/b.xhtml")
    name_length, extra_length = struct.unpack("<HH", content[entry.header_offset + 26 : entry.header_offset + 30])
    data = entry.header_offset + 30 + name_length + extra_length
    content[data + entry.compress_size // 2] ^= 0xFF
    found = parsed(bytes(content))
    assert [gap.page_from for gap in found.gaps] == [2]
    assert {page.number for page in found.pages} >= {1, 3}


def test_reference_to_nothing() -> None:
    """A reference to nothing in the manifest is a gap: whoever made the book meant a chapter there."""
    spine = '<itemref idref="i0"/><itemref idref="nothing"/>'
    content = archive(
        {
            "META-INF/container.xml": OEBPS,
            "OEBPS/content.opf": package(["a.xhtml"], spine=spine),
            "OEBPS/a.xhtml": chapter("one"),
        }
    )
    found = parsed(content)
    assert texts(content) == [(1, "one")]
    assert [(gap.page_from, gap.page_to) for gap in found.gaps] == [(2, 2)]


def test_first_chapter_is_kept() -> None:
    """Parsing from a chapter on gives the same pages and headings, with the book's numbers, as parsing it whole."""
    content = made.epub3(FOUR, ("c1.xhtml", "One", 1), ("c3.xhtml", "Three", 1))
    whole = parsed(content)
    for first in range(1, 6):
        later = parsed(content, first_page=first)
        assert later.pages == [page for page in whole.pages if page.number >= first]
        assert later.headings == [heading for heading in whole.headings if heading.page >= first]
        assert later.total_pages == 4


def test_titles_of_navigation() -> None:
    """An EPUB 3 navigation document names the chapters."""
    navigation = '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
    content = archive(
        {
            "META-INF/container.xml": OEBPS,
            "OEBPS/content.opf": package(["a.xhtml"], more=navigation),
            "OEBPS/a.xhtml": chapter("one"),
            "OEBPS/nav.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><nav>'
            '<a href="a.xhtml#x">The <b>Title</b></a></nav></html>',
        }
    )
    assert parsed(content).pages[0].heading == "The Title"


def test_real_ncx(corpus: Path) -> None:
    """The `.ncx` of a real book names nearly every chapter's first page."""
    pages = parsed(corpus / "epub" / "developers-reference.ja.epub").pages
    assert sum(page.heading is not None for page in pages) > len(pages) * 0.9


def test_real_blank_title(corpus: Path) -> None:
    """A real title of one space is no title."""
    assert parsed(corpus / "epub" / "lorem-ipsum-calibre.epub").title is None


def test_broken_contents() -> None:
    """A broken table of contents loses no chapter."""
    navigation = '<item id="nav" href="gone.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
    content = book({"a.xhtml": chapter("one")}, more=navigation)
    assert texts(content) == [(1, "one")]


def test_encodings() -> None:
    """Each chapter says for itself in which encoding it is."""
    declared = '<?xml version="1.0" encoding="iso-8859-2"?>' + chapter("Zażółć gęślą jaźń")
    content = book({"a.xhtml": declared.encode("iso-8859-2"), "b.xhtml": chapter("naïve").encode("utf-16")})
    assert texts(content) == [(1, "Zażółć gęślą jaźń"), (2, "naïve")]


def test_no_archive() -> None:
    """Nothing, text, a cut archive and another kind of archive are unreadable."""
    whole = made.epub3(FOUR)
    for content in (b"", b"plain text", whole[: len(whole) // 2], archive({"word/document.xml": "<w/>"})):
        with pytest.raises(UnreadableDocument, match="name: not a readable EPUB"):
            parsed(content)


@pytest.mark.parametrize("broken", ["", "<", "not xml at all", "<container/>"])
def test_no_container(broken: str) -> None:
    """A book without a usable container is unreadable, whatever stands in it."""
    with pytest.raises(UnreadableDocument, match="name"):
        parsed(archive({"META-INF/container.xml": broken}))


@pytest.mark.parametrize("broken", ["", "<", "not xml at all"])
def test_no_package(broken: str) -> None:
    """A book without a usable package is unreadable, whatever stands in it."""
    with pytest.raises(UnreadableDocument, match="name"):
        parsed(archive({"META-INF/container.xml": OEBPS, "OEBPS/content.opf": broken}))


def test_damaged_package() -> None:
    """A flipped byte in the package file is the book's failure, typed."""
    content = bytearray(book({"a.xhtml": chapter("one")}, title="A title " * 300))
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        entry = archive.getinfo("OEBPS/content.opf")
    start = entry.header_offset + 30 + len(entry.filename)
    for offset in range(2, entry.compress_size - 2, 7):
        damaged = bytearray(content)
        damaged[start + offset] ^= 0xFF
        with pytest.raises(PermanentError, match="name"):
            parsed(bytes(damaged))


def test_external_entity(tmp_path: Path) -> None:
    """An external entity in the package is not followed."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret words")
    evil = f'<!DOCTYPE package [<!ENTITY x SYSTEM "file://{secret}">]>' + package(["a.xhtml"], title="T &x; T")
    content = archive({"META-INF/container.xml": OEBPS, "OEBPS/content.opf": evil, "OEBPS/a.xhtml": chapter("one")})
    assert "secret" not in str(parsed(content))


def test_billion_laughs() -> None:
    """A billion laughs in the package: the book is read without them, or refused."""
    levels = "".join(
        f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' if level else '<!ENTITY l0 "ha">' for level in range(10)
    )
    evil = f"<!DOCTYPE package [{levels}]>" + package(["a.xhtml"], title="&l9;")
    content = archive({"META-INF/container.xml": OEBPS, "OEBPS/content.opf": evil, "OEBPS/a.xhtml": chapter("one")})
    try:
        found = parsed(content)
    except UnreadableDocument:
        return
    assert len(found.title or "") < 10_000


@pytest.mark.parametrize("first", [b"", b"\xe9", b"\xe9<p>"], ids=["ascii", "latin", "latin-tag"])
def test_bomb(first: bytes) -> None:
    """A chapter of a few kilobytes that unpacks to hundreds of megabytes is stopped, whatever its first character."""
    content = book({"a.xhtml": first + b"<p>" + b"word " * 4_000_000})
    assert len(content) < 50_000
    total = 0
    with pytest.raises(TooMuchText, match="bomb"):
        for event in events_of(epub_pages, content):
            total += len(event.text) if isinstance(event, Page) else 0
    assert total < 15_000_000


def test_bomb_of_many_chapters() -> None:
    """The limit is on all entries together."""
    content = book({f"{number}.xhtml": chapter("word " * 300_000) for number in range(12)})
    with pytest.raises(TooMuchText, match="bomb"):
        parsed(content, max_expanded_bytes=4 * 1024**2)


def test_huge_package() -> None:
    """A package of nine megabytes is refused."""
    huge = package(["a.xhtml"], title="x" * 9 * 1024**2)
    with pytest.raises(UnreadableDocument):
        parsed(archive({"META-INF/container.xml": OEBPS, "OEBPS/content.opf": huge}))


def test_honest_repetition() -> None:
    """Repetition in a table of two thousand rows is no bomb."""
    rows = "".join(f"<tr><td>Row</td><td>{number}</td></tr>" for number in range(2000))
    assert "Row | 1999" in parsed(book({"a.xhtml": f"<html><body><table>{rows}</table></body></html>"})).text


def test_encrypted_archive() -> None:
    """An archive whose entries have the flag of encryption is encrypted."""
    content = bytearray(book({"a.xhtml": chapter("one")}))
    position = 0
    while (position := content.find(b"PK\x01\x02", position)) >= 0:
        content[position + 8] |= 1
        position += 4
    position = 0
    while (position := content.find(b"PK\x03\x04", position)) >= 0:
        content[position + 6] |= 1
        position += 4
    with pytest.raises(EncryptedDocument, match="name"):
        parsed(bytes(content))


def test_encrypted_chapters() -> None:
    """A book whose `encryption.xml` names its chapters (DRM) is encrypted: noise must not become searchable."""
    encryption = (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
        'xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>'
        '<enc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>'
        '<enc:CipherData><enc:CipherReference URI="OEBPS/a.xhtml"/></enc:CipherData></enc:EncryptedData></encryption>'
    )
    content = archive(
        {
            "META-INF/container.xml": OEBPS,
            "META-INF/encryption.xml": encryption,
            "OEBPS/content.opf": package(["a.xhtml"]),
            "OEBPS/a.xhtml": bytes((number * 89 + number // 7) % 251 for number in range(5000)),
        }
    )
    with pytest.raises(EncryptedDocument):
        parsed(content)


def test_encrypted_fonts() -> None:
    """Obfuscated fonts lock no book."""
    encryption = (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
        'xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>'
        '<enc:EncryptionMethod Algorithm="http://www.idpf.org/2008/embedding"/>'
        '<enc:CipherData><enc:CipherReference URI="OEBPS/font.otf"/></enc:CipherData></enc:EncryptedData></encryption>'
    )
    content = archive(
        {
            "META-INF/container.xml": OEBPS,
            "META-INF/encryption.xml": encryption,
            "OEBPS/content.opf": package(["a.xhtml"]),
            "OEBPS/a.xhtml": chapter("one"),
            "OEBPS/font.otf": b"\x01\x02\x03",
        }
    )
    assert texts(content) == [(1, "one")]


def test_real_xml_suffixes(corpus: Path) -> None:
    """Chapters of a real book need no special suffix."""
    found = parsed(corpus / "bad" / "tika-epub-xml-ext.epub")
    assert found.title == "1984"
    assert "It was a bright cold day in April" in found.text
