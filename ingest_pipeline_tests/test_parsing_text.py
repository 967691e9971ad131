"""Plain text and Markdown: encodings, slabs, sections; and what makes text clean, paged and typed."""

from __future__ import annotations

import codecs
import io
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_pipeline.models import Page
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.formats.clean import clean_text
from ingest_pipeline.parsing.formats.encoding import SAMPLE_BYTES, detect_encoding
from ingest_pipeline.parsing.formats.page_builder import MIN_SECTION_CHARACTERS, SLAB_CHARACTERS, PageBuilder
from ingest_pipeline_tests.made import pages as made
from ingest_pipeline_tests.made.records import packed
from ingest_pipeline_tests.made.words import (
    CHINESE,
    ENGLISH,
    GERMAN,
    GREEK,
    JAPANESE,
    KOREAN,
    LANGUAGES,
    LEGACY,
    PORTUGUESE,
    RUSSIAN,
    TRADITIONAL,
    UKRAINIAN,
    paragraphs,
)
from ingest_pipeline_tests.parsers import (
    Content,
    Parsed,
    Parser,
    events_of,
    markdown_pages,
    parse,
    rst_pages,
    text_pages,
)

quick = settings(max_examples=40, deadline=None)


def parsed(parser: Parser, content: Content) -> Parsed:
    """Parse a text in this process, where nothing is ever a gap."""
    found = parse(parser, content)
    assert found.gaps == []
    return found


def taken(pager: PageBuilder) -> list[Page]:
    """The finished pages, without the headings between them."""
    return [found for found in pager.take() if isinstance(found, Page)]


def encoding_of(content: bytes, declared: str | None = None) -> tuple[str, str | None]:
    """Detect the encoding of bytes."""
    return detect_encoding(lambda: io.BytesIO(content), declared=declared)


def same_letters(encoding: str, other: str, content: bytes) -> bool:
    """Whether two names of encodings read the bytes alike."""
    return content.decode(encoding) == content.decode(other)


MANY_RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 20


@pytest.mark.parametrize(("text", "encoding"), LEGACY, ids=[encoding for _, encoding in LEGACY])
@pytest.mark.parametrize("times", [1, 200], ids=["a paragraph", "a book"])
def test_legacy_encodings(text: str, encoding: str, times: int) -> None:
    """A text in any usual encoding is read as its author wrote it, be it a paragraph or a book, with a warning."""
    expected = f"{text}\n" * times
    found = parsed(text_pages, expected.encode(encoding))
    assert found.text == expected
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("encoding guessed")


@pytest.mark.parametrize("text", LANGUAGES.values(), ids=list(LANGUAGES))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_encodings(text: str, encoding: str) -> None:
    """A text in any language is read in every encoding of Unicode, without a warning."""
    found = parsed(text_pages, text.encode(encoding))
    assert (found.text, found.warnings) == (text, [])


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (PORTUGUESE, "cp1252"), (RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (UKRAINIAN, "koi8-u"),
        (RUSSIAN, "iso-8859-5"), (JAPANESE, "shift_jis"), (JAPANESE, "euc_jp"), (CHINESE, "gb18030"),
        (TRADITIONAL, "big5"), (KOREAN, "euc_kr"),
    ],
    ids=lambda one: one if one.isascii() else "",
)  # fmt: skip
def test_book_in_legacy_encoding(text: str, encoding: str) -> None:
    """A sample that cuts a character in two at its edge does not spoil the guess of a long text's encoding."""
    content = paragraphs(text, 40_000).encode(encoding)
    for shift in range(3):
        found, warning = encoding_of(b"x" * (SAMPLE_BYTES - 1000 + shift) + content)
        assert same_letters(found, encoding, content), found
        assert warning is not None


