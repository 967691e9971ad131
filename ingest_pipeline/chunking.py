"""Splits pages into chunks: spans of at most `max_tokens` tokens that together contain the whole text.

Packs on token offsets, so that one encoding of a window serves all chunks in it (docs/findings.md, F: 2.9 MB/s, exact
offsets on all adversarial texts, no chunk over the limit). The tokens of each chunk are counted again before it is
yielded, because a cut inside a word can change how the word is tokenized.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest_pipeline.models import START, Checkpoint, Chunk, Page

WINDOW_CHARACTERS = 20_000  # encoded at once: 7 MB; a document of 2.2 MB would take 427 MB (docs/findings.md, F2)
MAX_CHUNK_CHARACTERS = 4_000  # WordPiece makes one [UNK] of a long run: a chunk of "169 tokens" had 5 kB (F4)
# Where to cut, the best first. Sentences before lines, because the lines of a PDF end anywhere.
CUTS = (re.compile(r"\n\s*\n"), re.compile(r"[.!?:]['\")\]]?\s|[。！？]"), re.compile(r"\n"), re.compile(r"\s"))
VERSION = 1
"""Raise it when the same pages would give different chunks: all files are then processed again."""

Offsets = list[tuple[int, int]]
Encode = Callable[[str], Offsets]


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int
    tokens: int


def load_encoder(tokenizer_file: Path | None) -> Encode:
    """Return a function that returns the character offsets of a text's tokens, without special tokens.

    Without a tokenizer two bytes count as one token: `estimated_offsets`.

    Truncation and padding are switched off: tokenizer files have truncation on, and with it a splitter made one chunk
    of 108,661 tokens (docs/findings.md, F3).
    """
    if tokenizer_file is None:
        return estimated_offsets
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: tokenizer.encode(text, add_special_tokens=False).offsets


def estimated_offsets(text: str) -> Offsets:
    """Return offsets as of a tokenizer that makes a token of each two bytes of UTF-8.

    Prose and code in a model's own languages have more bytes in a token (docs/findings.md, L2), so that chunks are
    within its limit. Tables of numbers, codes and languages that a tokenizer does not know have fewer, down to one: for
    models that take little more than a chunk, `INGEST_TOKENIZER` counts.
    """
    offsets, waiting = [], 0
    for position, character in enumerate(text):
        waiting += 1 if character < "\x80" else len(character.encode("utf-8", "replace"))
        while waiting >= 2:
            offsets.append((position, position + 1))
            waiting -= 2
    return offsets


def text_hash(text: str) -> bytes:
    """Return the SHA-256 of a chunk's text: the key of its vector."""
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


