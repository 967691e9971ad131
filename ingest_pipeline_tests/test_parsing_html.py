"""HTML becomes sections of text: what is kept, what is dropped, in whatever encoding and however broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_pipeline.parsing.formats.clean import clean_text
from ingest_pipeline.parsing.formats.page_builder import SLAB_CHARACTERS
from ingest_pipeline_tests.made import pages as made
from ingest_pipeline_tests.made.words import ARABIC, CHINESE, GERMAN, JAPANESE, POLISH, RUSSIAN, UKRAINIAN
from ingest_pipeline_tests.parsers import Parsed, html_pages, parse

BODY = "These are the words that a reader came for. " * 12


def parsed(content: bytes | str) -> Parsed:
    """Parse HTML in this process, where nothing is ever a gap."""
    found = parse(html_pages, content.encode() if isinstance(content, str) else content)
    assert found.gaps == []
    return found


def text_of(content: bytes | str) -> str:
    """All the text of all the pages."""
    return parsed(content).text


def test_page_is_read() -> None:
    """A page has a section for each long enough heading, its title and its words, without menu, script or style."""
    found = parsed(made.page(title="Six mills"))
    assert [(page.number, page.heading) for page in found.pages] == [
        (1, "Six mills"), (2, "Die Bäckerei"), (3, "Ранок"), (4, "Vlak"), (5, "粉屋"), (6, "磨坊"),
    ]  # fmt: skip
    assert found.outline == [(1, "Six mills"), *((2, heading) for heading, _ in made.SECTIONS)]
    assert (found.title, found.warnings) == ("Six mills", [])
    for heading, text in made.SECTIONS:
        assert f"{heading}\n\n1. {text}\n2. {text}\n3. {text}\n" in found.text
    for word in ("Home", "unwanted", "margin"):
        assert word not in found.text
    assert all(len(page.text) <= SLAB_CHARACTERS for page in found.pages)


def test_long_section() -> None:
    """A section that is longer than a slab comes in pieces that go on from each other."""
    found = parsed(made.page(sections=(("Млин", UKRAINIAN),), size=3 * SLAB_CHARACTERS))
    assert [page.continues for page in found.pages] == [False, True, True]
    assert max(len(page.text) for page in found.pages) == SLAB_CHARACTERS
    assert {page.heading for page in found.pages} == {"The mill"}


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (GERMAN, "iso-8859-1"), (POLISH, "iso-8859-2"), (UKRAINIAN, "koi8-u"), (RUSSIAN, "cp866"), (ARABIC, "cp1256"),
        (JAPANESE, "shift_jis"), (JAPANESE, "iso-2022-jp"), (CHINESE, "gb18030"), (CHINESE, "gbk"),
    ],
    ids=lambda one: one if one.isascii() else "",
)  # fmt: skip
def test_declared_charsets(text: str, codec: str) -> None:
    """A page in an encoding that it declares is read in it, without a warning unless it is one of seven bits."""
    found = parsed(made.page(head=f'<meta charset="{codec}">', sections=(("1", text),)).encode(codec))
    assert text in found.text
    assert found.warnings == (["encoding guessed: iso2022_jp_2"] if codec == "iso-2022-jp" else [])


@pytest.mark.parametrize(("declared", "codec"), [("utf-8", "cp1256"), ("shift_jis", "cp1256"), ("nonsense", "cp1256")])
def test_lying_charset(declared: str, codec: str) -> None:
    """A declaration that does not decode is found out: the letters are guessed, with a warning."""
    found = parsed(made.page(head=f"<meta charset={declared}>", sections=(("1", ARABIC),)).encode(codec))
    assert ARABIC in found.text
    assert found.warnings == ["encoding guessed: cp1256"]


def test_noisy_charset() -> None:
    """Of several declarations the first counts, whatever stands around it."""
    head = '<meta name="x" content="y"><META http-equiv=Content-Type content="text/html;CHARSET = &quot;">'
    head += "<meta content='text/html; charset=windows-1251' http-equiv='content-type'><meta charset=utf-8>"
    assert RUSSIAN in parsed(made.page(head=head, sections=(("1", RUSSIAN),)).encode("cp1251")).text


def test_late_charset() -> None:
    """A charset that is declared behind 40 KiB of script is guessed from the letters."""
    head = f"<script>{'var a = 1; ' * 4000}</script><meta charset=windows-1251>"
    found = parsed(made.page(head=head, title="Мельница", sections=(("1", RUSSIAN),), size=20_000).encode("cp1251"))
    assert found.title == "Мельница"
    assert RUSSIAN in found.text
    assert found.warnings == ["encoding guessed: cp1251"]


def test_heading_in_a_heading() -> None:
    """A heading that opens in an unclosed one ends it, and both are sections."""
    found = parsed(f"<h1>One<h2>Two</h2><p>{BODY}</p>")
    assert [(heading.level, heading.title) for heading in found.headings] == [(1, "One"), (2, "Two")]
    assert found.text.startswith("One\n\nTwo\n\nThese are")


def test_heading_at_the_end() -> None:
    """A heading that the document's end closes is text."""
    assert text_of(f"<p>{BODY}</p><h2>The end").strip().endswith("The end")


