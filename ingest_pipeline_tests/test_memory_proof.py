"""The promise itself, in CI: a few files of every kind, inside 500 MiB with one engine and 768 MiB with the other."""

from __future__ import annotations

import pytest

from benchmarks import memory_proof


@pytest.mark.proof
def test_the_corpus_is_ingested_inside_the_memory_that_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    """Finished, no run over its budget, nothing killed by the kernel; `make proof-memory` is the long form."""
    assert memory_proof.main(["--short"]) == 0, capsys.readouterr().out
    assert "yes" in capsys.readouterr().out
