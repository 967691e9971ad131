"""Which encoding makes a text that a language can be written in: 0xFD is `ı` in Turkish, not `ý`.

Statistics of letters tell Russian from Greek, but take Turkish and Hungarian for cp1252, and ISO-8859-2 for cp1250: the
letters are the same bytes or nearly. The alphabets of the languages tell them apart. Of 1,674 snippets in 40 pairs of
language and encoding statistics alone read 1,159, alphabets and then statistics 1,598 (2026-11).
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from functools import cache
from typing import NamedTuple


class Language(NamedTuple):
    """The letters that a language has beyond ASCII, in lower case."""

    letters: str
    telling: str = ""
    """Those that tell it from languages whose bytes look alike; some of them have to be in a text."""


WESTERN = tuple(map(Language, (
    "àâæçéèêëîïôœùûüÿ", "äöüß", "áéíñóúüª°º", "àçéèíïóòúü·", "áâãàçéêíóôõúü", "àèéìíîòóùú", "æøåéèêóôàü",
    "åäöéü", "áéèêëíïóöúü", "äõöüšž", "áðéíóúýþæöø",
)))  # fmt: skip
"""French, German, Spanish, Catalan, Portuguese, Italian, Danish and Norwegian, Swedish, Dutch, Estonian, Icelandic."""
CENTRAL = (
    Language("ąćęłńóśźż", "łąśżź"),
    Language("áčďéěíňóřšťúůýž", "řšžť"),
    Language("áäčďéíĺľňóôŕšťúýž", "šžť"),
    Language("áéíóöőúüű", "őű"),
    Language("čćđšž", "šž"),
    Language("ăâîşţ", "şţă"),
)
"""Polish, Czech, Slovak, Hungarian, Croatian and Slovene, Romanian."""
TURKISH = Language("çğıİöşüâîû", "ıİşğ")
BALTIC = (Language("ąčęėįšųūž", "šžųį"), Language("āčēģīķļņšūž", "šžņķļģ"), Language("äõöüšž"))
"""Lithuanian, Latvian, Estonian."""
LANGUAGES = (
    ("cp1252", WESTERN),
    ("cp1254", (TURKISH,)),
    ("cp1250", CENTRAL),
    ("iso8859_2", CENTRAL),
    ("cp1257", BALTIC),
    ("mac_roman", WESTERN),
    ("cp850", WESTERN),
    ("cp852", CENTRAL),
)
"""Of encodings that explain a text equally well the first is taken."""
ALL_WESTERN = "".join(language.letters for language in WESTERN)
ALL_CENTRAL = Language("".join(language.letters for language in CENTRAL) + "äöüß", "łąśżźřšžťşţ")
MIXTURES = (
    # Without `ý`, or with letters that Turkish has not: beside another language its `ı` would be one.
    ("cp1252", (Language(ALL_WESTERN.replace("ý", "")), Language(ALL_WESTERN, "áíúæ"))),
    ("cp1250", (ALL_CENTRAL,)),
    ("iso8859_2", (ALL_CENTRAL,)),
)
"""For texts in several languages: names of people, lists of languages."""
SIGNS = frozenset("\u00a0–—―‘’‚“”„«»‹›…•·§©®™°€£¿¡†‡¨´¸½¼²³×")
IN_WORDS = frozenset("’·\u00ad")
BEFORE_WORDS = frozenset("±µ÷¬¶¢¥¤¹¾‰")
"""Signs that stand behind no letter: there they are letters of ISO-8859-2."""
ENOUGH = 0.97
"""Of the odd letters have to be in the alphabet: a text may name somebody from elsewhere."""
TELLING = 0.03
"""Of them have to be those that tell the language: French and German together fit the alphabet of Slovak."""
MOST_ODD = 0.6
"""Of a text's letters: Czech, the oddest, has one in seven, a short line of it one in two; Russian has nearly all."""
NO_LETTER = "\ufffd"  # a capital behind a small letter: `itÕs` is no Portuguese but a quote of the Mac's
ODD_RUN = re.compile(rb"[\x80-\xff]+")
MANY_ODD = re.compile(rb"[\x80-\xff]{3}")
ODD_WORDS = 0.1
"""Of the odd bytes of a mixture may stand three in a row: Hebrew and Russian do, and are letters in the West, too."""
KANA = re.compile("[\u3041-\u30ff]")
KANA_SHARE = 0.2
"""Of a Japanese text half of the letters are kana, of no other one."""
FREQUENT_HANGUL = re.compile("[이다는을를에의가고하지로기사해서한어리스나자도인대수그정시은들있]")
HANGUL_SHARE, MIN_HANGUL = 0.1, 4
"""A third of Korean is these syllables; Chinese read as Korean is rare ones and hanja."""


