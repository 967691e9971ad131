"""A document of a thousand pages and more costs its parser no more than one of a hundred."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.fold import ParseFold
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline_tests.conftest import REPOSITORY

MIB = 1024**2
MAX_GROWTH_BYTES = 32 * MIB
LINES = 45


def long_pdf(pages: int) -> bytes:
    """A PDF in which every page has 45 lines that no other page has."""
    first, parts, offsets = 4, bytearray(b"%PDF-1.5\n"), []
    kids = " ".join(f"{first + 2 * page} 0 R" for page in range(pages))

    def add(body: bytes) -> None:
        offsets.append(len(parts))
        parts.extend(b"%d 0 obj\n%b\nendobj\n" % (len(offsets), body))

    add(b"<</Type/Catalog/Pages 2 0 R>>")
    add(f"<</Type/Pages/Count {pages}/Kids[{kids}]>>".encode())
    add(b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
    for page in range(1, pages + 1):
        lines = "".join(
            f"(Page {page}, line {line}: {page * line} and {page**line % 99991}.) Tj T* " for line in range(LINES)
        )
        content = zlib.compress(f"BT /F1 11 Tf 14 TL 50 780 Td {lines}ET".encode())
        resources = "/Resources<</Font<</F1 3 0 R>>>>"
        add(f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]{resources}/Contents {len(offsets) + 2} 0 R>>".encode())
        add(b"<</Length %d/Filter/FlateDecode>>stream\n%b\nendstream" % (len(content), content))
    start = len(parts)
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    parts += f"xref\n0 {len(offsets) + 1}\n0000000000 65535 f \n{table}".encode()
    parts += f"trailer<</Size {len(offsets) + 1}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(parts)


def child_growth(path: Path) -> tuple[int, int]:
    """Bytes that the sandbox's child grew from its first page to its last, and how many pages there were."""
    parsed = ParseFold()
    with Sandbox(memory_limit_bytes=512 * MIB) as box, path.open("rb") as stream:
        pages = parsed.pages_of(box.events(stream, ParseRequest(path.name, "application/pdf")))
        assert "Page 1, line 1:" in next(pages).text
        first = parsed.cost.peak_memory_bytes
        count = 1 + sum(1 for _ in pages)
    return parsed.cost.peak_memory_bytes - first, count


@pytest.fixture(scope="module")
def pdfs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Documents by their number of pages."""
    folder, found = tmp_path_factory.mktemp("long"), {}
    for pages in (1200, 3000):
        found[pages] = folder / f"{pages}.pdf"
        found[pages].write_bytes(long_pdf(pages))
    return found


def test_the_parser_does_not_grow(pdfs: dict[int, Path]) -> None:
    """At most 32 MiB over the first page, and flat: 3,000 pages cost about what 1,200 do."""
    grown = {}
    for pages, path in pdfs.items():
        grown[pages], count = child_growth(path)
        assert count == pages
    assert max(grown.values()) <= MAX_GROWTH_BYTES
    assert grown[3000] - grown[1200] <= 8 * MIB


def test_the_second_parser_does_not_grow(pdfs: dict[int, Path]) -> None:
    """Pypdf by its lazy walker, for what pdfium cannot open; its own page list costs 150 MiB and more."""
    script = (
        "import json, sys\n"
        "from ingest_pipeline.memory.process import peak_memory_bytes\n"
        "from ingest_pipeline.parsing.formats import pypdf_walker\n"
        "with open(sys.argv[1], 'rb') as stream, pypdf_walker.opened(stream) as document:\n"
        "    peaks = [peak_memory_bytes() for number, text in document.texts() if f'Page {number},' in text]\n"
        "print(json.dumps([len(peaks), peaks[0], peaks[-1]]))\n"
    )
    command = [sys.executable, "-c", script, str(pdfs[1200])]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    count, first, last = json.loads(done.stdout)
    assert count == 1200
    assert last - first <= MAX_GROWTH_BYTES
