"""HTML becomes pages by lxml's push parser, without a tree: 5.4 MB instead of 64 MB (docs/findings.md, E2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ingest_pipeline.models import Heading, Page, ParseEvent, ParseWarning, Properties
from ingest_pipeline.parsing.formats.encoding import decoded, detect_encoding
from ingest_pipeline.parsing.formats.page_builder import PageBuilder
from ingest_pipeline.parsing.formats.streams import rewinding
from ingest_pipeline.parsing.request import ParseRequest

FEED_CHARACTERS = 64 * 1024
NO_TEXT = frozenset(("script", "style", "template", "svg", "math", "iframe", "object", "noscript"))
BOILERPLATE = frozenset(("nav", "button", "select", "textarea"))
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
BLOCKS = HEADINGS | frozenset((
    "address", "article", "aside", "blockquote", "body", "br", "caption", "center", "dd", "details", "div", "dl",
    "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "li", "main", "ol", "p", "pre",
    "section", "summary", "table", "tbody", "thead", "title", "tr", "ul",
))  # fmt: skip
CELLS = frozenset(("td", "th"))
PROSE_TAGS = HEADINGS | frozenset(("p", "pre", "table", "blockquote"))  # no lists: menus are lists of links
SPACES = re.compile(r"[ \t\n\r\f\v]+")
DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)


class TextTarget:
    """Parser target that keeps text and headings, and drops tags, scripts and navigation."""

    def __init__(self, pager: PageBuilder, dropped: frozenset[str]) -> None:
        self.pager = pager
        self.title: str | None = None
        self._dropped = dropped
        self._dropping: list[str] = []
        self._collecting: list[str] | None = None
        self._heading_tag = ""
        self._preformatted = 0
        self._at_line_start = True
        self._at_bullet = False

    def start(self, tag: str, attributes: Any) -> None:
        """A tag opens."""
        if tag in self._dropped:
            self._dropping.append(tag)
        if self._dropping:
            return
        if tag in HEADINGS or tag == "title":
            if self._collecting:  # the heading before this one was never closed
                self._end_heading()
            self._break(2)
            self._collecting, self._heading_tag = [], tag
        elif tag in CELLS:
            self._add("" if self._at_line_start else " | ")  # cells of a row stay on one line
        elif tag in BLOCKS:
            self._break(2 if tag in ("p", "table", "pre", "section", "article") else 1)
        if tag == "li":
            self._add("- ")
        self._preformatted += tag == "pre"

    def end(self, tag: str) -> None:
        """A tag closes; libxml2 reports this also for tags that the document does not close."""
        if self._dropping:
            if tag == self._dropping[-1]:
                self._dropping.pop()
            return
        if self._collecting is not None and (tag in HEADINGS or tag == "title"):
            self._end_heading()
        elif tag in BLOCKS:
            self._break(1)
        self._preformatted -= tag == "pre" and self._preformatted > 0  # tags may be unbalanced

    def data(self, text: str) -> None:
        """Text between tags."""
        if self._dropping:
            return
        if self._collecting is not None:
            self._collecting.append(text)
        elif self._preformatted:
            self._add(text)
        else:
            folded = SPACES.sub(" ", text)
            self._add(folded.lstrip(" ") if self._at_line_start else folded)

    def close(self) -> None:
        """The document ends."""
        if self._collecting:
            self._end_heading()
        self.pager.close()

    def _end_heading(self) -> None:
        tag = self._heading_tag
        heading = SPACES.sub(" ", "".join(self._collecting or [])).strip()
        self._collecting = None
        if tag == "title":
            self.title = self.title or heading or None
        elif heading:
            self.pager.begin(heading, int(tag[1]))
            self._add(heading)
            self._break(2)

    def _add(self, text: str) -> None:
        if text:
            self.pager.add(text)
            self._at_line_start = text.endswith("\n")
            self._at_bullet = text == "- "

    def _break(self, newlines: int) -> None:
        # After "- " no break: `<li><p>` must not put the bullet on a line of its own.
        if not self._at_line_start and not self._at_bullet:
            self.pager.add("\n" * newlines)
            self._at_line_start = True


def html_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield an HTML document, one page for each section; short sections share a page."""
    yield from streamed_html(rewinding(stream))


def streamed_html(
    open_stream: Callable[[], BinaryIO],
    *,
    number: int | None = None,
    heading: str | None = None,
) -> Iterator[ParseEvent]:
    """Yield the events of HTML that can be opened more than once.

    Args:
        open_stream: opens the bytes from their start.
        number: the number of every page (an EPUB chapter); None counts them.
        heading: heading of the text before the first heading.
    """
    encoding, warning = _encoding(open_stream)
    yield from [ParseWarning(warning)] if warning else []
    check = _NavCheck()
    for _ in _pushed(open_stream, encoding, check):
        pass
    target = TextTarget(PageBuilder(number=number, heading=heading), check.dropped)
    yield from _pushed(open_stream, encoding, target)
    yield Properties(target.title)


class _NavCheck:
    """First pass: finds out whether `nav` holds navigation, or the whole text because it is never closed."""

    title = None

    def __init__(self) -> None:
        self.pager = PageBuilder()
        self._open: list[str] = []
        self._in_nav = self._prose_in_nav = self._outside = 0

    @property
    def dropped(self) -> frozenset[str]:
        """The tags to leave out; `nav` is one of them unless it holds more prose than there is text outside."""
        return NO_TEXT if self._prose_in_nav > self._outside else NO_TEXT | BOILERPLATE

    def start(self, tag: str, attributes: Any) -> None:
        if tag in NO_TEXT or tag in PROSE_TAGS:
            self._open.append(tag)
        self._in_nav += tag in BOILERPLATE

    def end(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()
        self._in_nav -= tag in BOILERPLATE and self._in_nav > 0

    def data(self, text: str) -> None:
        if self._open and self._open[-1] in NO_TEXT:
            return
        length = len(text.strip())
        self._outside += 0 if self._in_nav else length
        self._prose_in_nav += length if self._in_nav and self._open else 0

    def close(self) -> None:
        """Nothing is left to do."""


def _pushed(
    open_stream: Callable[[], BinaryIO], encoding: str, target: TextTarget | _NavCheck
) -> Iterator[Page | Heading]:
    from lxml import etree

    parser = etree.HTMLParser(target=target, encoding="utf-8", no_network=True, remove_comments=True)
    with open_stream() as stream, decoded(stream, encoding) as text:
        while piece := text.read(FEED_CHARACTERS):
            # libxml2 turns a NUL into U+FFFD. Always UTF-8, so that a declaration in the document has no effect.
            parser.feed(piece.replace("\x00", "").encode("utf-8", "replace"))
            yield from target.pager.take()
    _close(parser, target)
    yield from target.pager.take()


def _close(parser: Any, target: TextTarget | _NavCheck) -> None:
    from lxml import etree

    try:
        parser.close()
    except etree.XMLSyntaxError:  # an empty document, or one that ends in the middle of a tag
        target.close()


def _encoding(open_stream: Callable[[], BinaryIO]) -> tuple[str, str | None]:
    with open_stream() as stream:
        match = DECLARED.search(stream.read(4096))
    declared = match[1].decode("ascii") if match else None
    return detect_encoding(open_stream, declared=declared)
