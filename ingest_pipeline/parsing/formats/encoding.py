"""Which encoding a text is really in (docs/findings.md, E: the order that got every corpus file right)."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from ingest_pipeline.models import ParseWarning
from ingest_pipeline.parsing.formats.alphabets import eastern_encoding, latin_encoding
from ingest_pipeline.parsing.formats.streams import rewinding

READ_BYTES = 256 * 1024
SAMPLE_BYTES = 64 * 1024  # charset-normalizer: 0 MB on this much, 51 MB on a whole 3 MB file
# Too little for statistics: one `São Paulo` in an English text was taken for Polish, a table whose only odd letter was
# a no-break space for `hp_roman8`.
FEW_BYTES, FEW_LETTERS = 16, 3
# Japan's and Korea's mail: plain ASCII bytes, so that they are valid UTF-8, too.
SEVEN_BITS = (
    (b"\x1b$B", "iso2022_jp_2"),
    (b"\x1b$@", "iso2022_jp_2"),
    (b"\x1b(J", "iso2022_jp_2"),
    (b"\x1b$)C", "iso2022_kr"),
)
TIE = 0.06  # in coherence: German lost by 0.05
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def detect_encoding(open_stream: Callable[[], BinaryIO], *, declared: str | None = None) -> tuple[str, str | None]:
    """Return the encoding of a text, and a warning when it had to be guessed.

    A byte-order mark decides; then NULs tell UTF-16 without one; then UTF-8 if every byte of the text is, or all
    but a few; then what the document declares, where that decodes; then a guess on 64 KiB around the first byte
    that is not UTF-8; at last cp1252, in which any byte that has no meaning becomes U+FFFD.
    """
    with open_stream() as stream:
        head = stream.read(SAMPLE_BYTES)
    for mark, name in BOMS:
        if head.startswith(mark):
            return name, None
    for mark, name in SEVEN_BITS:
        if mark in head and decodes(head, name):
            return name, f"encoding guessed: {name}"
    if wide := _wide_without_mark(head):
        return wide, f"{wide[:6].upper()} without a byte-order mark"
    bad = _first_not_utf8(open_stream)
    if bad is None:
        return "utf-8", None
    sample = _sample_around(open_stream, bad)
    if _is_damaged_utf8(sample, is_cut=len(sample) == SAMPLE_BYTES):
        return "utf-8", f"UTF-8 with damaged bytes, the first at {bad}: replaced"
    if declared and decodes(sample, declared):
        return _as_browsers_do(declared, sample), None
    return _guess(sample)


@contextmanager
def decoded(stream: BinaryIO, encoding: str) -> Iterator[io.TextIOWrapper]:
    """Read a byte stream as text with every kind of newline as `\\n`; the stream stays open."""
    text = io.TextIOWrapper(stream, encoding=encoding, errors="replace", newline=None)
    try:
        yield text
    finally:
        text.detach()


@contextmanager
def decoded_text(stream: BinaryIO) -> Iterator[tuple[io.TextIOWrapper, list[ParseWarning]]]:
    """Read a seekable stream from its start as text in the encoding that it is in; a guess comes with a warning."""
    encoding, warning = detect_encoding(rewinding(stream))
    stream.seek(0)
    with decoded(stream, encoding) as text:
        yield text, [ParseWarning(warning)] if warning else []


def _wide_without_mark(head: bytes) -> str | None:
    """Return UTF-32 or UTF-16 by where the NULs stand: Latin letters, digits and spaces have theirs on one side."""
    zeros = [head[at::4].count(0) / max(1, len(head) // 4) for at in range(4)]
    if min(zeros[2:]) > 0.9 and zeros[0] < 0.05:
        return "utf-32-le"
    if min(zeros[:2]) > 0.9 and zeros[3] < 0.05:
        return "utf-32-be"
    even, odd = (zeros[0] + zeros[2]) / 2, (zeros[1] + zeros[3]) / 2
    if odd > 0.3 and even < 0.05:
        return "utf-16-le"
    if even > 0.3 and odd < 0.05:
        return "utf-16-be"
    return None


def _first_not_utf8(open_stream: Callable[[], BinaryIO]) -> int | None:
    decoder, position = codecs.getincrementaldecoder("utf-8")(), 0
    with open_stream() as stream:
        while True:
            piece = stream.read(READ_BYTES)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                return max(0, position - pending + error.start)
            if not piece:
                return None
            position += len(piece)


def _sample_around(open_stream: Callable[[], BinaryIO], position: int) -> bytes:
    """Return 64 KiB around a position, cut at line ends: half a letter at an edge would mislead every guess."""
    start = max(0, position - SAMPLE_BYTES // 2)
    with open_stream() as stream:
        left = start
        while left and (skipped := len(stream.read(min(READ_BYTES, left)))):
            left -= skipped
        sample = stream.read(SAMPLE_BYTES)
    bad = position - start
    before, after = sample.rfind(b"\n", 0, bad) if not start else sample.find(b"\n", 0, bad), sample.rfind(b"\n", bad)
    first = before + 1 if start and before >= 0 else 0
    last = after + 1 if len(sample) == SAMPLE_BYTES and after >= 0 else len(sample)
    return sample[first:last]


def _is_damaged_utf8(sample: bytes, *, is_cut: bool) -> bool:
    """Return whether a text is UTF-8 but for a few bytes: other encodings hardly ever look like it by accident."""
    text = sample.decode("utf-8", "replace")
    damaged = text.count("\ufffd")
    letters = sum(letter > "\x7f" for letter in text) - damaged
    cut_at_end = is_cut and damaged == 1 and text.endswith("\ufffd")
    return cut_at_end or (letters >= 5 and damaged <= max(1, letters // 4))


def decodes(sample: bytes, encoding: str) -> bool:
    """Return whether bytes are text in an encoding, but for a last letter that may be cut."""
    try:
        if not codecs.lookup(encoding)._is_text_encoding:  # `hex` and `zlib` are codecs too
            return False
        codecs.getincrementaldecoder(encoding)().decode(sample)  # incremental: a cut last letter is no error
    except Exception:  # each codec has errors of its own
        return False
    return True


def _as_browsers_do(encoding: str, sample: bytes) -> str:
    """Return cp1252 for latin-1 that holds bytes which only cp1252 has: curly quotes, dashes, the euro sign."""
    latin = codecs.lookup(encoding).name in ("iso8859-1", "ascii")
    return "cp1252" if latin and any(0x80 <= byte <= 0x9F for byte in sample) else encoding


def _guess(sample: bytes) -> tuple[str, str | None]:
    if encoding := latin_encoding(sample) or eastern_encoding(sample):
        return encoding, f"encoding guessed: {encoding}"
    odd = [byte for byte in sample if byte > 0x7F]
    if (len(odd) < FEW_BYTES or len(set(odd)) <= FEW_LETTERS) and decodes(sample, "cp1252"):
        return "cp1252", "encoding guessed from a few bytes: cp1252"
    import charset_normalizer

    matches = charset_normalizer.from_bytes(sample)
    if not matches:
        return "cp1252", "encoding unknown: read as cp1252, unreadable bytes replaced"
    encoding = _of_equals(matches, sample)
    return encoding, f"encoding guessed: {encoding}"


def _of_equals(matches: Any, sample: bytes) -> str:
    """Return the first of the guesses, or the one that most texts are in where that reads this one as well.

    Of two that read a text equally well the first is chance: Spanish and Portuguese in one text came out as `cp1250`.
    """
    best = matches.best()
    for match in matches:
        western = {"cp1252", "latin_1"} & {match.encoding, *match.could_be_from_charset}
        if western and match.chaos <= best.chaos and match.coherence >= best.coherence - TIE:
            return "cp1252"
    # Of what Greek needs, the two differ in the capital Ά only.
    if best.encoding == "cp1253" and b"\xb6" in sample and b"\xa2" not in sample:
        return "iso8859_7"
    return _as_browsers_do(best.encoding, sample)
