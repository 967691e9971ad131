"""What may happen to `ingest run` from outside, with real processes: it goes on, or the next one ends what it began."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ingest_pipeline.memory.process import parent_of
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.cleanup import find_damage
from ingest_pipeline.store.connection import store
from ingest_pipeline.store.migrate import migrate
from ingest_pipeline.store.server import EmbeddedServer
from ingest_pipeline_tests.conftest import REPOSITORY, WHOLE_PROOF
from ingest_pipeline_tests.crash.results import write_result
from ingest_pipeline_tests.crash.small_disk import MIB, SmallDisk, small_disk
from ingest_pipeline_tests.proving import Ingest, Served, pdf_of, served, text_of

pytestmark = pytest.mark.proof

AWAY_SECONDS = 3.0
SLOW_SECONDS = 2.0
"""For how long the embedder holds a call: time to do something to the run."""
CALL_TEXTS, DOCUMENTS, SENTENCES = 4, 6, 12
PARSED, EMBEDDING = "files WHERE status = 'processing'", "attempts WHERE open AND stage = 'embeddings'"
PHASES = ("catalog", "parsing", "embedding", "index") if WHOLE_PROOF else ("embedding",)
END_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
SECOND_RUN = """
import sys
from ingest_pipeline.definitions import defs
from ingest_pipeline.instance.home import open_instance
from ingest_pipeline.instance.origins import code_origin, remote_origin
from ingest_pipeline.settings import read_settings
with open_instance(read_settings()) as instance:
    run = instance.create_run_for_job(
        defs.resolve_job_def("ingest_batch"), tags={"dagster/partition": sys.argv[1]}, asset_selection=None,
        remote_job_origin=remote_origin("ingest_batch"), job_code_origin=code_origin("ingest_batch"),
    )
    instance.launch_run(run.run_id, workspace=None)
"""


@pytest.fixture(scope="module")
def embedder() -> Iterator[Served]:
    with served("embedding_server") as server:
        yield server


@pytest.fixture
def database(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that only the test starts and stops."""
    server = EmbeddedServer(tmp_path / "database")
    migrate(server.start())
    yield server
    server.stop()


Make = Callable[..., Ingest]


@pytest.fixture
def make(tmp_path: Path, models: Path, embedder: Served) -> Iterator[Make]:
    """Makes the home of a story: vectors come from a server, some texts at a time."""
    made: list[Ingest] = []
    embedder.script(script=[], slow_seconds=SLOW_SECONDS)

    def new(url: str = "", folder: Path = tmp_path, **settings: object) -> Ingest:
        made.append(Ingest(folder, models, url, embedder="openai", embedder_url=f"{embedder.root}/v1", dimensions=32))
        made[-1].set(chunk_tokens=64, embed_batch=CALL_TEXTS, run_memory="512MiB", **settings)
        return made[-1]

    yield new
    for one in made:
        one.close()


def add_documents(ingest: Ingest) -> None:
    for number in range(DOCUMENTS):
        (ingest.source / f"{number}.txt").write_text(text_of(SENTENCES, seed=number))


