"""Plain text and Markdown: encodings, slabs, sections; and what makes text clean, paged and typed."""

from __future__ import annotations

import codecs
import gzip
import io
import unicodedata
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_pipeline.models import Gap, Page
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.formats.clean import clean_text
from ingest_pipeline.parsing.formats.encoding import SAMPLE_BYTES, detect_encoding
from ingest_pipeline.parsing.formats.page_builder import MIN_SECTION_CHARACTERS, SLAB_CHARACTERS, PageBuilder
from ingest_pipeline.parsing.formats.text import markdown_pages, text_pages
from ingest_pipeline.parsing.request import ParseFacts, Parser, ParseRequest

quick = settings(max_examples=40, deadline=None)


def parsed(parser: Parser, content: bytes | BinaryIO) -> tuple[list[Page], ParseFacts]:
    """Parse bytes in this process."""
    stream = io.BytesIO(content) if isinstance(content, bytes) else content
    facts = ParseFacts()
    found = list(parser(stream, ParseRequest("name", "text/plain"), facts))
    assert not any(isinstance(one, Gap) for one in found)
    return [page for page in found if isinstance(page, Page)], facts


def parsed_file(parser: Parser, path: Path) -> tuple[list[Page], ParseFacts]:
    """Parse a real file in this process."""
    with path.open("rb") as stream:
        return parsed(parser, stream)


def joined(pages: list[Page]) -> str:
    """All the text of all the pages, as it was yielded."""
    return "".join(page.text for page in pages)


def taken(pager: PageBuilder) -> list[Page]:
    """The finished pages, without the headings between them."""
    return [found for found in pager.take() if isinstance(found, Page)]


def encoding_of(content: bytes, declared: str | None = None) -> tuple[str, str | None]:
    """Detect the encoding of bytes."""
    return detect_encoding(lambda: io.BytesIO(content), declared=declared)


def same_letters(encoding: str, other: str, content: bytes) -> bool:
    """Whether two names of encodings read the bytes alike."""
    return content.decode(encoding) == content.decode(other)


RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 20


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
def test_a_real_text_is_read_in_the_encoding_that_it_is_in(corpus: Path, name: str, truth: str, phrase: str) -> None:
    """Every letter is the one that its author wrote."""
    path = corpus / "txt" / name
    pages, _ = parsed_file(text_pages, path)
    text = joined(pages)
    assert phrase in text
    expected = io.TextIOWrapper(io.BytesIO(path.read_bytes()), encoding=truth, newline=None).read()
    assert [letter for letter in text if letter.isalpha()] == [
        letter for letter in expected.lstrip("\ufeff") if letter.isalpha()
    ]


def test_a_guess_is_a_warning_and_utf8_is_none(corpus: Path) -> None:
    """Whoever finds strange letters finds the reason beside the file."""
    _, guessed = parsed_file(text_pages, corpus / "txt" / "russian.cp866.txt")
    _, known = parsed_file(text_pages, corpus / "txt" / "debian-faq.ru.txt")
    assert len(guessed.warnings) == 1
    assert "encoding guessed" in guessed.warnings[0]
    assert known.warnings == []


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
def test_a_book_in_a_legacy_encoding_is_read(corpus: Path, name: str, encoding: str) -> None:
    """The usual legacy encodings; a sample that cuts a letter in two at its edge must not spoil the guess."""
    content = (corpus / "txt" / name).read_text(encoding="utf-8").encode(encoding, "ignore")
    found, warning = encoding_of(content)
    assert same_letters(found, encoding, content), found
    assert warning is not None


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_utf16_and_utf32_without_a_mark_are_told_by_their_zeros(name: str) -> None:
    """Either byte order."""
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
def test_a_byte_order_mark_decides_and_is_not_text(mark: bytes, codec: str) -> None:
    """The mark wins over whatever was declared, and does not become a character."""
    content = mark + "Ärger, 无骨, 😀".encode(codec)
    assert encoding_of(content, declared="cp1251")[1] is None
    pages, facts = parsed(text_pages, content)
    assert joined(pages) == "Ärger, 无骨, 😀"
    assert facts.warnings == []


