"""Tells whether a text is in the language of a model, by its letters and by frequent words.

A model of another language finds names everywhere: in German every noun, in Russian every word. Only a text that is
clearly in another language is recognized as such: a table, a list of names and code have few of any language's frequent
words, and stay.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

ANY_LANGUAGE = "xx"
"""What spaCy calls the language of a model of many languages."""
SCRIPTS = {
    "bg": "CYRILLIC", "mk": "CYRILLIC", "ru": "CYRILLIC", "uk": "CYRILLIC", "el": "GREEK", "zh": "CJK",
    "ja": "CJK HIRAGANA KATAKANA", "ko": "HANGUL CJK", "ar": "ARABIC", "fa": "ARABIC", "ur": "ARABIC", "he": "HEBREW",
    "hi": "DEVANAGARI", "mr": "DEVANAGARI", "ne": "DEVANAGARI", "th": "THAI", "hy": "ARMENIAN", "ka": "GEORGIAN",
}  # fmt: skip
"""The first words of the Unicode names of a language's letters; a language that is not here is written in Latin."""
RIVALS = (
    "en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "fi", "pl", "cs", "ro", "hu", "tr", "ru", "uk", "bg",
)  # fmt: skip
"""The languages whose frequent words are compared with those of the model's language."""
LEAST_WORDS = 4
"""Different frequent words of another language; fewer are a title, a quotation or a chance."""
LEAST_SHARE = 0.2
"""Of them in all words; 0.3-0.5 in prose. Without it a table with the columns `male` and `Allen` was Italian: with it
no thousand characters of 40 English files, tables among them, are foreign, and 9 in 10 of prose in other languages."""
LEAST_LEAD = 2
"""Times as many as of the model's language: neighbours such as Spanish and Portuguese share a third of them."""
READ_CHARACTERS = 10_000
"""Of a text: a chunk has about 1,000."""
WORD = re.compile(r"[^\W\d_]{2,}")
"""A word of letters. Not a single letter, which is a frequent word of Czech or French and a column of any table."""


class LanguageFilter:
    """Tells which texts a model is not for.

    Args:
        language: of the model, as in its meta.json.
    """

    def __init__(self, language: str) -> None:
        self._is_open = language == ANY_LANGUAGE
        self._scripts = frozenset(SCRIPTS.get(language, "LATIN").split())
        self._own = stop_words(language)
        self._rivals = [words for rival in RIVALS if rival != language and (words := stop_words(rival))]

    def is_foreign(self, text: str) -> bool:
        """Return whether a text is clearly in another language than the model's."""
        if self._is_open:
            return False
        start = text[:READ_CHARACTERS]
        return self._is_in_other_script(start) or self._has_other_words(WORD.findall(start.lower()))

    def _is_in_other_script(self, text: str) -> bool:
        letters = [character for character in text if character.isalpha()]
        return sum(_script(letter) in self._scripts for letter in letters) < len(letters) / 2

    def _has_other_words(self, words: list[str]) -> bool:
        if not self._own:  # nothing to compare with
            return False
        least = max(LEAST_SHARE * len(words), LEAST_LEAD * _hits(words, self._own))
        known = set(words)
        return any(len(known & rival) >= LEAST_WORDS and _hits(words, rival) > least for rival in self._rivals)


def stop_words(language: str) -> frozenset[str]:
    """Return a language's frequent words in spaCy's data; none if spaCy has no such list."""
    spacy = find_spec("spacy")
    path = Path(str(spacy.origin if spacy else "")).parent / "lang" / language / "stop_words.py"
    if not path.is_file():
        return frozenset()
    # By its path: to import it as a module would load the language's tokenizer, too: 24 MiB and 1.7 s for 16 languages.
    spec = spec_from_file_location(f"stop_words_{language}", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return frozenset(word for word in module.STOP_WORDS if WORD.fullmatch(word))


@lru_cache(maxsize=4096)  # of the letters of a document; all of Chinese would not fit
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def _hits(words: Iterable[str], frequent: frozenset[str]) -> int:
    return sum(word in frequent for word in words)
