"""PDF pages by pdfium, by pypdf's walker where pdfium fails; ordinary, locked and damaged documents."""

from __future__ import annotations

import io
import logging
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_pipeline.errors import EncryptedDocument, PermanentError, TooManyPages, UnreadableDocument
from ingest_pipeline.models import Gap, Heading, Page
from ingest_pipeline.parsing.formats.clean import clean_text
from ingest_pipeline_tests.made import pdf as made
from ingest_pipeline_tests.made.words import ENGLISH, GERMAN
from ingest_pipeline_tests.parsers import Content, Outline, Parsed, events_of, parse, pdf, pdf_pages, pypdf_walker


@pytest.fixture(autouse=True)
def quiet_pypdf() -> Iterator[None]:
    """Pypdf reports every oddity of a damaged file."""
    logger = logging.getLogger("pypdf")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


def parsed(content: Content, **fields: Any) -> Parsed:
    """Parse a PDF in this process."""
    return parse(pdf_pages, content, **fields)


def opened(content: bytes | Path, *passwords: str) -> Any:
    """The walker on a document."""
    return pypdf_walker.opened(io.BytesIO(content if isinstance(content, bytes) else content.read_bytes()), passwords)


def walked(content: bytes | Path) -> list[str]:
    """Every page's text by the walker."""
    with opened(content) as document:
        return [str(text) for _, text in document.texts()]


def words(texts: list[str]) -> Counter[str]:
    """A bag of the letters' runs, whatever the line breaks."""
    return Counter("".join(letter if letter.isalnum() else " " for letter in clean_text(" ".join(texts))).split())


def similarity(one: Counter[str], other: Counter[str]) -> float:
    """Shared words of all words: 1 when the bags are equal."""
    return sum((one & other).values()) / max(1, sum((one | other).values()))


def flat(outline: list[Any], level: int = 1) -> Iterator[tuple[int, Any]]:
    """The entries of pypdf's nested outline, in order, with their levels."""
    for entry in outline:
        if isinstance(entry, list):
            yield from flat(entry, level + 1)
        else:
            yield level, entry


# ---------------------------------------------------------------------------------------------- ordinary documents


def test_book_is_read() -> None:
    """Every page comes once, with title, headings, labels and words, without gap or warning."""
    found = parsed(made.book())
    assert [page.number for page in found.pages] == [1, 2, 3, 4, 5, 6]
    assert [page.text[:23] for page in found.pages] == [f"Page {number} of the mill book" for number in range(1, 7)]
    assert (found.title, found.total_pages, found.gaps, found.warnings) == ("The Mill Book", 6, [], [])
    assert [(entry.level, entry.title, entry.page) for entry in found.headings] == [
        (1, "Part one", 2), (2, "The ledgers", 2), (2, "The wind", 4), (1, "Part two", 5),
    ]  # fmt: skip
    assert [page.heading for page in found.pages] == [
        None,
        "Part one",
        "The ledgers",
        "The wind",
        "Part two",
        "Part two",
    ]
    assert [page.label for page in found.pages] == ["i", "ii", "1", "2", "3", "4"]
    assert not any(page.continues for page in found.pages)


def test_heading_before_its_page() -> None:
    """An outline entry comes before the page on which it begins."""
    events = parsed(made.book()).events
    assert [type(event).__name__ for event in events[:5]] == ["Page", "Heading", "Heading", "Page", "Page"]


@pytest.mark.parametrize(("font", "text"), [*made.CID_FONTS.items(), ("Helvetica", GERMAN)])
def test_scripts_are_read(font: str, text: str) -> None:
    """Text in a font that is not embedded comes out as it went in."""
    [page] = parsed(made.pages([text], font=font)).pages
    assert "".join(clean_text(page.text).split()) == "".join(text.split())


def test_columns_are_read_in_turn() -> None:
    """Of two columns the left one comes first."""
    [page] = parsed(made.pages([ENGLISH], columns=2)).pages
    assert " ".join(page.text.split()) == ENGLISH


