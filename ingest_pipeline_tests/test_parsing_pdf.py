"""PDF pages by pdfium, by pypdf's walker where pdfium fails; real files, locked files, damaged files."""

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
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from ingest_pipeline.errors import EncryptedDocument, PermanentError, TooManyPages, UnreadableDocument
from ingest_pipeline.models import Gap, Heading, Page
from ingest_pipeline.parsing.formats import pdf, pypdf_walker
from ingest_pipeline.parsing.formats.clean import clean_text
from ingest_pipeline.parsing.formats.pdf import Headings, pdf_pages
from ingest_pipeline.parsing.request import ParseFacts, ParseRequest


@pytest.fixture(autouse=True)
def quiet_pypdf() -> Iterator[None]:
    """Pypdf reports every oddity of a damaged file."""
    logger = logging.getLogger("pypdf")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


def parsed(path: Path | bytes, *, first_page: int = 1, max_pages: int = 20_000) -> tuple[list[Page | Gap], ParseFacts]:
    """Parse a PDF in this process."""
    facts = ParseFacts()
    request = ParseRequest("name", "application/pdf", first_page=first_page, max_pages=max_pages)
    with io.BytesIO(path) if isinstance(path, bytes) else path.open("rb") as stream:
        found = list(pdf_pages(stream, request, facts))
        return [one for one in found if not isinstance(one, Heading)], facts


def pages_of(path: Path | bytes) -> list[Page]:
    """The pages alone."""
    return [found for found in parsed(path)[0] if isinstance(found, Page)]


def walked(path: Path) -> list[str]:
    """Every page's text by the walker."""
    with path.open("rb") as stream, pypdf_walker.opened(stream) as document:
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


def locked(*, user: str, owner: str = "owner", algorithm: str = "AES-256", text_from: Path) -> bytes:
    """A real PDF behind a password."""
    writer = pypdf.PdfWriter(clone_from=str(text_from))
    writer.encrypt(user_password=user, owner_password=owner, algorithm=algorithm)
    content = io.BytesIO()
    writer.write(content)
    return content.getvalue()


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
def test_a_real_pdf_has_its_pages_title_and_words(
    corpus: Path, name: str, pages: int, title: str | None, number: int, phrase: str
) -> None:
    """Every page once, from 1, without gap or warning."""
    found, facts = parsed(corpus / "pdf" / name)
    assert [page.number for page in found if isinstance(page, Page)] == list(range(1, pages + 1))
    assert str(facts.title or "").startswith(title or "")
    assert facts.warnings == []
    page = found[number - 1]
    assert isinstance(page, Page)
    assert phrase in clean_text(page.text)
    assert not page.continues


def test_the_page_counts_are_those_of_the_manifest(corpus: Path) -> None:
    """For every small PDF of the corpus."""
    rows = [line.split("\t") for line in (corpus / "MANIFEST.tsv").read_text(encoding="utf-8").splitlines()]
    expected = {row[0]: int(row[4]) for row in rows if row[0].startswith("pdf/") and row[4] and int(row[1]) < 120_000}
    assert len(expected) > 15
    assert {name: len(pages_of(corpus / name)) for name in expected} == expected


def test_a_scan_has_pages_without_text(corpus: Path) -> None:
    """The page is there, and empty: no gap, no invention."""
    assert [page.text.strip() for page in pages_of(corpus / "pdf" / "grayscale-image.pdf")] == [""]


def test_parsing_begins_at_the_page_that_was_asked_for(corpus: Path) -> None:
    """What was stored before a kill is not parsed again; the numbers stay the document's."""
    path = corpus / "pdf" / "pdflatex-4-pages.pdf"
    whole, _ = parsed(path)
    assert parsed(path, first_page=3)[0] == whole[2:]
    assert parsed(path, first_page=5)[0] == []


def test_more_pages_than_allowed_are_refused_before_the_first(corpus: Path) -> None:
    """The message says which variable to raise."""
    path = corpus / "pdf" / "pdflatex-4-pages.pdf"
    with pytest.raises(TooManyPages, match="INGEST_MAX_PAGES"):
        parsed(path, max_pages=3)
    assert len(parsed(path, max_pages=4)[0]) == 4


def test_pages_come_one_at_a_time(corpus: Path) -> None:
    """The first of 480 is there long before the last."""
    with (corpus / "pdf" / "zsh.pdf").open("rb") as stream:
        pages = pdf_pages(stream, ParseRequest("name", "application/pdf"), ParseFacts())
        first = next(pages)
        pages.close()  # type: ignore[attr-defined]
    assert isinstance(first, Page)
    assert "The Z Shell Manual" in first.text


def test_pages_stand_under_the_headings_of_the_outline(corpus: Path) -> None:
    """The first that starts on the page, or the last before it."""
    headings = [page.heading for page in pages_of(corpus / "pdf" / "pdflatex-outline.pdf")]
    assert headings == [None, "Foo", "Bar", "Baz"] or headings[:2] == [None, "Foo"]
    reader = pypdf.PdfReader(corpus / "pdf" / "pdflatex-outline.pdf")
    entries = [(reader.get_destination_page_number(entry) or 0, entry.title) for _, entry in flat(reader.outline)]
    assert headings[1] == next(title for number, title in entries if number == 1)