@pytest.mark.parametrize(
    ("name", "pages", "title", "phrase"),
    [
        ("bind9-dnssec-guide.html", 109, "DNSSEC Guide", "produces keyset and dsset files"),
        ("debian-faq-choosing.pt.html", 17, "Capítulo 3. Escolher uma distribuição Debian", "bug RC em XYZ-3.8"),
        ("devils-dictionary.htm", 35, "The Devil's Dictionary, by Ambrose Bierce", "particularly that sort which"),
        ("live-manual.ja.html", 115, "Live システムマニュアル", "そのプログラムの挙動を引き継ぎます"),
        ("doublecmd-help.uk.html", 16, "Основний розділ довідки", "Файли конфігурації"),
        ("exim-access-control-lists.html", 53, "44. Access control lists", "which way round you had these"),
        ("securing-debian-ch12.de.html", 34, "Kapitel 12. Häufig gestellte Fragen", "Ich entfern"),
        ("kanjidic_doc_legacy.iso-8859-1.html", 3, "KANJIDIC Documentation", "Information on the 6,355 Kanji"),
    ],
)
def test_real_page(corpus: Path, name: str, pages: int, title: str, phrase: str) -> None:
    """A real page has its sections, numbered from 1, its title and its words; no piece is longer than a slab."""
    found = parsed((corpus / "html" / name).read_bytes())
    assert [page.number for page in found.pages] == list(range(1, pages + 1))
    assert str(found.title).startswith(title)
    assert phrase in " ".join(found.text.split())
    assert all(len(page.text) <= SLAB_CHARACTERS for page in found.pages)
    assert found.warnings == []


def test_real_headings(corpus: Path) -> None:
    """A real page's section names are the headings of its pages."""
    found = parsed((corpus / "html" / "ubuntu-packaging-guide-uk-fixing-a-bug.html").read_bytes()).pages
    headings = [page.heading for page in found]
    assert headings[0] == "Packaging Guide"
    assert any("Вступ" in str(heading) for heading in headings) or "3.1. Вступ" in found[0].text
    assert len(set(headings)) == len(headings)


def test_real_lying_charset(corpus: Path) -> None:
    """Declared UTF-8, in truth cp1256: a real page has Arabic letters, and a warning."""
    found = parsed((corpus / "html" / "tika-arabic-misleading-charset.html").read_bytes())
    assert found.title == "Test Arabic"
    assert "رجل حكيم يعرف كل شيء عن الحياة" in found.pages[0].text
    assert found.warnings == ["encoding guessed: cp1256"]


def test_real_noisy_charset(corpus: Path) -> None:
    """Of several declarations of a real page the right one is used."""
    found = parsed((corpus / "html" / "tika-noisy-meta-encoding.html").read_bytes())
    assert "وأعرب الاتحاد الجزائري وقتها عن" in found.pages[0].text


def test_real_utf16(corpus: Path) -> None:
    """A real page of UTF-16 is read, whatever its meta element says."""
    found = parsed((corpus / "html" / "tika-utf16le.html").read_bytes())
    assert found.pages[0].text.strip() == "This is a sample text"
    assert found.title == "Title"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-16"])
def test_utf16(codec: str) -> None:
    """UTF-16 is read with and without a mark, though a meta element says UTF-8."""
    html = f'<html><head><meta charset="utf-8"><title>Größe</title></head><body><p>{BODY}für alle</p></body>'
    found = parsed(html.encode(codec))
    assert "für alle" in found.pages[0].text
    assert found.title == "Größe"


