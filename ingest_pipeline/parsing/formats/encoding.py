"""Detects the encoding of a text; the order of the checks read every corpus file correctly (docs/findings.md, E5)."""

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
SAMPLE_BYTES = 64 * 1024  # charset-normalizer grows by 0 MB on it, by 51 MB on a file of 3 MB (docs/findings.md, E5)
# Too little for statistics: one `São Paulo` in an English text was taken for Polish, a table whose only non-ASCII
# character was a no-break space for `hp_roman8`.
FEW_BYTES, FEW_LETTERS = 16, 3
# Encodings of Japanese and Korean mail: they use ASCII bytes only, so their texts are valid UTF-8, too.
SEVEN_BITS = (
    (b"\x1b$B", "iso2022_jp_2"),
    (b"\x1b$@", "iso2022_jp_2"),
    (b"\x1b(J", "iso2022_jp_2"),
    (b"\x1b$)C", "iso2022_kr"),
)
TIE = 0.06  # in coherence: a German text lost against a wrong guess by 0.05 (docs/findings.md, E6)
# UTF-32 before UTF-16: the mark of UTF-16-LE is the beginning of the mark of UTF-32-LE.
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def detect_encoding(open_stream: Callable[[], BinaryIO], *, declared: str | None = None) -> tuple[str, str | None]:
    """Return the encoding of a text, and a warning when it had to be guessed.

    The checks, in this order: a byte-order mark; the positions of NULs, for UTF-16 and UTF-32 without a mark; UTF-8,
    where all bytes are valid, or all but a few; the declared encoding, where it decodes; a guess on 64 KiB around the
    first byte that is not UTF-8; last cp1252, in which undefined bytes become U+FFFD.
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
    # After UTF-8: a declaration is often wrong, and valid UTF-8 with non-ASCII characters is hardly ever an accident.
    if declared and decodes(sample, declared):
        return _as_browsers_do(declared, sample), None
    return _guess(sample)


@contextmanager
def decoded(stream: BinaryIO, encoding: str) -> Iterator[io.TextIOWrapper]:
    """Read a byte stream as text with `\\n` as the only newline; the stream stays open."""
    text = io.TextIOWrapper(stream, encoding=encoding, errors="replace", newline=None)
    try:
        yield text
    finally:
        text.detach()  # otherwise the wrapper closes the stream when it is collected


@contextmanager
def decoded_text(stream: BinaryIO) -> Iterator[tuple[io.TextIOWrapper, list[ParseWarning]]]:
    """Read a seekable stream from its start as text in its detected encoding; yield a warning where it was guessed."""
    encoding, warning = detect_encoding(rewinding(stream))
    stream.seek(0)
    with decoded(stream, encoding) as text:
        yield text, [ParseWarning(warning)] if warning else []


def _wide_without_mark(head: bytes) -> str | None:
    """Return UTF-32 or UTF-16 by the positions of NULs: Latin letters, digits and spaces have a NUL as high byte."""
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
    # The whole file: a non-ASCII byte may come late, and the first 64 KiB would miss it (docs/findings.md, E5).
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
    """Return 64 KiB around a position, cut at line ends: half of a character at an edge would mislead the guess."""
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
    """Return whether a text is UTF-8 except for a few bytes: other encodings are hardly ever so close to UTF-8."""
    text = sample.decode("utf-8", "replace")
    damaged = text.count("\ufffd")
    valid = sum(character > "\x7f" for character in text) - damaged
    cut_at_end = is_cut and damaged == 1 and text.endswith("\ufffd")
    return cut_at_end or (valid >= 5 and damaged <= max(1, valid // 4))


def decodes(sample: bytes, encoding: str) -> bool:
    """Return whether bytes are text in an encoding; the last character may be cut."""
    try:
        if not codecs.lookup(encoding)._is_text_encoding:  # `hex` and `zlib` are codecs, too
            return False
        codecs.getincrementaldecoder(encoding)().decode(sample)  # incremental: a cut last character is no error
    except Exception:  # the codecs have no common error type
        return False
    return True


def _as_browsers_do(encoding: str, sample: bytes) -> str:
    """Return cp1252 for latin-1 with bytes that only cp1252 defines: curly quotes, dashes, the euro sign."""
    latin = codecs.lookup(encoding).name in ("iso8859-1", "ascii")
    return "cp1252" if latin and any(0x80 <= byte <= 0x9F for byte in sample) else encoding


def _guess(sample: bytes) -> tuple[str, str | None]:
    if encoding := latin_encoding(sample) or eastern_encoding(sample):
        return encoding, f"encoding guessed: {encoding}"
    non_ascii = [byte for byte in sample if byte > 0x7F]
    if (len(non_ascii) < FEW_BYTES or len(set(non_ascii)) <= FEW_LETTERS) and decodes(sample, "cp1252"):
        return "cp1252", "encoding guessed from a few bytes: cp1252"
    import charset_normalizer

    matches = charset_normalizer.from_bytes(sample)
    if not matches:
        return "cp1252", "encoding unknown: read as cp1252, unreadable bytes replaced"
    encoding = _of_equals(matches, sample)
    return encoding, f"encoding guessed: {encoding}"


def _of_equals(matches: Any, sample: bytes) -> str:
    """Return the best guess, or cp1252 where it reads the text equally well.

    The order of equally good guesses is arbitrary: a text in Spanish and Portuguese was guessed as `cp1250`.
    """
    best = matches.best()
    for match in matches:
        western = {"cp1252", "latin_1"} & {match.encoding, *match.could_be_from_charset}
        if western and match.chaos <= best.chaos and match.coherence >= best.coherence - TIE:
            return "cp1252"
    # For Greek texts the two encodings differ only in the capital Ά.
    if best.encoding == "cp1253" and b"\xb6" in sample and b"\xa2" not in sample:
        return "iso8859_7"
    return _as_browsers_do(best.encoding, sample)