def latin_encoding(sample: bytes) -> str | None:
    """Return the encoding in which a text's odd bytes are letters of one Latin language, or of several; else None."""
    plain = sum(map(str.isalpha, sample.decode("ascii", "ignore")))
    odd, runs = 0, Counter[bytes]()
    for match in ODD_RUN.finditer(sample):
        odd += len(match[0])
        runs[sample[max(0, match.start() - 1) : match.end() + 1]] += 1  # with the letters around it
    if not odd or odd > MOST_ODD * (plain + odd):
        return None
    if encoding := _explained(runs, LANGUAGES):
        return encoding
    words = sum(len(run) * times for run, times in runs.items() if MANY_ODD.search(run))
    return _explained(runs, MIXTURES) if words < ODD_WORDS * odd else None


def eastern_encoding(sample: bytes) -> str | None:
    """Return the encoding in which a text is Japanese or Korean; None if there is none.

    Statistics give up where there is much markup between the words.
    """
    for name in ("euc_jp", "cp932"):
        odd = _odd_text(sample, name)
        if odd and len(KANA.findall(odd)) >= KANA_SHARE * len(odd):
            return name
    odd = _odd_text(sample, "cp949")
    enough = len(odd) >= MIN_HANGUL and len(FREQUENT_HANGUL.findall(odd)) >= HANGUL_SHARE * len(odd)
    return "cp949" if enough else None


def _odd_text(sample: bytes, encoding: str) -> str:
    """Return the letters beyond ASCII; nothing where the bytes are not in this encoding."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return ""
    return "".join(letter for letter in text if letter > "\x7f" and letter.isalpha())


def _explained(runs: Counter[bytes], languages_of: tuple[tuple[str, tuple[Language, ...]], ...]) -> str | None:
    share, encoding = 0.0, None
    for name, languages in languages_of:
        letters = _odd_letters(runs, name)
        for language in languages:
            found = _share(letters, language)
            if found > share:
                share, encoding = found, name
    return encoding if share >= ENOUGH else None


def _odd_letters(runs: Counter[bytes], encoding: str) -> Counter[str]:
    """Return how often each odd letter stands there; signs where no text has them count with the letters."""
    letters: Counter[str] = Counter()
    for run, times in runs.items():
        text = run.decode(encoding, "replace")
        for before, letter, after in zip(f" {text}", text, f"{text[1:]} ", strict=False):
            if letter > "\x7f" and not _is_sign(letter, before, after):
                rising = (before.islower() and letter.isupper()) or (letter.islower() and after.isupper())
                letters[NO_LETTER if rising else letter] += times
    return letters


def _is_sign(letter: str, before: str, after: str) -> bool:
    if before.isalpha() and after.isalpha():
        return letter in IN_WORDS
    return letter in SIGNS or (letter in BEFORE_WORDS and not before.isalpha())


def _share(letters: Counter[str], language: Language) -> float:
    """Return how many of the letters are in an alphabet; 0 where those are missing that tell it from the others."""
    if not letters:
        return 1.0
    total = letters.total()
    if language.telling and _count(letters, language.telling) < TELLING * total:
        return 0.0
    return _count(letters, language.letters) / total


def _count(letters: Counter[str], alphabet: str) -> int:
    known = _cases(alphabet)
    return sum(times for letter, times in letters.items() if letter in known)


@cache
def _cases(letters: str) -> frozenset[str]:
    return frozenset(letters + letters.upper())
