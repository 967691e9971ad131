"""The child process that finds entities: holds the model, and answers one batch of texts after another.

Run as `python -m ingest_pipeline.entities.worker <descriptor> <memory limit> <parent pid> <folder> [unused ...]` by
`parent.py`. It reads and writes JSON: a list of texts, then what was found in each: `null` in a text of another
language, else a list of (label, char_from, char_to, name).
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from ingest_pipeline.entities.language import LanguageFilter
from ingest_pipeline.memory.process import end_with_parent, limit_data_bytes, prefer_for_oom_kill

if TYPE_CHECKING:
    from spacy.language import Language

OUT_OF_MEMORY_EXIT = 77
OOM_SCORE_ADJ = 1000  # the highest: the kernel's OOM killer kills a worker before the run
NEVER_IMPORTED = ("torch", "cupy")
"""thinc imports these where they are installed, and our models use neither: with torch a worker holds 180 MiB more."""
PIECES_AT_A_TIME, CHARACTERS_AT_A_TIME = 8, 8_000
"""What the model reads at a time: its peak is 167 MiB with 8,000 characters, 262 with 32,000, and it is no faster."""
PIECE_CHARACTERS = 4_000
"""Of one text: one of 100,000 characters at once takes 550 MiB."""
MAX_NAME_CHARACTERS = 200
"""Longer entities are no names: the model took a line of a table for one."""
PIECE = re.compile(rf"(?s).{{1,{PIECE_CHARACTERS}}}(?!\S)|.{{1,{PIECE_CHARACTERS}}}")
"""A piece that ends before white space, if it has any."""

Found = list[tuple[str, int, int, str]]
Piece = tuple[str, tuple[int, int]]
"""A part of a text, the number of the text, and where in it the part begins."""


def load_model(folder: str, unused: Iterable[str]) -> Language:
    """Load a spaCy model without its unused components."""
    for name in NEVER_IMPORTED:
        sys.modules[name] = None  # type: ignore[assignment]
    import spacy

    return spacy.load(folder, exclude=list(unused))


class EntityFinder:
    """Finds the entities of texts with a loaded model."""

    def __init__(self, nlp: Language) -> None:
        self._nlp = nlp
        self._language = LanguageFilter(str(nlp.meta["lang"]))

    def find(self, texts: list[str]) -> list[Found | None]:
        """Return the entities of each text; None for a text that is in another language."""
        found: list[Found | None] = [None if self._language.is_foreign(text) else [] for text in texts]
        for group in _groups(piece for piece in _pieces(texts) if found[piece[1][0]] is not None):
            # The vocabulary keeps every new word outside of a zone: 46 MiB in 800 chunks.
            with self._nlp.memory_zone():
                for document, (number, offset) in self._nlp.pipe(group, as_tuples=True, batch_size=len(group)):
                    entities = found[number]
                    assert entities is not None
                    entities += _entities(document, offset)
        return found


def _pieces(texts: Iterable[str]) -> Iterator[Piece]:
    for number, text in enumerate(texts):
        for match in PIECE.finditer(text):
            yield match.group(), (number, match.start())


def _groups(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    for piece in pieces:
        characters = sum(len(text) for text, _ in (*group, piece))
        if len(group) == PIECES_AT_A_TIME or (group and characters > CHARACTERS_AT_A_TIME):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _entities(document: Any, offset: int) -> Found:
    named = ((entity, " ".join(entity.text.split())) for entity in document.ents)
    return [
        (entity.label_, offset + entity.start_char, offset + entity.end_char, name)
        for entity, name in named
        if 0 < len(name) <= MAX_NAME_CHARACTERS
    ]


def main(arguments: list[str]) -> None:
    """Answer the batches that come through the socket until the parent closes it."""
    descriptor, limit_bytes, parent = (int(argument) for argument in arguments[:3])
    end_with_parent(parent)
    prefer_for_oom_kill(OOM_SCORE_ADJ)
    try:
        limit_data_bytes(limit_bytes)
        _serve(Connection(descriptor), *arguments[3:])
    except MemoryError:  # an ordinary exit would need memory, too
        os._exit(OUT_OF_MEMORY_EXIT)


def _serve(parent: Connection, folder: str, *unused: str) -> None:
    try:
        finder = EntityFinder(load_model(folder, unused))
    except MemoryError:
        raise
    except Exception as error:  # whatever spaCy raises for a model that it cannot load
        return parent.send_bytes(json.dumps({"error": f"{type(error).__name__}: {error}"[:500]}).encode())
    parent.send_bytes(json.dumps({"error": None}).encode())
    while True:
        try:
            texts = json.loads(parent.recv_bytes())
        except (EOFError, ConnectionResetError):
            return None
        parent.send_bytes(json.dumps(finder.find(texts)).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
