"""HTML becomes sections of text: what is kept, what is dropped, in whatever encoding and however broken."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_pipeline.models import Gap, Page
from ingest_pipeline.parsing.formats.clean import clean_text
from ingest_pipeline.parsing.formats.html import html_pages
from ingest_pipeline.parsing.formats.page_builder import SLAB_CHARACTERS
from ingest_pipeline.parsing.request import ParseFacts, ParseRequest

BODY = "These are the words that a reader came for. " * 12


def parsed(content: bytes | str) -> tuple[list[Page], ParseFacts]:
    """Parse HTML in this process."""
    facts = ParseFacts()
    stream = io.BytesIO(content.encode() if isinstance(content, str) else content)
    found = list(html_pages(stream, ParseRequest("name", "text/html"), facts))
    assert not any(isinstance(one, Gap) for one in found)
    return [page for page in found if isinstance(page, Page)], facts


def text_of(content: bytes | str) -> str:
    """All the text of all the pages."""
    return "".join(page.text for page in parsed(content)[0])


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
def test_a_real_page_has_its_sections_title_and_words(
    corpus: Path, name: str, pages: int, title: str, phrase: str
) -> None:
    """Numbered from 1, no piece longer than a slab."""
    found, facts = parsed((corpus / "html" / name).read_bytes())
    assert len(found) == pages
    assert [page.number for page in found] == list(range(1, pages + 1))
    assert str(facts.title).startswith(title)
    assert phrase in " ".join("".join(page.text for page in found).split())
    assert all(len(page.text) <= SLAB_CHARACTERS for page in found)
    assert facts.warnings == []


def test_sections_begin_at_headings(corpus: Path) -> None:
    """A real page's section names are the headings of its pages."""
    found, _ = parsed((corpus / "html" / "ubuntu-packaging-guide-uk-fixing-a-bug.html").read_bytes())
    headings = [page.heading for page in found]
    assert headings[0] == "Packaging Guide"
    assert any("Вступ" in str(heading) for heading in headings) or "3.1. Вступ" in found[0].text
    assert len(set(headings)) == len(headings)


def test_a_charset_that_lies_is_found_out(corpus: Path) -> None:
    """Declared UTF-8, in truth cp1256: Arabic letters, and a warning."""
    found, facts = parsed((corpus / "html" / "tika-arabic-misleading-charset.html").read_bytes())
    assert facts.title == "Test Arabic"
    assert "رجل حكيم يعرف كل شيء عن الحياة" in found[0].text
    assert facts.warnings == ["encoding guessed: cp1256"]


def test_a_noisy_charset_is_understood(corpus: Path) -> None:
    """Several declarations, one of them right."""
    found, _ = parsed((corpus / "html" / "tika-noisy-meta-encoding.html").read_bytes())
    assert "وأعرب الاتحاد الجزائري وقتها عن" in found[0].text


def test_utf16_with_a_mark_is_read(corpus: Path) -> None:
    """Whatever the meta element says inside."""
    found, facts = parsed((corpus / "html" / "tika-utf16le.html").read_bytes())
    assert found[0].text.strip() == "This is a sample text"
    assert facts.title == "Title"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-16"])
def test_utf16_is_read_with_and_without_a_mark(codec: str) -> None:
    """A meta element that says UTF-8 inside UTF-16 is no matter."""
    html = f'<html><head><meta charset="utf-8"><title>Größe</title></head><body><p>{BODY}für alle</p></body>'
    found, facts = parsed(html.encode(codec))
    assert "für alle" in found[0].text
    assert facts.title == "Größe"


def test_utf8_under_a_declared_latin_1_is_read_as_utf8() -> None:
    """The commonest lie of all."""
    html = f'<meta charset="iso-8859-1"><p>{BODY}Größe</p>'
    assert "Größe" in text_of(html.encode())


