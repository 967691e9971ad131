"""What will a file cost? Fitted on what files like it did cost. Pure arithmetic: same history, same answer.

The peak of the parser's child is a line over the file's bytes, for each media type: slope by Theil and Sen (the median
of the slopes between all pairs, which one outlier in three does not move), intercept by the median. What is promised is
not the middle but an upper bound: the line times the factor that the highest of the measured peaks needed (the split
conformal quantile: of n files the ceil((n + 1) * 0.95)-th smallest ratio, Vovk et al. 2005). Beyond the largest file
that was seen, the shipped slope goes on. Seconds add up over a batch, so they are means: a ratio of sums.

Bytes alone, because nothing else explains more: over 99 PDFs the peak correlates with bytes at 0.42, with pages, text
and object streams at 0.14 each (object streams drive pypdf, docs/findings.md, C, not pdfium); of other types a child
needs 15-25 MiB whatever it reads (2026-11).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from ingest_pipeline.models import CostModel, CostRate, FileCost, Observation
from ingest_pipeline.sizes import format_size

MIB = 1024**2
QUANTILE = 0.95
MIN_OBSERVATIONS = 8
"""Fewer files of a type say less than the shipped defaults."""
MAX_OBSERVATIONS = 400
"""The newest of a type: 80,000 pairs, 30 ms."""
HEADROOM = 1.05
"""On top of the quantile, for the page or two by which equal runs differ."""
SECONDS_PER_FILE = 0.05


# The first day's rates: 213 files of the development corpus, one fresh child each, its peak by VmHWM (2026-11): PDF
# 21-76 MiB, EPUB 20-22, HTML 19-25, Markdown 15-16, text 15-21; the slopes leave room for files that are larger than
# any of these. Seconds are embedding's: it costs twenty times what parsing costs.
SHIPPED: dict[str, CostRate] = {
    "application/pdf": CostRate(46 * MIB, 4.0, 1.0, 60.0),  # pypdf's second look at a blank page comes to 41
    "application/epub+zip": CostRate(28 * MIB, 4.0, 1.0, 200.0),
    "text/html": CostRate(28 * MIB, 1.0, 1.0, 90.0),
    "text/markdown": CostRate(24 * MIB, 0.5, 1.0, 130.0),
    "text/plain": CostRate(26 * MIB, 0.5, 1.0, 130.0),
    "text/x-rst": CostRate(24 * MIB, 0.5, 1.0, 130.0),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": CostRate(30 * MIB, 4.0, 1.0, 60.0),
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": CostRate(30 * MIB, 4.0, 1.0, 20.0),
    "application/vnd.oasis.opendocument.text": CostRate(30 * MIB, 4.0, 1.0, 60.0),
    "text/csv": CostRate(30 * MIB, 0.5, 1.0, 300.0),  # every row repeats its columns' names
    "text/tab-separated-values": CostRate(30 * MIB, 0.5, 1.0, 300.0),
    "application/json": CostRate(30 * MIB, 0.5, 1.0, 150.0),
    "application/jsonl": CostRate(30 * MIB, 0.5, 1.0, 150.0),
    "application/vnd.apache.parquet": CostRate(90 * MIB, 3.0, 1.0, 400.0),  # 75 MiB empty, 150 at 48 MiB
    "message/rfc822": CostRate(26 * MIB, 5.0, 1.0, 60.0),  # a message is in memory as a whole
    "application/mbox": CostRate(90 * MIB, 0.5, 1.0, 60.0),  # messages of up to 16 MiB are
    "application/x-ole-storage": CostRate(24 * MIB, 0.5, 1.0, 1.0),
}
PACKED_SECONDS = 4.0
"""Times as much text in a MiB: what gzip does to prose."""
UNKNOWN = CostRate(64 * MIB, 4.0, 1.0, 130.0)


SHIPPED_MODEL = CostModel(0, {})


def shipped_rate(media_type: str) -> CostRate:
    """Return the first day's rate of a type; a packed text's is its own, with more text in a byte."""
    plain = SHIPPED.get(media_type.removesuffix("+gzip"), UNKNOWN)
    return replace(plain, seconds_per_mib=PACKED_SECONDS * plain.seconds_per_mib) if "+gzip" in media_type else plain


def predict(
    model: CostModel,
    *,
    file_id: int,
    name: str,
    version: str,
    media_type: str,
    size_bytes: int,
    alone: bool = False,
) -> FileCost:
    """Return what a file is predicted to cost: peak bytes of its parser's child, seconds in all, and why."""
    rate = model.rates.get(media_type) or shipped_rate(media_type)
    return FileCost(
        file_id=file_id,
        name=name,
        version=version,
        predicted_peak_bytes=peak_of(rate, media_type, size_bytes),
        predicted_seconds=SECONDS_PER_FILE + rate.seconds_per_mib * size_bytes / MIB,
        alone=alone,
        why=_why(model, rate, media_type, size_bytes),
    )


