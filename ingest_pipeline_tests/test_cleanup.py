"""Whatever is damaged in a store is found, named and repaired, and the next run brings back what was there."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.damage import DAMAGES, make_damage
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.cleanup import find_damage, repair_damage
from ingest_pipeline.stages.index import refresh_index
from ingest_pipeline.store import damage, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.pipeline import Pipeline

GIB = 1024**3
SHOWN = """
SELECT path, version, ordinal, text, model FROM searchable_chunks ORDER BY path, ordinal
"""
TEXTS = {
    "a.md": "# First\n\nOne text.\n\n# Second\n\nAnother text.\n",
    "b.txt": "A third text.\n",
    "c.txt": "Number 4.\n",
}


@pytest.fixture
def pipeline(connection: Connection, settings: Settings, source: Path) -> Iterator[Pipeline]:
    """Three files that are searchable, with an index."""
    for name, text in TEXTS.items():
        (source / name).write_text(text)
    ample = replace(settings, run_memory=8 * GIB, machine_memory=16 * GIB)
    with Sandbox(memory_limit_bytes=GIB // 2) as sandbox:
        made = Pipeline(connection, ample, sandbox)
        made.ingest()
        vectors.ensure_index(connection, made.model, 8)
        yield made


def shown(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(SHOWN).fetchall()


def kinds(pipeline: Pipeline) -> list[str]:
    return [one.kind for one in find_damage(pipeline.connection, pipeline.settings)]


def test_index_not_due(pipeline: Pipeline, source: Path) -> None:
    """While the first run is at work, that the index is not there yet is no damage; afterwards it is."""
    (source / "new.txt").write_text("New.")
    pipeline.chunked()
    pipeline.connection.execute("DROP INDEX embeddings_hnsw_1")
    assert kinds(pipeline) == []
    pipeline.connection.execute("UPDATE batches SET status = 'waiting', run_id = NULL WHERE status = 'running'")
    assert kinds(pipeline) == ["index_missing"]


def test_nothing_to_find(pipeline: Pipeline) -> None:
    """A store that only this program has written to is in order."""
    assert kinds(pipeline) == []


def test_every_kind_is_made() -> None:
    """The script makes each kind of damage that cleanup knows, and no other."""
    assert list(DAMAGES) != [] and {*DAMAGES} == {kind.name for kind in damage.KINDS}


@pytest.mark.parametrize("kind", DAMAGES)
def test_found_and_repaired(pipeline: Pipeline, kind: str) -> None:
    """Each kind is found under its name, is gone after the repair, and the next run makes what was shown before."""
    before = shown(pipeline.connection)
    make_damage(pipeline.connection, kind)
    assert kind in kinds(pipeline)
    repaired = repair_damage(pipeline.connection, pipeline.settings)
    assert kind in [one.kind for one in repaired]
    assert kinds(pipeline) == []
    pipeline.ingest()
    refresh_index(pipeline.connection, replace(pipeline.settings, extract=""))
    assert shown(pipeline.connection) == before
    assert [one for one in kinds(pipeline) if one != "index_missing"] == []


def damage_all(pipeline: Pipeline, source: Path) -> list[tuple[Any, ...]]:
    """Make every kind of damage in files of their own; return what was shown before."""
    for number in range(len(DAMAGES)):
        (source / f"d{number:02}.txt").write_text(f"Text number {number}.\n")
    pipeline.ingest()
    before = shown(pipeline.connection)
    for kind in DAMAGES:
        make_damage(pipeline.connection, kind)
    return before


def test_all_at_once(pipeline: Pipeline, source: Path) -> None:
    """All kinds of damage together are repaired in one pass, and the next run makes what was shown before."""
    before = damage_all(pipeline, source)
    repair_damage(pipeline.connection, pipeline.settings)
    assert kinds(pipeline) == []
    pipeline.ingest()
    assert shown(pipeline.connection) == before


def test_find_changes_nothing(pipeline: Pipeline, source: Path) -> None:
    """Without the repair nothing is written."""
    damage_all(pipeline, source)
    tables = ("files", "generations", "chunks", "embeddings", "batches", "attempts")
    rows = [pipeline.connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables]  # type: ignore[arg-type]
    kinds(pipeline)
    again = [pipeline.connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables]  # type: ignore[arg-type]
    assert str(rows) == str(again)


def test_index_closes_attempts(pipeline: Pipeline) -> None:
    """An attempt that an overtaken run has left open, after its batch was done, is closed by the next index."""
    make_damage(pipeline.connection, "open_attempts")
    refresh_index(pipeline.connection, pipeline.settings)
    assert kinds(pipeline) == []


def test_withdrawn_until_indexed(pipeline: Pipeline) -> None:
    """Readers see nothing of a document that lacks a chunk, and all of it after the next run."""
    make_damage(pipeline.connection, "chunks_incomplete")
    repair_damage(pipeline.connection, pipeline.settings)
    assert {row[0] for row in shown(pipeline.connection)} == {"b.txt", "c.txt"}
    pipeline.ingest()
    assert {row[0] for row in shown(pipeline.connection)} == {"a.md", "b.txt", "c.txt"}


def test_vectors_survive_repair(pipeline: Pipeline) -> None:
    """The vectors of a document that is ingested again are not computed again."""
    make_damage(pipeline.connection, "indexed_without_chunks")
    repair_damage(pipeline.connection, pipeline.settings)
    pipeline.embedder.asked.clear()
    pipeline.ingest()
    assert pipeline.embedder.asked == []


def test_gap_keeps_readers(pipeline: Pipeline) -> None:
    """A document with a gap that is worth another try stays searchable until it was parsed again."""
    before = shown(pipeline.connection)
    make_damage(pipeline.connection, "gaps_under_lower_limits")
    repair_damage(pipeline.connection, pipeline.settings)
    assert [row[:4] for row in shown(pipeline.connection)] == [row[:4] for row in before]
    assert pipeline.ingest() == (1, 0)
    assert kinds(pipeline) == []


def test_higher_limits_find_gaps(pipeline: Pipeline) -> None:
    """A gap is worth another try only under higher limits than those that it was recorded under."""
    gap = '[{"page_from": 2, "page_to": 2, "reason": "ParserOutOfMemory; given up from here on"}]'
    pipeline.connection.execute("UPDATE files SET gaps = %s WHERE path = 'a.md'", (gap,))
    assert kinds(pipeline) == []
    more = replace(pipeline.settings, run_memory=9 * GIB)
    assert [one.kind for one in find_damage(pipeline.connection, more)] == ["gaps_under_lower_limits"]
    slower = replace(pipeline.settings, page_seconds=60.0)
    assert find_damage(pipeline.connection, slower) == []


def test_running_batch_is_left(pipeline: Pipeline, source: Path) -> None:
    """Files, attempts and chunks of a run that is at work are no damage."""
    (source / "d.txt").write_text("A new text.\n")
    run = pipeline.chunked()
    assert kinds(pipeline) == []
    assert repair_damage(pipeline.connection, pipeline.settings) == []
    assert [outcome.done for outcome in pipeline.embed(run)] == [True]


def test_leftover_files(pipeline: Pipeline) -> None:
    """Old files of killed processes under INGEST_HOME are found and deleted; new ones, and a live export, stay."""
    home = pipeline.settings.home
    for name in ("spool", "runs", "dagster"):
        (home / name).mkdir(exist_ok=True)
    part = home.resolve() / "models" / "m-openvino.part"
    part.mkdir(parents=True)
    old, new = home / "spool" / "old", home / "runs" / "new.tmp"
    old.write_text("x")
    new.write_text("x")
    os.utime(old, (time.time() - 7200,) * 2)
    with (part.parent / "m-openvino.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert [(one.kind, one.count) for one in find_damage(pipeline.connection, pipeline.settings)] == [
            ("leftover_files", 1)
        ]
    [repaired] = repair_damage(pipeline.connection, pipeline.settings)
    assert (repaired.count, part.exists(), old.exists(), new.exists()) == (2, False, False, True)
