"""Twelve documents of every kind in a folder, and what is done to them between two ingestions."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

from ingest_pipeline_tests.crash.forked_parser import END_OF_PARSER
from ingest_pipeline_tests.proving import text_of

CHUNK_TOKENS = 32
"""Small chunks: few documents have several pieces of WRITE_CHUNKS."""
SCENES = ("first", "second")
"""All files are new; five of them are not what they were."""


@cache
def documents() -> dict[str, bytes]:
    """Name and bytes of each document."""
    guide = "".join(f"# Part {part}\n\n{text_of(3, seed=part)}\n" for part in range(4)).encode()
    return {
        "changed.txt": text_of(8, seed=11).encode(),
        "copy.md": guide,
        "crash.txt": f"{END_OF_PARSER}\n\n{text_of(3, seed=12)}".encode(),
        "damaged.pdf": b"%PDF-1.7\n" + bytes(range(256)) * 8,
        "deleted.html": _html("Gone soon", seed=13),
        "empty.txt": b"",
        "events.jsonl": "".join(f'{{"id": {n}, "event": "valve {n} opened"}}\n' for n in range(30)).encode(),
        "gap.pdf": _pdf(pages=5, ending=3),
        "guide.md": guide,
        "large.txt": text_of(150, seed=14).encode(),
        "people.csv": ("name,town\n" + "".join(f"Person {n},Town {n % 7}\n" for n in range(40))).encode(),
        "old name.html": _html("Another name soon", seed=15),
    }


def _html(title: str, *, seed: int) -> bytes:
    paragraphs = "".join(f"<p>{line}</p>" for line in text_of(5, seed=seed).split("\n\n"))
    return f"<html><head><title>{title}</title></head><body><h1>{title}</h1>{paragraphs}</body></html>".encode()


def _pdf(*, pages: int, ending: int) -> bytes:
    """A PDF of which one page ends the parser that reads it."""
    from reportlab.pdfgen.canvas import Canvas

    stream = BytesIO()
    canvas = Canvas(stream, invariant=1)
    for page in range(1, pages + 1):
        canvas.bookmarkPage(str(page))
        canvas.addOutlineEntry(f"Page {page}", str(page))
        for number, line in enumerate(text_of(4, seed=100 + page).split("\n\n")):
            canvas.drawString(30, 780 - 20 * number, line)
        if page == ending:
            canvas.drawString(30, 500, END_OF_PARSER)
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Folder:
    """The source: a folder as it is before one of the two ingestions."""

    path: Path

    def show(self, scene: str) -> None:
        """Make the folder as it is before the ingestion of a scene."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.fill()
        if scene == SCENES[1]:
            self.edit()

    def fill(self) -> None:
        """Write every document, and a link to a file outside."""
        self.path.mkdir(parents=True)
        for name, content in documents().items():
            self.write(name, content, time=1)
        outside = self.path.parent / "outside.txt"
        outside.write_text("not ours")
        os.utime(outside, (1, 1))
        (self.path / "outside.txt").symlink_to(outside)

    def edit(self) -> None:
        """One document changes, one goes, one is renamed, one is touched, one is new, a failed one is mended."""
        self.write("changed.txt", documents()["changed.txt"] + text_of(2, seed=21).encode(), time=2)
        (self.path / "deleted.html").unlink()
        (self.path / "old name.html").rename(self.path / "new name.html")
        os.utime(self.path / "gap.pdf", (2, 2))
        self.write("new.md", f"# New\n\n{text_of(3, seed=22)}".encode(), time=2)
        self.write("empty.txt", text_of(1, seed=23).encode(), time=2)

    def write(self, name: str, content: bytes, *, time: int) -> None:
        """Write a file with a time of its own: the revision must be the same in every folder."""
        path = self.path / name
        path.write_bytes(content)
        os.utime(path, (time, time))