@pytest.mark.parametrize(
    ("name", "truth", "phrase"),
    [
        ("russian.cp866.txt", "cp866", "Однажды, в студеную зимнюю пору,"),
        ("kanjidic.euc-jp.txt", "euc-jp", "KANJIDIC JIS X 0208 Kanji Information File"),
        ("entre-nous.fr.iso-8859-1.txt", "iso-8859-1", "Entre Nous, by Lucie Vos"),
        ("ontboezemingen.nl.iso-8859-1.txt", "iso-8859-1", "Ontboezemingen, by Gabriël"),
        ("english.cp500.txt", "cp500", "IntelliStation POWER"),
        ("debian-faq.ru.txt", "utf-8", "Часто задаваемые вопросы о Debian GNU/Linux"),
        ("debian-faq.zh-cn.txt", "utf-8", "常见问题"),
        ("live-manual.ja.txt", "utf-8", "LIVE システムマニュアル"),
        ("California_SOTS.txt", "utf-8", "thank you for being a champion for all Californ"),
        ("tika-win-1252.txt", "cp1252", "“windows” encoding"),
    ],
)
def test_real_encodings(corpus: Path, name: str, truth: str, phrase: str) -> None:
    """A real text is read in the encoding that it is in: every character is the one that its author wrote."""
    path = corpus / "txt" / name
    text = parsed(text_pages, path).text
    assert phrase in text
    expected = io.TextIOWrapper(io.BytesIO(path.read_bytes()), encoding=truth, newline=None).read()
    assert [letter for letter in text if letter.isalpha()] == [
        letter for letter in expected.lstrip("\ufeff") if letter.isalpha()
    ]


def test_guess_is_a_warning() -> None:
    """A guessed encoding is a warning, UTF-8 is none."""
    assert parsed(text_pages, RUSSIAN.encode("cp866")).warnings[0].startswith("encoding guessed")
    assert parsed(text_pages, RUSSIAN.encode()).warnings == []


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("debian-faq.pt.txt", "cp1252"),
        ("debian-faq.ru.txt", "cp1251"),
        ("debian-faq.ru.txt", "koi8-r"),
        ("debian-faq.ru.txt", "iso-8859-5"),
        ("live-manual.ja.txt", "shift_jis"),
        ("debian-faq.zh-cn.txt", "gb18030"),
        ("debian-faq.zh-cn.txt", "big5"),
    ],
)
def test_real_book_in_legacy_encoding(corpus: Path, name: str, encoding: str) -> None:
    """A real book in a legacy encoding is read; a sample that cuts a character in two must not spoil the guess."""
    content = (corpus / "txt" / name).read_text(encoding="utf-8").encode(encoding, "ignore")
    found, warning = encoding_of(content)
    assert same_letters(found, encoding, content), found
    assert warning is not None


def test_greek_capital() -> None:
    """Greek of ISO-8859-7 is told from cp1253 by the capital alpha with its accent, the only letter that differs."""
    text = f"Το Άγιο Όρος, η Άνοιξη. {GREEK}"
    assert parsed(text_pages, text.encode("iso8859_7")).text == text


def test_western_tie() -> None:
    """Of two encodings that read a text equally well, the one that most texts are in is taken."""
    text = "El niño – señor ÿþ" * 5
    assert encoding_of(text.encode("cp1252")) == ("cp1252", "encoding guessed: cp1252")


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_without_a_mark(name: str) -> None:
    """UTF-16 and UTF-32 without a mark are told by their zeros, in either byte order."""
    found, warning = encoding_of("Plain words, é and ß, in two bytes each, or in four.".encode(name))
    assert found == name
    assert warning == f"{name[:6].upper()} without a byte-order mark"


