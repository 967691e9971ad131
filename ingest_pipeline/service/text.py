"""Texts of documents and names of files as a page shows them: whoever wrote them must not steer it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from markupsafe import Markup, escape

STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Controls, overrides and isolates of direction, and what no page can have: halves of surrogate pairs."""
STEERING_NOT_BREAKS = re.compile(STEERING.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
Span = tuple[int, int]


def visible(text: str) -> str:
    r"""Return a name on one line, with what would steer the page as escapes: `\u202egnp.exe`."""
    return STEERING.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def passage(text: str) -> str:
    """Return a document's text without what would steer the page; line breaks and joiners within words stay."""
    return STEERING_NOT_BREAKS.sub("", text)


def marked(text: str, marks: Iterable[Span], span: Span) -> Markup:
    """Return a part of a text as HTML, with the marked words in `<mark>`, and dots where it is cut.

    Args:
        text: of a passage.
        marks: where words stand in the text: from, to; in any order, and they may overlap.
        span: the part to show: from, to.
    """
    begin, end = span
    parts = [Markup("… ")] if begin > 0 else []
    at = begin
    for mark_from, mark_to in _joined(marks, begin, end):
        parts += [escape(passage(text[at:mark_from])), _mark(text[mark_from:mark_to])]
        at = mark_to
    parts.append(escape(passage(text[at:end])))
    if end < len(text):
        parts.append(Markup(" …"))
    return Markup("").join(parts)


def _mark(words: str) -> Markup:
    return Markup("<mark>{}</mark>").format(passage(words))


def _joined(marks: Iterable[Span], begin: int, end: int) -> list[Span]:
    """Return the marks within a part of the text, in order; those that touch are one."""
    joined: list[Span] = []
    for mark_from, mark_to in sorted((max(one, begin), min(other, end)) for one, other in marks):
        if mark_from >= mark_to:
            continue
        if joined and mark_from <= joined[-1][1]:
            mark_from, mark_to = joined[-1][0], max(joined.pop()[1], mark_to)
        joined.append((mark_from, mark_to))
    return joined
