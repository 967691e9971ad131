"""EPUB chapters in reading order; archives that are wrapped, broken, locked, or bombs."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from ingest_pipeline.errors import EncryptedDocument, PermanentError, TooMuchText, UnreadableDocument
from ingest_pipeline.models import Gap, Heading, Page
from ingest_pipeline.parsing.formats.epub import epub_pages
from ingest_pipeline.parsing.request import ParseFacts, ParseRequest

CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">'
    '<rootfiles><rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles>'
    "</container>"
)


def package(names: list[str], *, title: str = "A Book", more: str = "", spine: str | None = None) -> str:
    """A package file whose spine holds the chapters in order."""
    items = "".join(
        f'<item id="i{number}" href="{name}" media-type="application/xhtml+xml"/>' for number, name in enumerate(names)
    )
    references = "".join(f'<itemref idref="i{number}"/>' for number in range(len(names)))
    return (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></metadata>'
        f"<manifest>{items}{more}</manifest><spine>{references if spine is None else spine}</spine></package>"
    )


def chapter(text: str) -> str:
    """A chapter of one paragraph."""
    return f'<html xmlns="http://www.w3.org/1999/xhtml"><body><p>{text}</p></body></html>'


def book(entries: dict[str, str | bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive with these entries after `mimetype`."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        for name, entry in entries.items():
            archive.writestr(name, entry)
    return content.getvalue()


def simple(chapters: dict[str, str | bytes], **options: str) -> bytes:
    """A correct book of these chapters."""
    entries: dict[str, str | bytes] = {
        "META-INF/container.xml": CONTAINER,
        "OEBPS/content.opf": package(list(chapters), **options),
    }
    return book(entries | {f"OEBPS/{name}": content for name, content in chapters.items()})


def parsed(
    content: bytes | Path, *, first_page: int = 1, max_expanded_bytes: int = 512 * 1024**2
) -> tuple[list[Page | Gap], ParseFacts]:
    """Parse an EPUB in this process."""
    facts = ParseFacts()
    request = ParseRequest("name", "application/epub+zip", first_page=first_page, max_expanded_bytes=max_expanded_bytes)
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
        found = list(epub_pages(stream, request, facts))
        return [one for one in found if not isinstance(one, Heading)], facts


def texts(content: bytes) -> list[tuple[int, str]]:
    """Number and text of every page."""
    return [(page.number, page.text.strip()) for page in parsed(content)[0] if isinstance(page, Page)]


def gaps(content: bytes) -> list[Gap]:
    """The gaps alone."""
    return [found for found in parsed(content)[0] if isinstance(found, Gap)]


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
def test_a_real_book_has_its_chapters_title_and_words(
    corpus: Path, name: str, pages: int, chapters: int, title: str, phrase: str
) -> None:
    """In reading order: numbers never fall; the sections of a chapter share its number."""
    found, facts = parsed(corpus / "epub" / name)
    numbers = [page.number for page in found if isinstance(page, Page)]
    assert len(found) == len(numbers) == pages
    assert numbers == sorted(numbers)
    assert numbers[-1] == chapters
    assert facts.title == title
    assert facts.warnings == []
    assert phrase in "".join(page.text for page in found if isinstance(page, Page))


def test_a_book_whose_folder_was_zipped_is_read(corpus: Path) -> None:
    """`epub/META-INF/container.xml` instead of `META-INF/container.xml`."""
    path = corpus / "epub" / "audacity-manual.uk.epub"
    assert "epub/META-INF/container.xml" in zipfile.ZipFile(path).namelist()
    found, facts = parsed(path)
    assert len(found) == 10
    assert isinstance(found[-1], Page)
    assert found[-1].number == 7
    assert facts.title == "Debian-Edu / Skolelinux Audacity посібник"


def test_a_chapter_that_the_spine_names_many_times_is_read_once(corpus: Path) -> None:
    """190 references, 47 files: nobody wants the same chapter four times."""
    path = corpus / "epub" / "live-manual.en.epub"
    with zipfile.ZipFile(path) as archive:
        assert archive.read("OEBPS/content.opf").count(b"<itemref") == 190
    found, _ = parsed(path)
    assert len(found) == 62
    assert len({page.number for page in found if isinstance(page, Page)}) == 47
    everything = "".join(page.text for page in found if isinstance(page, Page))
    assert everything.count("This manual serves as a single access point to all documentation") == 1


def test_chapters_come_in_the_order_of_the_spine() -> None:
    """Not in that of the archive, not in that of the manifest."""
    content = book(
        {
            "OEBPS/z.xhtml": chapter("first"),
            "OEBPS/a.xhtml": chapter("second"),
            "META-INF/container.xml": CONTAINER,
            "OEBPS/content.opf": package(["a.xhtml", "z.xhtml"], spine='<itemref idref="i1"/><itemref idref="i0"/>'),
        }
    )
    assert texts(content) == [(1, "first"), (2, "second")]


def test_a_part_of_a_chapter_is_the_same_chapter() -> None:
    """`a.xhtml#b` names the same file again."""
    content = book(
        {
            "META-INF/container.xml": CONTAINER,
            "OEBPS/content.opf": package(["a.xhtml", "a.xhtml#b"]),
            "OEBPS/a.xhtml": chapter("once"),
        }
    )
    assert texts(content) == [(1, "once")]


def test_names_with_escapes_spaces_and_scripts_are_found() -> None:
    """A href is a URL, an entry's name is not."""
    content = book(
        {
            "META-INF/container.xml": CONTAINER,
            "OEBPS/content.opf": package(["my%20chapter.xhtml", "../%E7%AB%A0.xhtml"]),
            "OEBPS/my chapter.xhtml": chapter("one"),
            "章.xhtml": chapter("two"),
        }
    )
    assert texts(content) == [(1, "one"), (2, "two")]