def test_utf8_declared_latin_1() -> None:
    """UTF-8 under a declared Latin-1 is read as UTF-8."""
    html = f'<meta charset="iso-8859-1"><p>{BODY}Größe</p>'
    assert "Größe" in text_of(html.encode())


def test_declared_encoding() -> None:
    """A declared encoding is used, in each spelling of the declaration."""
    for head in (
        '<meta charset="koi8-r">',
        '<meta http-equiv="Content-Type" content="text/html; charset=koi8-r">',
        '<?xml version="1.0" encoding="koi8-r"?>',
    ):
        assert "мягких французских булок" in text_of(
            f"{head}<p>Съешь ещё этих мягких французских булок</p>".encode("koi8-r")
        ), head


def test_smart_quotes() -> None:
    """Bytes 0x80 to 0x9F under `iso-8859-1` are cp1252, as browsers have it."""
    html = f'<meta charset="iso-8859-1"><p>{BODY}“It’s 5 €”</p>'
    assert "“It’s 5 €”" in clean_text(text_of(html.encode("cp1252")))


def test_encoding_in_a_script() -> None:
    """`encoding="base64"` in a script is not the document's encoding."""
    html = f'<script>var encoding="base64";</script><p>{BODY}Съешь ещё этих булок</p>'
    assert "These are the words" in text_of(html.encode("cp1251"))


@pytest.mark.parametrize(
    "element",
    ["script", "style", "nav", "noscript", "template", "svg", "math", "iframe", "object", "button", "textarea"],
)
def test_dropped_elements(element: str) -> None:
    """Scripts, styles, menus and drawings leave no word, and their neighbours stay."""
    text = text_of(f"<p>before {BODY}</p><{element}>unwanted stuff</{element}><p>after</p>")
    assert "unwanted" not in text
    assert "before" in text
    assert "after" in text


def test_nested_menu() -> None:
    """A menu is dropped with all that is nested in it."""
    text = text_of(f"<nav><ul><li>Home</li><li><button>Go</button></li></ul><script>x</script></nav><p>{BODY}</p>")
    assert "Home" not in text
    assert "Go" not in text
    assert text.strip() == BODY.strip()


def test_comments() -> None:
    """Comments are dropped, conditional ones too."""
    assert text_of("<p>a<!-- hidden --><!--[if IE]>hidden<![endif]-->b</p>").strip() == "ab"


def test_unclosed_menu() -> None:
    """A document inside an unclosed menu keeps its text: better with the menu than none."""
    text = text_of(f"<body><nav><a>Home</a><p>{BODY}</p>")
    assert "words that a reader came for" in text
    assert "Home" in text


def test_unclosed_menu_after_heading() -> None:
    """Text before an unclosed menu does not hide that all the rest would be swallowed."""
    text = text_of(f"<body><h1>Welcome</h1><nav><a>Home</a><p>{BODY}</p></body>")
    assert "Welcome" in text
    assert "words that a reader came for" in text


def test_unclosed_menu_with_script() -> None:
    """The second reading of an unclosed menu takes the menu, not the code."""
    text = text_of(f"<body><nav><script>var x = 1</script><p>{BODY}</p>")
    assert "var x" not in text
    assert "words that a reader came for" in text


def test_table_rows() -> None:
    """A table has a line for each row, with a bar between the cells."""
    html = "<table><tr><th>Name</th><th>Age</th></tr><tr><td>Ada</td><td>36</td></tr></table>"
    assert text_of(html).strip().splitlines() == ["Name | Age", "Ada | 36"]


def test_list_items() -> None:
    """A list has a line with a dash for each item, also when the items are not closed."""
    expected = ["- one", "- two", "- three"]
    assert text_of("<ul><li>one</li><li>two</li><li>three</li></ul>").strip().splitlines() == expected
    assert text_of("<ul><li>one<li>two<li>three</ul>").strip().splitlines() == expected


def test_preformatted_text() -> None:
    """Preformatted text keeps its spaces and lines; outside of it, space is folded."""
    text = text_of("<p>a   b\n c</p><pre>def f():\n    return 1\n</pre><p>d   e</p>")
    assert "def f():\n    return 1\n" in text
    assert text.startswith("a b c\n")
    assert text.endswith("d e\n")