@pytest.mark.parametrize(
    ("name", "pages", "title", "number", "phrase"),
    [
        ("pdflatex-4-pages.pdf", 4, None, 1, "Hello, here is some text without a meaning."),
        ("GeoTopo-komprimiert.pdf", 117, "Geometrie und Topologie", 1, "Geometrie und Topologie"),
        ("multicolumn.pdf", 3, None, 1, "Two-Column Document with Lorem Ipsum"),
        ("google-doc-document.pdf", 1, "PDF Example Document", 1, "Beautiful is better than ugly."),
        ("audacity-manual.uk.pdf", 19, "Debian-Edu / Skolelinux Audacity посібник", 1, "Дата публікації"),
        ("developers-reference.ja.pdf", 130, "Debian Developer's Reference", 1, "リリース 12.18"),
        ("refcard-zh_CN-a4.pdf", 2, "Debian 参考卡片", 1, "法律通告"),
        ("project-history.pt.pdf", 27, "Uma Breve História da Debian", 2, "Uma Breve História da Debian ii"),
        ("Seige_of_Vicksburg_Sample_OCR.pdf", 6, "Binder1.pdf", 1, "THE SIEGE OF VICKSBURG."),
        ("an-introduction-to-mathematics.pdf", 228, "The Project Gutenberg eBook #41568: ", 1, "by Alfre"),
        ("multilang.pdf", 1, None, 1, "Привет, "),
        ("libre-office-link.pdf", 1, None, 1, "This is a link to an awesome blog."),
    ],
)
def test_real_pdf(corpus: Path, name: str, pages: int, title: str | None, number: int, phrase: str) -> None:
    """Every page of a real document comes once, from 1, without gap or warning."""
    found = parsed(corpus / "pdf" / name)
    assert found.gaps == []
    assert [page.number for page in found.pages] == list(range(1, pages + 1))
    assert str(found.title or "").startswith(title or "")
    assert found.warnings == []
    page = found.pages[number - 1]
    assert phrase in clean_text(page.text)
    assert not page.continues


def test_real_page_counts(corpus: Path) -> None:
    """Every small PDF of the corpus has as many pages as the manifest says."""
    rows = [line.split("\t") for line in (corpus / "MANIFEST.tsv").read_text(encoding="utf-8").splitlines()]
    expected = {row[0]: int(row[4]) for row in rows if row[0].startswith("pdf/") and row[4] and int(row[1]) < 120_000}
    assert len(expected) > 15
    assert {name: len(parsed(corpus / name).pages) for name in expected} == expected


def test_scan_has_empty_pages() -> None:
    """Pages of pictures are there, and empty: no gap, no invented text."""
    found = parsed(made.scan(5))
    assert [page.text.strip() for page in found.pages] == [""] * 5
    assert (found.gaps, found.warnings) == ([], [])


def test_real_scan_has_empty_page(corpus: Path) -> None:
    """A real scan of one page is one empty page."""
    assert [page.text.strip() for page in parsed(corpus / "pdf" / "grayscale-image.pdf").pages] == [""]


@given(st.integers(min_value=1, max_value=9))
@settings(max_examples=9, deadline=None)
def test_first_page_is_kept(first: int) -> None:
    """Parsing from a page on gives the same pages, with the document's numbers, as parsing it whole."""
    whole = parsed(made.book())
    assert parsed(made.book(), first_page=first).pages == whole.pages[first - 1 :]


def test_too_many_pages_are_refused() -> None:
    """More pages than allowed are refused before the first, and the message says which variable to raise."""
    with pytest.raises(TooManyPages, match="INGEST_MAX_PAGES"):
        next(events_of(pdf_pages, made.book(), max_pages=5))
    assert len(parsed(made.book(), max_pages=6).pages) == 6