def test_headings_are_looked_up_by_page() -> None:
    """Before the first there is none; of several on a page, the first."""
    headings = Headings([Heading(1, "c", 5), Heading(1, "a", 2), Heading(2, "b", 2)])
    assert [headings.at(number) for number in (1, 2, 3, 4, 5, 6)] == [None, "a", "b", "b", "c", "c"]
    assert [entry.title for entry in headings.beginning_on(2)] == ["a", "b"]
    assert Headings([]).at(1) is None


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
def test_the_walker_reads_what_pdfium_reads(corpus: Path, name: str) -> None:
    """As many pages, and nearly the same bag of words."""
    path = corpus / "pdf" / name
    by_pdfium = [page.text for page in pages_of(path)]
    by_walker = walked(path)
    assert len(by_walker) == len(by_pdfium)
    assert similarity(words(by_walker), words(by_pdfium)) > 0.85


@pytest.mark.parametrize("name", ["pdflatex-outline.pdf", "multicolumn.pdf", "multilang.pdf", "audacity-manual.uk.pdf"])
def test_the_walker_gives_the_text_of_pypdf(corpus: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """To the letter: only the way to the pages differs, also past the point where caches are emptied."""
    monkeypatch.setattr(pypdf_walker, "CLEAR_EVERY_PAGES", 2)
    path = corpus / "pdf" / name
    reader = pypdf.PdfReader(path)
    assert walked(path) == [page.extract_text() for page in reader.pages]


@pytest.mark.parametrize(("name", "entries"), [("pdflatex-outline.pdf", 9), ("zsh.pdf", 325)])
def test_the_outline_of_the_walker_is_pypdfs(corpus: Path, name: str, entries: int) -> None:
    """Page and title of every entry, in order."""
    path = corpus / "pdf" / name
    reader = pypdf.PdfReader(path)
    numbers = {page.indirect_reference.idnum: number for number, page in enumerate(reader.pages, start=1)}
    expected = [
        Heading(level, str(entry.title).strip(), numbers[entry.page.idnum]) for level, entry in flat(reader.outline)
    ]
    with path.open("rb") as stream, pypdf_walker.opened(stream) as document:
        found = document.outline()
    assert len(found) == entries
    assert found == expected


def test_both_ways_find_the_same_headings(corpus: Path) -> None:
    """Pdfium's outline and the walker's name the same pages."""
    path = corpus / "pdf" / "pdflatex-outline.pdf"
    with path.open("rb") as stream, pypdf_walker.opened(stream) as document:
        headings = Headings(document.outline())
        numbers = [number for number, _ in document.texts()]
    assert [headings.at(number) for number in numbers] == [page.heading for page in pages_of(path)]


def test_one_page_by_the_walker_is_that_page(corpus: Path) -> None:
    """And a page that is not there is damage."""
    with (corpus / "pdf" / "pdflatex-4-pages.pdf").open("rb") as stream, pypdf_walker.opened(stream) as document:
        assert document.page_text(3) == next(text for number, text in document.texts() if number == 3)
        with pytest.raises(pypdf_walker.Damaged, match="no page 5"):
            document.page_text(5)


def test_an_outline_that_turns_in_a_circle_ends(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages come all the same, by either way."""
    monkeypatch.setattr(pypdf_walker, "MAX_OUTLINE_ENTRIES", 300)
    path = corpus / "bad" / "qpdf-outlines-with-loop.pdf"
    assert len(pages_of(path)) == 30
    with path.open("rb") as stream, pypdf_walker.opened(stream) as document:
        assert len(document.outline()) <= pypdf_walker.MAX_OUTLINE_ENTRIES


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
def test_a_pdf_with_a_password_is_encrypted(corpus: Path, algorithm: str) -> None:
    """And the message names the file."""
    content = locked(user="secret", algorithm=algorithm, text_from=corpus / "pdf" / "minimal-document.pdf")
    with pytest.raises(EncryptedDocument, match="name: the PDF needs a password"):
        parsed(content)
    with pytest.raises(pypdf_walker.PasswordNeeded), pypdf_walker.opened(io.BytesIO(content)):
        pass


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-256"])
def test_a_pdf_with_an_empty_password_opens(corpus: Path, algorithm: str) -> None:
    """Only its owner's rights are locked: every reader shows it."""
    content = locked(user="", algorithm=algorithm, text_from=corpus / "pdf" / "minimal-document.pdf")
    assert "Lorem ipsum dolor sit amet" in pages_of(content)[0].text
    with pypdf_walker.opened(io.BytesIO(content)) as document:
        assert "Lorem ipsum dolor sit amet" in document.page_text(1)


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
def test_a_real_locked_file_is_encrypted(corpus: Path, name: str) -> None:
    """Every generation of PDF encryption."""
    with pytest.raises(EncryptedDocument):
        parsed(corpus / "bad" / name)


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
def test_a_damaged_file_that_can_be_read_is_read(corpus: Path, name: str, phrase: str) -> None:
    """Damage is no reason to lose the text."""
    assert phrase in pages_of(corpus / "bad" / name)[0].text


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("handbuilt-T01_006_header-invalid-syntax-no-pdf.pdf", "Hello PDF-world!"),
        ("pdfjs-bug1606566.pdf", "Bug 1606566"),
    ],
)
def test_what_pdfium_cannot_open_is_read_by_pypdf(corpus: Path, name: str, phrase: str) -> None:
    """With a warning that says so."""
    found, facts = parsed(corpus / "bad" / name)
    assert isinstance(found[0], Page)
    assert phrase in found[0].text
    assert len(facts.warnings) == 1
    assert "read with pypdf" in facts.warnings[0]


