"""Which files the record of a stage's memory names: those with the highest peaks, each with a color of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ingest_pipeline.memory.record import MemoryRecord
from ingest_pipeline.sizes import format_size

# Distinguishable also for color-blind readers (Okabe and Ito), without their yellow, which is hard to see on white.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#7f5fa8", "#8c8c1f")
LABEL_CHARACTERS = 32
SURE_POINTS = 4
Files = Mapping[int, tuple[str, int]]
"""Path and pages of files, by their ids."""


@dataclass(frozen=True, slots=True)
class FileShare:
    """What a stage's record says of one file."""

    file_id: int
    label: str
    peak_bytes: int
    first_page: int
    last_page: int
    """0: no page was finished."""
    color: str

    def __str__(self) -> str:
        return f"{self.label}{self.pages and ' · ' + self.pages} · {format_size(self.peak_bytes)}"

    @property
    def pages(self) -> str:
        """The pages in words; nothing if none was finished."""
        return pages_in_words(self.first_page, self.last_page)


def pages_in_words(first: int, last: int) -> str:
    """Return a range of pages as `p. 1-12`; nothing if there is none."""
    if last <= 0:
        return ""
    return f"p. {last}" if first >= last else f"p. {first}-{last}"


def shares_of(record: MemoryRecord, files: Files, *, named: bool) -> list[FileShare]:
    """Return the files with the highest peaks, the highest first, each with a color of its own."""
    peaks: dict[int, int] = {}
    for used, file_id in zip(record.used_kib, record.file_ids, strict=True):
        peaks[file_id] = max(peaks.get(file_id, 0), used)
    highest = sorted((file_id for file_id in peaks if file_id), key=lambda one: -peaks[one])[: len(COLORS)]
    return [
        _share(record, file_id, peaks[file_id] * 1024, files.get(file_id, ("", 0)), color=color, named=named)
        for file_id, color in zip(highest, COLORS, strict=False)
    ]


def _share(
    record: MemoryRecord, file_id: int, peak_bytes: int, known: tuple[str, int], *, color: str, named: bool
) -> FileShare:
    pages = [page for page, at in zip(record.pages, record.file_ids, strict=True) if at == file_id]
    name, all_pages = known
    label = _shortened(name.rpartition("/")[2]) if named and name else f"file {file_id}"
    # A file that was at work for a moment may have had its first pages before the first point.
    first_page = min(pages) + 1 if len(pages) >= SURE_POINTS else 1
    return FileShare(file_id, label, peak_bytes, first_page, max(*pages, all_pages), color)


def _shortened(name: str) -> str:
    return name if len(name) <= LABEL_CHARACTERS else name[: LABEL_CHARACTERS - 1] + "…"
