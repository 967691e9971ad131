"""Plain text and Markdown become pages: slabs of a text, sections of a Markdown file."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from ingest_pipeline.models import Gap, Page
from ingest_pipeline.parsing.encoding import decoded, detect_encoding
from ingest_pipeline.parsing.pager import SLAB_CHARACTERS, Pager
from ingest_pipeline.parsing.request import ParseFacts, ParseRequest

HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t#]*$")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


def text_pages(stream: BinaryIO, request: ParseRequest, facts: ParseFacts) -> Iterator[Page | Gap]:
    """Yield a plain text in slabs that go on from each other."""
    pager = Pager()
    with decoded(stream, _encoding(stream, facts)) as text:
        while slab := text.read(SLAB_CHARACTERS):
            pager.add(slab)
            yield from pager.take()
    pager.close()
    yield from pager.take()


def markdown_pages(stream: BinaryIO, request: ParseRequest, facts: ParseFacts) -> Iterator[Page | Gap]:
    """Yield a Markdown text as written, a page for each section; `#` inside a code fence is no heading."""
    pager, fence = Pager(), ""
    with decoded(stream, _encoding(stream, facts)) as text:
        while line := text.readline(SLAB_CHARACTERS):
            fence = _fence_after(line, fence)
            heading = None if fence else HEADING.match(line)
            if heading and heading[2]:
                facts.title = facts.title or heading[2]
                pager.begin(heading[2])
            pager.add(line)
            yield from pager.take()
    pager.close()
    yield from pager.take()


def _fence_after(line: str, fence: str) -> str:
    mark = FENCE.match(line)
    if not mark:
        return fence
    if not fence:
        return mark[1]
    return "" if mark[1].startswith(fence) else fence


def _encoding(stream: BinaryIO, facts: ParseFacts) -> str:
    encoding, warning = detect_encoding(rewinding(stream))
    stream.seek(0)
    if warning:
        facts.warnings.append(warning)
    return encoding


def rewinding(stream: BinaryIO) -> Callable[[], BinaryIO]:
    """Return a function that opens a seekable stream from its start, again and again."""

    def open_stream() -> BinaryIO:
        stream.seek(0)
        return cast(BinaryIO, _Borrowed(stream))

    return open_stream


class _Borrowed(io.RawIOBase):
    """A stream whose end of use does not close the one beneath."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._stream.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def tell(self) -> int:
        return self._stream.tell()
