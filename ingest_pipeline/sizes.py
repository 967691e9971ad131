"""Parses and formats sizes in bytes; formats counts."""

from __future__ import annotations

import re

# `k`, `m`, `g`, `t` alone are binary, as in Docker and the JVM; `kb` and `mb` are decimal.
UNITS = {
    "": 1, "b": 1,
    "k": 1024, "kib": 1024, "kb": 1000,
    "m": 1024**2, "mib": 1024**2, "mb": 1000**2,
    "g": 1024**3, "gib": 1024**3, "gb": 1000**3,
    "t": 1024**4, "tib": 1024**4, "tb": 1000**4,
}  # fmt: skip


def parse_size(text: str) -> int:
    """Return the bytes of a size such as `512MiB`, `1.5 GiB`, `50MB` or `1073741824`.

    Raises:
        ValueError: not a positive size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if not match or match[2].lower() not in UNITS:
        raise ValueError(text)
    size = int(float(match[1]) * UNITS[match[2].lower()])
    if size <= 0:
        raise ValueError(text)
    return size


def format_size(size_bytes: float) -> str:
    """Return a size as a short text in a suitable binary unit, such as `512.0 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size_bytes) < 1024 or unit == "GiB":
            return f"{size_bytes:.0f} {unit}" if unit in ("B", "KiB") else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    raise AssertionError("unreachable")


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: `1 file`, `1,200 files`, `2 batches`."""
    ending = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count:,} {noun}{ending}"