def test_pages_come_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first page is there before the second is read."""
    really, read = pdf._page_text, []

    def counted(document: Any, index: int, typed: Any) -> str:
        read.append(index)
        return really(document, index, typed)

    monkeypatch.setattr(pdf, "_page_text", counted)
    first = next(events_of(pdf_pages, made.book()))
    assert isinstance(first, Page)
    assert first.text.startswith("Page 1 of the mill book.")
    assert read == [0]


def test_headings_by_page() -> None:
    """Before the first heading there is none; of several on a page the first counts."""
    headings = Outline([Heading(1, "c", 5), Heading(1, "a", 2), Heading(2, "b", 2)])
    assert [headings.at(number) for number in (1, 2, 3, 4, 5, 6)] == [None, "a", "b", "b", "c", "c"]
    assert [entry.title for entry in headings.beginning_on(2)] == ["a", "b"]
    assert Outline([]).at(1) is None


def test_real_headings(corpus: Path) -> None:
    """Pages of a real document stand under the first heading that begins on them, or the last before."""
    headings = [page.heading for page in parsed(corpus / "pdf" / "pdflatex-outline.pdf").pages]
    assert headings == [None, "Foo", "Bar", "Baz"] or headings[:2] == [None, "Foo"]
    reader = pypdf.PdfReader(corpus / "pdf" / "pdflatex-outline.pdf")
    entries = [(reader.get_destination_page_number(entry) or 0, entry.title) for _, entry in flat(reader.outline)]
    assert headings[1] == next(title for number, title in entries if number == 1)


def test_named_destinations() -> None:
    """Entries lead to pages by name, by action and by old name; a parent that leads nowhere begins with its child."""
    found = parsed(made.named_destinations())
    assert [(entry.level, entry.title, entry.page) for entry in found.headings] == [
        (1, "Part", 1), (2, "By name", 1), (1, "By action", 2), (1, "By old name", 3), (1, "Last", 4),
    ]  # fmt: skip
    assert [page.label for page in found.pages] == ["M-1", "M-2", "M-3", "M-4"]


def test_outline_that_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outline that cannot be read to its end is a warning, and the pages are read."""
    import pypdfium2

    def broken(self: object, max_depth: int = 15) -> Iterator[Any]:
        raise ValueError("no outline")

    monkeypatch.setattr(pypdfium2.PdfDocument, "get_toc", broken)
    found = parsed(made.book())
    assert len(found.pages) == 6
    assert found.warnings == ["outline unreadable after 0 entries: ValueError"]


def test_broken_details_cost_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A title, a label or a form that cannot be read is missing, and the pages are there."""
    import pypdfium2

    def broken(self: object, *_: object) -> Any:
        raise ValueError("damaged")

    for name in ("get_metadata_value", "get_page_label", "get_formtype"):
        monkeypatch.setattr(pypdfium2.PdfDocument, name, broken)
    found = parsed(made.book())
    assert len(found.pages) == 6
    assert found.title is None
    assert {page.label for page in found.pages} == {None}
    assert found.warnings == ["form fields unreadable: ValueError"]


# ------------------------------------------------------------------------------------------------------ the walker


DOCUMENTS = {
    "a book": made.book,
    "three scripts": lambda: made.pages([ENGLISH, "", GERMAN, ENGLISH]),
    "one page": made.hello,
    "90 nodes deep": lambda: made.page_tree(90),
    "an outline in a circle": made.outline_loop,
    "by hand": made.named_destinations,
}


@pytest.mark.parametrize("make", DOCUMENTS.values(), ids=list(DOCUMENTS))
def test_walker_reads_what_pdfium_reads(make: Any) -> None:
    """Pdfium and the walker find as many pages, and the same words."""
    by_pdfium, by_walker = parsed(make()).texts, walked(make())
    assert len(by_walker) == len(by_pdfium)
    assert words(by_walker) == words(by_pdfium)


@pytest.mark.parametrize("make", DOCUMENTS.values(), ids=list(DOCUMENTS))
def test_walker_is_pypdf(monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    """The walker gives the text of pypdf to the letter, also past the point where caches are emptied."""
    monkeypatch.setattr(pypdf_walker, "CLEAR_EVERY_PAGES", 2)
    assert walked(make()) == [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(make())).pages]


def test_walker_outline() -> None:
    """Both ways find the same entries in the outline of a book, and the same title."""
    with opened(made.book()) as document:
        assert document.outline() == parsed(made.book()).headings
        assert document.title == "The Mill Book"
    with opened(made.hello()) as document:
        assert document.outline() == []
        assert document.title is None


def test_walker_destinations() -> None:
    """The walker follows names, old ones too, and actions; entries that lead to no page are left out."""
    with opened(made.named_destinations()) as document:
        entries = [(entry.level, entry.title, entry.page) for entry in document.outline()]
    assert entries == [(2, "By name", 1), (1, "By action", 2), (1, "By old name", 3), (1, "Last", 4)]


def test_walker_broken_outline() -> None:
    """An entry whose destination is a number is left out, and only that one."""
    with opened(made.unbalanced_outline()) as document:
        assert document.outline() == [Heading(1, "", 1)]
        assert document.page_text(1) == made.HELLO


def test_walker_one_page() -> None:
    """One page by the walker is that page, and a page that is not there is damage."""
    with opened(made.book()) as document:
        assert document.page_text(3) == next(text for number, text in document.texts() if number == 3)
        with pytest.raises(pypdf_walker.Damaged, match="no page 7"):
            document.page_text(7)


def test_walker_page_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that pypdf cannot read is an error in its place; out of memory is no such error."""
    from pypdf._page import PageObject

    def failing(error: type[BaseException]) -> Any:
        def extract_text(self: Any) -> str:
            raise error("in the page")

        return extract_text

    with opened(made.book()) as document:
        monkeypatch.setattr(PageObject, "extract_text", failing(ValueError))
        [(number, error), *_] = document.texts(6)
        assert number == 6
        assert isinstance(error, ValueError)
        with pytest.raises(pypdf_walker.Damaged, match="in the page"):
            document.page_text(2)
        monkeypatch.setattr(PageObject, "extract_text", failing(MemoryError))
        with pytest.raises(MemoryError):
            document.page_text(2)


