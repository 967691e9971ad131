"""Extracted text is normalized, so that Postgres accepts it and search matches it."""

from __future__ import annotations

import re
import unicodedata

# pdfium writes U+FFFE or U+0002 in place of a hyphen at a line's end; removing it and the line break joins the word.
HYPHENATION = re.compile("(?:\ufffe|\x02)[ \\t]*(?:\\r\\n|\\n|\\r)?")
# Control characters except tab and newline, surrogates, non-characters: Postgres refuses NUL, and none is text.
UNWANTED = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufdd0-\ufdef\ufffe\uffff]")
NEWLINES = re.compile("\r\n|[\r\x0c\x85\u2028\u2029]")
# 38 were left in one PDF manual (docs/findings.md, C7); a query is typed with single letters.
LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})


def clean_text(text: str) -> str:
    """Return the text in NFC, with `\\n` as the only newline, ligatures as letters, and no control characters.

    The offsets of chunks count in this text, and this text is stored, so they are exact.
    """
    text = HYPHENATION.sub("", text)
    text = UNWANTED.sub("", NEWLINES.sub("\n", text))
    return unicodedata.normalize("NFC", text.translate(LIGATURES))
