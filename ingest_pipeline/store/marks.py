"""Where the words of a query stand in a text, by the stems that the lexical arm compares."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ingest_pipeline.store.connection import Connection

# As `words_of` and `pair_letters` in migrations/0010_search.sql have them.
SIGNS = "\x01-\\-/:-@\\[-`{-©«-´¶-¹»-¿×÷\u2000-\u2bff\u2e00-\u2e7f\u3000-\u303f\ufe10-\ufe6f"
PAIR_LETTERS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
WORD = re.compile(rf"[{PAIR_LETTERS}]+|(?:[^{SIGNS}.{PAIR_LETTERS}]|(?<=[0-9])\.(?=[0-9]))+")
PAIRED = re.compile(rf"[{PAIR_LETTERS}]")
# Those words of some texts that a query asks for.
ASKED = """
SELECT w.word FROM unnest(%(languages)s::text[], %(words)s::text[]) AS w (language, word),
     (SELECT string_agg(question::text, ' | ')::tsquery AS question
      FROM query_terms(%(query)s, text_language(%(query)s))) q
WHERE text_terms(w.language, w.word) @@ q.question
"""
MOST_WORDS = 20_000
"""Of all texts together; a text is a chunk of about 200."""


def marked_words(connection: Connection, query: str, texts: Sequence[tuple[str, str]]) -> frozenset[str]:
    """Return the words of some texts that a query asks for, as they are written there.

    Args:
        connection: to the store.
        query: its words.
        texts: the language of each, and the text.
    """
    words = list(dict.fromkeys((language, word) for language, text in texts for word, _, _ in _words(text)))
    asked = {"languages": [language for language, _ in words[:MOST_WORDS]], "query": query}
    asked |= {"words": [word for _, word in words[:MOST_WORDS]]}
    return frozenset(word for (word,) in connection.execute(ASKED, asked)) if words else frozenset()


def marks_of(text: str, words: frozenset[str]) -> tuple[tuple[int, int], ...]:
    """Return where these words stand in a text, in order; marks that touch or overlap are one."""
    marks: list[tuple[int, int]] = []
    for word, begin, end in _words(text):
        if word in words:
            if marks and begin <= marks[-1][1]:
                marks[-1] = (marks[-1][0], max(end, marks[-1][1]))
            else:
                marks.append((begin, end))
    return tuple(marks)


def _words(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield each word with its place; in scripts without spaces each pair of letters."""
    for match in WORD.finditer(text):
        word, begin = match.group(), match.start()
        if len(word) > 1 and PAIRED.match(word):
            for offset in range(len(word) - 1):
                yield word[offset : offset + 2], begin + offset, begin + offset + 2
        else:
            yield word, begin, match.end()