def test_walker_page_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a document that only pypdf opens, a page that it cannot read is a gap under its number."""
    from pypdf._page import PageObject

    def failing(self: Any) -> str:
        raise ValueError("in the page")

    monkeypatch.setattr(PageObject, "extract_text", failing)
    found = parsed(made.without_header())
    assert found.pages == []
    assert found.gaps == [Gap(1, 1, "ValueError: in the page")]


def test_walker_endless_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page tree with more nodes than any document has is damage."""
    monkeypatch.setattr(pypdf_walker, "MAX_NODES", 5)
    with pytest.raises(pypdf_walker.Damaged, match="the page tree has no end"), opened(made.book()) as document:
        list(document.texts())


def test_walker_deep_tree() -> None:
    """A page below 200 nodes is too deep for the walker, and pdfium reads it."""
    assert walked(made.page_tree(200)) == []
    assert parsed(made.page_tree(200)).texts == [made.HELLO]


@pytest.mark.parametrize(
    "name",
    [
        "pdflatex-4-pages.pdf",
        "pdflatex-outline.pdf",
        "multicolumn.pdf",
        "google-doc-document.pdf",
        "Seige_of_Vicksburg_Sample_OCR.pdf",
        "minimal-document.pdf",
    ],
)
def test_walker_reads_real_pdf(corpus: Path, name: str) -> None:
    """Of a real document both find as many pages, and nearly the same bag of words."""
    path = corpus / "pdf" / name
    by_pdfium, by_walker = parsed(path).texts, walked(path)
    assert len(by_walker) == len(by_pdfium)
    assert similarity(words(by_walker), words(by_pdfium)) > 0.85


