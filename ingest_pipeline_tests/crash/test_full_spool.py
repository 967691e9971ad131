"""A download for which the disk has no room makes its source unavailable, and leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest_pipeline.errors import SourceUnavailable
from ingest_pipeline.sources import spool
from ingest_pipeline_tests.crash.results import write_result
from ingest_pipeline_tests.crash.small_disk import MIB, small_disk

pytestmark = pytest.mark.proof


def test_a_full_spool_is_no_files_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names file and folder; the disk has its room back, and a smaller download goes well."""
    monkeypatch.setattr(spool, "MEMORY_BYTES", 1000)
    with small_disk(tmp_path / "disk", 2 * MIB) as disk:
        with (
            pytest.raises(SourceUnavailable, match=f"large: no room to download it in {disk.path}: No space left"),
            spool.spooled([b"0" * MIB] * 3, name="large", max_bytes=10 * MIB, folder=disk.path),
        ):
            pass
        with spool.spooled([b"0" * MIB], name="small", max_bytes=10 * MIB, folder=disk.path) as (stream, _):
            assert len(stream.read()) == MIB
    write_result("disk full under the spool", survived=1, of=1)
