"""Draws one stage's memory over time as SVG elements, without a library."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise

from ingest_pipeline.memory.record import MemoryRecord
from ingest_pipeline.sizes import format_size
from ingest_pipeline.stages.memory_shares import FileShare, pages_in_words

WIDTH, PLOT_WIDTH, PLOT_HEIGHT = 780, 680, 190
LEFT, TOP = 70, 44
LEGEND_COLUMNS, LEGEND_LINE = 2, 17
OTHERS, NO_FILE, BUDGET, STEP = "#a9b0b7", "#dde1e5", "#c0152f", "#7a0c1e"
SLICE_PIXELS = 34
"""A wide area is divided into parts of this width, each with its own pages."""
MOST_AREAS = 100
ANY_OTHER = -1
TICKS = 5
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML may have, in whatever form; a file's name may."""


def height_of(shares: Sequence[FileShare]) -> int:
    """Return the height of a stage's picture."""
    entries = len(shares) + 2
    return TOP + PLOT_HEIGHT + 46 + math.ceil(entries / LEGEND_COLUMNS) * LEGEND_LINE + 8


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where a point of a record is in its picture."""

    points: int
    top_kib: float

    @property
    def across(self) -> float:
        return PLOT_WIDTH / max(1, self.points)

    def y(self, kib: float) -> int:
        return TOP + PLOT_HEIGHT - round(PLOT_HEIGHT * min(kib, self.top_kib) / self.top_kib)


def stage_svg(record: MemoryRecord, shares: Sequence[FileShare]) -> str:
    """Return the picture of a stage: memory by file, the budget, the degradation steps, a legend."""
    highest = max(record.peak_bytes, record.limit_bytes) / 1024 or 1.0
    scale = _Scale(len(record.used_kib), highest * 1.06)
    title = f"{record.stage} · batch {record.batch} · run {record.run_id[:8]} · peak {format_size(record.peak_bytes)}"
    return "".join(
        [
            text(LEFT, 18, title, size=13, weight="bold"),
            _grid(record, scale),
            f'<g transform="translate({LEFT} 0) scale({scale.across:.4f} 1)" shape-rendering="crispEdges">',
            _areas(record, shares, scale),
            "</g>",
            _budget(record, scale),
            _steps(record, scale),
            _legend(record, shares),
        ]
    )


def _grid(record: MemoryRecord, scale: _Scale) -> str:
    bottom, parts = TOP + PLOT_HEIGHT, []
    step = _tick(scale.top_kib / 1024)
    for number in range(int(scale.top_kib / 1024 / step) + 1):
        y = scale.y(number * step * 1024)
        parts.append(f'<path d="M{LEFT} {y}h{PLOT_WIDTH}" stroke="#e6e8eb"/>')
        parts.append(text(LEFT - 8, y + 4, f"{number * step:g}", anchor="end"))
    seconds, unit = (record.seconds, "s") if record.seconds < 180 else (record.seconds / 60, "min")
    step = _tick(seconds or 1.0)
    for number in range(int(seconds / step) + 1):
        x = LEFT + round(PLOT_WIDTH * number * step / (seconds or 1.0))
        parts.append(f'<path d="M{x} {bottom}v5" stroke="#333"/>')
        parts.append(text(x, bottom + 18, f"{number * step:g}", anchor="middle"))
    parts.append(text(LEFT + PLOT_WIDTH / 2, bottom + 34, f"time since the stage began ({unit})", anchor="middle"))
    middle = TOP + PLOT_HEIGHT // 2
    parts.append(f'<g transform="rotate(-90 18 {middle})">{text(18, middle, "memory (MiB)", anchor="middle")}</g>')
    parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{LEFT + PLOT_WIDTH}" fill="none" stroke="#333"/>')
    return "".join(parts)


def _tick(span: float) -> float:
    """Return a round step that divides a span into about five."""
    magnitude = 10.0 ** math.floor(math.log10(span / TICKS))
    return next(magnitude * step for step in (1, 2, 5, 10) if magnitude * step * TICKS >= span)


def _areas(record: MemoryRecord, shares: Sequence[FileShare], scale: _Scale) -> str:
    by_id = {share.file_id: share for share in shares}
    parts, before = [], dict[int, int]()
    for file_id, points in _divided(record, {*by_id}, max(1, round(SLICE_PIXELS / scale.across))):
        if share := by_id.get(file_id):
            first = before.get(file_id, share.first_page - 1) + 1
            before[file_id] = last = max(record.pages[point] for point in points)
            label, color = _in_words(record, points, share.label, pages_in_words(first, last)), share.color
        else:
            color = NO_FILE if file_id == 0 else OTHERS
            others = len({record.file_ids[point] for point in points})
            label = _in_words(record, points, f"{others} files" if file_id else "no file", "")
        parts.append(
            f'<path d="{_outline(record, points, scale)}" fill="{color}"><title>{in_xml(label)}</title></path>'
        )
    return "".join(parts)


def _divided(record: MemoryRecord, own: set[int], wide: int) -> list[tuple[int, list[int]]]:
    """Return the areas of a picture: file and points; a wide one of a file with its own color has parts."""
    files = [file_id if file_id in own or not file_id else ANY_OTHER for file_id in record.file_ids]
    if sum(before != after for before, after in pairwise(files)) > MOST_AREAS:  # many small files, one after another
        slices = [range(start, min(start + wide, len(files))) for start in range(0, len(files), wide)]
        highest = [max(part, key=lambda point: record.used_kib[point]) for part in slices]
        files = [files[highest[point // wide]] for point in range(len(files))]
    # Each part can say its pages.
    kinds = [(file_id, point // wide if file_id in own else 0) for point, file_id in enumerate(files)]
    groups = groupby(range(len(kinds)), key=lambda point: kinds[point])
    return [(file_id, list(points)) for (file_id, _), points in groups]


def _in_words(record: MemoryRecord, points: Sequence[int], label: str, pages: str) -> str:
    peak = format_size(max(record.used_kib[point] for point in points) * 1024)
    begin, end = points[0] * record.seconds_per_point, (points[-1] + 1) * record.seconds_per_point
    return " · ".join(part for part in (label, pages, peak, f"{begin:.1f}-{end:.1f} s") if part)


def _outline(record: MemoryRecord, points: Sequence[int], scale: _Scale) -> str:
    bottom = y = TOP + PLOT_HEIGHT
    path, across = [f"M{points[0]} {bottom}"], 0
    for point in points:
        height = scale.y(record.used_kib[point])
        if height != y:
            path.append((f"h{across}" if across else "") + f"v{height - y}")
            y, across = height, 0
        across += 1
    return "".join([*path, f"h{across}V{bottom}z"])


def _budget(record: MemoryRecord, scale: _Scale) -> str:
    if not record.limit_bytes:
        return ""
    y, label = scale.y(record.limit_bytes / 1024), f"budget {format_size(record.limit_bytes)}"
    line = f'<path d="M{LEFT} {y}h{PLOT_WIDTH}" stroke="{BUDGET}" stroke-width="1.5" stroke-dasharray="7 4"/>'
    return line + text(LEFT + PLOT_WIDTH, y - 5, label, color=BUDGET, anchor="end")


def _steps(record: MemoryRecord, scale: _Scale) -> str:
    parts = []
    for number, taken in enumerate(record.steps):  # at most four
        x = LEFT + round(PLOT_WIDTH * min(1.0, taken.second / (record.seconds or 1.0)))
        y = scale.y(taken.used_bytes / 1024)
        label = f"{taken.step.replace('_', ' ')} at {format_size(taken.used_bytes)}"
        near_the_end = x > LEFT + PLOT_WIDTH * 2 / 3
        parts.append(f'<path d="M{x} {y}V{TOP + PLOT_HEIGHT}" stroke="{STEP}"/>')
        parts.append(f'<path d="M{x - 5} {y - 8}h10l-5 8z" fill="{STEP}"><title>{label}</title></path>')
        beside, anchor = (-8, "end") if near_the_end else (8, "")
        parts.append(text(x + beside, TOP + 26 + 15 * number, label, color=STEP, anchor=anchor, halo=True))
    return "".join(parts)


def _legend(record: MemoryRecord, shares: Sequence[FileShare]) -> str:
    entries = [(share.color, str(share)) for share in shares]
    others = len({*record.file_ids} - {0}) - len(shares)
    if others > 0:
        entries.append((OTHERS, f"{others} more files"))
    if 0 in record.file_ids:
        entries.append((NO_FILE, "no file: start, model, end"))
    parts, top = [], TOP + PLOT_HEIGHT + 56
    for number, (color, label) in enumerate(entries):
        x = LEFT + number % LEGEND_COLUMNS * (PLOT_WIDTH // LEGEND_COLUMNS)
        y = top + number // LEGEND_COLUMNS * LEGEND_LINE
        parts.append(f'<path d="M{x} {y - 9}h10v10h-10z" fill="{color}"/>' + text(x + 15, y, label, size=11))
    return "".join(parts)


def in_xml(words: str) -> str:
    """Return words as XML has them."""
    return escape(NOT_XML.sub("\ufffd", words))


def text(
    x: float,
    y: float,
    words: str,
    *,
    color: str = "",
    anchor: str = "",
    size: int = 0,
    weight: str = "",
    halo: bool = False,
) -> str:
    """Return a text of a picture; what is not given is as for the whole picture."""
    given = {"fill": color, "text-anchor": anchor, "font-size": size or "", "font-weight": weight}
    given |= {"stroke": "#fff", "stroke-width": 3, "paint-order": "stroke"} if halo else {}
    attributes = "".join(f' {name}="{value}"' for name, value in given.items() if value)
    return f'<text x="{x:g}" y="{y:g}"{attributes}>{in_xml(words)}</text>'