class Chunker:
    """Splits the pages of one file into chunks, as a stream.

    A chunk extends over a page's end only if the next page continues the text; otherwise the end of a page is the end
    of a chunk, so that a chunk's page numbers are exact.

    Args:
        encode: returns the token offsets of a text.
        max_tokens: tokens in one chunk at most.
        start: where an earlier run stopped; pages before it are not passed again.
    """

    def __init__(self, encode: Encode, *, max_tokens: int, start: Checkpoint = START) -> None:
        self._encode = encode
        self._max_tokens = max_tokens
        self._ordinal = start.chunks
        self._base = start.characters
        self._buffer = ""
        self._pages: list[tuple[int, Page]] = []
        self.checkpoint = start

    def split(self, pages: Iterable[Page]) -> Iterator[list[Chunk]]:
        """Yield the chunks of each page as soon as they are final; `checkpoint` is valid after each list."""
        for page in pages:
            chunks = [] if page.continues else list(self._drain(final=True))
            if not page.continues:
                self._advance_checkpoint(page)
            self._append(page)
            chunks += self._drain(final=False)
            yield chunks
        yield list(self._drain(final=True))

    def _advance_checkpoint(self, page: Page) -> None:
        # Sections of one chapter share a page number: a parser can continue only between two numbers.
        if self.checkpoint.pages < page.number - 1:
            self.checkpoint = Checkpoint(page.number - 1, self._base, self._ordinal)

    def _append(self, page: Page) -> None:
        self._pages.append((self._base + len(self._buffer), page))
        self._buffer += page.text

    def _drain(self, *, final: bool) -> Iterator[Chunk]:
        while self._buffer and (final or len(self._buffer) > WINDOW_CHARACTERS):
            window = self._buffer[:WINDOW_CHARACTERS]
            last = len(window) == len(self._buffer)
            used = 0
            for span in self._pack(window, whole=last and final):
                yield from self._chunk(window, span)
                used = span.end
            self._drop(used)

    def _pack(self, window: str, *, whole: bool) -> Iterator[_Span]:
        """Yield spans that cover the window from its start; the last one is held back unless the window is whole."""
        offsets = self._encode(window)
        first = start = 0
        while start < len(window):
            if first >= len(offsets):
                if whole or not start:  # characters that the tokenizer drops are text all the same
                    yield from _pieces(start, len(window))
                return
            fits = first + self._max_tokens >= len(offsets) and len(window) - start <= MAX_CHUNK_CHARACTERS
            if fits and not whole:  # more text may follow and fit into the same chunk
                return
            limit = len(window) if fits else self._limit(offsets, first, start, len(window))
            end = len(window) if fits else _cut(window, start, limit)
            span = self._fitted(window, start, end)
            yield span
            start = span.end
            while first < len(offsets) and offsets[first][1] <= start:
                first += 1

    def _limit(self, offsets: Offsets, first: int, start: int, end: int) -> int:
        after = first + self._max_tokens
        by_tokens = offsets[after][0] if after < len(offsets) else end
        return max(start + 1, min(by_tokens, start + MAX_CHUNK_CHARACTERS))

    def _fitted(self, window: str, start: int, end: int) -> _Span:
        """Return the span with its exact number of tokens, shortened until it is within the limit."""
        while True:
            offsets = self._encode(window[start:end].strip())
            if len(offsets) <= self._max_tokens or end - start <= 1:
                return _Span(start, end, len(offsets))
            lead = len(window[start:end]) - len(window[start:end].lstrip())
            end = start + max(1, lead + offsets[self._max_tokens][0])

    def _chunk(self, window: str, span: _Span) -> Iterator[Chunk]:
        piece = window[span.start : span.end]
        text = piece.strip()
        if not text:
            return
        begin = self._base + span.start + len(piece) - len(piece.lstrip())
        first, last = self._page_at(begin), self._page_at(begin + len(text) - 1)
        yield Chunk(
            ordinal=self._ordinal,
            text=text,
            tokens=span.tokens,
            page_from=first.number,
            page_to=last.number,
            char_from=begin,
            char_to=begin + len(text),
            heading=first.heading,
            page_label=first.label,
            section=first.section,
        )
        self._ordinal += 1

    def _page_at(self, position: int) -> Page:
        last = self._pages[0][1]
        for start, page in self._pages:
            if start > position:
                break
            last = page
        return last

    def _drop(self, used: int) -> None:
        self._base += used
        self._buffer = self._buffer[used:]
        keep = 0
        while keep + 1 < len(self._pages) and self._pages[keep + 1][0] <= self._base:
            keep += 1
        self._pages = self._pages[keep:] if self._buffer else []


def _pieces(start: int, end: int) -> Iterator[_Span]:
    # Text without tokens: cut by length only.
    for begin in range(start, end, MAX_CHUNK_CHARACTERS):
        yield _Span(begin, min(begin + MAX_CHUNK_CHARACTERS, end), 0)


def _cut(window: str, start: int, limit: int) -> int:
    """Return the end of a chunk that may extend to `limit`: after the best boundary in its second half."""
    for pattern in CUTS:
        ends = [match.end() for match in pattern.finditer(window, start + (limit - start) // 2, limit)]
        if ends:
            return ends[-1]
    return limit
