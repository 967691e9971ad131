"""Mutations of documents through the parsers: no crash of ours, no hang, no leak.

60 of made documents in every test run; `make test-proof` runs 400 of real files, `make proof` 2,000. Each is made from
its number alone, so that one that fails can be made again.
"""

from __future__ import annotations

import io
import os
import random
import re
import time
import zipfile
from collections import Counter
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_pipeline.errors import PermanentError
from ingest_pipeline.memory.process import resident_bytes
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.formats.clean import clean_text
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.fold import ParseFold
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.parsing.sandbox.steps import events_in_steps
from ingest_pipeline_tests.conftest import WHOLE_PROOF
from ingest_pipeline_tests.made.catalogue import CATALOGUE, Made, content_of
from ingest_pipeline_tests.parsers import parse, parser_for

MUTATIONS = 2000 if WHOLE_PROOF else 400
QUICK_MUTATIONS = 60
MAX_BYTES = 300_000
PAGE_SECONDS = 4.0
TEXTS = [made for made in CATALOGUE if made.media_type not in (detect.PDF, detect.PARQUET)]
"""Documents whose parsers are Python: a damaged one cannot end this process."""
FOLDERS = ("pdf", "bad", "docx", "epub", "html", "md", "txt", "records")


def originals(corpus: Path) -> list[Path]:
    """Files that are small enough to be read often."""
    found = [path for folder in FOLDERS for path in sorted((corpus / folder).iterdir())]
    return [path for path in found if path.is_file() and 0 < path.stat().st_size <= MAX_BYTES]


def flipped(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 4, 32, 256))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def cut(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content))
    del content[start : start + chance.choice((1, 100, 10_000, MAX_BYTES))]


def doubled(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content))
    piece = content[start : start + chance.choice((10, 1000, 20_000))]
    content[start:start] = piece * chance.choice((1, 3, 10))


def blotted(content: bytearray, chance: random.Random) -> None:
    start, length = chance.randrange(len(content)), chance.choice((8, 200, 5000))
    content[start : start + length] = bytes([chance.choice((0, 0xFF, 0x20))]) * min(length, len(content) - start)


def renumbered(content: bytearray, chance: random.Random) -> None:
    """Lengths, offsets and counts are numbers in plain text in most formats."""
    numbers = list(re.finditer(rb"\d+", bytes(content[:MAX_BYTES])))
    for match in chance.sample(numbers, min(len(numbers), 5)):
        width = match.end() - match.start()
        wild = str(chance.choice((0, 1, -1, 2**31, 2**63, 99999999))).encode()[:width].rjust(width, b"0")
        content[match.start() : match.end()] = wild


OPERATIONS = (flipped, cut, doubled, blotted, renumbered)


def mutated(content: bytes, number: int) -> bytes:
    """The same bytes, damaged; inside an archive every other time, so that its XML is reached at all."""
    chance = random.Random(number)
    if number % 2 and content.startswith(b"PK"):
        try:
            return inside(content, chance)
        except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError, IndexError, EOFError):
            pass  # an archive that is broken already is damaged from outside
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        if damaged:
            chance.choice(OPERATIONS)(damaged, chance)
    return bytes(damaged)


def inside(content: bytes, chance: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()[:200]]
    victim = chance.choice([name for name, _ in entries if name.endswith(("ml", ".rels", ".opf", ".ncx"))])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, entry in entries:
            damaged = bytearray(entry)
            if name == victim and damaged:
                chance.choice(OPERATIONS)(damaged, chance)
            archive.writestr(name, bytes(damaged))
    return buffer.getvalue()


@pytest.mark.timeout(120)
def test_damaged_documents(tmp_path: Path) -> None:
    """Each damaged document ends with pages or with a typed reason, soon; no child is left."""
    ends, me, slowest = Counter[str](), psutil.Process(), (0.0, "")
    with Sandbox(memory_limit_bytes=256 * 1024**2, page_seconds=PAGE_SECONDS, file_seconds=20) as box:
        for number in range(QUICK_MUTATIONS):
            made = CATALOGUE[number * 7 % len(CATALOGUE)]
            path = tmp_path / f"{number}.{made.name}"
            path.write_bytes(mutated(content_of(made.name), number))
            began = time.monotonic()
            ends[end_of(box, path)] += 1
            slowest = max(slowest, (time.monotonic() - began, made.name))
    assert sum(ends.values()) == QUICK_MUTATIONS
    assert ends["read"] > 10
    assert slowest[0] < 20, slowest
    assert [child for child in me.children() if "parsing.child" in " ".join(child.cmdline())] == []


@given(st.sampled_from(TEXTS), st.integers(min_value=0, max_value=2**32))
@settings(max_examples=100, deadline=None)
def test_damaged_texts(made: Made, number: int) -> None:
    """A damaged text, message or archive gives pages and gaps in this process, or an error of ours."""
    content = mutated(content_of(made.name), number)
    media_type = detect.media_type(made.name, content[: detect.HEAD_BYTES])
    if media_type not in detect.SUPPORTED:
        media_type = made.media_type
    try:
        found = parse(parser_for(media_type), content, media_type=media_type, max_expanded_bytes=4 * 1024**2)
    except PermanentError as error:
        assert str(error)
    else:
        numbers = [page.number for page in found.pages]
        assert numbers == sorted(numbers)
        assert all(clean_text(page.text).encode() is not None for page in found.pages)


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_damaged_real_files(corpus: Path, tmp_path: Path) -> None:
    """Each ends with pages or with a typed reason, in bounded time; the parent neither grows nor leaves a child."""
    files, ends = originals(corpus), Counter[str]()
    me, slowest, warmed_bytes = psutil.Process(), (0.0, ""), 0
    with Sandbox(memory_limit_bytes=256 * 1024**2, page_seconds=PAGE_SECONDS, file_seconds=20) as box:
        for number in range(MUTATIONS):
            origin = files[number % len(files)]
            path = tmp_path / f"{number}{origin.suffix}"
            path.write_bytes(mutated(origin.read_bytes(), number))
            began = time.monotonic()
            ends[end_of(box, path)] += 1
            slowest = max(slowest, (time.monotonic() - began, f"{number} of {origin.name}"))
            path.unlink()
            if number == MUTATIONS // 4:
                warmed_bytes = resident_bytes(os.getpid())
    grown = resident_bytes(os.getpid()) - warmed_bytes
    print(f"\n{MUTATIONS} mutations: {dict(ends.most_common())}; slowest {slowest}; grown {grown / 1024**2:.1f} MiB")
    assert sum(ends.values()) == MUTATIONS
    assert slowest[0] < 60, slowest
    assert grown < 24 * 1024**2
    assert [child for child in me.children() if "parsing.child" in " ".join(child.cmdline())] == []


def end_of(box: Sandbox, path: Path) -> str:
    """How one file ends: `read`, or the reason of its failure."""
    with path.open("rb") as stream:
        media_type = detect.media_type(path.name, stream.read(detect.HEAD_BYTES))
        if media_type not in detect.SUPPORTED:
            return "UnsupportedFormat"
        request = ParseRequest(path.name, media_type, max_characters=4 * 1024**2 + 100 * path.stat().st_size)
        parsed = ParseFold()
        try:
            for page in parsed.pages_of(events_in_steps(box, stream, request)):
                page.text.encode()  # what Postgres could not take would fail here
                assert "\x00" not in page.text
        except PermanentError as error:
            return error.reason
    return "read with gaps" if parsed.gaps else "read"
