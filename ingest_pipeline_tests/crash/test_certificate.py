"""The certificate says in a line each what the parts of the proof have shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ingest_pipeline_tests.crash import certificate
from ingest_pipeline_tests.crash.results import VARIABLE, read_results, write_result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of results."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def test_results_become_lines(folder: Path) -> None:
    """What was hit of all comes first, the seeds last; parts are in the order of their names."""
    write_result("pairs", pairs=2000, most_runs=1, seeds=[10_000, 10_001, 12_399])
    write_result("Mutants", killed=31, of=31, seeds=[7])
    text = certificate.certificate(read_results(folder), seconds=1500.4)
    head, *lines = text.strip().splitlines()
    assert "short form, 1,500 s on" in head
    assert [line.split(maxsplit=1) for line in lines] == [
        ["Mutants", "killed 31 of 31, seeds 7"],
        ["pairs", "pairs 2,000, most runs 1, seeds 10000 to 12399"],
    ]


def test_no_result_without_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that runs outside of the proof writes nothing."""
    monkeypatch.delenv(VARIABLE)
    write_result("pairs", pairs=1)
    assert list(folder.iterdir()) == []


def test_a_missing_part_is_no_proof(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Tests that pass without the results of the kills prove nothing; old results do not count."""
    (folder / "pairs.json").write_text('{"part": "pairs", "pairs": 2000}')
    this = f"{__file__}::test_no_result_without_a_folder"
    assert certificate.main([this]) == 1
    assert f"NOT PROVED: no result of {', '.join(sorted(certificate.REQUIRED))}" in capfd.readouterr().out


def test_required_parts_have_names() -> None:
    """Every part that the certificate asks for is written by a test under this name."""
    tests = [*Path(__file__).parent.glob("test_*.py"), *Path(__file__).parents[1].glob("test_crash_*.py")]
    written = " ".join(path.read_text() for path in tests)
    assert [
        part for part in certificate.REQUIRED if not re.search(rf'(figures|report|result)\("{part}"', written)
    ] == []


def test_a_failed_test_is_no_proof(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A part that fails is said, whatever the others have shown."""
    assert certificate.main([f"{__file__}::test_that_is_not_there"]) == 1
    assert "NOT PROVED: pytest ended with code 4" in capfd.readouterr().out