def test_blocks_and_inline() -> None:
    """Blocks begin a line; a word in bold stays in its sentence."""
    assert text_of("<p>one <b>two</b> th<i>ree</i></p>").strip() == "one two three"
    assert text_of("<div>one</div><div>two</div>").strip().splitlines() == ["one", "two"]
    assert text_of("one<br>two").strip().splitlines() == ["one", "two"]


def test_entities() -> None:
    """Entities become characters: named, decimal, hexadecimal; what is escaped stays as it is written."""
    assert text_of("<p>&eacute; &#233; &#xe9; &amp;lt; &lt;b&gt;</p>").strip() == "é é é &lt; <b>"


def test_headings() -> None:
    """A heading is in the text, names the page and is in the outline."""
    html = f"<h1>First <em>one</em></h1><p>{BODY}</p><h2>Second</h2><p>{BODY}</p>"
    found = parsed(html)
    assert [(page.number, page.heading) for page in found.pages] == [(1, "First one"), (2, "Second")]
    assert found.pages[1].text.startswith("Second\n")
    assert found.outline == [(1, "First one"), (2, "Second")]


def test_title() -> None:
    """The first title wins, with its white space folded, and is not text."""
    found = parsed(f"<title> My\n title </title><title>Other</title><p>{BODY}</p>")
    assert found.title == "My title"
    assert "My" not in found.pages[0].text


def test_unclosed_heading() -> None:
    """All that follows an unclosed heading is still there."""
    assert "words that a reader came for" in text_of(f"<h1>Unclosed<p>{BODY}</p>")
    assert "words that a reader came for" in text_of(f"<h1>Unclosed {BODY}")


@pytest.mark.parametrize("html", ["", " \n ", "<html></html>", "<", "<!DOCTYPE html>", "<p></p>", "<title>x</title>"])
def test_no_text(html: str) -> None:
    """A document without text has no pages, and raises nothing."""
    assert [page for page in parsed(html).pages if page.text.strip("< \n")] == []


def test_truncated_tag() -> None:
    """A download that ends in the middle of a tag keeps what came before."""
    assert "words that a reader came for" in text_of(f"<p>{BODY}<a href='http://exam")


def test_nul() -> None:
    """libxml2 takes a NUL for the end; the text after it is kept."""
    assert "after" in text_of(f"<p>{BODY}</p>\x00<p>after</p>")


def test_deep_nesting() -> None:
    """Ten thousand nested elements lose no text."""
    depth = 10_000
    text = text_of("<div>" * depth + "deep inside" + "</div>" * depth + f"<p>{BODY}</p>")
    assert "deep inside" in text
    assert "words that a reader came for" in text


def test_ten_megabytes_of_text() -> None:
    """libxml2's limit on one text node is not a limit here."""
    found = parsed(b"<p>" + b"word " * 2_400_000 + b"</p><p>the last words</p>")
    assert len(found.text) > 11_000_000
    assert "the last words" in found.pages[-1].text


def test_real_late_charset(corpus: Path) -> None:
    """A charset that a real page declares behind 4 KiB of script is guessed from the letters."""
    found = parsed((corpus / "bad" / "tika-big-preamble.html").read_bytes())
    assert str(found.title).startswith("Аренда квартир, снять квартиру")
    assert any("агентство недвижимости" in page.text for page in found.pages)


@given(st.binary(max_size=2000))
@settings(max_examples=40, deadline=None)
def test_any_bytes(content: bytes) -> None:
    """Whatever bytes come, they are read."""
    assert all(page.number >= 1 for page in parsed(content).pages)


TAGS = [
    "<p>",
    "</p>",
    "<nav>",
    "</nav>",
    "<h1>",
    "</h1>",
    "<pre>",
    "<li>",
    "<td>",
    "<title>",
    "<script>",
    "</script>",
    "&",
    "<",
    ">",
    "word",
]


@given(st.lists(st.sampled_from(TAGS), max_size=40))
@settings(max_examples=100, deadline=None)
def test_any_tags(tags: list[str]) -> None:
    """Tags that are unclosed, wrongly nested or half are read."""
    assert all(isinstance(page.text, str) for page in parsed(" ".join(tags)).pages)
