"""The command line as its users and their programs meet it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.settings import SAMPLES
from ingest_pipeline.store.server import EmbeddedServer
from ingest_pipeline_tests.conftest import REPOSITORY, share_models
from ingest_pipeline_tests.servers import SECRET_KEY, Seaweed

FILE_FIELDS = (
    "source, path, version, media_type, bytes, pages, status, attempts, error, message, retryable, gaps, chunks, "
    "predicted_peak_bytes, measured_peak_bytes, seconds, batch, embed_peak_bytes"
).split(", ")

# Some seconds of embedding, on any processor.
LARGE = "".join(f"Sentence number {n} is about the number {n * n}.\n" for n in range(15_000))


class Ingest:
    """The installed command with a home of its own."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home, self.server = home, EmbeddedServer(home)
        # Made for a whole module: variables of the developer's shell are still there.
        shell = {name: value for name, value in os.environ.items() if not name.startswith("INGEST_")}
        self.environment = {**shell, "INGEST_HOME": str(home), **environment}

    def __call__(self, *arguments: str, code: int = 0) -> str:
        result = self.result(*arguments)
        assert result.returncode == code, result.stderr[-3000:] + result.stdout[-1000:]
        assert "Traceback" not in result.stderr
        return result.stdout

    def result(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), env=self.environment, cwd=REPOSITORY, capture_output=True, text=True
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "ingest_pipeline.cli", *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments), env=self.environment, cwd=REPOSITORY, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def json(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self(*arguments, "--json").splitlines()]


HIT_FIELDS = [
    "score", "source", "path", "pages", "text", "page_label", "section", "heading", "file_id", "ordinal", "characters",
    "media_type", "title", "vector_score", "lexical_score", "marks", "snippet", "places", "also_at", "before", "after",
    "coverage", "models", "notes",
]  # fmt: skip
"""Of a line of `search --json`; new ones go to the end."""


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Ingest]:
    """A home into which the samples were ingested."""
    ingest = Ingest(share_models(tmp_path_factory.mktemp("cli") / "home", models))
    ingest.first_run = ingest("run")  # type: ignore[attr-defined]
    yield ingest
    ingest.server.stop()


@pytest.fixture
def fresh(tmp_path: Path, models: Path) -> Iterator[Ingest]:
    """A home in which nothing happened, and a source folder."""
    source = tmp_path / "documents"
    source.mkdir()
    ingest = Ingest(share_models(tmp_path / "home", models), INGEST_SOURCES=str(source))
    yield ingest
    ingest.server.stop()


def test_the_first_run_shows_every_sample(ingested: Ingest) -> None:
    """The first run prints every file with its status, where time and memory went, and the totals."""
    text: str = ingested.first_run  # type: ignore[attr-defined]
    for path in SAMPLES.rglob("*.*"):
        assert path.name in text
    assert "Where time and memory went" in text
    assert "7 files parsed" in text
    assert "7 indexed" in text


def test_a_second_run_changes_nothing(ingested: Ingest) -> None:
    """The second run parses 0 files and embeds 0 chunks: only the catalog ran."""
    [account] = ingested.json("run")
    assert (account["files_parsed"], account["chunks_embedded"], account["runs"]) == (0, 0, 1)
    assert account["stopped"] is None


def test_a_run_imports_no_library_before_its_file(fresh: Ingest, tmp_path: Path) -> None:
    """A run on a text file loads neither torch nor what reads other sources and formats: each costs seconds and MiB."""
    (tmp_path / "documents" / "a.txt").write_text(LARGE)
    fresh.environment["PYTHONPROFILEIMPORTTIME"] = "1"
    fresh("run")
    records = (fresh.home / "runs").glob("*.json")
    [log] = [path.with_suffix(".log") for path in records if "limit_bytes" in path.read_text()]  # of a run of its own
    steps = (fresh.home / "dagster" / "storage" / log.stem).rglob("*.err")  # what was printed within a step
    lines = [line for path in (log, *steps) for line in path.read_text().splitlines()]
    imported = {line.rpartition("|")[2].strip() for line in lines if "import time:" in line}
    assert {"dagster", "openvino", "tokenizers", "ingest_pipeline.stages.embeddings"} <= imported
    unwanted = {"openai", "google", "spacy", "jsonschema", "httpx2"}
    unwanted |= {"torch", "transformers", "sentence_transformers", "s3fs", "aiohttp", "pyarrow", "pypdf", "pypdfium2"}
    assert not unwanted & {name.partition(".")[0] for name in imported}
    switched_off = ("ingest_pipeline.extraction", "ingest_pipeline.stages.extracts", "ingest_pipeline.stages.entities")
    assert not [name for name in imported if name.startswith(switched_off)]


