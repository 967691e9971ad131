"""Finds the headings of a Markdown text as CommonMark 0.31 defines them, line by line; nothing else is parsed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

ATX = re.compile(r" {0,3}(#{1,6})[ \t]+")
SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
CODE_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
CONTAINER = re.compile(r" {0,3}(?:>|[-+*][ \t\n]|\d{1,9}[.)][ \t\n])")
"""A block quote or a list item; it continues on the following lines until a blank line."""
# Lines that begin no paragraph: headings, code fences, tables, HTML, thematic breaks, blank lines.
NO_PARAGRAPH = re.compile(r" {0,3}(?:#{1,6}[ \t\n]|`{3}|~{3}|\||<|([-*_])[ \t]*(?:\1[ \t]*){2,}$|$)")
INDENTED_CODE = re.compile(r"(?: {4}| {0,3}\t)")
FRONT_MATTER = re.compile(r"[\w.-]+[ \t]*:|[ \t]+\S|- |#")
SETEXT_LINES = 3
"""Setext headings have at most so many lines. CommonMark allows more, but authors mean a paragraph and a rule."""


def markdown_pieces(lines: Iterable[str]) -> Iterator[tuple[str, int, str]]:
    """Yield a text in pieces, with the heading that each begins with.

    A paragraph is held until the line below it is known: a line of `=` or `-` makes it a heading. Code fences, front
    matter, lists and block quotes contain no headings.

    Yields:
        `(title, level, text)`; title is '' and level 0 where no heading begins. The concatenated texts are the input.
    """
    paragraph = _Paragraph()
    for line, is_code in _outside_code(lines):
        if underline := paragraph.is_heading and not is_code and SETEXT.match(line):
            yield paragraph.title, 1 if "=" in underline[1] else 2, paragraph.take() + line
        elif not is_code and paragraph.takes(line):
            if held := paragraph.overflow():
                yield "", 0, held
        else:
            if held := paragraph.take():
                yield "", 0, held
            heading = None if is_code else ATX.match(line)
            title = line[heading.end() :].rstrip(" \t#\n") if heading else ""
            yield title, len(heading[1]) if heading and title else 0, line
    if held := paragraph.take():
        yield "", 0, held


class _Paragraph:
    """The lines of a paragraph that may still become a heading."""

    def __init__(self) -> None:
        self._held: list[str] = []
        self._lines = 0
        self._in_container = False

    @property
    def is_heading(self) -> bool:
        """Whether an underline now would make it a heading."""
        return bool(self._held)

    @property
    def title(self) -> str:
        return " ".join(line.strip() for line in self._held)

    def takes(self, line: str) -> bool:
        """Hold a line that continues or begins a paragraph; return whether it does."""
        if not line.strip():
            self._in_container = False
        elif CONTAINER.match(line):
            self._in_container = True
        elif not self._in_container and self._is_text(line):
            self._held.append(line)
            self._lines += 1
            return True
        return False

    def _is_text(self, line: str) -> bool:
        # Indentation makes code only outside of a paragraph: within one it is a continuation line.
        return not NO_PARAGRAPH.match(line) and (self._lines > 0 or not INDENTED_CODE.match(line))

    def overflow(self) -> str:
        """Return and clear the held lines of a paragraph that is too long for a heading; '' while it is not."""
        if self._lines <= SETEXT_LINES:
            return ""
        held, self._held = "".join(self._held), []
        return held

    def take(self) -> str:
        """Return and clear the held lines; the paragraph ends."""
        held, self._held, self._lines = "".join(self._held), [], 0
        return held


def _outside_code(lines: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield each line, and whether it belongs to a code fence or to the front matter."""
    fence, front = "", False
    for number, line in enumerate(lines):
        if number == 0 and line.rstrip() == "---":
            front = True
            yield line, True
        elif front:
            # A line that is not YAML ends it, too: `---` may also be a rule at the top of a text.
            front = FRONT_MATTER.match(line) is not None
            yield line, front or line.rstrip() in ("---", "...")
        else:
            opened, fence = fence, _fence_after(line, fence)
            yield line, bool(opened or fence)


def _fence_after(line: str, fence: str) -> str:
    mark = CODE_FENCE.match(line)
    if not mark:
        return fence
    if not fence:
        return mark[1]
    return "" if mark[1].startswith(fence) else fence  # a closing fence is at least as long as the opening one