@pytest.mark.parametrize(
    ("mark", "codec"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_byte_order_mark(mark: bytes, codec: str) -> None:
    """A byte-order mark wins over whatever was declared, and does not become a character."""
    content = mark + "Ärger, 无骨, 😀".encode(codec)
    assert encoding_of(content, declared="cp1251")[1] is None
    found = parsed(text_pages, content)
    assert found.text == "Ärger, 无骨, 😀"
    assert found.warnings == []


@pytest.mark.parametrize("word", ["José", "Müller", "São Paulo", "£5", "it’s", "“quoted”"])
def test_late_character(word: str) -> None:
    """One cp1252 character after 64 KiB of ASCII is read as what it is, not as UTF-8 and not as Polish."""
    prose = paragraphs(ENGLISH, 100_000).encode("ascii")
    content = prose + b" " + word.encode("cp1252") + b" " + prose[:20_000]
    assert len(prose) > SAMPLE_BYTES
    found, warning = encoding_of(content)
    assert word in content.decode(found), found
    assert warning is not None


def test_late_utf8() -> None:
    """A late character of UTF-8 is still UTF-8, also when it straddles two reads."""
    for shift in range(4):
        content = b"x" * (256 * 1024 - shift) + "é无😀".encode()
        assert encoding_of(content) == ("utf-8", None)


def test_cut_last_character() -> None:
    """A truncated download in UTF-8 is read in UTF-8 up to the cut."""
    content = "Größe und Straße. ".encode() * 50 + "Ü".encode()[:1]
    assert parsed(text_pages, content).text.startswith("Größe und Straße. ")


@pytest.mark.parametrize("text", [PORTUGUESE, RUSSIAN, CHINESE], ids=["Portuguese", "Russian", "Chinese"])
def test_one_bad_byte(text: str) -> None:
    """One bad byte in a long UTF-8 text costs its character, not every accent of it."""
    content = bytearray(paragraphs(text, 50_000).encode())
    expected = content.decode()
    content[next(at for at in range(len(content) // 2, len(content)) if content[at] >= 0xC3)] = 0xFF
    found = parsed(text_pages, bytes(content))
    assert found.text[:20_000] == expected[:20_000]
    assert sum(one != other for one, other in zip(found.text, expected, strict=False)) > 0
    assert found.text.count("\ufffd") <= 4
    assert "damaged bytes" in found.warnings[0]


def test_damaged_utf8() -> None:
    """UTF-8 with every seventh accented character damaged is still UTF-8."""
    content = bytearray("Les élèves étudient à l'école où naît l'été; le cœur déçu. ".encode() * 3)
    content[1::90] = b"\xff" * len(content[1::90])
    found, warning = encoding_of(bytes(content))
    assert found == "utf-8"
    assert warning is not None
    assert "damaged" in warning


def test_declared_encoding() -> None:
    """What a document declares is believed where it decodes, only after UTF-8 was ruled out."""
    content = MANY_RUSSIAN.encode("koi8-r")
    assert encoding_of(content, declared="koi8-r") == ("koi8-r", None)
    assert encoding_of(MANY_RUSSIAN.encode(), declared="koi8-r") == ("utf-8", None)


@pytest.mark.parametrize("declared", ["utf-8", "no-such-encoding", "ascii", "base64", "hex", "rot13", "zlib", "idna"])
def test_useless_declaration(declared: str) -> None:
    """A declaration that is wrong, unknown, or no encoding of text is ignored."""
    content = MANY_RUSSIAN.encode("cp1251")
    assert encoding_of(content, declared=declared) == encoding_of(content)


def test_latin_1_is_windows() -> None:
    """Declared Latin-1 means Windows-1252, as in every browser."""
    content = "<p>“It’s 5 €” – he said…</p>".encode("cp1252") * 20
    for declared in ("iso-8859-1", "latin1", "us-ascii"):
        found, _ = encoding_of(content, declared=declared)
        assert "“It’s 5 €” – he said…" in clean_text(content.decode(found)), declared


def test_no_text() -> None:
    """Bytes that are no text give replacement characters, not an exception."""
    content = bytes(range(256)) * 40
    found = parsed(text_pages, content)
    assert found.pages
    assert found.warnings


@given(st.binary(max_size=3000))
@quick
def test_any_bytes(content: bytes) -> None:
    """Whatever bytes come, they are read."""
    for parser in (text_pages, markdown_pages, rst_pages):
        assert all(isinstance(clean_text(page.text), str) for page in parsed(parser, content).pages)


@given(st.text(max_size=2000))
@quick
def test_any_utf8(text: str) -> None:
    """UTF-8 text comes back whole, with its newlines made one kind."""
    content = text.encode("utf-8", "replace")
    if content[:3] == codecs.BOM_UTF8 or b"\0" in content or content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return
    expected = content.decode().replace("\r\n", "\n").replace("\r", "\n")
    for parser in (text_pages, markdown_pages, rst_pages):
        assert parsed(parser, content).text == (expected if expected.strip() else "")


def test_empty_text() -> None:
    """A text of nothing, or of space, has no pages: the child makes `NoText` of it."""
    for parser in (text_pages, markdown_pages, rst_pages):
        assert parsed(parser, b"") == Parsed([], [], [], None, [], None, [])
        assert parsed(parser, b" \n\t\n ").pages == []


def test_real_slabs(corpus: Path) -> None:
    """A long real text comes in slabs, numbered from 1, all but the first continuing."""
    path = corpus / "txt" / "debian-faq.pt.txt"
    found = parsed(text_pages, path)
    pages = found.pages
    assert len(pages) == 10
    assert [page.number for page in pages] == list(range(1, 11))
    assert [page.continues for page in pages] == [False] + [True] * 9
    assert all(len(page.text) <= SLAB_CHARACTERS for page in pages)
    assert found.text == path.read_text(encoding="utf-8")


def test_slabs() -> None:
    """A long text comes in slabs, numbered from 1, none longer than a slab, all but the first continuing."""
    text = paragraphs(RUSSIAN, 95_000)
    found = parsed(text_pages, text.encode())
    assert [page.number for page in found.pages] == [1, 2, 3, 4, 5]
    assert [page.continues for page in found.pages] == [False, True, True, True, True]
    assert [len(page.text) for page in found.pages[:-1]] == [SLAB_CHARACTERS] * 4
    assert found.text == text


def test_newlines() -> None:
    """Newlines become one kind."""
    assert parsed(text_pages, b"a\r\nb\rc\nd").text == "a\nb\nc\nd"
    written = paragraphs(GERMAN, 50_000)
    assert parsed(text_pages, written.replace("\n", "\r\n").encode("cp1252")).text == written


def test_slabs_while_reading() -> None:
    """The first page comes before the last byte is decoded; nothing accumulates."""
    stream = io.BytesIO(b"word " * 200_000)
    assert isinstance(next(events_of(text_pages, stream)), Page)
    assert stream.tell() < 200_000


def test_real_markdown(corpus: Path) -> None:
    """A real chapter has its title, its sections, and every character."""
    path = corpus / "md" / "rust-book-pt-br-ch04-01.md"
    found = parsed(markdown_pages, path)
    pages = found.pages
    assert found.title == "O Que É Ownership?"
    headings = [page.heading for page in pages]
    assert len(pages) == 9
    assert headings[0] == "O Que É Ownership?"
    assert headings.count("Formas de Interação Entre Variáveis e Dados: Clone") == 1
    assert found.text == path.read_text(encoding="utf-8")
    assert not any(page.continues for page in pages)


def test_real_chinese_markdown(corpus: Path) -> None:
    """A recipe with a Chinese name and text is read whole, in three sections."""
    found = parsed(markdown_pages, corpus / "md" / "howtocook" / "无骨鸡爪.md")
    assert found.title == "无骨鸡爪的做法"
    assert len(found.pages) == 3
    assert "酸辣开胃、口感 Q 弹，是一道家常凉拌小吃" in found.text


def test_real_manual(corpus: Path) -> None:
    """A real manual has 172 pages, the first of them its front matter."""
    found = parsed(markdown_pages, corpus / "md" / "pandoc-manual.md.txt")
    assert len(found.pages) == 172
    assert "title: Pandoc User's Guide" in found.pages[0].text
    assert found.text == (corpus / "md" / "pandoc-manual.md.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(("parser", "written"), [(markdown_pages, made.markdown), (rst_pages, made.rst)])
def test_sections(parser: Parser, written: Callable[[], str]) -> None:
    """Markdown and reStructuredText have a page for each section, a title, headings, and every character."""
    found = parsed(parser, written().encode())
    headings = [heading for heading, _ in made.SECTIONS]
    assert found.outline == [(1, str(found.title)), *((2, heading) for heading in headings)]
    assert [page.heading for page in found.pages] == [found.title, *headings[1:]]
    assert [page.number for page in found.pages] == [1, 2, 3, 4, 5, 6]
    assert not any(page.continues for page in found.pages)
    assert found.text == written()


def test_rst_titles() -> None:
    """A title has a rule under it, or a frame; styles of rules rank in the order in which they come."""
    body = f"\n\n{paragraphs(ENGLISH, 500)}"
    content = f"====\n Up\n===={body}One\n---{body}Two\n~~~{body}Three\n-----{body}====\nDown\n===={body}"
    found = parsed(rst_pages, content.encode())
    assert found.outline == [(1, "Up"), (2, "One"), (3, "Two"), (2, "Three"), (1, "Down")]
    assert [page.heading for page in found.pages] == ["Up", "One", "Two", "Three", "Down"]
    assert (found.title, found.text) == ("Up", content)


@pytest.mark.parametrize(
    "content",
    ["A longer title\n---\n", " Indented\n--------\n", "\n-----\n", "-----\n-----\n", "words\n--\n", "words\n-=-=-\n"],
)
def test_rst_no_title(content: str) -> None:
    """A rule that is too short, that stands alone or is mixed, and an indented line without a frame make no title."""
    found = parsed(rst_pages, (content + ENGLISH).encode())
    assert (found.outline, found.title) == ([], None)
    assert found.text == content + ENGLISH


def section(title: str, words: int = 100) -> str:
    """A section that is long enough for a page of its own."""
    return f"{title}\n\n" + "some words here " * (words // 3 + 1) + "\n\n"


def test_hash_in_a_fence() -> None:
    """Comments in shell examples make no sections."""
    for fence in ("```", "~~~", "````"):
        content = section("# One") + f"{fence}sh\n# a comment\n```x\n{fence}\n" + section("text")
        assert [page.heading for page in parsed(markdown_pages, content.encode()).pages] == ["One"], fence


def test_heading_after_a_fence() -> None:
    """After a closed fence headings count again, also when the closing fence is the longer one."""
    content = section("# One") + "```\n# no\n`````\n" + section("## Two ##")
    assert [page.heading for page in parsed(markdown_pages, content.encode()).pages] == ["One", "Two"]


def test_no_heading() -> None:
    """Without a space, with seven hashes, indented by four or without words, a line is no heading."""
    for line in ("#hashtag", "####### seven", "    # code", "#", "##   "):
        found = parsed(markdown_pages, (section("# One") + section(line)).encode())
        assert [page.heading for page in found.pages] == ["One"], line
        assert found.title == "One"


def test_short_sections() -> None:
    """Short sections share a page: one of one line would be a chunk that answers nothing."""
    [page] = parsed(markdown_pages, b"# One\nshort\n## Two\nshort\n## Three\nshort\n").pages
    assert page.heading == "One"
    assert "## Three" in page.text


def test_endless_line() -> None:
    """A megabyte without a newline is read piece by piece."""
    found = parsed(markdown_pages, b"x" * 1_000_000)
    pages = found.pages
    assert len(found.text) == 1_000_000
    assert all(len(page.text) <= SLAB_CHARACTERS for page in pages)
    assert [page.continues for page in pages] == [False] + [True] * (len(pages) - 1)


def test_clean_text() -> None:
    """NUL, controls, surrogates and marks go; ligatures become letters, decomposed letters are composed."""
    assert clean_text("a\x00b\x07c\ud800d\ufeffe\uffff") == "abcde"
    assert clean_text("ﬁne ﬂow aﬀair oﬃce baﬄe") == "fine flow affair office baffle"
    assert clean_text("e\u0301") == "é"
    assert clean_text("a\r\nb\rc\x0cd\u2028e\u2029f\x85g\th") == "a\nb\nc\nd\ne\nf\ng\th"


def test_hyphenation() -> None:
    """Pdfium's mark of a hyphen at a line's end joins the two halves of the word."""
    assert clean_text("docu\ufffe\r\nment") == "document"
    assert clean_text("docu\x02\nment") == "document"
    assert clean_text("well-\nknown") == "well-\nknown"


@given(st.text(alphabet=st.characters(), max_size=300))
@quick
def test_clean_text_stays_clean(text: str) -> None:
    """Cleaning twice changes nothing; the result can be encoded, and is in NFC."""
    clean = clean_text(text)
    assert clean_text(clean) == clean
    assert clean.encode("utf-8").decode() == clean
    assert unicodedata.is_normalized("NFC", clean)
    assert "\x00" not in clean
    assert "\r" not in clean


@given(st.lists(st.tuples(st.booleans(), st.text(alphabet="ab \n", max_size=1500)), max_size=30))
@quick
def test_pager_keeps_text(parts: list[tuple[bool, str]]) -> None:
    """A pager keeps every character of text, in order; what it drops is space alone."""
    pager, fed, pages = PageBuilder(), "", []
    for begins, text in parts:
        if begins:
            pager.begin("heading")
        pager.add(text)
        fed += text
        pages += taken(pager)
    pager.close()
    pages += taken(pager)
    assert "".join("".join(page.text for page in pages).split()) == "".join(fed.split())
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))


def test_pager_slabs() -> None:
    """A pager cuts at the slab: slabs continue, a new section does not."""
    pager = PageBuilder()
    pager.begin("One")
    pager.add("x" * (2 * SLAB_CHARACTERS + MIN_SECTION_CHARACTERS))
    pager.begin("Two")
    pager.add("y" * 10)
    pager.close()
    assert [(page.number, page.heading, page.continues, len(page.text)) for page in taken(pager)] == [
        (1, "One", False, SLAB_CHARACTERS),
        (2, "One", True, SLAB_CHARACTERS),
        (3, "One", True, MIN_SECTION_CHARACTERS),
        (4, "Two", False, 10),
    ]
    assert pager.take() == []


def test_pager_with_a_number() -> None:
    """The sections of an EPUB chapter share its number."""
    pager = PageBuilder(number=7, heading="Chapter")
    pager.add("a" * 500)
    pager.begin("Section")
    pager.add("b" * 500)
    pager.close()
    assert [(page.number, page.heading) for page in taken(pager)] == [(7, "Chapter"), (7, "Section")]


MESSAGE = b"Received: from a\n\tby b; Mon\nX-Odd: 1\nFrom: a@b\nSubject: Hello\n\nwords\n"
STORED = b"PK\x03\x04" + bytes(22) + b"\x08\x00\x00\x00"


@pytest.mark.parametrize(
    ("path", "head", "expected"),
    [
        ("a.pdf", b"%PDF-1.7\n", detect.PDF),
        ("no-suffix", b"%PDF-1.4", detect.PDF),
        ("renamed.txt", b"\xef\xbb\xbf%PDF-1.4", detect.PDF),
        ("a.pdf", b"not a pdf at all", detect.TEXT),
        ("a.pdf", b"1 0 obj << /Type", detect.PDF),
        ("a.pdf", b"\x00\x01", detect.PDF),
        ("a.epub", b"PK\x03\x04" + bytes(26) + b"something else", detect.EPUB),
        ("book", STORED + b"mimetypeapplication/epub+zipPK", detect.EPUB),
        ("a.zip", STORED + b"mimetypeapplication/vnd.oasis.opendocument.textPK", detect.ODT),
        ("a.epub", STORED + b"mimetypeapplication/vnd.oasis.opendocument.text\nPK", detect.ODT),
        ("a.odt", STORED + b"mimetypeapplication/vnd.oasis.opendocument.text-templatePK", detect.ODT),
        ("a", STORED + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheetPK", detect.UNKNOWN),
        ("a.docx", b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml", detect.DOCX),
        ("a.zip", b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml PK word/document.xml", detect.DOCX),
        ("a.zip", b"PK\x03\x04" + bytes(26) + b"[Content_Types].xml PK ppt/presentation.xml", detect.PPTX),
        ("a.zip", b"PK\x03\x04" + bytes(26) + b"word/ppt/", detect.UNKNOWN),
        ("a.pptx", b"words", detect.TEXT),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", detect.OLE),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", detect.OLE),
        ("a.rst", b"x", detect.RST),
        ("a.csv", b"a,b", detect.CSV),
        ("a.tsv", b"a\tb", detect.TSV),
        ("a.ndjson", b"{}", detect.JSONL),
        ("a.bin", b"PAR1\x15\x04", detect.PARQUET),
        ("a.csv", b"\x89PNG\r\n", detect.UNKNOWN),
        ("a.txt", b"\xff\xd8\xff\xe0", detect.UNKNOWN),
        ("saved.txt", b"\n <!-- a page --><!DOCTYPE html><html>", detect.HTML),
        ("saved", b"<?xml version='1.0'?><html xmlns=''>", detect.HTML),
        ("a.eml", b"From: a", detect.EMAIL),
        ("a.mbox", b"From a", detect.MBOX),
        ("1719.M5.host:2,S", MESSAGE, detect.EMAIL),
        ("1719", b"\xef\xbb\xbfX-Priority:\r\nX-Spam_score: 1\r\n" + MESSAGE.replace(b"\n", b"\r\n"), detect.EMAIL),
        ("1719", b"Return-Path:<a@b.c>\nReceived:\n\tfrom a\nFrom: a\nTo: b\n\nwords", detect.EMAIL),
        ("1719", b"Received: from a\n\tby b\n" * 300, detect.TEXT),
        ("1719", b"Received: from a\nReturn-Path: <a>\nDelivered-To: b\n" + b"X-Long: x\n" * 500, detect.EMAIL),
        ("inbox", b"From a@b Mon Sep 17 00:00:00 2001\n" + MESSAGE, detect.MBOX),
        ("Inbox", b"From a@b Mon Sep 17 00:00:00 2001\nFrom: a\nTo: b\nSubject: c\n\nwords", detect.MBOX),
        ("notes.txt", MESSAGE, detect.TEXT),
        ("answer", b"Date: x\nMIME-Version: 1.0\nContent-Type: text/plain\nServer: x\n\nwords", detect.TEXT),
        ("letter", b"From: me\nTo: you\nSubject: the Message-ID: header\n\nwords", detect.TEXT),
        ("register.log", b"Received: 12 March\nFrom: Warehouse A\nDate: 3 March\nRemarks: wet\n\nmore", detect.TEXT),
        ("mail.yaml", b"from: a\nto: b\nsubject: c\nmessage-id: <x>\nbody: |\n  words\n", detect.TEXT),
        ("story", b"From here on: words\n\nReceived: a letter.\nTo: be\nDate: unknown\n", detect.TEXT),
        ("a.log", b"words\n", detect.TEXT),
        ("a.xml", b"<?xml version='1.0'?><a/>", detect.TEXT),
        ("a.bin", b"\x00\x01\x02", detect.UNKNOWN),
        ("utf16", "words".encode("utf-16"), detect.TEXT),
        ("a.csv.gz", packed(b"a,b"), "text/csv+gzip"),
        ("a.csv", packed(b"a,b"), "text/csv+gzip"),
        ("a.gz", packed(b"words"), "text/plain+gzip"),
        ("a.pdf.gz", packed(b"%PDF-1.4"), detect.UNKNOWN),
        ("a.tar.gz", packed(b"a.txt" + bytes(200)), detect.UNKNOWN),
        ("a.txt.gz", packed(packed(b"words")), detect.UNKNOWN),
        ("a.txt", b"PK\x03\x04" + bytes(26), detect.UNKNOWN),
        ("A.HTML", b"<html>", detect.HTML),
        ("a.htm", b"", detect.HTML),
        ("a.xhtml", b"", detect.HTML),
        ("README.md", b"# x", detect.MARKDOWN),
        ("a.markdown", b"", detect.MARKDOWN),
        ("manual.MD.txt", b"", detect.MARKDOWN),
        ("notes.txt", b"", detect.TEXT),
        ("folder.md/notes.txt", b"", detect.TEXT),
        ("folder.md/notes", b"", detect.UNKNOWN),
        ("README", b"words", detect.TEXT),
        ("a.tar.gz", b"\x1f\x8b", detect.UNKNOWN),
    ],
)
def test_media_type(path: str, head: bytes, expected: str) -> None:
    """A file is what its first bytes say, for what has a signature, and then what its name says."""
    assert detect.media_type(path, head) == expected


@pytest.mark.parametrize(
    ("path", "head", "said"),
    [("a.pdf", b"words", True), ("a.pdf", b"%PDF-1.4", False), ("a", b"words", False), ("a.md", b"<html>", True)],
)
def test_disagreement(path: str, head: bytes, said: bool) -> None:
    """A name that says something else than the bytes is recorded in words; no name is no disagreement."""
    assert (detect.detected(path, head).disagreement is not None) == said


def test_real_media_types(corpus: Path) -> None:
    """Each folder of the corpus holds the type that its name says."""
    folders = {
        "pdf": detect.PDF,
        "epub": detect.EPUB,
        "html": detect.HTML,
        "md": detect.MARKDOWN,
        "txt": detect.TEXT,
        "docx": detect.DOCX,
    }
    for folder, expected in folders.items():
        files = [path for path in (corpus / folder).rglob("*") if path.is_file()]
        assert files
        for path in files:
            with path.open("rb") as stream:
                assert detect.media_type(str(path), stream.read(4096)) == expected, path


def test_unreadable_gzip() -> None:
    """A packed file whose first block is damaged has no type."""
    assert detect.media_type("a.txt.gz", b"\x1f\x8b\x08\x00" + b"\xff" * 60) == detect.TEXT + detect.GZIPPED
    assert detect.media_type("a.bin.gz", b"\x1f\x8b\x09\x00" + b"\xff" * 60) == detect.UNKNOWN


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [(detect.DOCX, "docx"), ("text/csv+gzip", "csv.gz"), (detect.TEXT, "txt"), (detect.OLE, detect.OLE)],
)
def test_short_name(media_type: str, expected: str) -> None:
    """A type is called as people call it, or by its own name where they have no word for it."""
    assert detect.short_name(media_type) == expected


@given(st.binary(max_size=300), st.sampled_from(["a", "a.pdf", "a.epub", "a.md", "a.gz", "a.csv", "inbox"]))
@quick
def test_any_media_type(head: bytes, name: str) -> None:
    """Whatever the first bytes are, the type is one that has a parser, or unknown."""
    for begin in (b"", b"PK\x03\x04", b"\x1f\x8b", b"From a@b Mon Sep 17 00:00:00 2001\n", b"<!--"):
        assert detect.media_type(name, begin + head) in (*detect.SUPPORTED, detect.UNKNOWN)
