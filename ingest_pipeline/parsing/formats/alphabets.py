"""Guesses an encoding by the alphabets of languages: in a Turkish text 0xFD is `ı`, not `ý`.

Letter statistics tell Russian from Greek, but take Turkish and Hungarian for cp1252, and ISO-8859-2 for cp1250, because
these encodings map nearly the same bytes to letters. The alphabets of the languages tell them apart. Of 1,674 snippets
in 40 pairs of language and encoding, statistics alone read 1,159 correctly; alphabets followed by statistics read 1,598
(docs/findings.md, E6).
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from functools import cache
from typing import NamedTuple


class Language(NamedTuple):
    """The letters of a language outside ASCII, in lower case."""

    letters: str
    telling: str = ""
    """Letters that distinguish it from languages with similar bytes; a text must contain some of them."""


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
"""Where several encodings explain a text equally well, the first in this order is chosen."""
ALL_WESTERN = "".join(language.letters for language in WESTERN)
ALL_CENTRAL = Language("".join(language.letters for language in CENTRAL) + "äöüß", "łąśżźřšžťşţ")
MIXTURES = (
    # Without `ý`, or with letters that Turkish lacks: otherwise the `ı` of a Turkish text would count as `ý`.
    ("cp1252", (Language(ALL_WESTERN.replace("ý", "")), Language(ALL_WESTERN, "áíúæ"))),
    ("cp1250", (ALL_CENTRAL,)),
    ("iso8859_2", (ALL_CENTRAL,)),
)
"""For texts in several languages, such as lists of names."""
PUNCTUATION = frozenset("\u00a0–—―‘’‚“”„«»‹›…•·§©®™°€£¿¡†‡¨´¸½¼²³×")
WORD_PUNCTUATION = frozenset("’·\u00ad")
PREFIX_SYMBOLS = frozenset("±µ÷¬¶¢¥¤¹¾‰")
"""Symbols that never follow a letter: after a letter the same bytes are letters of ISO-8859-2."""
MIN_KNOWN = 0.97
"""Share of the non-ASCII letters that must be in the alphabet: a text may contain a foreign name."""
MIN_TELLING = 0.03
"""Share of the non-ASCII letters that must be distinguishing ones: French and German together fit Slovak's alphabet."""
MAX_NON_ASCII = 0.6
"""Share of a text's letters: Czech has the most of the Latin scripts, one in seven, a short line of it one in two;
Russian has nearly all, and is none of them."""
IN_NO_ALPHABET = "\ufffd"  # for a capital after a small letter: `itÕs` is a mac_roman quotation mark
NON_ASCII_RUN = re.compile(rb"[\x80-\xff]+")
LONG_NON_ASCII_RUN = re.compile(rb"[\x80-\xff]{3}")
MAX_IN_LONG_RUNS = 0.1
"""Share of a mixture's non-ASCII bytes that may be in runs of three or more. In Hebrew and Russian nearly all are, and
western encodings map the same bytes to letters."""
KANA = re.compile("[\u3041-\u30ff]")
KANA_SHARE = 0.2
"""Half of the letters of a Japanese text are kana; other languages have none."""
FREQUENT_HANGUL = re.compile("[이다는을를에의가고하지로기사해서한어리스나자도인대수그정시은들있]")
HANGUL_SHARE, MIN_HANGUL = 0.1, 4
"""These syllables make up a third of a Korean text; Chinese bytes read as Korean give rare syllables and hanja."""


def latin_encoding(sample: bytes) -> str | None:
    """Return the encoding in which the non-ASCII bytes are letters of one or several Latin languages; else None."""
    ascii_letters = sum(map(str.isalpha, sample.decode("ascii", "ignore")))
    non_ascii, runs = 0, Counter[bytes]()
    for match in NON_ASCII_RUN.finditer(sample):
        non_ascii += len(match[0])
        # With the character on each side: whether a byte is a letter or punctuation depends on its neighbours.
        runs[sample[max(0, match.start() - 1) : match.end() + 1]] += 1
    if not non_ascii or non_ascii > MAX_NON_ASCII * (ascii_letters + non_ascii):
        return None
    if encoding := _best_explanation(runs, LANGUAGES):
        return encoding
    # A mixture of alphabets accepts nearly any byte, so a text in another script must be excluded first.
    in_long_runs = sum(len(run) * times for run, times in runs.items() if LONG_NON_ASCII_RUN.search(run))
    return _best_explanation(runs, MIXTURES) if in_long_runs < MAX_IN_LONG_RUNS * non_ascii else None


def eastern_encoding(sample: bytes) -> str | None:
    """Return the encoding in which a text is Japanese or Korean; None if there is none.

    Statistics alone fail on texts with much markup between the words.
    """
    for name in ("euc_jp", "cp932"):
        letters = _non_ascii_text(sample, name)
        if letters and len(KANA.findall(letters)) >= KANA_SHARE * len(letters):
            return name
    letters = _non_ascii_text(sample, "cp949")
    frequent = len(FREQUENT_HANGUL.findall(letters))
    return "cp949" if len(letters) >= MIN_HANGUL and frequent >= HANGUL_SHARE * len(letters) else None


def _non_ascii_text(sample: bytes, encoding: str) -> str:
    """Return the letters outside ASCII; '' where the bytes are not in this encoding."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return ""
    return "".join(letter for letter in text if letter > "\x7f" and letter.isalpha())


def _best_explanation(runs: Counter[bytes], languages_of: tuple[tuple[str, tuple[Language, ...]], ...]) -> str | None:
    share, encoding = 0.0, None
    for name, languages in languages_of:
        letters = _non_ascii_letters(runs, name)
        for language in languages:
            known = _share(letters, language)
            if known > share:
                share, encoding = known, name
    return encoding if share >= MIN_KNOWN else None


def _non_ascii_letters(runs: Counter[bytes], encoding: str) -> Counter[str]:
    """Return how often each non-ASCII letter occurs; punctuation in an impossible place counts as a letter."""
    letters: Counter[str] = Counter()
    for run, times in runs.items():
        text = run.decode(encoding, "replace")
        for before, letter, after in zip(f" {text}", text, f"{text[1:]} ", strict=False):
            if letter > "\x7f" and not _is_punctuation(letter, before, after):
                # No language puts a capital inside a word: such a letter is evidence against the encoding.
                rising = (before.islower() and letter.isupper()) or (letter.islower() and after.isupper())
                letters[IN_NO_ALPHABET if rising else letter] += times
    return letters


def _is_punctuation(letter: str, before: str, after: str) -> bool:
    if before.isalpha() and after.isalpha():
        return letter in WORD_PUNCTUATION
    return letter in PUNCTUATION or (letter in PREFIX_SYMBOLS and not before.isalpha())


def _share(letters: Counter[str], language: Language) -> float:
    """Return the share of the letters that are in an alphabet; 0 where its distinguishing letters are missing."""
    if not letters:  # punctuation only: every language explains it, and the first encoding is chosen
        return 1.0
    total = letters.total()
    if language.telling and _count(letters, language.telling) < MIN_TELLING * total:
        return 0.0
    return _count(letters, language.letters) / total


def _count(letters: Counter[str], alphabet: str) -> int:
    known = _cases(alphabet)
    return sum(times for letter, times in letters.items() if letter in known)


@cache
def _cases(letters: str) -> frozenset[str]:
    return frozenset(letters + letters.upper())
