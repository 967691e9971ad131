"""Scan, seal, parse, embed, without Dagster: the main job on real bytes, with a fake model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import Mock

import pytest

from ingest_pipeline.embedding.base import Embedder
from ingest_pipeline.errors import FileVanished, RunOutOfMemory, SourceUnavailable, UnreadableDocument
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import CostRate, Done, ListedFile, Page, ParseEvent, ParseWarning, StoredChunk
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.planning import predict
from ingest_pipeline.planning.remaining import WorkState
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import folder
from ingest_pipeline.stages import embeddings, making
from ingest_pipeline.stages.embeddings import embed_files
from ingest_pipeline.stages.index import refresh_index
from ingest_pipeline.stages.preview import preview
from ingest_pipeline.stages.scan import SourceScan, looks_unchanged, read_slab, slabs
from ingest_pipeline.store import batches, generations, ledger, reports
from ingest_pipeline.store import files as store_files
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.ledger import KnownFile
from ingest_pipeline_tests.documents import count, status_of
from ingest_pipeline_tests.pipeline import Pipeline

TEXT = "The quick brown fox jumps over the lazy dog. " * 20


@pytest.fixture
def pipeline(connection: Connection, settings: Settings) -> Iterator[Pipeline]:
    with Sandbox(memory_limit_bytes=512 * 1024**2) as sandbox:
        yield Pipeline(connection, settings, sandbox)


def texts(connection: Connection, path: str) -> str:
    rows = connection.execute("SELECT text FROM searchable_chunks WHERE path = %s ORDER BY ordinal", (path,))
    return " ".join(text for (text,) in rows)


def test_a_folder_becomes_searchable_chunks(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """New files are parsed, embedded, shown; a second time there is nothing to do."""
    (source / "a.txt").write_text(TEXT)
    (source / "sub").mkdir()
    (source / "sub" / "пісня 歌.md").write_text(f"# Title\n\n{TEXT}")
    parsed, embedded = pipeline.ingest()
    assert parsed == 2
    assert embedded == count(connection, "embeddings") > 0
    assert status_of(connection, "sub/пісня 歌.md") == ("indexed", None)
    assert texts(connection, "a.txt").split() == TEXT.split()
    assert pipeline.ingest() == (0, 0)


def test_progress_of_a_file_at_work(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """A file counts as predicted until it is parsed, then by its tokens and the share of them that have vectors."""
    (source / "a.txt").write_text(TEXT)
    pipeline.scan()
    [key] = pipeline.seal().batches
    waiting = WorkState(**work_of(connection, key))
    assert (waiting.parsed_tokens, waiting.waiting_predicted_seconds > 0) == (0, True)
    run = pipeline.run(key)
    [parsed] = pipeline.chunk(run)
    tokens = connection.execute("SELECT sum(tokens) FROM chunks").fetchone()
    stored = WorkState(**work_of(connection, key))
    assert (stored.parsed_tokens, stored.embedded_tokens, stored.waiting_predicted_seconds) == (*(tokens or ()), 0, 0)
    ledger.open_attempt(connection, parsed.file, batch=key, run_id=run.run_id, stage="embeddings")
    ledger.add_embedded(connection, parsed.file, run_id=run.run_id, chunks=parsed.chunks // 2)
    half = WorkState(**work_of(connection, key))
    assert half.embedded_tokens == pytest.approx(stored.parsed_tokens * (parsed.chunks // 2) / parsed.chunks, abs=1)
    pipeline.embed(run)
    finished = WorkState(**work_of(connection, key))
    assert finished.embedded_tokens == finished.finished_tokens == finished.parsed_tokens == stored.parsed_tokens


def work_of(connection: Connection, key: str) -> dict[str, Any]:
    """What the ledger knows of the work on a batch."""
    known = reports.progress(connection, [key])
    return {name: count for name, count in known.items() if name not in ("done", "files")}


def test_a_touched_file_is_not_parsed(pipeline: Pipeline, source: Path) -> None:
    """Another time stamp, the same bytes: 0 parsed, and the next scan does not even hash."""
    (source / "a.txt").write_text(TEXT)
    pipeline.ingest()
    os.utime(source / "a.txt", ns=(1, 1))
    counts = pipeline.scan()
    assert (counts.changed, counts.hashed_bytes) == (0, len(TEXT))
    assert pipeline.scan().hashed_bytes == 0
    assert pipeline.ingest() == (0, 0)


def test_only_the_changed_file_is_parsed(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """One of three changes at its end: one parsed; chunks of equal text keep their vectors."""
    for name in "abc":
        (source / f"{name}.txt").write_text(f"{name} {TEXT}")
    pipeline.ingest()
    before = len(pipeline.embedder.asked)
    (source / "b.txt").write_text(f"b {TEXT} And one more sentence.")
    assert pipeline.ingest()[0] == 1
    assert len(pipeline.embedder.asked) - before <= 2
    assert texts(connection, "b.txt").endswith("one more sentence.")


def test_a_renamed_file_costs_nothing(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """The bytes are known: the new name is searchable at once, the old one is gone."""
    (source / "old.txt").write_text(TEXT)
    pipeline.ingest()
    (source / "old.txt").rename(source / "new.txt")
    assert pipeline.ingest() == (0, 0)
    assert status_of(connection, "new.txt") == ("indexed", None)
    assert status_of(connection, "old.txt") == ("deleted", None)
    assert texts(connection, "old.txt") == ""
    assert texts(connection, "new.txt").split() == TEXT.split()


def test_equal_bytes_are_embedded_once(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """Equal bytes at two paths are both searchable; the work was done for one."""
    for name in ("a.txt", "b.txt"):
        (source / name).write_text(TEXT)
    parsed, _ = pipeline.ingest()
    assert parsed == 1
    assert len(pipeline.embedder.asked) == count(connection, "embeddings")
    assert texts(connection, "a.txt") == texts(connection, "b.txt") != ""


def test_a_deleted_file_leaves_nothing(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """The chunks of a deleted file go with the scan, its vectors with the index."""
    (source / "a.txt").write_text(TEXT)
    pipeline.ingest()
    (source / "a.txt").unlink()
    assert pipeline.scan().deleted == 1
    assert count(connection, "chunks") == 0
    refresh = refresh_index(connection, pipeline.settings)
    assert refresh.vectors_dropped > 0
    assert refresh.inconsistencies == {}
    assert count(connection, "embeddings") == 0


def test_a_deleted_file_comes_back(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """A file that was deleted and comes back is searchable again."""
    (source / "a.txt").write_text(TEXT)
    pipeline.ingest()
    shutil.move(source / "a.txt", source.parent / "kept.txt")
    pipeline.ingest()
    shutil.move(source.parent / "kept.txt", source / "a.txt")
    pipeline.ingest()
    assert status_of(connection, "a.txt") == ("indexed", None)


def test_an_unreadable_source_deletes_nothing(
    pipeline: Pipeline, source: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing that breaks off is no proof of absence."""
    (source / "a.txt").write_text(TEXT)
    (source / "sub").mkdir()
    pipeline.ingest()
    real = os.scandir

    def broken(path: object) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return real(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(SourceUnavailable):
        pipeline.scan()
    assert status_of(connection, "a.txt") == ("indexed", None)


def test_bad_files_do_not_stop_others(pipeline: Pipeline, source: Path, connection: Connection, corpus: Path) -> None:
    """One good file among damaged, empty, encrypted and unknown ones is indexed; each of the others has its reason."""
    (source / "good.txt").write_text(TEXT)
    (source / "empty.txt").write_text("")
    (source / "blank.html").write_text("<html><script>var x = 1</script></html>")
    (source / "damaged.pdf").write_bytes(b"%PDF-1.7\nnothing else")
    (source / "no.epub").write_bytes(b"PK\x03\x04 no archive")
    (source / "data.bin").write_bytes(bytes(range(256)))
    (source / "away.txt").symlink_to(corpus / "MANIFEST.tsv")
    pipeline.ingest()
    assert {path: status_of(connection, path) for path in (entry.name for entry in source.iterdir())} == {
        "good.txt": ("indexed", None),
        "empty.txt": ("failed", "NoText"),
        "blank.html": ("failed", "NoText"),
        "damaged.pdf": ("failed", "UnreadableDocument"),
        "no.epub": ("failed", "UnreadableDocument"),
        "data.bin": ("failed", "UnsupportedFormat"),
        "away.txt": ("failed", "LinkLeavesSource"),
    }


def test_a_failed_file_waits_for_a_change(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """A failed file is left alone by the next runs until its bytes change."""
    (source / "a.txt").write_text("")
    pipeline.ingest()
    assert pipeline.seal().batches == ()
    (source / "a.txt").write_text(TEXT)
    assert pipeline.ingest()[0] == 1
    assert status_of(connection, "a.txt") == ("indexed", None)


def test_added_format(
    pipeline: Pipeline, source: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that no parser was for is read again when a format is added, and only then."""
    (source / "data.bin").write_bytes(bytes(range(256)))
    assert pipeline.scan().refused == 1
    assert pipeline.scan().hashed_bytes == 0
    monkeypatch.setattr(detect, "SUPPORTED", (*detect.SUPPORTED, "application/octet-stream"))
    counts = pipeline.scan()
    assert (counts.changed, counts.hashed_bytes) == (1, 256)
    assert status_of(connection, "data.bin") == ("synced", None)


def test_added_text_format(
    pipeline: Pipeline, source: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was read as plain text is read by a format that an upgrade adds for it."""
    (source / "a.notes").write_text(f"# The mill\n\n{TEXT}")
    assert pipeline.ingest()[0] == 1
    monkeypatch.setitem(detect.BY_SUFFIX, ".notes", detect.MARKDOWN)
    assert pipeline.ingest()[0] == 0
    connection.execute("UPDATE files SET fingerprint = 'of another release'")
    counts = pipeline.scan()
    assert (counts.changed, counts.hashed_bytes) == (1, 0)
    assert pipeline.ingest()[0] == 1
    assert connection.execute("SELECT media_type, status FROM files").fetchall() == [(detect.MARKDOWN, "indexed")]
    assert count(connection, "document_sections") == 1


def test_the_size_limit_can_be_raised(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """FileTooLarge before a byte is read; a larger limit brings it back."""
    (source / "a.txt").write_text(TEXT)
    pipeline.settings = replace(pipeline.settings, max_file_size=100)
    counts = pipeline.scan()
    assert (counts.refused, counts.hashed_bytes) == (1, 0)
    assert status_of(connection, "a.txt") == ("failed", "FileTooLarge")
    pipeline.settings = replace(pipeline.settings, max_file_size=10**6)
    pipeline.ingest()
    assert status_of(connection, "a.txt") == ("indexed", None)


def test_a_file_that_no_budget_holds(
    pipeline: Pipeline, source: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FileNeedsMoreMemory says what it needs, what there is and what to raise; a larger budget brings it back."""
    (source / "a.txt").write_text(TEXT)
    monkeypatch.setitem(predict.SHIPPED, "text/plain", CostRate(300 * 1024**2, 0.5, 1.0, 60.0))
    pipeline.settings = replace(pipeline.settings, run_memory=450 * 1024**2)
    pipeline.scan()
    assert pipeline.seal().refused == 1
    row = connection.execute("SELECT error, message, attempts FROM files").fetchone()
    assert row is not None
    assert row[0] == "FileNeedsMoreMemory"
    assert "raise INGEST_RUN_MEMORY" in row[1]
    assert row[2] == 0
    pipeline.settings = replace(pipeline.settings, run_memory=2**30)
    assert pipeline.seal().files == 1


def test_changed_after_sealing(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """A file that changes after it was sealed fails retryably: no bytes are indexed under another version's name."""
    path = source / "a.txt"
    path.write_text(TEXT)
    pipeline.scan()
    [key] = pipeline.seal().batches
    facts = path.stat()
    path.write_text(TEXT.upper())
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    pipeline.chunk(pipeline.run(key))
    assert status_of(connection, "a.txt") == ("failed", "FileChanged")
    pipeline.ingest()
    assert texts(connection, "a.txt").startswith("THE QUICK")


def test_vanished_after_sealing(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """A file that vanishes after it was sealed is FileVanished first and deleted by the next scan."""
    (source / "a.txt").write_text(TEXT)
    pipeline.scan()
    [key] = pipeline.seal().batches
    (source / "a.txt").unlink()
    pipeline.chunk(pipeline.run(key))
    assert status_of(connection, "a.txt") == ("failed", "FileVanished")
    pipeline.scan()
    assert status_of(connection, "a.txt") == ("deleted", None)


def test_a_killed_run_is_taken_up_there(
    pipeline: Pipeline,
    connection: Connection,
    settings: Settings,
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed after 100 pages of a PDF, the next run asks the parser for the rest, and the text is whole."""
    source = Path(settings.sources[0])
    shutil.copy(corpus / "pdf" / "bashref.pdf", source / "bashref.pdf")
    pipeline.scan()
    [key] = pipeline.seal().batches

    class Killed(BaseException):
        """As if the process ended here."""

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.sandbox, "events", _killed_after(pipeline.sandbox, 100, Killed))
        with pytest.raises(Killed):
            pipeline.chunk(pipeline.run(key))
    asked: list[int] = []
    real = pipeline.sandbox.events
    monkeypatch.setattr(
        pipeline.sandbox,
        "events",
        lambda stream, request: asked.append(request.first_page) or real(stream, request),
    )
    run = pipeline.run(key)
    pipeline.chunk(run)
    pipeline.embed(run)
    assert asked[0] > 60
    resumed = connection.execute("SELECT page_from, char_from, text FROM searchable_chunks ORDER BY ordinal").fetchall()
    (source / "copy.md").write_text("other")
    connection.execute("TRUNCATE generations, files, batches, batch_files, attempts, chunks, embeddings CASCADE")
    pipeline.ingest()
    whole = connection.execute(
        "SELECT page_from, char_from, text FROM searchable_chunks WHERE path = 'bashref.pdf' ORDER BY ordinal"
    ).fetchall()
    assert resumed == whole


class WarnsOnce:
    """A parser that has something to say of the first page alone."""

    file_seconds = 60.0

    def events(self, stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
        if request.first_page == 1:
            yield ParseWarning("page 1 was read without its form")
        for number in range(request.first_page, 4):
            yield Page(number, f"page {number} of three")
        yield Done(3)

    def close(self) -> None:
        """Nothing was started."""


def test_warnings_outlive_a_kill(
    pipeline: Pipeline, connection: Connection, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when its chunks are stored, a file keeps the warning of pages that the next run does not parse."""
    (source / "a.txt").write_text("three pages")
    pipeline.sandbox = WarnsOnce()  # type: ignore[assignment]
    pipeline.scan()
    [key] = pipeline.seal().batches
    with monkeypatch.context() as patch:
        patch.setattr(generations, "complete_generation", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pipeline.chunk(pipeline.run(key))
    run = pipeline.run(key)
    pipeline.chunk(run)
    pipeline.embed(run)
    [warnings] = connection.execute("SELECT warnings FROM files WHERE status = 'indexed'").fetchall()
    assert warnings == (["page 1 was read without its form"],)


def test_changed_while_it_is_read(
    pipeline: Pipeline, connection: Connection, source: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written to in the middle, then put back as it was: no chunk of the middle state survives."""
    path = source / "bashref.pdf"
    shutil.copy(corpus / "pdf" / "bashref.pdf", path)
    facts = path.stat()
    pipeline.scan()
    [key] = pipeline.seal().batches
    real = pipeline.sandbox.events

    def disturbed(stream, request):  # type: ignore[no-untyped-def]
        for event in real(stream, request):
            late = isinstance(event, Page) and event.number >= 150
            if late and event.number == 150:
                os.utime(path)
            yield replace(event, text="FOREIGN BYTES") if late else event

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.sandbox, "events", disturbed)
        pipeline.chunk(pipeline.run(key))
    assert status_of(connection, "bashref.pdf") == ("failed", "FileChanged")
    assert count(connection, "chunks") == 0
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    connection.execute("UPDATE files SET status = 'synced', batch = NULL")
    pipeline.ingest()
    assert status_of(connection, "bashref.pdf") == ("indexed", None)
    assert "FOREIGN" not in texts(connection, "bashref.pdf")


def test_a_dry_run_changes_nothing(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """`preview` before the first scan knows the files; the ledger stays empty; afterwards nothing waits."""
    (source / "a.txt").write_text(TEXT)
    (source / "b.bin").write_bytes(b"\x00\x01")
    plan = preview(connection, settings=pipeline.settings)
    assert [cost.name for batch in plan.batches for cost in batch.costs] == [f"{source}/a.txt"]
    assert count(connection, "files") == 0
    pipeline.ingest()
    assert preview(connection, settings=pipeline.settings).batches == ()


def test_batches_keep_to_the_file_limit(pipeline: Pipeline, source: Path) -> None:
    """Seven files at three a batch are three batches, and every file is in one."""
    for number in range(7):
        (source / f"{number}.txt").write_text(f"{number} {TEXT}")
    pipeline.settings = replace(pipeline.settings, batch_files=3)
    pipeline.scan()
    sealed = pipeline.seal()
    assert (len(sealed.batches), sealed.files) == (3, 7)


def _killed_after(sandbox: Sandbox, pages: int, end: type[BaseException]):  # type: ignore[no-untyped-def]
    real = sandbox.events

    def dying(stream, request):  # type: ignore[no-untyped-def]
        for event in real(stream, request):
            if isinstance(event, Page) and event.number > pages:
                raise end
            yield event

    return dying


def test_a_run_at_its_limit_stops(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """A run stops at the last degradation step: no file is attributed, no vector is lost, nothing is embedded twice."""
    for name in ("a.txt", "b.txt"):
        (source / name).write_text(f"{name} {TEXT * 30}")
    run = pipeline.chunked()
    pipeline.watch.degradation = Degradation(limit_bytes=1000)
    pipeline.watch.degradation.observe(985)
    with pytest.raises(RunOutOfMemory):
        pipeline.embed(run)
    kept = count(connection, "embeddings")
    assert 0 < kept < count(connection, "chunks")
    rows = connection.execute("SELECT open, outcome, error, embed_peak_bytes > 0 FROM attempts ORDER BY attempt_id")
    assert [row for row in rows if row[2]] == [(False, "failed", "RunOutOfMemory", True)]
    batches.reconcile_batch(connection, run.batch, run.run_id, killed=False, canceled=False, message="RunOutOfMemory")
    pipeline.watch = TreeWatch()
    asked = len(pipeline.embedder.asked)
    again = pipeline.run(run.batch)
    batches.begin_batch(connection, run.batch, again.run_id)
    pipeline.embed(again)
    assert status_of(connection, "a.txt") == status_of(connection, "b.txt") == ("indexed", None)
    assert len(pipeline.embedder.asked) - asked == count(connection, "embeddings") - kept


def test_small_files_are_embedded_together(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """The texts of small files go through the model in one window; each file has an attempt with its own share."""
    for name in "abcd":
        (source / f"{name}.txt").write_text(f"{name} stands here. {name} is all.")
    run = pipeline.chunked()
    calls: list[int] = []
    real = pipeline.embedder.embed
    pipeline.embedder.embed = lambda texts: calls.append(len(texts)) or real(texts)  # type: ignore[func-returns-value]
    outcomes = pipeline.embed(run)
    assert calls == [4]
    assert [outcome.chunks for outcome in outcomes] == [1, 1, 1, 1]
    assert all(outcome.done and outcome.seconds > 0 and outcome.peak_memory_bytes > 0 for outcome in outcomes)
    rows = connection.execute("SELECT outcome, chunks_embedded, embed_seconds > 0, embed_peak_bytes > 0 FROM attempts")
    assert rows.fetchall() == [("done", 1, True, True)] * 4


def test_large_files_have_windows_of_their_own(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """Files share a window while they have 256 chunks together; a larger one stands alone, in the order of names."""
    for name in "abcde":
        (source / f"{name}.txt").write_text(f"{name} {TEXT}")
    run = pipeline.chunked()
    sizes = {"a": 100, "b": 150, "c": 7, "d": 5000, "e": 1}
    for name, chunks in sizes.items():
        statement = "UPDATE generations g SET chunks = %s FROM files f WHERE f.version = g.version AND f.path = %s"
        connection.execute(statement, (chunks, f"{name}.txt"))
    stage = embeddings._EmbeddingStage(run, lambda: pipeline.embedder, pipeline.watch)
    grouped = [[file.path.removesuffix(".txt") for file in window] for window in stage.windows()]
    assert grouped == [["a", "b"], ["c"], ["d"], ["e"]]


def test_another_fingerprint_between_two_runs(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """Files that a run parsed before a setting changed are parsed again, and never shown without their text."""
    (source / "a.txt").write_text(TEXT)
    first = pipeline.chunked()
    batches.reconcile_batch(connection, first.batch, first.run_id, killed=False, canceled=True, message="canceled")
    assert status_of(connection, "a.txt") == ("processed", None)
    run = pipeline.run(first.batch)
    run = replace(run, fingerprint="another")
    [file] = pipeline.files(run)
    with run.claimed(file) as empty:
        assert not generations.publish_file(connection, file, empty, fingerprint="another", model=run.model_id)
    pipeline.chunk(run)
    pipeline.embed(run)
    assert status_of(connection, "a.txt") == ("indexed", None)
    assert texts(connection, "a.txt").split() == TEXT.split()


def test_two_scans_at_once_delete_nothing(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """A scan that began earlier and writes later does not make a file look unseen to the later one."""
    (source / "a.txt").write_text(TEXT)
    pipeline.ingest()
    earlier, later = ledger.next_scan(connection), ledger.next_scan(connection)
    name = str(source)
    store_files.mark_seen(connection, name, ["a.txt"], later)
    store_files.mark_seen(connection, name, ["a.txt"], earlier)
    listed = ListedFile("a.txt", len(TEXT), "r")
    for record in (store_files.record_touches, store_files.record_versions):
        record(connection, store_files.ScannedFile(name, listed, earlier, version="v", media_type="text/plain"))
        assert store_files.delete_unseen(connection, name, later) == 0


def test_a_source_that_goes_away_keeps_what_was_read(
    pipeline: Pipeline, source: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files that were hashed before a server went away are recorded; the scan fails, and deletes nothing."""
    for name in "abc":
        (source / f"{name}.txt").write_text(f"{name} {TEXT}")
    real = folder.Folder.read_version

    def gone(self: folder.Folder, path: str, *, max_bytes: int) -> tuple[str, int, bytes]:
        if path == "c.txt":
            raise SourceUnavailable("the server is away")
        return real(self, path, max_bytes=max_bytes)

    monkeypatch.setattr(folder.Folder, "read_version", gone)
    with pytest.raises(SourceUnavailable):
        pipeline.scan()
    rows = connection.execute("SELECT path, status FROM files ORDER BY path").fetchall()
    assert rows == [("a.txt", "synced"), ("b.txt", "synced")]


def test_refusals_hold_no_frames(pipeline: Pipeline, source: Path) -> None:
    """A refusal waits to be written without the frames it came through: they hold a piece and a connection."""
    (source / "a.txt").write_text(TEXT)
    scan = SourceScan(folder.Folder(str(source)), replace(pipeline.settings, max_file_size=10), 1, ())
    [(_, error)] = read_slab(scan, list(scan.source.files()), {}).refused
    assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)


def test_slabs_end_by_bytes() -> None:
    """500 files make a slab, or 256 MiB of large ones: what is lost by an interruption is bounded."""
    small, large = ListedFile("s", 10), ListedFile("l", 100 * 1024**2)
    assert [len(slab) for slab in slabs([small] * 1001)] == [500, 500, 1]
    assert [len(slab) for slab in slabs([large] * 7)] == [3, 3, 1]
    assert list(slabs([])) == []


def test_after_a_failed_run_files_are_embedded_alone(pipeline: Pipeline, source: Path) -> None:
    """In the second run of a batch each file is a window of its own: a further kill has one cause."""
    for name in "abc":
        (source / f"{name}.txt").write_text(f"{name} {TEXT}")
    run = pipeline.chunked()
    assert run.runs == 1
    again = pipeline.run(run.batch)
    assert again.runs == 2
    stage = embeddings._EmbeddingStage(again, lambda: pipeline.embedder, pipeline.watch)
    assert [len(window) for window in stage.windows()] == [1, 1, 1]


def test_loading_the_model_is_no_attempt(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """A run that ends while it loads the model has no attempt on a file: no kill is attributed to one."""
    (source / "a.txt").write_text(TEXT)
    run = pipeline.chunked()

    def load() -> Embedder:
        raise RuntimeError("the model cannot be loaded")

    with pytest.raises(RuntimeError, match="cannot be loaded"):
        list(embed_files(run, load_embedder=load, watch=pipeline.watch))
    assert connection.execute("SELECT stage, open FROM attempts").fetchall() == [("chunks", False)]


def test_killed_within_a_window(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """A run that ends in the middle of a window leaves vectors, and the next one embeds only what is missing."""
    for name in "abc":
        (source / f"{name}.txt").write_text(f"{name} {TEXT}")
    run = pipeline.chunked()
    outcomes = embed_files(run, load_embedder=lambda: pipeline.embedder, watch=pipeline.watch)
    assert next(outcomes).file.path == "a.txt"
    outcomes.close()  # type: ignore[attr-defined]
    assert status_of(connection, "b.txt") == ("processed", None)
    asked, vectors_kept = len(pipeline.embedder.asked), count(connection, "embeddings")
    pipeline.embed(pipeline.run(run.batch))
    assert (len(pipeline.embedder.asked), count(connection, "embeddings")) == (asked, vectors_kept)
    assert status_of(connection, "b.txt") == status_of(connection, "c.txt") == ("indexed", None)


def test_a_kill_makes_smaller_batches(
    pipeline: Pipeline, source: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is embedded with half of the tokens after one kill, never with less than one chunk needs."""
    (source / "a.txt").write_text(TEXT * 30)
    run = pipeline.chunked()
    connection.execute("UPDATE files SET kills = 1")
    seen, real = [], making.micro_batches

    def noted(chunks: list[StoredChunk], *, max_batch_tokens: int, **more: int) -> Iterator[list[StoredChunk]]:
        seen.append(max_batch_tokens)
        return real(chunks, max_batch_tokens=max_batch_tokens, **more)

    monkeypatch.setattr(making, "micro_batches", noted)
    pipeline.embed(run)
    assert set(seen) == {512}  # of 1,024
    assert status_of(connection, "a.txt") == ("indexed", None)


def test_another_budget_plans_again(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """Batches that wait under another budget are planned again for the new one; keys are not used again."""
    (source / "a.txt").write_text(TEXT)
    pipeline.scan()
    [old] = pipeline.seal().batches
    assert pipeline.seal().batches == ()
    pipeline.settings = replace(pipeline.settings, run_memory=pipeline.settings.run_memory // 2)
    [new] = pipeline.seal().batches
    assert new != old
    assert {batch.key: (batch.status, batch.files) for batch in batches.list_batches(connection)} == {
        old: ("done", 1),
        new: ("waiting", 1),
    }
    assert [file.path for file in ledger.batch_files(connection, old)] == []
    assert [file.path for file in ledger.batch_files(connection, new)] == ["a.txt"]


def test_a_running_batch_keeps_its_budget(pipeline: Pipeline, source: Path, connection: Connection) -> None:
    """Only what waits is planned again."""
    (source / "a.txt").write_text(TEXT)
    pipeline.scan()
    [key] = pipeline.seal().batches
    batches.begin_batch(connection, key, "run1")
    pipeline.settings = replace(pipeline.settings, run_memory=pipeline.settings.run_memory // 2)
    assert pipeline.seal().batches == ()
    assert [file.path for file in ledger.batch_files(connection, key)] == ["a.txt"]


def test_unreadable_files_in_the_preview(
    pipeline: Pipeline, source: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be opened is left out of the plan; the scan records what is wrong with it."""
    for name in ("a.txt", "b.txt"):
        (source / name).write_text(TEXT)
    real = folder.open_file

    def open_file(where: Path, path: str) -> Any:
        if path == "a.txt":
            raise FileVanished("a.txt: gone")
        return real(where, path)

    monkeypatch.setattr(folder, "open_file", open_file)
    plan = preview(connection, settings=pipeline.settings)
    assert [Path(cost.name).name for batch in plan.batches for cost in batch.costs] == ["b.txt"]


@pytest.mark.parametrize(
    ("file", "known", "unchanged"),
    [
        (ListedFile("a", 5, "r1"), KnownFile("a", "r1", "v", "indexed", None), True),
        (ListedFile("a", 5, "r2"), KnownFile("a", "r1", "v", "indexed", None), False),
        (ListedFile("a", 5, "r1"), None, False),
        (ListedFile("a", 5, ""), KnownFile("a", "", "v", "indexed", None), False),
        (ListedFile("a", 5, "r1"), KnownFile("a", "r1", "v", "deleted", None), False),
        (ListedFile("a", 5, "r1", UnreadableDocument("a")), KnownFile("a", "r1", "v", "indexed", None), False),
        (ListedFile("a", 5, "r1"), KnownFile("a", "r1", "v", "failed", "NoText"), True),
        (ListedFile("a", 5, "r1"), KnownFile("a", "r1", "v", "failed", "FileChanged", retryable=True), False),
        (ListedFile("a", 5, "r1"), KnownFile("a", "r1", "", "failed", "UnreadableDocument"), False),
        (ListedFile("a", 101, "r1"), KnownFile("a", "r1", "", "failed", "FileTooLarge"), True),
        (ListedFile("a", 100, "r1"), KnownFile("a", "r1", "", "failed", "FileTooLarge"), False),
    ],
)
def test_looks_unchanged(file: ListedFile, known: KnownFile | None, unchanged: bool) -> None:
    """A file is not read when its revision is known and the same, and there is no reason to look again."""
    assert looks_unchanged(file, known, replace(Settings(), max_file_size=100)) is unchanged


def test_a_lost_source_stops_the_preview(
    pipeline: Pipeline, source: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file would wait its minute for a server that is away, and the plan would lack them all."""
    (source / "a.txt").write_text(TEXT)

    def open_file(where: Path, path: str) -> Any:
        raise SourceUnavailable(f"{where}: away")

    monkeypatch.setattr(folder, "open_file", open_file)
    with pytest.raises(SourceUnavailable):
        preview(connection, settings=pipeline.settings)
