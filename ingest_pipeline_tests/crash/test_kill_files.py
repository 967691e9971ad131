"""A process that is killed before or after any change of a file leaves nothing that looks whole and is not."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingest_pipeline.embedding import export
from ingest_pipeline.instance import supervisor
from ingest_pipeline.instance.home import CONFIG, find_config, prepare_dagster_home
from ingest_pipeline.instance.run_record import RunRecord
from ingest_pipeline.memory.record import read_records
from ingest_pipeline.memory.recorder import Position, Recorder
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import spool
from ingest_pipeline.sources.access import Access
from ingest_pipeline.sources.folder import Folder
from ingest_pipeline.sources.upload import add_file
from ingest_pipeline_tests.conftest import CARD
from ingest_pipeline_tests.crash.file_trials import FileTrials
from ingest_pipeline_tests.crash.results import write_result

Trials = Callable[..., int]
CONTENT = b"0123456789" * 1000


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    """Runs trials in folders of its own."""

    def run(work: Any, after_kill: Any, after_rerun: Any) -> int:
        return FileTrials(tmp_path, work, after_kill, after_rerun).run()

    return run


def report(part: str, kills: int) -> None:
    """All points of this work are hit: they are killed one after another until the work ends by itself."""
    write_result(f"files: {part}", hit=kills, of=kills)


def test_spool_leaves_nothing(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that outgrew the memory is on disk without a name: no kill leaves a file behind."""
    monkeypatch.setattr(spool, "MEMORY_BYTES", 1000)

    def download(folder: Path) -> None:
        pieces = [CONTENT[start : start + 500] for start in range(0, len(CONTENT), 500)]
        with spool.spooled(pieces, name="a", max_bytes=10**6, folder=folder / "spool") as (stream, _):
            assert stream.read() == CONTENT

    def is_empty(folder: Path) -> None:
        assert [path for path in folder.rglob("*") if path.is_file()] == []

    kills = trials(download, is_empty, is_empty)
    assert kills >= 2
    report("spool", kills)


def test_records_are_whole_or_absent(trials: Trials) -> None:
    """A supervisor that is killed at any point leaves the record from before or the one after, and a cause to tell."""

    def supervise(folder: Path) -> None:
        supervisor.Supervisor(folder / "runs" / "run.json", 2**30, 1).run(["true"])

    def start(folder: Path) -> None:
        (folder / "runs").mkdir(exist_ok=True)
        supervise(folder)

    def is_whole(folder: Path) -> None:
        record = RunRecord(folder / "runs" / "run.json")
        if record.path.exists():
            written = json.loads(record.path.read_text())
            assert {"pid", "supervisor", "limit_bytes"} <= written.keys()
        assert record.exit_cause()

    def has_ended(folder: Path) -> None:
        assert RunRecord(folder / "runs" / "run.json").read()["code"] == 0

    kills = trials(start, is_whole, has_ended)
    assert kills >= 8  # two records of two calls each, before and after
    report("run records", kills)


def test_own_records_are_whole(trials: Trials) -> None:
    """The same of the record that `ingest run` writes of a run that it executes itself."""
    begun, ended = {"pid": 1, "started": 2}, {"pid": 1, "started": 2, "code": 0}

    def write(folder: Path) -> None:
        for entries in (begun, ended):
            RunRecord(folder / "runs" / "run.json").write(entries)

    def is_whole(folder: Path) -> None:
        path = folder / "runs" / "run.json"
        assert not path.exists() or json.loads(path.read_text()) in (begun, ended)

    def has_ended(folder: Path) -> None:
        assert RunRecord(folder / "runs" / "run.json").read() == ended

    kills = trials(write, is_whole, has_ended)
    assert kills >= 8
    report("records of ingest run", kills)


def test_memory_records_can_be_read(trials: Trials) -> None:
    """What a run wrote of its memory before it was killed can be read, and the next run appends to it."""

    def note(folder: Path) -> None:
        recorder = Recorder(folder / "runs" / "run", stage="chunks", batch="b", limit_bytes=2**30, position=Position())
        recorder.note(2**20, [])
        recorder.close()

    def is_readable(folder: Path) -> None:
        path = folder / "runs" / "run"
        assert {record.stage for record in read_records(path)} <= {"chunks"} if path.exists() else True

    def has_samples(folder: Path) -> None:
        assert read_records(folder / "runs" / "run")[-1].peak_bytes == 2**20

    kills = trials(note, is_readable, has_samples)
    assert kills >= 4
    report("memory of runs", kills)


def test_exports_are_whole_or_absent(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model has its final name only when all of it is there; the next process exports it again."""
    model: Any = SimpleNamespace(folder=Path("model"), card=CARD, verified=lambda: Path("model"))
    monkeypatch.setattr(export, "pooling_of", lambda folder: "mean")

    def convert(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        output = Path(command[-1])
        output.mkdir(parents=True)
        for name in ("model.xml", "model.bin"):
            (output / name).write_bytes(CONTENT)
        return subprocess.CompletedProcess(command, 0, b"", b"")

    monkeypatch.setattr(export.subprocess, "run", convert)

    def prepare(folder: Path) -> None:
        export.exported_model(model, home=folder)

    def is_whole(folder: Path) -> None:
        path = export.export_path(CARD, home=folder)
        assert not path.parent.exists() or [one.read_bytes() for one in path.parent.iterdir()] == [CONTENT] * 2

    def is_there(folder: Path) -> None:
        is_whole(folder)
        kept = export.export_path(CARD, home=folder).parent
        assert {path.name for path in kept.parent.iterdir()} == {kept.name, f"{kept.name}.lock"}

    kills = trials(prepare, is_whole, is_there)
    assert kills >= 10
    report("exports", kills)


def test_uploads_are_whole_or_unlisted(trials: Trials) -> None:
    """Of an upload that is killed the catalog lists all or nothing; the same upload again is not refused for it."""

    def upload(folder: Path) -> None:
        (folder / "documents").mkdir(exist_ok=True)
        access = Access(spool_folder=folder / "spool")
        source = str(folder / "documents")
        add_file(source, "a.txt", io.BytesIO(CONTENT), access, max_bytes=10**6, replace=True)

    def is_whole(folder: Path) -> None:
        source = Folder(str(folder / "documents"))
        listed = [file.path for file in source.files()] if (folder / "documents").exists() else []
        assert listed in ([], ["a.txt"])
        assert all((folder / "documents" / path).read_bytes() == CONTENT for path in listed)

    def is_there(folder: Path) -> None:
        assert (folder / "documents" / "a.txt").read_bytes() == CONTENT

    kills = trials(upload, is_whole, is_there)
    assert kills >= 4
    report("uploads", kills)


def test_dagster_home_is_whole(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its dagster.yaml is there as a whole or not at all."""
    expected = find_config().read_text()

    def prepare(folder: Path) -> None:
        prepare_dagster_home(replace(Settings(), home=folder))

    def is_whole(folder: Path) -> None:
        path = folder / "dagster" / CONFIG
        assert not path.exists() or path.read_text() == expected

    def is_there(folder: Path) -> None:
        assert (folder / "dagster" / CONFIG).read_text() == expected

    kills = trials(prepare, is_whole, is_there)
    assert kills >= 6
    report("dagster home", kills)
