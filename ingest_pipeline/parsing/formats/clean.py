"""Text as a parser found it becomes text that Postgres takes and a search finds."""

from __future__ import annotations

import re
import unicodedata

# Controls but tab and newline, surrogates, non-characters. pdfium writes U+FFFE, or U+0002, where it took a
# line-end hyphen away: with the line break after it, it joins the two halves of the word.
HYPHENATION = re.compile("(?:\ufffe|\x02)[ \\t]*(?:\\r\\n|\\n|\\r)?")
UNWANTED = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufdd0-\ufdef\ufffe\uffff]")
NEWLINES = re.compile("\r\n|[\r\x0c\x85\u2028\u2029]")
LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})


def clean_text(text: str) -> str:
    """Return the text in NFC, with one kind of newline, ligatures as letters, and no control characters.

    Offsets of chunks count in this text, and this text is what is stored: they stay exact.
    """
    text = HYPHENATION.sub("", text)
    text = UNWANTED.sub("", NEWLINES.sub("\n", text))
    return unicodedata.normalize("NFC", text.translate(LIGATURES))
