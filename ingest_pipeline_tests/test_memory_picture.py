"""The picture of a run's memory: small, complete, and without names where an event keeps it."""

from __future__ import annotations

import base64
import random
import re
import xml.etree.ElementTree as ET

import pytest

from ingest_pipeline.memory.record import MemoryRecord, StepMark
from ingest_pipeline.stages.memory_picture import memory_markdown, memory_svg
from ingest_pipeline.stages.memory_shares import COLORS, pages_in_words, shares_of
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.documents import add_file

MIB = 1024**2
NAMES = {number: (f"reports/{number:02} <annual> & report.pdf", 0) for number in range(1, 1000)}


def record(
    file_ids: list[int], used_mib: list[int], pages: list[int] | None = None, *steps: StepMark, limit_mib: int = 512
) -> MemoryRecord:
    return MemoryRecord(
        "0193ab12-cafe", "batch1", "chunks", 0.0, limit_mib * MIB, 0.5, [mib * 1024 for mib in used_mib], file_ids,
        pages or [0] * len(file_ids), [*steps],
    )  # fmt: skip


def drawn(*records: MemoryRecord, named: bool = True) -> str:
    svg = memory_svg([(one, NAMES) for one in records], named=named)
    ET.fromstring(svg)  # well-formed
    return svg


def titles(svg: str) -> list[str]:
    return [str(title.text) for title in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")]


def test_files_have_colors_and_pages() -> None:
    """Each file an area of its color with its pages; what is of no file has its own; all in the legend."""
    svg = drawn(record([0, 1, 1, 2, 0], [90, 200, 210, 150, 95], [0, 0, 12, 3, 0]))
    assert titles(svg) == [
        "no file · 90.0 MiB · 0.0-0.5 s",
        "01 <annual> & report.pdf · 200.0 MiB · 0.5-1.0 s",
        "01 <annual> & report.pdf · p. 1-12 · 210.0 MiB · 1.0-1.5 s",
        "02 <annual> & report.pdf · p. 1-3 · 150.0 MiB · 1.5-2.0 s",
        "no file · 95.0 MiB · 2.0-2.5 s",
    ]
    words_of_it = (
        "01 &lt;annual&gt; &amp; report.pdf · p. 1-12 · 210.0 MiB",
        "budget 512.0 MiB",
        "memory (MiB)",
        "time since the stage began (s)",
        "chunks · batch batch1 · run 0193ab12 · peak 210.0 MiB",
    )
    for words in words_of_it:
        assert f">{words}</text>" in svg


def test_steps_are_in_the_picture() -> None:
    """Each degradation step has a mark and its memory."""
    steps = (StepMark(0.6, "smaller_batches", 451 * MIB), StepMark(1.9, "unload", 490 * MIB))
    svg = drawn(record([1, 1, 1, 1], [400, 452, 470, 491], None, *steps))
    assert {"smaller batches at 451.0 MiB", "unload at 490.0 MiB"} <= {*titles(svg)}
    assert len(re.findall("h10l-5 8z", svg)) == 2


def test_many_files_share_a_color() -> None:
    """The eight highest have a color each, the others one together, with their number."""
    files = list(range(1, 101))
    svg = drawn(record(files, [100 + number for number in files]))
    assert all(color in svg for color in COLORS)
    assert "92 more files" in svg
    assert "92 files · 192.0 MiB · 0.0-46.0 s" in titles(svg)


@pytest.mark.parametrize("files", [1, 3, 12, 600])
def test_pictures_are_small(files: int) -> None:
    """The worst that 600 points can be, every one of another height and file: a quarter of 40 kB."""
    chance = random.Random(files)
    points = range(600)
    worst = record(
        [chance.randint(0, files) for _ in points],
        [chance.randint(0, 600) for _ in points],
        [chance.randint(0, 20_000) for _ in points],
        *(StepMark(chance.random() * 300, "smaller_batches", 450 * MIB) for _ in range(4)),
    )
    assert len(drawn(worst).encode()) < 40_000 / 3


@pytest.mark.parametrize("used", [[], [0], [1], [600]])
def test_small_records_are_drawn(used: list[int]) -> None:
    """One measurement, none at all, more than the budget, and no budget."""
    for limit in (512, 0):
        assert drawn(record([1] * len(used), used, limit_mib=limit)).startswith("<svg ")


@pytest.mark.parametrize("name", ["a\x1bb.txt", "\ufffe", "new\nline", "<&\"']]>", "\udcff", "\x0b"])
def test_hostile_names_are_drawn(name: str) -> None:
    """A picture is XML, whatever characters the name of a file has."""
    picture = memory_svg([(record([1] * 20, [100] * 20), {1: (name, 3)})], named=True)
    assert picture.encode() and "100.0 MiB" in titles(picture)[0]


def test_stages_one_below_the_other() -> None:
    """Two stages are one picture, as high as both."""
    one, two = (ET.fromstring(drawn(*[record([1], [100])] * count)) for count in (1, 2))
    assert float(two.attrib["height"]) == 2 * float(one.attrib["height"])


@pytest.mark.parametrize(
    ("first", "last", "words"), [(1, 12, "p. 1-12"), (5, 5, "p. 5"), (7, 6, "p. 6"), (1, 0, ""), (1, -1, "")]
)
def test_pages_in_words(first: int, last: int, words: str) -> None:
    """A range, one page, none."""
    assert pages_in_words(first, last) == words


def test_a_resumed_file_begins_later() -> None:
    """A file that an earlier run left at page 40 begins at page 41; all pages where the stage was through with it."""
    [share] = shares_of(record([3] * 4, [10] * 4, [40, 40, 45, 50]), {3: ("a.pdf", 0)}, named=True)
    assert share.pages == "p. 41-50"
    [share] = shares_of(record([3] * 4, [10] * 4, [40, 40, 45, 50]), {3: ("a.pdf", 60)}, named=True)
    assert share.pages == "p. 41-60"


def test_events_keep_no_hidden_names(connection: Connection) -> None:
    """The picture in an event has ids; the names are in its text, where whoever erases a file finds them."""
    add_file(connection, "secret [x](http://y).pdf")
    text = memory_markdown(connection, record([1, 1], [100, 110]))
    picture, *legend = text.splitlines()
    encoded = re.fullmatch(r"!\[memory over time\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", picture)
    assert encoded is not None
    svg = base64.b64decode(encoded[1]).decode()
    assert "secret" not in svg
    assert "file 1 · 110.0 MiB" in svg
    assert legend[-1] == "| file 1 | secret \\[x\\](http://y).pdf |  | 110.0 MiB |"
