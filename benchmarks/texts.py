"""Makes folders of real texts for benchmarks, the same ones at every call."""

from __future__ import annotations

import gzip
import json
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

CHARACTERS = 20_000
PARAGRAPH = 800


def texts(corpus: Path | None) -> list[str]:
    """Return different real texts of 20,000 characters, in an order that does not change.

    Args:
        corpus: a folder with `txt`, `md` and `retrieval/scifact`; None: the sources of Python's standard library.
    """
    pieces = [piece for text in _documents(corpus) for piece in _cut(text)]
    random.Random(0).shuffle(pieces)
    return pieces


def write_texts(pieces: list[str], folder: Path, *, files: int) -> int:
    """Write so many files of 20,000 characters; return their bytes.

    When there are fewer texts than files they are used again, with a mark in each paragraph: no chunk occurs twice.
    """
    folder.mkdir(parents=True)
    written = 0
    for number in range(files):
        edition, index = divmod(number, len(pieces))
        content = (_marked(pieces[index], edition) if edition else pieces[index]).encode()
        (folder / f"{number:05}.txt").write_bytes(content)
        written += len(content)
    return written


def write_notes(folder: Path, *, files: int) -> None:
    """Write so many files of one sentence each, a thousand to a folder."""
    for number in range(files):
        if number % 1000 == 0:
            (folder / f"{number // 1000:03}").mkdir(parents=True)
        text = (
            f"Note {number}: the mill ground {number % 97} sacks of oats on day {number % 365}; sack {number} is wet.\n"
        )
        (folder / f"{number // 1000:03}" / f"{number:06}.txt").write_text(text)


def _documents(corpus: Path | None) -> Iterator[str]:
    if corpus is None:
        for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
            yield path.read_text(errors="replace")
        return
    for path in sorted([*corpus.glob("txt/*.txt"), *corpus.glob("md/**/*.md")]):
        try:
            yield path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
    scifact = corpus / "retrieval" / "scifact" / "corpus.jsonl.gz"
    with gzip.open(scifact, "rt") as lines:
        records = [json.loads(line) for line in lines]
    yield "\n\n".join(f"{one['title']}\n\n{_joined(one.get('text') or one['abstract'])}" for one in records)


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else " ".join(text)


def _cut(text: str) -> Iterator[str]:
    for start in range(0, len(text) - CHARACTERS, CHARACTERS):
        yield text[start : start + CHARACTERS]


def _marked(text: str, edition: int) -> str:
    return "".join(f"\n\n({edition}) {text[start : start + PARAGRAPH]}" for start in range(0, len(text), PARAGRAPH))