@pytest.mark.parametrize("word", ["José", "Müller", "São Paulo", "£5", "it’s", "“quoted”"])
def test_a_late_letter_decides_too(corpus: Path, word: str) -> None:
    """One cp1252 letter after 64 KiB of ASCII is read as what it is, not as UTF-8 and not as Polish."""
    prose = (corpus / "txt" / "California_SOTS.txt").read_bytes().decode().encode("ascii", "ignore") * 4
    content = prose + b" " + word.encode("cp1252") + b" " + prose[:20_000]
    assert len(prose) > SAMPLE_BYTES
    found, warning = encoding_of(content)
    assert word in content.decode(found), found
    assert warning is not None


def test_a_late_letter_of_utf8_is_still_utf8() -> None:
    """Also when it straddles two reads."""
    for shift in range(4):
        content = b"x" * (256 * 1024 - shift) + "é无😀".encode()
        assert encoding_of(content) == ("utf-8", None)


def test_a_cut_last_letter_costs_nothing_but_itself() -> None:
    """A truncated download in UTF-8: what came before the cut is read in UTF-8."""
    content = "Größe und Straße. ".encode() * 50 + "Ü".encode()[:1]
    pages, _ = parsed(text_pages, content)
    assert joined(pages).startswith("Größe und Straße. ")