def test_status_is_a_contract(ingested: Ingest) -> None:
    """Names and types of `status --json` are those that programs rely on."""
    [status] = ingested.json("status")
    assert list(status) == [
        "files", "chunks", "embeddings", "batches", "model", "run_budget_bytes", "machine_budget_bytes",
    ]  # fmt: skip
    assert status["files"] == {
        "synced": 0, "processing": 0, "processed": 0, "indexed": 7, "failed": 0, "deleted": 0,
    }  # fmt: skip
    assert status["batches"] == {"waiting": 0, "running": 0, "done": 1, "failed": 0}
    assert status["chunks"] == status["embeddings"] > 50
    assert status["run_budget_bytes"] == 2**30


def test_files_are_a_contract(ingested: Ingest) -> None:
    """`files --json` has one object a line, with these fields in this order."""
    rows = ingested.json("files")
    assert len(rows) == 7
    assert all(list(row) == FILE_FIELDS for row in rows)
    [manual] = [row for row in rows if row["path"] == "oven-manual.pdf"]
    assert (manual["pages"], manual["status"], manual["attempts"], manual["gaps"]) == (11, "indexed", 1, [])
    assert 10 * 2**20 < manual["measured_peak_bytes"] <= manual["predicted_peak_bytes"]
    assert ingested.json("files", "--status", "failed") == []


def test_search_finds_the_page(ingested: Ingest) -> None:
    """The manual's page 6 answers; programs get score, source, path, pages, text, and the place."""
    question = "How often do the steam boxes have to be descaled, and with what?"
    hit, *_ = ingested.json("search", question, "--top", "3")
    assert list(hit) == HIT_FIELDS
    assert (hit["path"], hit["pages"]) == ("oven-manual.pdf", [6, 6])
    assert {hit["text"][begin:end] for begin, end in hit["marks"]} >= {"Descale", "steam", "boxes"}
    assert (hit["coverage"]["files"], hit["coverage"]["searched"]) == (7, 7)


def test_search_in_a_scope(ingested: Ingest) -> None:
    """Each option of the scope reaches the search; neighbours come along; a scope without files says so."""
    scope = (
        "--path",
        "*.pdf",
        "--type",
        "application/pdf",
        "--pages",
        "5-7",
        "--section",
        "steam",
        "--since",
        "2020-01-01",
    )
    [hit, *_] = ingested.json("search", "steam", "--top", "9", "--context", "1", *scope)
    assert (hit["path"], len(hit["before"]), len(hit["after"])) == ("oven-manual.pdf", 1, 1)
    assert hit["coverage"]["files"] == 1
    for nowhere in (("--until", "2020-01-01"), ("--source", "/nowhere"), ("--batch", "none"), ("--entity", "Nobody")):
        assert ingested("search", "steam", *nowhere).startswith("nothing found")


def test_search_loads_no_torch(ingested: Ingest) -> None:
    """A search with the packaged model imports neither torch nor Dagster: it answers within a second."""
    script = "import sys; from ingest_pipeline.cli.main import main; sys.argv[0] = 'ingest'; main()"
    command = [sys.executable, "-X", "importtime", "-c", script, "search", "steam boxes"]
    ended = subprocess.run(command, env=ingested.environment, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in ended.stderr.splitlines()}
    assert {"openvino", "tokenizers", "psycopg"} <= imported
    assert not {"torch", "transformers", "sentence_transformers", "dagster", "starlette", "spacy"} & imported


def test_search_from_python(ingested: Ingest) -> None:
    """`ingest_pipeline.search` gives a program the same hits, with what was searched."""
    script = (
        "import ingest_pipeline\n"
        "answer = ingest_pipeline.search('steam boxes', top=2, path='oven')\n"
        "print([hit.path for hit in answer.hits], answer.coverage.sentence)\n"
        "print(len(ingest_pipeline.search('steam').hits))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], env=ingested.environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines() == [
        "['oven-manual.pdf', 'oven-manual.pdf'] searched 1 of 1 file in this scope", "10",
    ]  # fmt: skip


def test_the_database_url_is_for_any_client(ingested: Ingest) -> None:
    """`ingest db url` is what an application connects to; the views are there."""
    import psycopg

    with psycopg.connect(ingested("db", "url").strip()) as connection:
        assert connection.execute("SELECT count(*) FROM file_status WHERE status = 'indexed'").fetchone() == (7,)


@pytest.mark.parametrize(
    ("variable", "value", "arguments"),
    [
        ("INGEST_RUN_MEMORY", "lots", ["status"]),
        ("INGEST_SOURCES", "/no/such/folder", ["run"]),
        ("INGEST_SOURCES", "/no/such/folder", ["plan"]),
        ("INGEST_MODEL", "/no/such/model", ["run"]),
        ("INGEST_RUN_MEMORY", "900GiB", ["run"]),
        ("INGEST_UI_PORT", "99999", ["ui"]),
    ],
)
def test_a_bad_value_names_its_variable(ingested: Ingest, variable: str, value: str, arguments: list[str]) -> None:
    """A bad value is one line with its variable and exit code 2, no traceback, whatever the command."""
    result = Ingest(ingested.home, **{variable: value}).result(*arguments)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert variable in result.stderr