def test_a_missing_chapter_is_a_gap() -> None:
    """Its neighbours are read, and its number stays free."""
    content = book(
        {
            "META-INF/container.xml": CONTAINER,
            "OEBPS/content.opf": package(["a.xhtml", "gone.xhtml", "c.xhtml"]),
            "OEBPS/a.xhtml": chapter("one"),
            "OEBPS/c.xhtml": chapter("three"),
        }
    )
    assert texts(content) == [(1, "one"), (3, "three")]
    (gap,) = gaps(content)
    assert (gap.page_from, gap.page_to) == (2, 2)
    assert "gone.xhtml" in gap.reason


def test_a_chapter_with_damaged_bytes_is_a_gap() -> None:
    """One flipped byte in one chapter loses that chapter alone, and says so."""
    content = bytearray(
        simple({"a.xhtml": chapter("one"), "b.xhtml": chapter("two " * 500), "c.xhtml": chapter("three")})
    )
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        entry = archive.getinfo("OEBPS/b.xhtml")
    name_length, extra_length = struct.unpack("<HH", content[entry.header_offset + 26 : entry.header_offset + 30])
    data = entry.header_offset + 30 + name_length + extra_length
    content[data + entry.compress_size // 2] ^= 0xFF
    found, _ = parsed(bytes(content))
    assert [item.page_from for item in found if isinstance(item, Gap)] == [2]
    assert {item.number for item in found if isinstance(item, Page)} >= {1, 3}


def test_a_chapter_that_the_manifest_does_not_have_is_not_lost_silently() -> None:
    """A reference to nothing is a gap too: whoever made the book meant a chapter there."""
    spine = '<itemref idref="i0"/><itemref idref="nothing"/>'
    content = book(
        {
            "META-INF/container.xml": CONTAINER,
            "OEBPS/content.opf": package(["a.xhtml"], spine=spine),
            "OEBPS/a.xhtml": chapter("one"),
        }
    )
    found, facts = parsed(content)
    assert any(isinstance(item, Gap) for item in found) or facts.warnings


def test_parsing_begins_at_the_chapter_that_was_asked_for(corpus: Path) -> None:
    """The numbers stay the book's."""
    path = corpus / "epub" / "project-history.ko.epub"
    whole, _ = parsed(path)
    later, _ = parsed(path, first_page=4)
    assert later == [page for page in whole if isinstance(page, Page) and page.number >= 4]
    assert later


def test_chapters_have_the_titles_of_the_table_of_contents() -> None:
    """An EPUB 3 navigation document and an EPUB 2 `toc.ncx` both name them."""
    navigation = '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
    content = book(
        {
            "META-INF/container.xml": CONTAINER,
            "OEBPS/content.opf": package(["a.xhtml"], more=navigation),
            "OEBPS/a.xhtml": chapter("one"),
            "OEBPS/nav.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><nav>'
            '<a href="a.xhtml#x">The <b>Title</b></a></nav></html>',
        }
    )
    found, _ = parsed(content)
    assert isinstance(found[0], Page)
    assert found[0].heading == "The Title"


def test_an_ncx_names_the_chapters_of_a_real_book(corpus: Path) -> None:
    """Every chapter's first page has a heading."""
    found, _ = parsed(corpus / "epub" / "developers-reference.ja.epub")
    pages = [page for page in found if isinstance(page, Page)]
    assert sum(page.heading is not None for page in pages) > len(pages) * 0.9


def test_a_book_with_a_blank_title_has_none(corpus: Path) -> None:
    """A title of one space is no title."""
    _, facts = parsed(corpus / "epub" / "lorem-ipsum-calibre.epub")
    assert facts.title is None


def test_a_broken_table_of_contents_loses_no_chapter() -> None:
    """It is a help: chapters stand without it."""
    navigation = '<item id="nav" href="gone.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
    content = simple({"a.xhtml": chapter("one")}, more=navigation)
    assert texts(content) == [(1, "one")]


def test_chapters_in_other_encodings_are_read() -> None:
    """Each chapter says for itself."""
    declared = '<?xml version="1.0" encoding="iso-8859-2"?>' + chapter("Zażółć gęślą jaźń")
    content = simple({"a.xhtml": declared.encode("iso-8859-2"), "b.xhtml": chapter("naïve").encode("utf-16")})
    assert texts(content) == [(1, "Zażółć gęślą jaźń"), (2, "naïve")]


def test_what_is_no_archive_is_unreadable(corpus: Path) -> None:
    """Empty, text, a cut archive, another kind of archive."""
    whole = (corpus / "epub" / "project-history.ko.epub").read_bytes()
    for content in (b"", b"plain text", whole[: len(whole) // 2], book({"word/document.xml": "<w/>"})):
        with pytest.raises(UnreadableDocument, match="name: not a readable EPUB"):
            parsed(content)


@pytest.mark.parametrize("broken", ["", "<", "not xml at all", "<container/>"])
def test_a_book_without_a_usable_container_is_unreadable(broken: str) -> None:
    """Typed, whatever stands in it."""
    with pytest.raises(UnreadableDocument, match="name"):
        parsed(book({"META-INF/container.xml": broken}))


@pytest.mark.parametrize("broken", ["", "<", "not xml at all"])
def test_a_book_without_a_usable_package_is_unreadable(broken: str) -> None:
    """Typed, whatever stands in it."""
    with pytest.raises(UnreadableDocument, match="name"):
        parsed(book({"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": broken}))


def test_a_damaged_package_is_unreadable(corpus: Path) -> None:
    """A flipped byte in the package file is the book's failure, typed."""
    content = bytearray(simple({"a.xhtml": chapter("one")}, title="A title " * 300))
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        entry = archive.getinfo("OEBPS/content.opf")
    start = entry.header_offset + 30 + len(entry.filename)
    for offset in range(2, entry.compress_size - 2, 7):
        damaged = bytearray(content)
        damaged[start + offset] ^= 0xFF
        with pytest.raises(PermanentError, match="name"):
            parsed(bytes(damaged))


def test_entities_and_files_of_the_machine_are_not_read(tmp_path: Path) -> None:
    """An external entity in the package is not followed."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret words")
    evil = f'<!DOCTYPE package [<!ENTITY x SYSTEM "file://{secret}">]>' + package(["a.xhtml"], title="T &x; T")
    content = book({"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": evil, "OEBPS/a.xhtml": chapter("one")})
    found, facts = parsed(content)
    assert "secret" not in f"{found} {facts}"


def test_a_book_of_many_entities_is_no_bomb() -> None:
    """A billion laughs in the package: the book is read without them, or refused."""
    levels = "".join(
        f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' if level else '<!ENTITY l0 "ha">' for level in range(10)
    )
    evil = f"<!DOCTYPE package [{levels}]>" + package(["a.xhtml"], title="&l9;")
    content = book({"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": evil, "OEBPS/a.xhtml": chapter("one")})
    try:
        _, facts = parsed(content)
    except UnreadableDocument:
        return
    assert len(facts.title or "") < 10_000


@pytest.mark.parametrize("first", [b"", b"\xe9", b"\xe9<p>"], ids=["ascii", "latin", "latin-tag"])
def test_a_bomb_is_stopped_before_it_unpacks(first: bytes) -> None:
    """A chapter of a few kilobytes that unpacks to hundreds of megabytes, whatever its first letter."""
    content = simple({"a.xhtml": first + b"<p>" + b"word " * 4_000_000})
    assert len(content) < 50_000
    total = 0
    with pytest.raises(TooMuchText, match="bomb"):
        for found in epub_pages(io.BytesIO(content), ParseRequest("name", "application/epub+zip"), ParseFacts()):
            total += len(found.text) if isinstance(found, Page) else 0
    assert total < 15_000_000


def test_many_chapters_together_are_a_bomb_too() -> None:
    """The limit is on all entries together."""
    content = simple({f"{number}.xhtml": chapter("word " * 300_000) for number in range(12)})
    with pytest.raises(TooMuchText, match="bomb"):
        parsed(content, max_expanded_bytes=4 * 1024**2)


def test_a_package_of_nine_megabytes_is_refused() -> None:
    """No book needs it."""
    huge = package(["a.xhtml"], title="x" * 9 * 1024**2)
    with pytest.raises(UnreadableDocument):
        parsed(book({"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": huge}))


def test_an_honest_book_that_compresses_well_is_read() -> None:
    """Repetition in a table of a thousand rows is no bomb."""
    rows = "".join(f"<tr><td>Row</td><td>{number}</td></tr>" for number in range(2000))
    found, _ = parsed(simple({"a.xhtml": f"<html><body><table>{rows}</table></body></html>"}))
    assert isinstance(found[0], Page)
    assert "Row | 1999" in "".join(page.text for page in found if isinstance(page, Page))


def test_an_archive_behind_a_password_is_encrypted() -> None:
    """The flag in the archive says so."""
    content = bytearray(simple({"a.xhtml": chapter("one")}))
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


def test_a_book_whose_chapters_are_encrypted_is_encrypted() -> None:
    """`META-INF/encryption.xml` names its chapters (DRM): noise must not become searchable."""
    encryption = (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
        'xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>'
        '<enc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>'
        '<enc:CipherData><enc:CipherReference URI="OEBPS/a.xhtml"/></enc:CipherData></enc:EncryptedData></encryption>'
    )
    content = book(
        {
            "META-INF/container.xml": CONTAINER,
            "META-INF/encryption.xml": encryption,
            "OEBPS/content.opf": package(["a.xhtml"]),
            "OEBPS/a.xhtml": bytes((number * 89 + number // 7) % 251 for number in range(5000)),
        }
    )
    with pytest.raises(EncryptedDocument):
        parsed(content)


def test_encrypted_fonts_do_not_lock_a_book() -> None:
    """Fonts are often obfuscated in books that anybody may read."""
    encryption = (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
        'xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>'
        '<enc:EncryptionMethod Algorithm="http://www.idpf.org/2008/embedding"/>'
        '<enc:CipherData><enc:CipherReference URI="OEBPS/font.otf"/></enc:CipherData></enc:EncryptedData></encryption>'
    )
    content = book(
        {
            "META-INF/container.xml": CONTAINER,
            "META-INF/encryption.xml": encryption,
            "OEBPS/content.opf": package(["a.xhtml"]),
            "OEBPS/a.xhtml": chapter("one"),
            "OEBPS/font.otf": b"\x01\x02\x03",
        }
    )
    assert texts(content) == [(1, "one")]


def test_a_real_book_with_xml_suffixes_is_read(corpus: Path) -> None:
    """Chapters need no special suffix."""
    found, facts = parsed(corpus / "bad" / "tika-epub-xml-ext.epub")
    assert facts.title == "1984"
    assert "It was a bright cold day in April" in "".join(page.text for page in found if isinstance(page, Page))