def wait_for(what: str, done: Callable[[], Any], *processes: subprocess.Popen[str], seconds: float = 240.0) -> Any:
    """Wait until something is true while one of the commands runs; return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        with suppress(psycopg.Error, OSError):  # not there yet
            if found := done():
                return found
        time.sleep(0.02)
    ends = [(process.poll(), process.communicate()) for process in processes]
    raise AssertionError(f"{what} did not come; exit codes and outputs: {ends}")


def ended_well(ingest: Ingest, process: subprocess.Popen[str]) -> dict[str, Any]:
    """The account of a run in which everything was indexed; nothing in the store is damaged."""
    account = ingest.ended(process)
    files = {status: count for status, count in account["files"].items() if count}
    assert (account["stopped"], set(files)) == (None, {"indexed"}), account
    require_sound(ingest)
    return account


def require_sound(ingest: Ingest) -> None:
    settings = Settings(home=ingest.home, sources=(str(ingest.source),))
    with store(ingest.url) as connection:
        damage = [one for one in find_damage(connection, settings) if one.severity == "damage"]
    assert damage == []


def went_away(database: EmbeddedServer) -> None:
    assert database.stop()
    time.sleep(AWAY_SECONDS)
    database.start()


def test_a_run_survives_three_faults(make: Make, database: EmbeddedServer, embedder: Served) -> None:
    """All sessions are ended, the supervisor and the postmaster are killed: one `ingest run` goes on to its end."""
    ingest = make(database.url)
    add_documents(ingest)
    embedder.script(script=["slow"] * 8)
    process = ingest.start("run")
    wait_for("embedding", lambda: ingest.count(EMBEDDING), process)
    first = set(ingest.workers())
    assert ingest.rows(END_SESSIONS)[0][0] >= 2
    wait_for("another run", lambda: set(ingest.workers()) - first and ingest.count(EMBEDDING), process)
    [worker] = ingest.workers().values()
    os.kill(parent_of(worker) or 0, signal.SIGKILL)
    wait_for("the end of the run", lambda: worker not in ingest.workers().values(), process)
    os.kill(int((database.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    time.sleep(1)
    database.start()
    ended_well(ingest, process)
    assert ingest.count("files WHERE kills > 1") == 0
    write_result("faults of one run", survived=3, of=3)


@pytest.mark.parametrize("phase", PHASES)
def test_database_goes_away(make: Make, database: EmbeddedServer, embedder: Served, phase: str) -> None:
    """A database that is away for seconds, in whatever phase: the same `ingest run` ends with every file indexed."""
    ingest = make(database.url)
    add_documents(ingest)
    if phase == "parsing":
        (ingest.source / "long.pdf").write_bytes(pdf_of(300, seed=51, lines=1))
    embedder.script(script=["slow"])
    reached = {
        "catalog": lambda: list((ingest.home / "runs").glob("*.json")),
        "parsing": lambda: ingest.count(PARSED),
        "embedding": lambda: ingest.count(EMBEDDING),
        "index": lambda: ingest.count("batches") and not ingest.count("batches WHERE status <> 'done'"),
    }
    process = ingest.start("run")
    wait_for(phase, reached[phase], process)
    went_away(database)
    ended_well(ingest, process)
    write_result(f"database away: {phase}", survived=1, of=1)


def test_disk_is_full(make: Make, embedder: Served, tmp_path: Path) -> None:
    """A full disk under home and database stops the run with a reason; with room again the next one ends it."""
    with small_disk(tmp_path / "disk", 256 * MIB) as disk:
        ingest = make(folder=disk.path, max_errors=2)
        add_documents(ingest)
        server = EmbeddedServer(ingest.home)
        migrate(server.start())
        embedder.script(script=["slow"])
        process = ingest.start("run")
        wait_for("embedding", lambda: ingest.count(EMBEDDING), process)
        disk.leave(64 * 1024)
        _fill_log(server, disk)
        out, err = process.communicate(timeout=300)
        assert process.returncode in (1, 3), (out, err)
        assert "Traceback" not in err
        disk.make_room()
        ended_well(ingest, ingest.start("run"))
        server.stop()
    write_result("disk full", survived=1, of=1)


def _fill_log(server: EmbeddedServer, disk: SmallDisk) -> None:
    """Have the server write until its disk is full: the room that it has for its log is used up, too."""
    with suppress(psycopg.Error), psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE public.ballast AS SELECT repeat(md5(n::text), 100) FROM generate_series(1, 50000) n"
        )


def test_source_goes_away(make: Make, url: str, embedder: Served) -> None:
    """A source that vanishes while it is ingested is refused by the next run, which deletes nothing; it comes back."""
    ingest = make(url)
    add_documents(ingest)
    away = ingest.source.with_name("elsewhere")
    embedder.script(script=["slow"])
    process = ingest.start("run")
    wait_for("embedding", lambda: ingest.count(EMBEDDING), process)
    ingest.source.rename(away)
    ended_well(ingest, process)  # everything was parsed
    shown = ingest.count("public.searchable_chunks")
    refused = ingest.start("run")
    out, err = refused.communicate(timeout=120)
    assert refused.returncode == 2, (out, err)
    assert (ingest.count("public.searchable_chunks"), ingest.count("files WHERE status = 'indexed'")) == (
        shown,
        DOCUMENTS,
    )
    away.rename(ingest.source)
    (ingest.source / "new.txt").write_text(text_of(2, seed=60))
    assert ended_well(ingest, ingest.start("run"))["files"]["indexed"] == DOCUMENTS + 1
    write_result("source away", survived=1, of=1)


def test_two_runs_and_a_backfill(make: Make, url: str, embedder: Served) -> None:
    """Two `ingest run` at once, and their batch materialized by hand meanwhile: all end well, nothing is twice."""
    ingest = make(url)
    add_documents(ingest)
    embedder.script(script=["slow"] * 3)
    both = [ingest.start("run"), ingest.start("run")]
    # One of them has the batch; the other one ends when it sees that nothing is left for it.
    wait_for("embedding", lambda: ingest.count(EMBEDDING), *both)
    [(batch,)] = ingest.rows("SELECT batch FROM batches WHERE status = 'running'")
    subprocess.run([sys.executable, "-c", SECOND_RUN, batch], env=ingest.environment, cwd=REPOSITORY, check=True)
    for process in both:  # one of them ends while the other's run is still at work
        account = ingest.ended(process)
        assert (account["stopped"], account["failed"]) == (None, {}), account
    deadline = time.monotonic() + 120
    while ingest.workers() and time.monotonic() < deadline:
        time.sleep(0.2)
    ended_well(ingest, ingest.start("run"))
    assert ingest.count("attempts WHERE open") == 0
    assert ingest.count("embeddings") == ingest.rows("SELECT count(DISTINCT text_hash) FROM chunks")[0][0]
    write_result("two runs and a backfill", survived=1, of=1)
