"""Predicts the cost of a file from the measured costs of similar files. Pure: the same history gives the same result.

The peak of the parser's child is modelled as a line over the file's bytes, for each media type: the slope by Theil and
Sen (the median of the slopes between all pairs, robust up to 29 % of outliers), the intercept by the median. The
prediction is an upper bound: the line times a factor, the split conformal quantile (of n files the
ceil((n + 1) * 0.95)-th smallest ratio of measured peak to line, Vovk et al. 2005). Beyond the largest measured file the
shipped slope is used. Seconds are summed over a batch, so they are predicted as means: a ratio of sums.

Only bytes, because nothing else explains more: over 99 PDFs the peak correlates with bytes at 0.42, with pages, text
and object streams at 0.14 each; for other types a child needs 15-25 MiB whatever it reads (docs/findings.md, I1).
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
"""With fewer files of a type the shipped rates are more reliable."""
MAX_OBSERVATIONS = 400
"""The newest files of a type that are used: 80,000 pairs, 30 ms (docs/findings.md, I3)."""
HEADROOM = 1.05
"""Factor on top of the quantile: repeated runs on the same file differ a little."""
SECONDS_PER_FILE = 0.02


# The shipped rates: peaks of 213 files of the development corpus, one new child for each (docs/findings.md, I2): PDF
# 21-76 MiB, EPUB 20-22, HTML 19-25, Markdown 15-16, text 15-21. The slopes leave room for larger files than these.
# Seconds are those of embedding on one core in fp32, which takes 20 times as long as parsing (I4); in bf16 a third.
SHIPPED: dict[str, CostRate] = {
    "application/pdf": CostRate(46 * MIB, 4.0, 1.0, 30.0),  # pypdf, which also reads blank first pages, peaks at 41
    "application/epub+zip": CostRate(28 * MIB, 4.0, 1.0, 100.0),
    "text/html": CostRate(28 * MIB, 1.0, 1.0, 45.0),
    "text/markdown": CostRate(24 * MIB, 0.5, 1.0, 65.0),
    "text/plain": CostRate(26 * MIB, 0.5, 1.0, 65.0),
    "text/x-rst": CostRate(24 * MIB, 0.5, 1.0, 65.0),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": CostRate(30 * MIB, 4.0, 1.0, 30.0),
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": CostRate(30 * MIB, 4.0, 1.0, 10.0),
    "application/vnd.oasis.opendocument.text": CostRate(30 * MIB, 4.0, 1.0, 30.0),
    "text/csv": CostRate(30 * MIB, 0.5, 1.0, 150.0),  # the text of each row repeats the column names
    "text/tab-separated-values": CostRate(30 * MIB, 0.5, 1.0, 150.0),
    "application/json": CostRate(30 * MIB, 0.5, 1.0, 75.0),
    "application/jsonl": CostRate(30 * MIB, 0.5, 1.0, 75.0),
    "application/vnd.apache.parquet": CostRate(90 * MIB, 3.0, 1.0, 200.0),  # 75 MiB for an empty file, 150 for 48 MiB
    "message/rfc822": CostRate(26 * MIB, 5.0, 1.0, 30.0),  # a message is in memory as a whole
    "application/mbox": CostRate(90 * MIB, 0.5, 1.0, 30.0),  # one message of up to 16 MiB is in memory at a time
    "application/x-ole-storage": CostRate(24 * MIB, 0.5, 1.0, 0.5),
}
PACKED_SECONDS = 4.0
"""Factor for compressed texts: gzip packs prose 4:1 (docs/findings.md, E7)."""
UNKNOWN = CostRate(64 * MIB, 4.0, 1.0, 65.0)


SHIPPED_MODEL = CostModel(0, {})


def shipped_rate(media_type: str) -> CostRate:
    """Return the shipped rate of a type; a compressed text has that of its plain type, with more seconds per MiB."""
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
    asking_seconds: float = 0.0,
) -> FileCost:
    """Return the predicted cost of a file: peak of the parser's child, seconds in total, and an explanation.

    `asking_seconds` is how long a server will be asked about it.
    """
    rate = model.rates.get(media_type) or shipped_rate(media_type)
    return FileCost(
        file_id=file_id,
        name=name,
        version=version,
        predicted_peak_bytes=peak_of(rate, media_type, size_bytes),
        predicted_seconds=seconds_of(model, media_type, 1, size_bytes) + asking_seconds,
        alone=alone,
        why=_why(model, rate, media_type, size_bytes),
    )


def seconds_of(model: CostModel, media_type: str, files: int, size_bytes: int) -> float:
    """Return the predicted seconds of so many files of one type, with so many bytes together."""
    rate = model.rates.get(media_type) or shipped_rate(media_type)
    return SECONDS_PER_FILE * files + rate.seconds_per_mib * size_bytes / MIB


def _why(model: CostModel, rate: CostRate, media_type: str, size_bytes: int) -> str:
    origin = f"{rate.observations} files measured, model {model.version}" if rate.observations else "shipped rates"
    line = f"({format_size(rate.base_bytes)} + {rate.bytes_per_byte:.2f} x {format_size(size_bytes)})"
    beyond = ", larger than any of them" if rate.observations and size_bytes > rate.seen_bytes else ""
    return f"{media_type}: {line} x {rate.factor:.2f}; {origin}{beyond}"


def peak_of(rate: CostRate, media_type: str, size_bytes: int) -> int:
    """Return the predicted peak, an upper bound, for a file of so many bytes."""
    seen = min(size_bytes, rate.seen_bytes) if rate.observations else size_bytes
    beyond = shipped_rate(media_type).bytes_per_byte * (size_bytes - seen)
    return int(rate.factor * (rate.base_bytes + rate.bytes_per_byte * seen) + beyond)


def fit(observations: Iterable[Observation], *, before: CostModel = SHIPPED_MODEL) -> CostModel:
    """Return the model fitted on these observations; `before` itself if the rates are equal."""
    by_type: dict[str, list[Observation]] = {}
    for seen in observations:
        by_type.setdefault(seen.media_type, []).append(seen)
    rates = {kind: fit_rate(kind, seen) for kind, seen in sorted(by_type.items()) if len(seen) >= MIN_OBSERVATIONS}
    return before if rates == before.rates else CostModel(before.version + 1, rates)


def fit_rate(media_type: str, observations: Sequence[Observation]) -> CostRate:
    """Return the fitted rate of one type; it does not depend on the order of the observations."""
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
    """The predicted peak, an upper bound."""
    measured_bytes: int
    expected_bytes: int = 0
    """The expected peak: the line without the factor."""

    @property
    def error(self) -> float:
        """Relative error of the predicted peak; below 0 the prediction was too low."""
        return (self.predicted_bytes - self.measured_bytes) / self.measured_bytes

    @property
    def expected_error(self) -> float:
        """Relative error of the expected peak."""
        return (self.expected_bytes - self.measured_bytes) / self.measured_bytes


def leave_one_out(observations: Iterable[Observation]) -> list[Outcome]:
    """Return for each file the prediction of a model that was fitted on all the others."""
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
    """Statistics of the relative errors of predictions."""

    count: int
    p50: float
    p95: float
    too_low: int
    """Number of predictions below the measured peak."""


def summarize(errors: Sequence[float]) -> ErrorSummary:
    """Return median and 95th percentile of the absolute errors, and how many errors were below 0."""
    sizes = sorted(abs(error) for error in errors)
    return ErrorSummary(
        count=len(sizes),
        p50=_quantile(sizes, 0.5),
        p95=_quantile(sizes, 0.95),
        too_low=sum(error < 0 for error in errors),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
