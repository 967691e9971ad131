"""A large file streams through: memory follows the page, not the file."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_pipeline.memory.process import peak_memory_bytes, reset_peak, resident_bytes
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests import pipeline as shared
from ingest_pipeline_tests.conftest import CARD
from ingest_pipeline_tests.documents import status_of
from ingest_pipeline_tests.pipeline import Pipeline
from ingest_pipeline_tests.servers import Seaweed, filesystem

MIB = 1024**2


def text_of(size: int) -> Iterator[bytes]:
    """ParagraphBuilder of so many bytes, no two lines alike."""
    chance, length = random.Random(1), 0
    words = ["".join(chance.choices("abcdefghijklmnop", k=chance.randint(2, 9))) for _ in range(4000)]
    while length < size:
        block = "\n".join(" ".join(chance.choices(words, k=14)) + "." for _ in range(500)).encode() + b"\n\n"
        length += len(block)
        yield block


def pdf_of(size: int, pages: int) -> Iterator[bytes]:
    """A PDF of so many bytes: on each page a line of text and a picture that cannot be packed."""
    picture, offsets, length = (size // pages) // 3 * 3, [0, 0], 0

    def written(number: int, body: bytes) -> bytes:
        nonlocal length
        offsets.extend([0] * (number + 1 - len(offsets)))
        offsets[number] = length
        part = b"%d 0 obj\n%b\nendobj\n" % (number, body)
        length += len(part)
        return part

    head = b"%PDF-1.5\n"
    length = len(head)
    yield head
    kids = " ".join(f"{4 + 3 * page} 0 R" for page in range(pages))
    yield written(1, b"<</Type/Catalog/Pages 2 0 R>>")
    yield written(2, f"<</Type/Pages/Count {pages}/Kids[{kids}]>>".encode())
    yield written(3, b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
    for page in range(pages):
        at = 4 + 3 * page
        content = zlib.compress(b"BT /F1 12 Tf 50 700 Td (Picture number %d is here.) Tj ET /I Do" % page)
        resources = f"/Resources<</Font<</F1 3 0 R>>/XObject<</I {at + 2} 0 R>>>>"
        yield written(
            at, f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]{resources}/Contents {at + 1} 0 R>>".encode()
        )
        yield written(at + 1, b"<</Length %d/Filter/FlateDecode>>stream\n%b\nendstream" % (len(content), content))
        raw = os.urandom(picture)
        facts = b"/Type/XObject/Subtype/Image/ColorSpace/DeviceRGB/BitsPerComponent 8/Height 1"
        yield written(at + 2, b"<<%b/Width %d/Length %d>>stream\n%b\nendstream" % (facts, picture // 3, picture, raw))
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets[1:])
    yield f"xref\n0 {len(offsets)}\n0000000000 65535 f \n{table}".encode()
    yield f"trailer<</Size {len(offsets)}/Root 1 0 R>>\nstartxref\n{length}\n%%EOF\n".encode()


def write(path: Path, blocks: Iterator[bytes]) -> None:
    with path.open("wb") as stream:
        for block in blocks:
            stream.write(block)


class Measured(Pipeline):
    """The pipeline, and what its processes grew by."""

    def grown_bytes(self) -> int:
        """Ingest; growth of this process and of the parser's child, each over what it had before."""
        self.scan()
        [key] = self.seal().batches
        reset_peak()
        before = peak_memory_bytes()
        outcomes = self.chunk(self.run(key))
        assert [outcome.reason for outcome in outcomes] == [None]
        return peak_memory_bytes() - before + outcomes[0].peak_memory_bytes - self.fresh_child_bytes

    @property
    def fresh_child_bytes(self) -> int:
        """What a child holds that has read nothing."""
        with Sandbox(memory_limit_bytes=512 * MIB) as box:
            box._ready()
            assert box._child is not None
            return resident_bytes(box._child.pid)


@pytest.fixture
def large_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 240 words, as the real model's: forty would be a quarter of a million rows."""
    monkeypatch.setattr(shared, "CARD", replace(CARD, max_tokens=240))


@pytest.mark.proof
@pytest.mark.usefixtures("large_chunks")
@pytest.mark.parametrize(
    ("name", "blocks", "limit_mib"),
    [
        ("ten.txt", text_of(10_000_000), 50),
        ("sixty.txt", text_of(60_000_000), 100),
        ("ten.pdf", pdf_of(10_000_000, 100), 50),
        ("fifty.pdf", pdf_of(50 * MIB, 500), 100),
    ],
    ids=["10 MB text", "60 MB text", "10 MB PDF", "50 MiB PDF"],
)
def test_a_large_file_streams_through(
    connection: Connection, settings: Settings, source: Path, name: str, blocks: Iterator[bytes], limit_mib: int
) -> None:
    """Growth of the whole tree over its base, while it is read, split and stored."""
    write(source / name, blocks)
    with Sandbox(memory_limit_bytes=512 * MIB) as sandbox:
        grown = Measured(connection, replace(settings, max_file_size=64 * MIB), sandbox).grown_bytes()
    print(f"\n{name}: grown {grown / MIB:.1f} MiB")
    assert status_of(connection, name) == ("processed", None)
    assert grown < limit_mib * MIB


@pytest.mark.proof
@pytest.mark.usefixtures("large_chunks")
def test_a_large_file_from_a_bucket(
    connection: Connection, settings: Settings, seaweed: Seaweed, bucket: str, tmp_path: Path
) -> None:
    """50 MiB downloaded, spilled to disk, read: no more than from a folder."""
    write(tmp_path / "fifty.pdf", pdf_of(50 * MIB, 500))
    filesystem(seaweed.endpoint).put_file(str(tmp_path / "fifty.pdf"), f"{bucket}/fifty.pdf")
    there = replace(settings, sources=(f"s3://{bucket}",), s3_endpoint=seaweed.endpoint, max_file_size=64 * MIB)
    with Sandbox(memory_limit_bytes=512 * MIB) as sandbox:
        grown = Measured(connection, there, sandbox).grown_bytes()
    print(f"\nfrom a bucket: grown {grown / MIB:.1f} MiB")
    assert grown < 100 * MIB