@pytest.mark.parametrize("name", ["debian-faq.pt.txt", "debian-faq.ru.txt", "debian-faq.zh-cn.txt"])
def test_one_bad_byte_does_not_spoil_a_book_in_utf8(corpus: Path, name: str) -> None:
    """One letter is lost, not every accent of 200 pages."""
    content = bytearray((corpus / "txt" / name).read_bytes())
    expected = content.decode()
    content[next(at for at in range(len(content) // 2, len(content)) if content[at] >= 0xC3)] = 0xFF
    pages, _ = parsed(text_pages, bytes(content))
    assert joined(pages)[:20_000] == expected[:20_000]


def test_utf8_with_every_seventh_letter_damaged_is_utf8() -> None:
    """What is left of it is no accident."""
    content = bytearray("Les élèves étudient à l'école où naît l'été; le cœur déçu. ".encode() * 3)
    content[1::90] = b"\xff" * len(content[1::90])
    found, warning = encoding_of(bytes(content))
    assert found == "utf-8"
    assert warning is not None
    assert "damaged" in warning


def test_what_a_document_declares_is_believed_where_it_decodes() -> None:
    """Only after UTF-8 was ruled out."""
    content = RUSSIAN.encode("koi8-r")
    assert encoding_of(content, declared="koi8-r") == ("koi8-r", None)
    assert encoding_of(RUSSIAN.encode(), declared="koi8-r") == ("utf-8", None)


@pytest.mark.parametrize("declared", ["utf-8", "no-such-encoding", "ascii", "base64", "hex", "rot13", "zlib", "idna"])
def test_a_declaration_that_cannot_be_used_is_ignored(declared: str) -> None:
    """Wrong, unknown, or no encoding of text at all: it is guessed as if nothing were declared."""
    content = RUSSIAN.encode("cp1251")
    assert encoding_of(content, declared=declared) == encoding_of(content)


def test_declared_latin_1_means_windows_1252() -> None:
    """As in every browser: the quotes and dashes between 0x80 and 0x9F are letters, not controls."""
    content = "<p>“It’s 5 €” – he said…</p>".encode("cp1252") * 20
    for declared in ("iso-8859-1", "latin1", "us-ascii"):
        found, _ = encoding_of(content, declared=declared)
        assert "“It’s 5 €” – he said…" in clean_text(content.decode(found)), declared


def test_bytes_that_are_no_text_are_read_to_the_end() -> None:
    """Random bytes give replacement characters, not an exception."""
    content = bytes(range(256)) * 40
    pages, facts = parsed(text_pages, content)
    assert pages
    assert facts.warnings


@given(st.binary(max_size=3000))
@quick
def test_no_bytes_make_the_text_parsers_fail(content: bytes) -> None:
    """Whatever comes, it is read."""
    for parser in (text_pages, markdown_pages):
        pages, _ = parsed(parser, content)
        assert all(isinstance(clean_text(page.text), str) for page in pages)


@given(st.text(max_size=2000))
@quick
def test_utf8_text_comes_back_whole(text: str) -> None:
    """With its newlines made one kind."""
    content = text.encode("utf-8", "replace")
    if content[:3] == codecs.BOM_UTF8 or b"\0" in content or content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return
    pages, _ = parsed(text_pages, content)
    expected = content.decode().replace("\r\n", "\n").replace("\r", "\n")
    assert joined(pages) == (expected if expected.strip() else "")


def test_an_empty_text_has_no_pages() -> None:
    """Nothing to chunk: the child makes `NoText` of it."""
    for parser in (text_pages, markdown_pages):
        assert parsed(parser, b"") == ([], ParseFacts())
        assert parsed(parser, b" \n\t\n ")[0] == []


def test_a_long_text_comes_in_slabs_that_go_on_from_each_other(corpus: Path) -> None:
    """Numbered from 1, none longer than a slab, all but the first continuing."""
    path = corpus / "txt" / "debian-faq.pt.txt"
    pages, _ = parsed_file(text_pages, path)
    assert len(pages) == 10
    assert [page.number for page in pages] == list(range(1, 11))
    assert [page.continues for page in pages] == [False] + [True] * 9
    assert all(len(page.text) <= SLAB_CHARACTERS for page in pages)
    assert joined(pages) == path.read_text(encoding="utf-8")


def test_newlines_become_one_kind(corpus: Path) -> None:
    """CRLF of a real file too."""
    assert joined(parsed(text_pages, b"a\r\nb\rc\nd")[0]) == "a\nb\nc\nd"
    assert "\r" not in joined(parsed_file(text_pages, corpus / "txt" / "ontboezemingen.nl.iso-8859-1.txt")[0])


def test_slabs_are_yielded_while_the_file_is_read() -> None:
    """The first page comes before the last byte is decoded; nothing accumulates."""
    stream = io.BytesIO(b"word " * 200_000)
    pages = text_pages(stream, ParseRequest("name", "text/plain"), ParseFacts())
    assert isinstance(next(pages), Page)
    assert stream.tell() < 200_000


def test_markdown_sections_are_pages_with_their_headings(corpus: Path) -> None:
    """A real chapter: its title, its sections, every character."""
    path = corpus / "md" / "rust-book-pt-br-ch04-01.md"
    pages, facts = parsed_file(markdown_pages, path)
    assert facts.title == "O Que É Ownership?"
    headings = [page.heading for page in pages]
    assert len(pages) == 9
    assert headings[0] == "O Que É Ownership?"
    assert headings.count("Formas de Interação Entre Variáveis e Dados: Clone") == 1
    assert joined(pages) == path.read_text(encoding="utf-8")
    assert not any(page.continues for page in pages)


def test_a_chinese_recipe_is_read_whole(corpus: Path) -> None:
    """A Chinese name, Chinese text, three sections."""
    pages, facts = parsed_file(markdown_pages, corpus / "md" / "howtocook" / "无骨鸡爪.md")
    assert facts.title == "无骨鸡爪的做法"
    assert len(pages) == 3
    assert "酸辣开胃、口感 Q 弹，是一道家常凉拌小吃" in joined(pages)


def test_a_large_manual_has_a_page_for_each_section(corpus: Path) -> None:
    """172 pages, the first of them the front matter."""
    pages, _ = parsed_file(markdown_pages, corpus / "md" / "pandoc-manual.md.txt")
    assert len(pages) == 172
    assert "title: Pandoc User's Guide" in pages[0].text
    assert joined(pages) == (corpus / "md" / "pandoc-manual.md.txt").read_text(encoding="utf-8")


def section(title: str, words: int = 100) -> str:
    """A section that is long enough for a page of its own."""
    return f"{title}\n\n" + "some words here " * (words // 3 + 1) + "\n\n"


def test_a_hash_inside_a_code_fence_is_no_heading() -> None:
    """Comments in shell examples make no sections."""
    for fence in ("```", "~~~", "````"):
        content = section("# One") + f"{fence}sh\n# a comment\n```x\n{fence}\n" + section("text")
        pages, _ = parsed(markdown_pages, content.encode())
        assert [page.heading for page in pages] == ["One"], fence


def test_after_a_closed_fence_headings_count_again() -> None:
    """Also when the closing fence is longer than the opening one."""
    content = section("# One") + "```\n# no\n`````\n" + section("## Two ##")
    pages, _ = parsed(markdown_pages, content.encode())
    assert [page.heading for page in pages] == ["One", "Two"]


def test_what_only_looks_like_a_heading_is_text() -> None:
    """No space, seven hashes, four spaces of indentation, no words."""
    for line in ("#hashtag", "####### seven", "    # code", "#", "##   "):
        pages, facts = parsed(markdown_pages, (section("# One") + section(line)).encode())
        assert [page.heading for page in pages] == ["One"], line
        assert facts.title == "One"


def test_short_sections_share_a_page() -> None:
    """A section of one line would be a chunk that answers nothing."""
    pages, _ = parsed(markdown_pages, b"# One\nshort\n## Two\nshort\n## Three\nshort\n")
    assert len(pages) == 1
    assert pages[0].heading == "One"
    assert "## Three" in pages[0].text


def test_one_line_without_an_end_comes_in_slabs() -> None:
    """A megabyte without a newline is read piece by piece."""
    pages, _ = parsed(markdown_pages, b"x" * 1_000_000)
    assert len(joined(pages)) == 1_000_000
    assert all(len(page.text) <= SLAB_CHARACTERS for page in pages)
    assert [page.continues for page in pages] == [False] + [True] * (len(pages) - 1)


def test_text_is_cleaned_of_what_postgres_or_a_search_cannot_take() -> None:
    """NUL, controls, surrogates, marks; ligatures become letters, decomposed letters are composed."""
    assert clean_text("a\x00b\x07c\ud800d\ufeffe\uffff") == "abcde"
    assert clean_text("ﬁne ﬂow aﬀair oﬃce baﬄe") == "fine flow affair office baffle"
    assert clean_text("e\u0301") == "é"
    assert clean_text("a\r\nb\rc\x0cd\u2028e\u2029f\x85g\th") == "a\nb\nc\nd\ne\nf\ng\th"


def test_a_hyphenation_mark_joins_the_word() -> None:
    """Pdfium marks a hyphen at a line's end; the two halves are one word again."""
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
def test_a_pager_keeps_every_character_of_text(parts: list[tuple[bool, str]]) -> None:
    """In order; what it drops is space alone."""
    pager, fed, pages = PageBuilder(), "", []
    for begins, text in parts:
        if begins:
            pager.begin("heading")
        pager.add(text)
        fed += text
        pages += taken(pager)
    pager.close()
    pages += taken(pager)
    assert "".join(joined(pages).split()) == "".join(fed.split())
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))


def test_a_pager_cuts_at_the_slab_and_begins_again_after_a_section() -> None:
    """Slabs continue; a new section does not."""
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


def test_a_pager_with_a_number_gives_it_to_every_page() -> None:
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
        ("a.csv.gz", gzip.compress(b"a,b"), "text/csv+gzip"),
        ("a.csv", gzip.compress(b"a,b"), "text/csv+gzip"),
        ("a.gz", gzip.compress(b"words"), "text/plain+gzip"),
        ("a.pdf.gz", gzip.compress(b"%PDF-1.4"), detect.UNKNOWN),
        ("a.tar.gz", gzip.compress(b"a.txt" + bytes(200)), detect.UNKNOWN),
        ("a.txt.gz", gzip.compress(gzip.compress(b"words")), detect.UNKNOWN),
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
def test_a_file_is_what_its_first_bytes_and_then_its_name_say(path: str, head: bytes, expected: str) -> None:
    """Bytes before names, for what has a signature."""
    assert detect.media_type(path, head) == expected


@pytest.mark.parametrize(
    ("path", "head", "said"),
    [("a.pdf", b"words", True), ("a.pdf", b"%PDF-1.4", False), ("a", b"words", False), ("a.md", b"<html>", True)],
)
def test_a_name_that_says_something_else_is_recorded(path: str, head: bytes, said: bool) -> None:
    """Bytes win, and the disagreement is in words; no name, no disagreement."""
    assert (detect.detected(path, head).disagreement is not None) == said


def test_every_real_file_is_recognized(corpus: Path) -> None:
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
