"""Whether a model knows the words of a text, by the tokens that its tokenizer makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Tokens = Callable[[str], list[str]]
"""Returns the tokens of a text, as the tokenizer names them."""
UNKNOWN = frozenset({"[UNK]", "<unk>"})
MOST_UNKNOWN = 0.2
"""Share of unknown tokens. Of the 1,190 English questions of XQuAD all have less under all-MiniLM-L6-v2 (0.00), of the
Chinese ones none (least 0.25, median 0.67): there a vector finds 0.19 of what the words find (nDCG@10, 2026-11)."""
LEAST_LETTERS = 1.5
"""Letters in a token. In Cyrillic, Greek and Arabic the same model has 1.0, a token for each letter, which says
nothing; in German it has 2.1, in English 4."""


def load_tokens(tokenizer_file: Path) -> Tokens:
    """Return a function that returns the tokens of a text, without special tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).tokens)


def reads(tokens: Tokens, text: str) -> bool:
    """Return whether a model knows the words of a text: few of its tokens are unknown or single letters."""
    pieces = tokens(text)
    letters = [character for character in text if character.isalpha()]
    if not pieces or not letters:
        return True
    if sum(piece in UNKNOWN for piece in pieces) > MOST_UNKNOWN * len(pieces):
        return False
    # Above U+0E00 are scripts of which a letter is a syllable or a word, and a token of one letter is as it should be.
    return any(letter >= "\u0e00" for letter in letters) or len(letters) >= LEAST_LETTERS * len(pieces)
