"""Texts of documents in pages: whoever wrote them does not steer the page."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from ingest_pipeline.search_models import EVERYWHERE, Coverage, Place, SearchAnswer, SearchHit, SearchQuery
from ingest_pipeline.service.pages import FILTERS, pages_in_words
from ingest_pipeline.service.rendering import html_page
from ingest_pipeline.service.text import STEERING_NOT_BREAKS, marked, passage, visible
from ingest_pipeline_tests.service_pages import inline_parts, parsed

TEXT = "The kiln is hot & <b>dangerous</b>."
TAGS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus=alert(1) x='",
    "</title><svg>",
)
TEXTS = st.text(max_size=30, alphabet=st.characters(exclude_categories=["Cs"])) | st.sampled_from(TAGS)
ELEMENTS = {
    "html", "head", "meta", "title", "link", "body", "a", "header", "div", "nav", "img", "main", "form", "h1", "h2",
    "label", "input", "button", "details", "summary", "p", "select", "option", "span", "ol", "ul", "li", "dl", "dt",
    "dd", "bdi", "cite", "mark", "aside", "section", "footer", "code",
}  # fmt: skip
SPANS = st.tuples(st.integers(0, 40), st.integers(0, 40))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\u202egnp.exe.txt", "\\u202egnp.exe.txt"),
        ("two\nlines\x1b[31m\x7f", "two\\nlines\\x1b[31m\\x7f"),
        ("half \ud800", "half \\ud800"),
        ("bäckerei 歌 ملف\u200d.txt", "bäckerei 歌 ملف\u200d.txt"),
    ],
)
def test_names_show_what_would_steer(text: str, shown: str) -> None:
    """A name has escapes instead of controls and overrides of direction; scripts and joiners stay."""
    assert visible(text) == shown


def test_passages_lose_what_would_steer() -> None:
    """A passage loses controls and overrides; line breaks stay."""
    assert passage("one\n\ttwo\x00\x1b[1m \u202ethree\u2066\u2069 \ud83d") == "one\n\ttwo[1m three "


def test_marks_are_escaped_html() -> None:
    """The words of a mark stand in `<mark>`, and the document's own tags are text."""
    page = str(marked(TEXT, [(4, 8), (18, 33)], (0, len(TEXT))))
    assert page == ("The <mark>kiln</mark> is hot &amp; <mark>&lt;b&gt;dangerous&lt;/b</mark>&gt;.")


def test_marks_overlap_and_reach_out() -> None:
    """Marks come in any order, may overlap, and are cut at the part that is shown; dots say where there is more."""
    assert str(marked("one two three four", [(8, 13), (4, 10), (2, 2), (14, 99)], (4, 16))) == (
        "… <mark>two three</mark> <mark>fo</mark> …"
    )


def test_a_mark_hides_nothing() -> None:
    """An override of direction within a mark is gone, and the mark stands where the word stands."""
    assert str(marked("a \u202ekiln\u202c b", [(3, 7)], (0, 10))) == "a <mark>kiln</mark> b"


@given(st.text(max_size=40), st.lists(SPANS, max_size=6), SPANS)
def test_marking_keeps_the_text(text: str, marks: list[tuple[int, int]], span: tuple[int, int]) -> None:
    """Whatever the marks are, the page shows exactly the part of the text, and no tag but `<mark>`."""
    begin, end = min(*span, len(text)), min(max(span), len(text))
    html = parsed(str(marked(text, marks, (begin, end))))
    shown = "".join(html.texts).removeprefix("… " if begin else "")
    shown = shown.removesuffix(" …" if end < len(text) else "")
    assert shown == STEERING_NOT_BREAKS.sub("", text[begin:end])
    assert {tag for tag, _ in html.elements} <= {"mark"}


@given(hit=st.builds(SearchHit, st.just(0.1), TEXTS, TEXTS, st.just(1), st.just(2), TEXTS, **dict.fromkeys(
    ("heading", "page_label", "section", "title", "media_type"), TEXTS), before=st.tuples(TEXTS),
    also_at=st.tuples(st.builds(Place, TEXTS, TEXTS, st.just(1), st.just(1)))), query=TEXTS)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_no_text_makes_an_element(hit: SearchHit, query: str) -> None:
    """Whatever texts and names hold, a page has the elements of its template, and nothing that a policy forbids."""
    asked = SearchQuery(query, 10, EVERYWHERE, 1)
    answer = SearchAnswer((hit,), Coverage(failed_names=(hit.path,), failed_matching=1), notes=(hit.text,))
    count = {"value": hit.path, "files": 1, "chosen": True}
    facets = {"files": 1, "source": [count], "media_type": [count], "status": [count]}
    content = {
        "query": asked, "answer": answer, "facets": facets, "more": 20,
        "labels": FILTERS, "filtered": FILTERS, "none_of_them": {}, "twin": "/search.json",
        "file_parameters": {"path": hit.path}, "pages_in_words": pages_in_words,
    }  # fmt: skip
    sent = urlencode({"q": query, **dict.fromkeys(FILTERS, f"x{query}")}).encode()
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": sent}
    page = bytes(html_page(Request(scope), "search.html", content).body).decode()
    assert inline_parts(page) == []
    assert {tag for tag, _ in parsed(page).elements} <= ELEMENTS