def test_a_declared_encoding_is_used() -> None:
    """In either spelling of the declaration."""
    for head in (
        '<meta charset="koi8-r">',
        '<meta http-equiv="Content-Type" content="text/html; charset=koi8-r">',
        '<?xml version="1.0" encoding="koi8-r"?>',
    ):
        assert "мягких французских булок" in text_of(
            f"{head}<p>Съешь ещё этих мягких французских булок</p>".encode("koi8-r")
        ), head


def test_smart_quotes_under_a_declared_latin_1_are_kept() -> None:
    """Bytes 0x80 to 0x9F under `iso-8859-1` are cp1252, as browsers have it."""
    html = f'<meta charset="iso-8859-1"><p>{BODY}“It’s 5 €”</p>'
    assert "“It’s 5 €”" in clean_text(text_of(html.encode("cp1252")))


def test_a_script_that_speaks_of_an_encoding_harms_nothing() -> None:
    """`encoding="base64"` in the head is not the document's encoding."""
    html = f'<script>var encoding="base64";</script><p>{BODY}Съешь ещё этих булок</p>'
    assert "These are the words" in text_of(html.encode("cp1251"))


@pytest.mark.parametrize(
    "element",
    ["script", "style", "nav", "noscript", "template", "svg", "math", "iframe", "object", "button", "textarea"],
)
def test_what_is_not_prose_is_dropped(element: str) -> None:
    """Scripts, styles, menus, drawings: they leave no word, and their neighbours stay."""
    text = text_of(f"<p>before {BODY}</p><{element}>unwanted stuff</{element}><p>after</p>")
    assert "unwanted" not in text
    assert "before" in text
    assert "after" in text


def test_a_menu_is_dropped_with_all_that_is_in_it() -> None:
    """Nested elements, also nested dropped ones."""
    text = text_of(f"<nav><ul><li>Home</li><li><button>Go</button></li></ul><script>x</script></nav><p>{BODY}</p>")
    assert "Home" not in text
    assert "Go" not in text
    assert text.strip() == BODY.strip()


def test_comments_are_dropped() -> None:
    """Conditional ones too."""
    assert text_of("<p>a<!-- hidden --><!--[if IE]>hidden<![endif]-->b</p>").strip() == "ab"


def test_a_document_inside_an_unclosed_menu_keeps_its_text() -> None:
    """Better the text with the menu than none."""
    text = text_of(f"<body><nav><a>Home</a><p>{BODY}</p>")
    assert "words that a reader came for" in text
    assert "Home" in text


def test_an_unclosed_menu_after_a_heading_loses_nothing_silently() -> None:
    """Text before the menu must not hide that all the rest was swallowed."""
    text = text_of(f"<body><h1>Welcome</h1><nav><a>Home</a><p>{BODY}</p></body>")
    assert "Welcome" in text
    assert "words that a reader came for" in text


def test_scripts_stay_out_of_a_document_inside_an_unclosed_menu() -> None:
    """The second reading takes the menu, not the code."""
    text = text_of(f"<body><nav><script>var x = 1</script><p>{BODY}</p>")
    assert "var x" not in text
    assert "words that a reader came for" in text


def test_a_table_has_a_line_for_each_row() -> None:
    """Cells with a bar between them."""
    html = "<table><tr><th>Name</th><th>Age</th></tr><tr><td>Ada</td><td>36</td></tr></table>"
    assert text_of(html).strip().splitlines() == ["Name | Age", "Ada | 36"]


def test_a_list_has_a_line_for_each_item() -> None:
    """With a dash, also when the items are not closed."""
    expected = ["- one", "- two", "- three"]
    assert text_of("<ul><li>one</li><li>two</li><li>three</li></ul>").strip().splitlines() == expected
    assert text_of("<ul><li>one<li>two<li>three</ul>").strip().splitlines() == expected


def test_preformatted_text_keeps_its_spaces_and_lines() -> None:
    """Code is code; outside of it, space is folded."""
    text = text_of("<p>a   b\n c</p><pre>def f():\n    return 1\n</pre><p>d   e</p>")
    assert "def f():\n    return 1\n" in text
    assert text.startswith("a b c\n")
    assert text.endswith("d e\n")