def test_bad_usage_exits_with_2() -> None:
    """An unknown command is argparse's business, and its code is the contract's."""
    result = subprocess.run([sys.executable, "-m", "ingest_pipeline.cli", "nonsense"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "usage:" in result.stderr


def test_failed_files_are_listed(fresh: Ingest) -> None:
    """A run with failed files ends with 0: every file is accounted for, with reasons."""
    source = Path(fresh.environment["INGEST_SOURCES"])
    (source / "good.txt").write_text("A sentence that can be found.")
    (source / "scan.pdf").write_bytes(b"%PDF-1.4 damaged")
    text = fresh("run")
    assert "UnreadableDocument" in text
    assert "1 indexed, 1 failed" in text


@pytest.mark.proof
def test_a_killed_run_is_finished(fresh: Ingest) -> None:
    """Kill -9 in the middle of a large file: it goes alone into a new batch, and all files end searchable."""
    source = Path(fresh.environment["INGEST_SOURCES"])
    (source / "small.txt").write_text("A small file in the same batch.")
    (source / "large.txt").write_text(LARGE)
    fresh.environment["INGEST_MAX_RUNS"] = "1"  # otherwise the two files are divided among two runs
    process = fresh.start("run", "--json")
    worker = _embedding_worker(fresh)
    os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    account = json.loads(out)
    assert account["files"]["indexed"] == 2
    assert len(account["batches_run"]) == 2
    rows = {row["path"]: row for row in fresh.json("files")}
    assert rows["large.txt"]["attempts"] == 2
    assert rows["small.txt"]["status"] == "indexed"


@pytest.mark.proof
def test_three_kills_fail_the_file(fresh: Ingest) -> None:
    """Kill -9 each time that the same file is open: three attempts, `KilledRepeatedly`, exit 0."""
    source = Path(fresh.environment["INGEST_SOURCES"])
    for name in ("a.txt", "z.txt"):
        (source / name).write_text(f"A small file called {name}.")
    (source / "large.txt").write_text(LARGE)
    process = fresh.start("run", "--json")
    killed: list[int] = []
    while len(killed) < 3:
        worker = _embedding_worker(fresh, other_than=killed)
        os.kill(worker, signal.SIGKILL)
        killed.append(worker)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    rows = {row["path"]: row for row in fresh.json("files")}
    large = rows.pop("large.txt")
    assert (large["status"], large["error"], large["attempts"]) == ("failed", "KilledRepeatedly", 3)
    assert {row["status"] for row in rows.values()} == {"indexed"}
    assert json.loads(out)["failed"] == {"KilledRepeatedly": 1}


@pytest.mark.proof
def test_a_killed_database_is_started_again(fresh: Ingest) -> None:
    """Kill -9 of Postgres in the middle of a file: `ingest run` goes on by itself and attributes nothing to a file."""
    source = Path(fresh.environment["INGEST_SOURCES"])
    (source / "large.txt").write_text(LARGE)
    process = fresh.start("run", "--json")
    _embedding_worker(fresh)
    postmaster = int((fresh.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "the database is gone; trying again" in err
    assert "Traceback" not in err
    assert json.loads(out)["files"]["indexed"] == 1, out + err
    assert fresh.json("files")[0]["attempts"] == 2


@pytest.mark.parametrize("stop", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.proof)])
def test_a_stop_loses_nothing(fresh: Ingest, stop: signal.Signals) -> None:
    """Interrupted, it says so, leaves no run behind, attributes nothing to a file; the next run goes on from there."""
    source = Path(fresh.environment["INGEST_SOURCES"])
    (source / "large.txt").write_text(LARGE)
    process = fresh.start("run")
    worker = _embedding_worker(fresh)
    process.send_signal(stop)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not _alive(worker)
    status = fresh.json("status")[0]
    assert status["embeddings"] > 0
    assert status["batches"] == {"waiting": 1, "running": 0, "done": 0, "failed": 0}
    [account] = fresh.json("run")
    assert account["files"]["indexed"] == 1
    assert account["chunks_embedded"] < account["chunks"]


AT_LARGE = """
SELECT a.run_id FROM ingest.attempts a JOIN ingest.files f USING (file_id)
WHERE a.open AND a.stage = 'embeddings' AND f.path = 'large.txt' AND (SELECT count(*) FROM ingest.embeddings) > 20
"""


def _embedding_worker(ingest: Ingest, *, other_than: Sequence[int] = ()) -> int:
    """Wait until a run embeds large.txt; return the pid of its process."""
    import psycopg

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        time.sleep(0.1)
        try:
            with psycopg.connect(ingest.server.url) as connection:
                runs = [run for (run,) in connection.execute(AT_LARGE)]
        except psycopg.Error:
            continue
        records = [json.loads((ingest.home / "runs" / f"{run}.json").read_text()) for run in runs]
        for record in records:
            if "code" not in record and record["pid"] not in other_than:
                return int(record["pid"])
    pytest.fail("nothing was ever embedded")


def _alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def test_help_and_version() -> None:
    """`--help` names the exit codes, `--version` the version, and a count that is none is refused in words."""
    ingest = Ingest(Path("/nonexistent"))
    assert "3    stopped before the end" in ingest("--help")
    assert ingest("--version") == f"ingest {version('ingest-pipeline')}\n"
    for count in ("0", "-1", "many"):
        result = ingest.result("search", "words", "--top", count)
        assert result.returncode == 2
        assert f"argument --top: {count!r}: expected a whole number above 0" in result.stderr


def test_files_are_added_and_found(fresh: Ingest, tmp_path: Path) -> None:
    """`add`, `run`, `search`, with a name that would clear a terminal; a second file of a name is refused in a line."""
    (tmp_path / "a.md").write_text("# Warranty\n\nThe warranty for the pump lasts seven years.\n")
    evil = "two\nlines \x1b[2J.md"
    added = fresh("add", str(tmp_path / "a.md"), "--name", evil)
    assert added == f"two\\nlines \\x1b[2J.md  57 B  added to {fresh.environment['INGEST_SOURCES']}\n"
    assert fresh.json("add", str(tmp_path / "a.md"))[0]["size_bytes"] == 57
    refused = fresh.result("add", str(tmp_path / "a.md"), str(tmp_path / "none.md"))
    assert refused.returncode == 1
    assert [line.startswith("ingest: ") for line in refused.stderr.splitlines()] == [True, True]
    assert "\x1b" not in fresh("run") + fresh("files")
    assert "page 1 · Warranty" in fresh("search", "How long is the warranty of the pump?", "--top", "1")


def test_a_bucket_is_ingested_by_the_command(fresh: Ingest, seaweed: Seaweed, bucket: str, corpus: Path) -> None:
    """Added, ingested by real runs within 500 MiB, and not read again; the secret is in no file of the home."""
    where = {"INGEST_SOURCES": f"s3://{bucket}/docs", "INGEST_S3_ENDPOINT": seaweed.endpoint}
    there = Ingest(fresh.home, INGEST_RUN_MEMORY="500MiB", **where)
    names = ("docx/tika-2006ml.docx", "pdf/pdflatex-outline.pdf", "records/candy-data.csv")
    files = [str(corpus / name) for name in names]
    there("add", *files)
    [account] = there.json("run")
    assert (account["files_parsed"], account["stopped"]) == (3, None)
    assert account["peak_memory_bytes"] < 500 * 1024**2
    assert there.json("run")[0]["files_parsed"] == 0
    logs = [path for path in there.home.rglob("*") if path.is_file() and "postgres" not in path.parts]
    assert logs
    assert [path for path in logs if SECRET_KEY.encode() in path.read_bytes()] == []


def test_mistakes_with_servers_are_one_line(fresh: Ingest, bucket: str, seaweed: Seaweed) -> None:
    """No traceback, no secret, and what was there stays."""
    for source in ("ftp://host/x", "s3://key:hunter2@bucket/x"):
        result = fresh.result("run", source)
        assert result.returncode == 2
        assert len(result.stderr.splitlines()) == 1
        assert "hunter2" not in result.stderr
    fresh.environment["INGEST_S3_ENDPOINT"] = seaweed.endpoint
    result = fresh.result("run", "s3://no-such-bucket-anywhere/x")
    assert result.returncode == 3
    assert "no-such-bucket-anywhere" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


def test_closed_pipe() -> None:
    """Whoever reads the output may stop at any time, also before a short one is flushed: exit code 0, not a word."""
    command = [sys.executable, "-m", "ingest_pipeline.cli", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 0)
    process.stderr.close()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8:strict"])
def test_narrow_terminal(tmp_path: Path, encoding: str) -> None:
    """A name with characters that the terminal does not have is escaped."""
    (tmp_path / "a.txt").write_text("words")
    command = [sys.executable, "-m", "ingest_pipeline.cli", "add", "a.txt", "--to", ".", "--name", "歌\udcff.txt"]
    environ = {**os.environ, "PYTHONIOENCODING": encoding}
    result = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, errors="replace")
    assert "Traceback" not in result.stderr
    assert "udcff" in result.stdout + result.stderr
