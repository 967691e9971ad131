"""The recipe "From the laptop to a bigger machine" of docs/operations.md, its commands run as they are written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.cli.main import _parser
from ingest_pipeline.store.server import postgres_program
from ingest_pipeline_tests.conftest import REPOSITORY
from ingest_pipeline_tests.plain_postgres import PASSWORD, PlainPostgres, plain_server
from ingest_pipeline_tests.proving import Ingest, require_all_indexed, text_of

TITLE = "From the laptop to a bigger machine"
PAGE = (REPOSITORY / "docs" / "operations.md").read_text()
SECTION = PAGE.partition(f"\n## {TITLE}\n")[2].partition("\n## ")[0]
ON_LAPTOP, ON_BIG, ADMINISTRATOR, INTO_POSTGRES = re.findall(r"^```sh\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[PlainPostgres]:
    """The user's own server."""
    with plain_server(tmp_path / "plain" / "server") as server:
        yield server


@pytest.fixture
def homes(tmp_path: Path, models: Path) -> Iterator[list[Ingest]]:
    """Three homes: the laptop, the bigger machine, one that works with a Postgres of its own."""
    folders = [tmp_path / name for name in ("laptop", "big", "own")]
    for folder in folders:
        folder.mkdir()
    made = [Ingest(folder, models) for folder in folders]
    yield made
    for home in made:
        home.close()


def shell(home: Ingest, script: str, folder: Path, **variables: str) -> str:
    """Run a script as a user of this home would."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "scp").write_text('#!/bin/sh\ncp "$1" big.backup\n')
    (folder / "bin" / "ingest").write_text(f'#!/bin/sh\nexec {sys.executable} -m ingest_pipeline.cli "$@"\n')
    for program in ("scp", "ingest"):
        (folder / "bin" / program).chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), str(postgres_program("psql").parent), os.environ["PATH"]])
    environment = home.environment | {"PATH": path, "PYTHONPATH": str(REPOSITORY)} | variables
    ended = subprocess.run(
        ["bash", "-euc", f"{script}\ningest search 'a room number in Paris' --json"],
        env=environment, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}\n{home.log()[-3000:]}"
    return ended.stdout


def hits(output: str) -> list[tuple[str, str, float]]:
    """What the search at the end of a script answered, without the names of sources."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [(row["path"], row["text"], row["score"]) for row in rows if "score" in row]


def test_recipe_is_accepted() -> None:
    """Every `ingest` command of the recipe is one that the parser takes."""
    words = [line.partition(" #")[0].split()[1:] for line in SECTION.splitlines() if line.startswith("ingest ")]
    assert [command[0] for command in words].count("restore") == 3
    for command in words:
        _parser().parse_args(command)


@pytest.mark.proof
def test_recipe(homes: list[Ingest], plain: PlainPostgres, tmp_path: Path) -> None:
    """From a home into another and into a plain PostgreSQL: the same answers, and nothing is made again.

    When the backup is taken, Dagster and the ledger have a run at work whose process is on the laptop.
    """
    laptop, big, own = homes
    for number in range(3):
        (laptop.source / f"{number}.txt").write_text(text_of(40, seed=number))
    before = hits(shell(laptop, "ingest run", tmp_path))
    batches = laptop.rows("UPDATE batches SET status = 'running' RETURNING run_id")
    laptop.rows("UPDATE files SET status = 'processing' RETURNING path")
    laptop.rows("UPDATE attempts SET open = true, outcome = NULL RETURNING run_id")
    for (run_id,) in batches:
        assert laptop.rows(f"UPDATE dagster.runs SET status = 'STARTED' WHERE run_id = '{run_id}' RETURNING id")
    shell(laptop, ON_LAPTOP, tmp_path)
    place = tmp_path / "srv"
    after = shell(big, ON_BIG.replace("/srv/ingest", str(place)), tmp_path)
    assert hits(after) == before != []
    big.set(sources=place / "documents")
    account = big.call("run")
    require_all_indexed(account)
    assert (account["files_parsed"], account["chunks_embedded"]) == (0, 0)
    assert big.rows("SELECT DISTINCT kills FROM files") == [(0,)]
    assert big.count("dagster.runs WHERE status = 'STARTED'") == 0
    admin = {"PGHOST": "127.0.0.1", "PGPORT": str(plain.port), "PGUSER": "postgres", "PGPASSWORD": PASSWORD}
    subprocess.run(["bash", "-euc", f"{ADMINISTRATOR}\npsql --command=\"ALTER ROLE ingest PASSWORD '{PASSWORD}'\""],
                   env=os.environ | admin | {"PATH": f"{postgres_program('psql').parent}:{os.environ['PATH']}"},
                   check=True, capture_output=True)  # fmt: skip
    script = INTO_POSTGRES.replace("db.example:5432", f"127.0.0.1:{plain.port}")
    after = shell(own, script, tmp_path, PGPASSWORD=PASSWORD, INGEST_SOURCES=str(laptop.source))
    assert hits(after) == before
