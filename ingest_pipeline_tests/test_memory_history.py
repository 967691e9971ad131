"""The memory of runs over time, from the stage that records it to the command that shows it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.memory.record import memory_file, read_records
from ingest_pipeline.memory.recorder import Position, Recorder
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.store import generations, memory_records
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.command import Command
from ingest_pipeline_tests.pipeline import Pipeline

GIB = 1024**3
MIB = 1024**2
PAGES = "".join(f"# Part {number}\n\n" + "word " * 3000 + "\n\n" for number in range(1, 9))
COLUMNS = "SELECT stage, shown, array_length(used_kib, 1) > 0, limit_bytes FROM memory_records ORDER BY began_at"


@pytest.fixture
def pipeline(connection: Connection, settings: Settings) -> Iterator[Pipeline]:
    settings = replace(settings, run_memory=8 * GIB, machine_memory=16 * GIB)
    with Sandbox(memory_limit_bytes=GIB) as sandbox:
        yield Pipeline(connection, settings, sandbox)


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(settings, monkeypatch, capsys)


def wrote(settings: Settings, run_id: str, *stages: str, batch: str = "b1", mib: int = 100) -> None:
    """What a run of this machine wrote down."""
    for number, stage in enumerate(stages):
        path = memory_file(settings.home, run_id)
        recorder = Recorder(path, stage=stage, batch=batch, limit_bytes=512 * MIB, position=Position(1, 4))
        recorder.note((mib + number) * MIB, [])
        recorder.close()
        time.sleep(0.01)  # in the order in which they began


def test_each_stage_is_recorded(pipeline: Pipeline, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both stages are in the store with the files that were at work, and how far each came."""
    write_chunks = generations.write_chunks

    def measured(*arguments: Any, **options: Any) -> None:
        pipeline.watch.look()  # a short file is through between two regular measurements
        write_chunks(*arguments, **options)

    monkeypatch.setattr(generations, "write_chunks", measured)
    (source / "long.md").write_text(PAGES)
    pipeline.scan()
    [key] = pipeline.seal().batches
    run = pipeline.run(key)
    with run.watched("chunks") as watch:
        pipeline.watch = watch
        pipeline.chunk(run)
    with run.watched("embeddings") as watch:
        pipeline.watch = watch
        pipeline.embed(run)
    assert pipeline.connection.execute(COLUMNS).fetchall() == [
        ("chunks", True, True, 8 * GIB),
        ("embeddings", True, True, 8 * GIB),
    ]
    [file] = pipeline.files(run)
    chunks, embeddings = memory_records.records_of_run(pipeline.connection, run.run_id)
    assert file.file_id in chunks.file_ids
    for record in (chunks, embeddings):
        assert {*record.file_ids} <= {0, file.file_id}
        assert max(record.pages) <= 8
        assert record.peak_bytes > 50 * MIB
        assert memory_records.files_of_record(pipeline.connection, record) in ({}, {file.file_id: ("long.md", 8)})
    assert (run.position.file_id, run.position.page) == (0, 0)


def test_a_stage_that_fails_is_not_shown(pipeline: Pipeline, source: Path) -> None:
    """It has no materialization: its record is stored for whoever reconciles the run, who shows it."""
    (source / "a.txt").write_text("one")
    run = pipeline.chunked()
    with pytest.raises(KeyError), run.watched("embeddings"):
        raise KeyError
    assert pipeline.connection.execute(COLUMNS).fetchall() == [("embeddings", False, True, 8 * GIB)]
    assert [record.stage for record in memory_records.take_not_shown(pipeline.connection)] == ["embeddings"]
    assert memory_records.take_not_shown(pipeline.connection) == []


def test_memory_of_a_run(command: Command, tmp_path: Path) -> None:
    """Its stages with peak and budget, also before anything is in the store; with a picture of them."""
    wrote(command.settings, "run1", "chunks", "embeddings")
    plot = tmp_path / "plot.svg"
    header, chunks, embeddings = command("memory", "--run", "run1", "--plot", str(plot)).splitlines()
    assert header.split() == ["run", "stage", "began", "took", "peak", "budget", "degradation", "steps"]
    assert chunks.split()[:2] == ["run1", "chunks"]
    assert chunks.split()[4:] == ["0s", "100.0", "MiB", "512.0", "MiB", "none"]
    assert embeddings.split()[5] == "101.0"
    assert plot.read_text().startswith("<svg ")
    assert plot.read_text().count("budget 512.0 MiB") == 2


def test_memory_of_a_batch(command: Command, connection: Connection) -> None:
    """All runs of a batch, stored or on this machine, the oldest first; each stage once."""
    wrote(command.settings, "run2", "chunks", mib=200)
    wrote(command.settings, "run1", "chunks", mib=300)
    wrote(command.settings, "other", "chunks", batch="b2")
    [record] = command.json("memory", "--run", "run2")
    assert (record["peak_bytes"], record["steps"], record["points"]) == (200 * MIB, [], 1)
    [stored] = read_records(memory_file(command.settings.home, "run2"))
    memory_records.store_record(connection, stored, shown=True)
    rows = command.json("memory", "--batch", "b1")
    assert [(row["run_id"], row["stage"], row["batch"]) for row in rows] == [
        ("run2", "chunks", "b1"),
        ("run1", "chunks", "b1"),
    ]
    keys = "run_id batch stage began_at seconds limit_bytes peak_bytes points steps"
    assert " ".join(rows[0]) == keys


@pytest.mark.parametrize("which", [("--run", "run9"), ("--batch", "b9"), ("--run", "../run1")])
def test_memory_of_nothing(command: Command, which: tuple[str, str]) -> None:
    """A run or a batch of which nothing is recorded is said in one line, with exit code 1."""
    wrote(command.settings, "run1", "chunks")
    ended = command.ended("memory", *which)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"ingest: no memory is recorded of {which[1]}: `ingest status`\n"


def test_run_and_batch_exclude_each_other(command: Command) -> None:
    """One question at a time."""
    assert command.ended("memory", "--run", "a", "--batch", "b").code == 2