def test_a_page_that_pdfium_cannot_read_is_read_by_pypdf(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That page alone; its neighbours stay pdfium's."""
    really = pdf._page_text

    def broken(document: Any, index: int) -> str:
        if index == 1:
            raise ValueError("damaged")
        return really(document, index)

    path = corpus / "pdf" / "pdflatex-4-pages.pdf"
    monkeypatch.setattr(pdf, "_page_text", broken)
    found, _ = parsed(path)
    assert [page.number for page in found if isinstance(page, Page)] == [1, 2, 3, 4]
    assert isinstance(found[1], Page)
    assert found[1].text == walked(path)[1]


def test_a_page_that_neither_can_read_is_a_gap(corpus: Path) -> None:
    """With its number and both reasons, never silently nothing."""
    found, _ = parsed(corpus / "bad" / "handbuilt-T02-02_004_page-tree-non-existing-object-as-kid.pdf")
    assert len(found) == 1
    assert isinstance(found[0], Gap)
    assert (found[0].page_from, found[0].page_to) == (1, 1)
    assert "pypdf" in found[0].reason


def test_running_out_of_memory_on_a_page_is_no_gap(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry with more memory could read it: the file has reached its limit, the page is not damaged."""

    def greedy(document: Any, index: int) -> str:
        raise MemoryError

    monkeypatch.setattr(pdf, "_page_text", greedy)
    monkeypatch.setattr(pypdf_walker.WalkedPdf, "page_text", greedy)
    with pytest.raises(MemoryError):
        parsed(corpus / "pdf" / "pdflatex-4-pages.pdf")


@pytest.mark.parametrize("content", [b"", b"%PDF-1.4\n", b"%PDF-1.7\n" + b"\0" * 5000, b"not a pdf at all"])
def test_what_is_no_pdf_is_unreadable(content: bytes) -> None:
    """Whatever its name says."""
    with pytest.raises(UnreadableDocument, match="name"):
        parsed(content)


def test_a_truncated_pdf_gives_pages_or_a_typed_error(corpus: Path) -> None:
    """An interrupted download, cut anywhere."""
    content = (corpus / "pdf" / "pdflatex-4-pages.pdf").read_bytes()
    for part in range(1, 10):
        try:
            found, _ = parsed(content[: len(content) * part // 10])
        except PermanentError as error:
            assert "name" in str(error)
        else:
            assert all(isinstance(item, (Page, Gap)) for item in found)


def test_no_hostile_pdf_raises_an_error_without_a_type(corpus: Path) -> None:
    """All damaged, fuzzed and malicious files of the corpus: pages, gaps, or an error of our tree."""
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


def test_a_bomb_stops_the_walker_early() -> None:
    """A small file that unpacks to a long list of operators is that page's error; its neighbour is read."""
    writer = pypdf.PdfWriter()
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    fonts = DictionaryObject(
        {NameObject("/F1"): DictionaryObject({NameObject(key): NameObject(font[key]) for key in font})}
    )
    for content in (b"0 0 m 1 1 l " * 2_000_000, b"BT /F1 9 Tf (harmless) Tj ET"):
        stream = DecodedStreamObject()
        stream.set_data(content)
        page = writer.add_blank_page(100, 100)
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        page[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    packed = io.BytesIO()
    writer.write(packed)
    assert len(packed.getvalue()) < 200_000
    began = time.monotonic()
    with pypdf_walker.opened(packed) as document:
        texts = [text for _, text in document.texts()]
    assert isinstance(texts[0], Exception)
    assert texts[1] == "harmless"
    assert time.monotonic() - began < 5


def test_an_error_of_pypdf_itself_is_damage(corpus: Path) -> None:
    """Whatever pypdf raises while it opens a file (here an AssertionError) means: it cannot make sense of it."""
    with (
        (corpus / "bad" / "qpdf-bad35.pdf").open("rb") as stream,
        pytest.raises(pypdf_walker.Damaged),
        pypdf_walker.opened(stream) as document,
    ):
        list(document.texts())