@pytest.mark.parametrize("name", ["pdflatex-outline.pdf", "multicolumn.pdf", "multilang.pdf", "audacity-manual.uk.pdf"])
def test_walker_is_pypdf_on_real_pdf(corpus: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """To the letter: only the way to the pages differs, also past the point where caches are emptied."""
    monkeypatch.setattr(pypdf_walker, "CLEAR_EVERY_PAGES", 2)
    path = corpus / "pdf" / name
    reader = pypdf.PdfReader(path)
    assert walked(path) == [page.extract_text() for page in reader.pages]


@pytest.mark.parametrize(("name", "entries"), [("pdflatex-outline.pdf", 9), ("zsh.pdf", 325)])
def test_walker_real_outline(corpus: Path, name: str, entries: int) -> None:
    """Page and title of every entry of a real outline are pypdf's, in order."""
    path = corpus / "pdf" / name
    reader = pypdf.PdfReader(path)
    numbers = {page.indirect_reference.idnum: number for number, page in enumerate(reader.pages, start=1)}
    expected = [
        Heading(level, str(entry.title).strip(), numbers[entry.page.idnum]) for level, entry in flat(reader.outline)
    ]
    with opened(path) as document:
        found = document.outline()
    assert len(found) == entries
    assert found == expected


def test_both_find_real_headings(corpus: Path) -> None:
    """Pdfium's outline of a real document and the walker's name the same pages."""
    path = corpus / "pdf" / "pdflatex-outline.pdf"
    with opened(path) as document:
        headings = Outline(document.outline())
        numbers = [number for number, _ in document.texts()]
    assert [headings.at(number) for number in numbers] == [page.heading for page in parsed(path).pages]


def test_outline_in_a_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outline whose last entry is followed by its first ends, by either way, and the pages come."""
    monkeypatch.setattr(pypdf_walker, "MAX_OUTLINE_ENTRIES", 300)
    found = parsed(made.outline_loop())
    assert found.texts == ["Page 1", "Page 2", "Page 3"]
    assert found.outline[:2] == [(1, "One"), (1, "Two")]
    with opened(made.outline_loop()) as document:
        assert 2 <= len(document.outline()) <= pypdf_walker.MAX_OUTLINE_ENTRIES


def test_real_outline_in_a_circle(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages of a real document whose outline loops come all the same, by either way."""
    monkeypatch.setattr(pypdf_walker, "MAX_OUTLINE_ENTRIES", 300)
    path = corpus / "bad" / "qpdf-outlines-with-loop.pdf"
    assert len(parsed(path).pages) == 30
    with opened(path) as document:
        assert len(document.outline()) <= pypdf_walker.MAX_OUTLINE_ENTRIES


# ----------------------------------------------------------------------------------------------------- passwords


@pytest.mark.parametrize("cipher", made.CIPHERS)
def test_password_is_needed(cipher: str) -> None:
    """A locked document is refused with its name and the variable that helps, whatever was tried."""
    content = made.locked(cipher, user="secret")
    with pytest.raises(EncryptedDocument, match="name: the PDF needs a password: set INGEST_PDF_PASSWORDS"):
        parsed(content)
    with pytest.raises(EncryptedDocument, match="none of the 2 in INGEST_PDF_PASSWORDS opens it"):
        parsed(content, passwords=("wrong", "Secret"))
    with pytest.raises(pypdf_walker.PasswordNeeded), opened(content):
        pass


@pytest.mark.parametrize("password", ["secret", "owner"])
@pytest.mark.parametrize("cipher", made.CIPHERS)
def test_password_opens(cipher: str, password: str) -> None:
    """The user's and the owner's password open a document, for both libraries."""
    content = made.locked(cipher, user="secret")
    assert "two ledgers" in parsed(content, passwords=("wrong", password)).text
    with opened(content, "wrong", password) as document:
        assert "two ledgers" in document.page_text(1)


@pytest.mark.parametrize("cipher", made.CIPHERS)
def test_empty_password_opens(cipher: str) -> None:
    """Where only the owner's rights are locked, every reader shows the document."""
    content = made.locked(cipher, user="")
    assert "two ledgers" in parsed(content).text
    assert "Straßenfest" in parsed(content).pages[1].text
    with opened(content) as document:
        assert "two ledgers" in document.page_text(1)


def test_forbidden_extraction_is_read() -> None:
    """A document that forbids to copy its text is read: it opens without a password."""
    assert "two ledgers" in parsed(made.without_extraction()).text


def test_password_for_pypdf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords reach pypdf where pdfium cannot open the document, and are asked for there, too."""
    import pypdfium2

    def refusing(*_: object, **__: object) -> Any:
        raise pypdfium2.PdfiumError("Failed to load document")

    monkeypatch.setattr(pypdfium2, "PdfDocument", refusing)
    content = made.locked("AES-256", user="secret", content=made.book())
    found = parsed(content, passwords=("secret",))
    assert found.title == "The Mill Book"
    assert found.outline == parsed(made.book(), first_page=1).outline
    assert [page.heading for page in found.pages][1:3] == ["Part one", "The ledgers"]
    assert found.warnings == ["pdfium: Failed to load document; read with pypdf"]
    with pytest.raises(EncryptedDocument, match="name: the PDF needs a password"):
        parsed(content)
    with pytest.raises(TooManyPages, match="INGEST_MAX_PAGES"):
        parsed(made.book(), max_pages=5)


@pytest.mark.parametrize(
    "name",
    [
        "cabinet-encryption_openpassword.pdf",
        "libreoffice-writer-password.pdf",
        "pypdf-r2-user-password.pdf",
        "pypdf-r4-aes-user-password.pdf",
        "pypdf-r6-both-passwords.pdf",
        "qpdf-enc-long-password.pdf",
    ],
)
def test_real_locked_file(corpus: Path, name: str) -> None:
    """A real file of every generation of PDF encryption is refused."""
    with pytest.raises(EncryptedDocument):
        parsed(corpus / "bad" / name)


# -------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("make", made.REPAIRABLE.values(), ids=list(made.REPAIRABLE))
def test_damage_is_repaired(make: Any) -> None:
    """Damage is no reason to lose the text."""
    assert made.HELLO in parsed(make()).pages[0].text


@pytest.mark.parametrize("make", made.UNREADABLE.values(), ids=list(made.UNREADABLE))
def test_unreadable_document(make: Any) -> None:
    """A document without one page that can be had is an error of ours with its name, or nothing but gaps."""
    try:
        found = parsed(make())
    except UnreadableDocument as error:
        assert str(error).startswith("name: neither pdfium nor pypdf can open it")
    else:
        assert found.pages == []
        assert found.gaps


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("pypdf-r6-empty-password.pdf", "pdf encryption test"),
        ("cabinet-encryption_notextaccess.pdf", "This is a test document."),
        ("cabinet-corruptionOneByteMissing.pdf", "This is a test document."),
        ("handbuilt-T03_001_no-cross-reference-table.pdf", "Hello PDF-world!"),
        ("handbuilt-T02-05-01_014_endstream-keyword-missing.pdf", "Hello PDF-world!"),
        ("qpdf-pages-loop.pdf", "Potato"),
        ("pdfjs-bomb_giant.pdf", "GIANT JBIG2 BOMB"),
    ],
)
def test_real_damage_is_repaired(corpus: Path, name: str, phrase: str) -> None:
    """A real damaged file that can be read is read."""
    assert phrase in parsed(corpus / "bad" / name).pages[0].text


def test_pypdf_reads_the_rest() -> None:
    """What pdfium cannot open is read by pypdf, with a warning that says so."""
    found = parsed(made.without_header())
    assert found.texts == [made.HELLO]
    [warning] = found.warnings
    assert warning.startswith("pdfium: ")
    assert warning.endswith("; read with pypdf")


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("handbuilt-T01_006_header-invalid-syntax-no-pdf.pdf", "Hello PDF-world!"),
        ("pdfjs-bug1606566.pdf", "Bug 1606566"),
    ],
)
def test_pypdf_reads_real_rest(corpus: Path, name: str, phrase: str) -> None:
    """A real file that pdfium cannot open is read by pypdf, with a warning that says so."""
    found = parsed(corpus / "bad" / name)
    assert phrase in found.pages[0].text
    assert len(found.warnings) == 1
    assert "read with pypdf" in found.warnings[0]


def test_blank_beginning_is_read_again() -> None:
    """Pdfium opens a document whose content stream is not where it should be as a blank page: pypdf is asked."""
    found = parsed(made.written(made.hello_objects(), astray={4}))
    assert found.texts == [made.HELLO]
    assert (found.gaps, found.warnings) == ([], [])


def test_one_page_by_pypdf() -> None:
    """A page that pdfium cannot load is read by pypdf alone; its neighbours stay pdfium's."""
    objects = made.many_objects(*(made.content_stream(f"Page {number}") for number in (1, 2, 3)))
    found = parsed(made.written(objects, astray={12}))
    assert [(page.number, page.text.strip()) for page in found.pages] == [(1, "Page 1"), (2, "Page 2"), (3, "Page 3")]
    assert found.gaps == []


def test_one_failed_page_by_pypdf(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page on which pdfium fails gives the walker's text; its neighbours stay pdfium's."""
    really = pdf._page_text

    def broken(document: Any, index: int, typed: Any) -> str:
        if index == 1:
            raise ValueError("damaged")
        return really(document, index, typed)

    before = parsed(made.book())
    monkeypatch.setattr(pdf, "_page_text", broken)
    found = parsed(made.book())
    assert [page.number for page in found.pages] == [1, 2, 3, 4, 5, 6]
    assert found.pages[1].text == walked(made.book())[1]
    assert found.pages[1].text != before.pages[1].text
    assert found.pages[2:] == before.pages[2:]


def test_page_that_neither_reads() -> None:
    """A page that no library can read is a gap with its number and both reasons."""
    found = parsed(made.missing_kid())
    assert found.pages == []
    assert found.gaps == [Gap(1, 1, "PdfiumError: Failed to load page.; pypdf: Damaged")]
    found = parsed(made.broken_second_branch())
    assert found.texts == [made.HELLO]
    assert [(gap.page_from, gap.page_to) for gap in found.gaps] == [(2, 2)]


def test_count_that_is_too_large() -> None:
    """Pages that a document only counts are gaps behind those that it has."""
    found = parsed(made.hello().replace(b"/Count 1", b"/Count 7"))
    assert found.texts == [made.HELLO]
    assert [gap.page_from for gap in found.gaps] == [2, 3, 4, 5, 6, 7]


def test_broken_content_costs_one_page() -> None:
    """A content stream that cannot be unpacked costs its own page alone."""
    found = parsed(made.garbled_page())
    assert (found.texts[0], found.texts[-1]) == ("The first page.", "The third page.")
    assert found.total_pages == 3


def test_real_page_that_neither_reads(corpus: Path) -> None:
    """A real page that no library can read is a gap with its number and both reasons."""
    found = parsed(corpus / "bad" / "handbuilt-T02-02_004_page-tree-non-existing-object-as-kid.pdf")
    assert found.pages == []
    [gap] = found.gaps
    assert (gap.page_from, gap.page_to) == (1, 1)
    assert "pypdf" in gap.reason


def test_out_of_memory_is_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory ran out on a page, a retry with more could read it: the page is not damaged."""

    def greedy(document: Any, *_: object) -> str:
        raise MemoryError

    monkeypatch.setattr(pypdf_walker.WalkedPdf, "page_text", greedy)
    with pytest.raises(MemoryError):
        parsed(made.missing_kid())
    monkeypatch.setattr(pdf, "_page_text", greedy)
    with pytest.raises(MemoryError):
        parsed(made.book())


@pytest.mark.parametrize("content", [b"", b"%PDF-1.4\n", b"%PDF-1.7\n" + b"\0" * 5000, b"not a pdf at all"])
def test_no_pdf_is_unreadable(content: bytes) -> None:
    """What is no PDF is unreadable, whatever its name says."""
    with pytest.raises(UnreadableDocument, match="name"):
        parsed(content)


@given(st.floats(min_value=0, max_value=1), st.sampled_from([made.book, made.hello, made.form, made.garbled_page]))
@settings(max_examples=40, deadline=None)
def test_truncated_pdf(part: float, make: Any) -> None:
    """An interrupted download, cut anywhere, gives pages and gaps or an error of ours with the file's name."""
    try:
        found = parsed(made.truncated(make(), part))
    except PermanentError as error:
        assert "name" in str(error)
    else:
        assert len(found.pages) + len(found.gaps) >= 1


def test_truncated_real_pdf(corpus: Path) -> None:
    """A real download that was interrupted anywhere gives pages, gaps, or an error of ours."""
    content = (corpus / "pdf" / "pdflatex-4-pages.pdf").read_bytes()
    for part in range(1, 10):
        try:
            found = parsed(content[: len(content) * part // 10])
        except PermanentError as error:
            assert "name" in str(error)
        else:
            assert all(isinstance(event, (Page, Gap, Heading)) for event in found.events)


def test_hostile_real_pdfs(corpus: Path) -> None:
    """All damaged, fuzzed and malicious files of the corpus give pages, gaps, or an error of our tree."""
    untyped = {}
    files = [path for path in sorted((corpus / "bad").iterdir()) if path.suffix in (".pdf", ".fuzz")]
    assert len(files) > 60
    for path in files:
        if path.name == "pdfjs-bug1978317.pdf":  # a second of one page: nothing to learn from it here
            continue
        try:
            parsed(path)
        except PermanentError:
            continue
        except Exception as error:
            untyped[path.name] = repr(error)
    assert untyped == {}


def test_walker_stops_a_bomb() -> None:
    """A small file that unpacks to a long list of operators is that page's error; its neighbour is read."""
    content = made.operator_bomb(2_000_000)
    assert len(content) < 200_000
    began = time.monotonic()
    with opened(content) as document:
        texts = [text for _, text in document.texts()]
    assert isinstance(texts[0], Exception)
    assert texts[1] == "harmless"
    assert time.monotonic() - began < 5


def test_pypdf_error_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever pypdf raises while it opens a file means that it cannot make sense of it; out of memory does not."""
    for error, expected in ((AssertionError("odd"), pypdf_walker.Damaged), (MemoryError(), MemoryError)):

        def refusing(*_: object, _error: BaseException = error, **__: object) -> Any:
            raise _error

        monkeypatch.setattr(pypdf, "PdfReader", refusing)
        with pytest.raises(expected), opened(made.hello()):
            pass


def test_real_pypdf_error_is_damage(corpus: Path) -> None:
    """An AssertionError of pypdf on a real file is damage."""
    with pytest.raises(pypdf_walker.Damaged), opened(corpus / "bad" / "qpdf-bad35.pdf") as document:
        list(document.texts())
