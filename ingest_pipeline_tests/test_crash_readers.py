"""Readers see exactly one version of a file, whole, however often it is replaced under them."""

from __future__ import annotations

import pytest

from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.conftest import WHOLE_PROOF
from ingest_pipeline_tests.crash.figures import figures
from ingest_pipeline_tests.crash.readers import FEWEST_VERSIONS, replace_while_read, wrong


def test_some_reads_while_replaced(connection: Connection, url: str) -> None:
    """Three readers, 1,500 reads."""
    seen = replace_while_read(connection, url, reads=1500)
    assert seen.wrong == []
    assert len(seen.versions) >= FEWEST_VERSIONS


def test_mixed_readings_are_noticed() -> None:
    """What the readers look for: none, a mix, half a version, one chunk twice."""
    whole = ("v0", [0, 1, 2])
    assert wrong([whole]) == ""
    for rows in ([], [whole, ("v1", [0, 1, 2, 3])], [("v0", [0, 1])], [("v0", [0, 1, 1])]):
        assert wrong(rows)


@pytest.mark.proof
@pytest.mark.timeout(1200)
def test_many_reads_while_replaced(connection: Connection, url: str) -> None:
    """100,000 reads in the whole form."""
    reads = 100_000 if WHOLE_PROOF else 10_000
    with figures("readers", readers=3) as found:
        seen = replace_while_read(connection, url, reads=reads)
        found |= {"reads": seen.reads, "versions_seen": len(seen.versions), "wrong": len(seen.wrong)}
    assert seen.wrong == []
    assert seen.reads >= reads
