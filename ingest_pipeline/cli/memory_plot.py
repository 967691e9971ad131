"""Plots predicted against measured peaks as an SVG file, without a library."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ingest_pipeline.planning.predict import Outcome
from ingest_pipeline.sizes import format_size
from ingest_pipeline.stages.memory_drawing import in_xml, text

WIDTH, HEIGHT, MARGIN = 760, 560, 70
COLORS = ("#1b6ca8", "#c1440e", "#3c7d3c", "#8a4fa0", "#a88a1b", "#555555")
MIB = 1024**2
Point = tuple[float, float]


def memory_plot(outcomes: Sequence[Outcome]) -> str:
    """Return an SVG with a dot for each file: x measured, y predicted; below the diagonal it was too low."""
    # Logarithmic axes in powers of two: peaks range from 15 MiB to several hundred.
    sizes = [size for outcome in outcomes for size in (outcome.measured_bytes, outcome.predicted_bytes)] or [MIB]
    low, high = 2.0 ** math.floor(math.log2(min(sizes))), 2.0 ** math.ceil(math.log2(max(sizes) + 1))
    kinds = sorted({outcome.media_type for outcome in outcomes})
    parts = [_axes(low, high)]
    for index, kind in enumerate(kinds):
        color = COLORS[index % len(COLORS)]
        of_kind = [outcome for outcome in outcomes if outcome.media_type == kind]
        parts += [_dot(outcome, color, low, high) for outcome in of_kind]
        parts.append(_text(MARGIN + 34, MARGIN + 18 * index, f"{kind} ({len(of_kind)})", color))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', *parts, "</svg>\n"])


def _axes(low: float, high: float) -> str:
    (x0, y0), (x1, y1) = _place(low, low, low, high), _place(high, high, low, high)
    lines = [
        f'<path d="M{x0} {y1}V{y0}H{x1}" fill="none" stroke="black"/>',
        f'<path d="M{x0} {y0}L{x1} {y1}" stroke="#999" stroke-dasharray="5 4"/>',
        _text((x0 + x1) / 2, HEIGHT - 18, "measured peak of the parser", anchor="middle"),
        f'<text x="18" y="{(y0 + y1) / 2}" transform="rotate(-90 18 {(y0 + y1) / 2})" font-size="13" '
        'text-anchor="middle">predicted peak</text>',
        _text((x0 + x1) / 2, 30, "Below the dashed line a file needed more than was predicted", anchor="middle"),
    ]
    tick = low
    while tick <= high:
        x, y = _place(tick, tick, low, high)
        lines += [
            _text(x, y0 + 18, format_size(tick), anchor="middle"),
            _text(x0 - 8, y + 4, format_size(tick), anchor="end"),
        ]
        tick *= 2
    return "\n".join(lines)


def _dot(outcome: Outcome, color: str, low: float, high: float) -> str:
    x, y = _place(outcome.measured_bytes, outcome.predicted_bytes, low, high)
    name = in_xml(outcome.name.rpartition("/")[2])
    return f'<circle cx="{x}" cy="{y}" r="4" fill="{color}" fill-opacity="0.6"><title>{name}</title></circle>'


def _place(measured: float, predicted: float, low: float, high: float) -> Point:
    span = math.log2(high / low) or 1.0  # 1.0 where all values are equal
    x = MARGIN + 20 + (WIDTH - 2 * MARGIN) * math.log2(measured / low) / span
    y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * math.log2(predicted / low) / span
    return round(x, 1), round(y, 1)


def _text(x: float, y: float, words: str, color: str = "", *, anchor: str = "") -> str:
    return text(x, y, words, color=color, anchor=anchor, size=13)
