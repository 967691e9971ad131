"""Which encoding makes a text that a language can be written in: 0xFD is `ı` in Turkish, not `ý`.

Statistics of letters tell Russian from Greek, but take Turkish and Hungarian for cp1252, and ISO-8859-2 for cp1250: the
letters are the same bytes or nearly. The alphabets of the languages tell them apart.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from functools import cache

WESTERN = (
    "àâæçéèêëîïôœùûüÿ", "äöüß", "áéíñóúüª°º", "àçéèíïóòúü·", "áâãàçéêíóôõúü", "àèéìíîòóùú", "æøåéèêóôàü",
    "åäöéü", "áðéíóúýþæöø", "áéèêëíïóöúü", "äõöüšž",
)  # fmt: skip
"""French, German, Spanish, Catalan, Portuguese, Italian, Danish and Norwegian, Swedish, Icelandic, Dutch, Estonian."""
CENTRAL = ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţ", "äöüß")
"""Polish, Czech, Slovak, Hungarian, Croatian and Slovene, Romanian, German."""
LANGUAGES = (
    ("cp1252", WESTERN),
    ("cp1254", ("çğıİöşüâîû",)),
    ("cp1250", CENTRAL),
    ("iso8859_2", CENTRAL),
    ("cp1257", ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž")),
    ("mac_roman", WESTERN),
    ("cp850", WESTERN),
    ("cp852", CENTRAL),
)
"""Of encodings that explain a text equally well the first is taken."""
SIGNS = frozenset("\u00a0–—―‘’‚“”„«»‹›…•·§©®™°€£¿¡†‡¨´¸½¼²³×")
IN_WORDS = frozenset("’·\u00ad")
EASTERN = (
    ("euc_jp", re.compile("[\u3041-\u30ff]"), 0.25),  # kana: half of a Japanese text, and of no other
    ("cp932", re.compile("[\u3041-\u30ff]"), 0.25),
    ("cp949", re.compile("[\uac00-\ud7a3]"), 0.9),  # Chinese in this encoding is part hangul, part hanja
)
ENOUGH = 0.97
"""Of the odd letters have to be in the alphabet: a text may name somebody from elsewhere."""
MOST_ODD = 0.6
"""Of a text's letters: Czech, the oddest, has one in seven, a short line of it one in two; Russian has nearly all."""
NO_LETTER = "\ufffd"  # a capital behind a small letter: `itÕs` is no Portuguese but a quote of the Mac's
ODD_RUN = re.compile(rb"[A-Za-z]?[\x80-\xff]+[A-Za-z]?")


def latin_encoding(sample: bytes) -> str | None:
    """Return the encoding in which a text's odd bytes are the letters of one Latin language; None if there is none."""
    plain = sum(map(str.isalpha, sample.decode("ascii", "ignore")))
    runs = Counter(ODD_RUN.findall(sample))
    odd = sum(sum(byte > 0x7F for byte in run) * times for run, times in runs.items())
    if not odd or odd > MOST_ODD * (plain + odd):
        return None
    share, encoding = 0.0, None
    for name, languages in LANGUAGES:
        letters = _odd_letters(runs, name)
        for language in languages:
            found = _share(letters, language)
            if found > share:
                share, encoding = found, name
    return encoding if share >= ENOUGH else None


def eastern_encoding(sample: bytes) -> str | None:
    """Return the encoding in which a text is Japanese or Korean; None if there is none.

    Statistics give up where there is much markup between the words.
    """
    for name, letters, share in EASTERN:
        try:
            text = codecs.getincrementaldecoder(name)().decode(sample)
        except UnicodeDecodeError:
            continue
        odd = [letter for letter in text if letter > "\x7f" and letter.isalpha()]
        if odd and len(letters.findall(text)) >= share * len(odd):
            return name
    return None


def _odd_letters(runs: Counter[bytes], encoding: str) -> Counter[str]:
    """Return how often each odd letter stands there; signs inside a word, or that no text has, count with them."""
    letters: Counter[str] = Counter()
    for run, times in runs.items():
        text = run.decode(encoding, "replace")
        for before, letter, after in zip(f" {text}", text, f"{text[1:]} ", strict=False):
            inside = before.isalpha() and after.isalpha()
            if letter > "\x7f" and letter not in (IN_WORDS if inside else SIGNS):
                letters[NO_LETTER if before.islower() and letter.isupper() else letter] += times
    return letters


def _share(letters: Counter[str], language: str) -> float:
    known = _alphabet(language)
    return sum(times for letter, times in letters.items() if letter in known) / letters.total() if letters else 1.0


@cache
def _alphabet(language: str) -> frozenset[str]:
    return frozenset(language + language.upper())
