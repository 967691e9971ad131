"""Each guard in the store's SQL is there for a reason: without it a check of the proof fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ingest_pipeline_tests.conftest import REPOSITORY, WHOLE_PROOF
from ingest_pipeline_tests.crash.figures import figures
from ingest_pipeline_tests.crash.guards import guards, without_guards
from ingest_pipeline_tests.crash.mutants import EQUIVALENT
from ingest_pipeline_tests.crash.results import results_folder

SOME = 12
STATEMENT = """
UPDATE files SET version = %(version)s, status = 'indexed'
WHERE file_id = 1 AND version = %(version)s AND status = 'processed'
  AND NOT EXISTS (SELECT FROM chunks WHERE (a OR b)) FOR UPDATE -- AND status = 'x'
"""


def test_guards_of_a_statement() -> None:
    """Conditions of WHERE, subqueries and row locks are guards; what is assigned and what is a comment is none."""
    found = dict(without_guards(STATEMENT))
    assert list(found) == [
        "version = %(version)s", "status = 'processed'", "NOT EXISTS (SELECT FROM chunks WHERE (a OR b))", "FOR UPDATE",
    ]  # fmt: skip
    assert "AND (true OR status = 'processed')" in found["status = 'processed'"]
    assert "FOR UPDATE" not in found["FOR UPDATE"].split("--")[0]


def test_every_guard_has_its_name() -> None:
    """No two guards have one name, and each that nothing can notice is there still."""
    names = [guard.name for guard in guards()]
    assert len(names) == len(set(names))
    assert len(names) > 100
    assert set(EQUIVALENT) <= set(names)


@pytest.mark.proof
@pytest.mark.timeout(3000)
def test_mutants_are_noticed(tmp_path: Path) -> None:
    """Twelve guards that a seed chooses; all of them in the whole form, which goes on where it was stopped."""
    folder = results_folder() or tmp_path
    wanted = [] if WHOLE_PROOF else ["--some", str(SOME), "--seed", "11"]
    command = [sys.executable, "-m", "ingest_pipeline_tests.crash.mutants", "--results", str(folder), *wanted]
    with figures("mutants", seeds=[11]) as found:
        ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        rows = [json.loads(line) for line in (folder / "mutants.jsonl").read_text().splitlines()]
        latest = {row["name"]: row["killed_by"] for row in rows}
        noticed = [name for name, killed_by in latest.items() if killed_by]
        found |= {"killed": len(noticed), "of": len(guards()) - len(EQUIVALENT) if WHOLE_PROOF else SOME}
        found["equivalent"] = len(EQUIVALENT)
        found["survivors"] = [name for name in latest if name not in noticed]
    assert ran.returncode == 0, ran.stdout + ran.stderr