def test_blocks_are_lines_and_inline_elements_are_not() -> None:
    """A word in bold stays in its sentence; a div begins a line."""
    assert text_of("<p>one <b>two</b> th<i>ree</i></p>").strip() == "one two three"
    assert text_of("<div>one</div><div>two</div>").strip().splitlines() == ["one", "two"]
    assert text_of("one<br>two").strip().splitlines() == ["one", "two"]


def test_entities_are_letters() -> None:
    """Named, decimal, hexadecimal; an unknown one stays as it is written."""
    assert text_of("<p>&eacute; &#233; &#xe9; &amp;lt; &lt;b&gt;</p>").strip() == "é é é &lt; <b>"


def test_headings_make_sections_with_their_names() -> None:
    """A heading is in the text, and names the page."""
    html = f"<h1>First <em>one</em></h1><p>{BODY}</p><h2>Second</h2><p>{BODY}</p>"
    found, _ = parsed(html)
    assert [(page.number, page.heading) for page in found] == [(1, "First one"), (2, "Second")]
    assert found[1].text.startswith("Second\n")


def test_the_title_is_not_text() -> None:
    """The first title wins; white space in it is folded."""
    found, facts = parsed(f"<title> My\n title </title><title>Other</title><p>{BODY}</p>")
    assert facts.title == "My title"
    assert "My" not in found[0].text


def test_a_heading_that_is_never_closed_loses_nothing() -> None:
    """All that follows is still there."""
    assert "words that a reader came for" in text_of(f"<h1>Unclosed<p>{BODY}</p>")
    assert "words that a reader came for" in text_of(f"<h1>Unclosed {BODY}")


@pytest.mark.parametrize("html", ["", " \n ", "<html></html>", "<", "<!DOCTYPE html>", "<p></p>", "<title>x</title>"])
def test_a_page_without_text_has_no_pages(html: str) -> None:
    """And raises nothing."""
    assert [page for page in parsed(html)[0] if page.text.strip("< \n")] == []


def test_a_document_that_ends_in_the_middle_of_a_tag_keeps_what_came_before() -> None:
    """A truncated download."""
    assert "words that a reader came for" in text_of(f"<p>{BODY}<a href='http://exam")


def test_a_nul_ends_nothing() -> None:
    """libxml2 takes a NUL for the end; the text after it is kept."""
    assert "after" in text_of(f"<p>{BODY}</p>\x00<p>after</p>")


def test_ten_thousand_nested_elements_lose_no_text() -> None:
    """Depth is no recursion, and no silent end."""
    depth = 10_000
    text = text_of("<div>" * depth + "deep inside" + "</div>" * depth + f"<p>{BODY}</p>")
    assert "deep inside" in text
    assert "words that a reader came for" in text


def test_a_text_of_ten_megabytes_without_a_tag_is_read() -> None:
    """libxml2's limit on one text node is not a limit here."""
    found, _ = parsed(b"<p>" + b"word " * 2_400_000 + b"</p><p>the last words</p>")
    assert sum(len(page.text) for page in found) > 11_000_000
    assert "the last words" in found[-1].text


def test_47_kb_before_the_first_tag_harm_nothing(corpus: Path) -> None:
    """A charset that is declared late is guessed from the letters."""
    found, facts = parsed((corpus / "bad" / "tika-big-preamble.html").read_bytes())
    assert str(facts.title).startswith("Аренда квартир, снять квартиру")
    assert any("агентство недвижимости" in page.text for page in found)


@given(st.binary(max_size=2000))
@settings(max_examples=40, deadline=None)
def test_no_bytes_make_the_parser_fail(content: bytes) -> None:
    """Whatever comes, it is read."""
    found, _ = parsed(content)
    assert all(page.number >= 1 for page in found)


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
def test_no_soup_of_tags_makes_the_parser_fail(tags: list[str]) -> None:
    """Unclosed, wrongly nested, half a tag."""
    found, _ = parsed(" ".join(tags))
    assert all(isinstance(page.text, str) for page in found)
