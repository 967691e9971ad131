"""Whether a model knows the words of a text, by the tokens that its tokenizer makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Tokens = Callable[[str], list[tuple[str, int]]]
"""Returns the tokens of a text, as the tokenizer names them, and how many characters each stands for."""
UNKNOWN = frozenset({"[UNK]", "<unk>"})
MOST_UNKNOWN = 0.2
"""Share of the letters that are in unknown tokens. Of XQuAD's 1,190 English questions all have less under
all-MiniLM-L6-v2 (0.00), of the Chinese ones one (median 0.72): there a vector finds 0.19, the words 0.95 (nDCG@10)."""
LEAST_LETTERS = 1.5
"""Letters in a token. In Cyrillic, Greek and Arabic the same model has 1.0, a token for each letter, which says
nothing; in German it has 2.1, in English 4."""


def load_tokens(tokenizer_file: Path) -> Tokens:
    """Return a function that returns the tokens of a text, without special tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def tokens(text: str) -> list[tuple[str, int]]:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        return [(token, end - begin) for token, (begin, end) in zip(encoding.tokens, encoding.offsets, strict=True)]

    return tokens


def reads(tokens: Tokens, text: str) -> bool:
    """Return whether a model knows the words of a text: few of its tokens are unknown, or single letters."""
    pieces = tokens(text)
    letters = [character for character in text if character.isalpha()]
    if not pieces or not letters:
        return True
    unknown = sum(characters for token, characters in pieces if token in UNKNOWN)
    if unknown > MOST_UNKNOWN * len(letters):
        return False
    # Above U+0E00 are scripts of which a letter is a syllable or a word, and a token of one letter is as it should be.
    return any(letter >= "\u0e00" for letter in letters) or len(letters) >= LEAST_LETTERS * len(pieces)
