"""The precision in which OpenVINO computes: bf16 only where the processor has instructions for it."""

from __future__ import annotations

from pathlib import Path

from ingest_pipeline.engines import AUTO, BF16, F32
from ingest_pipeline.errors import BadSetting

CPUINFO = Path("/proc/cpuinfo")
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def precision_of(wanted: str) -> str:
    """Return `f32` or `bf16` for a value of `INGEST_PRECISION`.

    OpenVINO is not asked: it accepts bf16 on any processor with AVX-512 and emulates it, 24 times slower than f32
    (docs/findings.md, H3).

    Raises:
        BadSetting: bf16 is wanted, and this processor has no instructions for it.
    """
    if wanted == BF16 and not has_bf16():
        raise BadSetting("INGEST_PRECISION", BF16, "auto or f32: this processor has no bf16 instructions")
    if wanted == AUTO:
        return BF16 if has_bf16() else F32
    return wanted


def has_bf16() -> bool:
    """Return whether this processor multiplies bf16 matrices in hardware; False where that is not known."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not BF16_FLAGS.isdisjoint(flags.split())
