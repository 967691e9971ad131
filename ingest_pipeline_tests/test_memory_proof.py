"""A few files of every kind within their memory, in CI: 500 MiB with one engine, 768 MiB with the other."""

from __future__ import annotations

import pytest

from benchmarks import memory_proof


@pytest.mark.proof
def test_the_corpus_within_its_memory(capsys: pytest.CaptureFixture[str]) -> None:
    """No run is over its budget and the kernel kills nothing; `make proof-memory` is the long form."""
    assert memory_proof.main(["--short"]) == 0, capsys.readouterr().out
    assert "yes" in capsys.readouterr().out