def _why(model: CostModel, rate: CostRate, media_type: str, size_bytes: int) -> str:
    origin = f"{rate.observations} files measured, model {model.version}" if rate.observations else "shipped rates"
    line = f"({format_size(rate.base_bytes)} + {rate.bytes_per_byte:.2f} x {format_size(size_bytes)})"
    beyond = ", larger than any of them" if rate.observations and size_bytes > rate.seen_bytes else ""
    return f"{media_type}: {line} x {rate.factor:.2f}; {origin}{beyond}"


def peak_of(rate: CostRate, media_type: str, size_bytes: int) -> int:
    """Return the peak that a file of so many bytes is promised not to pass."""
    seen = min(size_bytes, rate.seen_bytes) if rate.observations else size_bytes
    beyond = shipped_rate(media_type).bytes_per_byte * (size_bytes - seen)
    return int(rate.factor * (rate.base_bytes + rate.bytes_per_byte * seen) + beyond)


def fit(observations: Iterable[Observation], *, before: CostModel = SHIPPED_MODEL) -> CostModel:
    """Return the model that a history gives: the one before, if it gives the same rates."""
    by_type: dict[str, list[Observation]] = {}
    for seen in observations:
        by_type.setdefault(seen.media_type, []).append(seen)
    rates = {kind: fit_rate(kind, seen) for kind, seen in sorted(by_type.items()) if len(seen) >= MIN_OBSERVATIONS}
    return before if rates == before.rates else CostModel(before.version + 1, rates)


def fit_rate(media_type: str, observations: Sequence[Observation]) -> CostRate:
    """Return the rate of one type; the order of the observations does not matter."""
    ordered = sorted(observations, key=lambda seen: (seen.size_bytes, seen.peak_bytes, seen.name))
    slope = _median_slope(ordered)
    base = max(1.0, median(seen.peak_bytes - slope * seen.size_bytes for seen in ordered))
    ratios = sorted(seen.peak_bytes / (base + slope * seen.size_bytes) for seen in ordered)
    rank = min(len(ratios), math.ceil((len(ratios) + 1) * QUANTILE))
    timed = [seen for seen in ordered if seen.seconds > 0]
    size = sum(seen.size_bytes for seen in timed)
    shipped = shipped_rate(media_type).seconds_per_mib
    return CostRate(
        base_bytes=round(base),
        bytes_per_byte=round(slope, 4),
        factor=round(max(1.0, ratios[rank - 1]) * HEADROOM, 4),
        seconds_per_mib=round(sum(seen.seconds for seen in timed) / size * MIB, 3) if size else shipped,
        seen_bytes=ordered[-1].size_bytes,
        observations=len(ordered),
    )


def _median_slope(ordered: Sequence[Observation]) -> float:
    slopes = [
        (second.peak_bytes - first.peak_bytes) / (second.size_bytes - first.size_bytes)
        for index, first in enumerate(ordered)
        for second in ordered[index + 1 :]
        if second.size_bytes > first.size_bytes
    ]
    return max(0.0, median(slopes)) if slopes else 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A prediction beside what was measured."""

    name: str
    media_type: str
    predicted_bytes: int
    """The upper bound: what the file was promised not to pass."""
    measured_bytes: int
    expected_bytes: int = 0
    """The middle: what a file like it takes."""

    @property
    def error(self) -> float:
        """Of the upper bound, as a share of what was measured; below 0 it was too low."""
        return (self.predicted_bytes - self.measured_bytes) / self.measured_bytes

    @property
    def expected_error(self) -> float:
        """Of the middle, as a share of what was measured."""
        return (self.expected_bytes - self.measured_bytes) / self.measured_bytes


def leave_one_out(observations: Iterable[Observation]) -> list[Outcome]:
    """Return, for each file, what a model that was fitted on all the others predicts."""
    by_type: dict[str, list[Observation]] = {}
    for seen in observations:
        by_type.setdefault(seen.media_type, []).append(seen)
    return [_without(kind, seen, index) for kind, seen in sorted(by_type.items()) for index in range(len(seen))]


def _without(media_type: str, observations: list[Observation], index: int) -> Outcome:
    others, left_out = observations[:index] + observations[index + 1 :], observations[index]
    enough = len(others) >= MIN_OBSERVATIONS
    rate = fit_rate(media_type, others) if enough else shipped_rate(media_type)
    predicted = peak_of(rate, media_type, left_out.size_bytes)
    return Outcome(left_out.name, media_type, predicted, left_out.peak_bytes, round(predicted / rate.factor))


@dataclass(frozen=True, slots=True)
class ErrorSummary:
    """How far predictions were off, as shares of what was measured."""

    count: int
    p50: float
    p95: float
    too_low: int
    """How many were under what was measured."""


def summarize(errors: Sequence[float]) -> ErrorSummary:
    """Return median and 95th percentile of the errors without their signs, and how many were below 0."""
    sizes = sorted(abs(error) for error in errors)
    return ErrorSummary(
        count=len(sizes),
        p50=_quantile(sizes, 0.5),
        p95=_quantile(sizes, 0.95),
        too_low=sum(error < 0 for error in errors),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
