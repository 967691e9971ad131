"""Failures that a test makes, in a folder to hand over: they come again, and nothing that is private is in it."""

from __future__ import annotations

import json
import os
import tracemalloc
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pypdf
import pytest

from ingest_pipeline.embedding.choice import budget_of
from ingest_pipeline.errors import ConfigurationError, FileNeedsMoreMemory
from ingest_pipeline.models import Gap
from ingest_pipeline.parsing.detect import HTML, PDF, SUPPORTED
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages import autopsy_document
from ingest_pipeline.stages.autopsy import Autopsy, autopsy
from ingest_pipeline.stages.autopsy_replay import ChildEnd, Observed, kind_of, observe, pages_at_fault
from ingest_pipeline.stages.autopsy_spec import Limits, ReplaySpec, read_spec
from ingest_pipeline.store import batches, ledger
from ingest_pipeline.store import files as store_files
from ingest_pipeline.store.connection import Connection
from ingest_pipeline_tests.command import Command
from ingest_pipeline_tests.documents import add_file, files_of, seal, status_of
from ingest_pipeline_tests.made import pdf
from ingest_pipeline_tests.pipeline import Pipeline
from ingest_pipeline_tests.test_sandbox import greedy_pdf

MIB = 1024**2
PLUGIN = """
import os, signal, time
import ingest_pipeline.parsing.formats.pdf as pdf

ordinary = pdf._page_text

def deadly(document, index, typed):
    text = ordinary(document, index, typed)
    if "CRASH" in text:
        os.kill(os.getpid(), signal.SIGSEGV)
    elif "HANG" in text:
        time.sleep(60)
    elif "EAT" in text:
        hoard = [bytearray(16 * 1024**2) for _ in range(1000)]
    return text

pdf._page_text = deadly
"""
SECRETS = (
    "hunter2-database", "hunter2-pdf", "hunter2-template", "hunter2-id", "hunter2-bucket.example", "hunter2-folder",
    "hunter2-name", "hunter2-text", "hunter2-title",
)  # fmt: skip


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that pages kill by a word."""
    plugin = tmp_path / "plugin"
    plugin.mkdir()
    (plugin / "sitecustomize.py").write_text(PLUGIN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(plugin), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def private(settings: Settings, tmp_path: Path) -> Settings:
    """Settings full of what must not get out; the parser may use 226 MiB."""
    source = tmp_path / "hunter2-folder"
    source.mkdir()
    return replace(
        settings, sources=(str(source),), run_memory=416 * MIB, page_seconds=20, pdf_passwords=("hunter2-pdf",),
        record_text="hunter2-template {title}", record_id="hunter2-id", s3_endpoint="http://hunter2-bucket.example",
    )  # fmt: skip


@pytest.fixture
def pipeline(connection: Connection, private: Settings) -> Iterator[Pipeline]:
    """The stages under those settings; the sandbox as a run has it."""
    limit = budget_of(private).parser_bytes
    with Sandbox(memory_limit_bytes=limit, page_seconds=private.page_seconds, file_seconds=60) as sandbox:
        yield Pipeline(connection, private, sandbox)


def ingest(pipeline: Pipeline, content: bytes, name: str = "hunter2-name.pdf") -> None:
    """One document, ingested."""
    Path(pipeline.settings.sources[0], name).write_bytes(content)
    pipeline.ingest()


def made(pipeline: Pipeline, out: Path, path: str = "hunter2-name.pdf", *, with_document: bool = False) -> Autopsy:
    """The autopsy of a file."""
    return autopsy(pipeline.connection, path, settings=pipeline.settings, out=out, with_document=with_document)


def leaks(folder: Path) -> list[str]:
    """What is private and stands in a name, a page's text or the bytes of a folder."""
    everything = b"".join(path.name.encode() + path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for path in folder.glob("*.pdf"):
        everything += "".join(page.extract_text() for page in pypdf.PdfReader(path).pages).encode()
        everything += str(pypdf.PdfReader(path).metadata).encode()
    return [secret for secret in SECRETS if secret.encode() in everything]


def report_of(folder: Path) -> dict[str, Any]:
    """The rows of the ledger in a folder."""
    report: dict[str, Any] = json.loads((folder / "ledger.json").read_text())
    return report


def replayed(pipeline: Pipeline, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> int:
    """The exit code of the command that replays, on a machine without store and settings."""
    nowhere = replace(Settings(), database_url="postgresql://nobody@127.0.0.1:1/none")
    return Command(nowhere, monkeypatch, capsys).ended("autopsy", "--replay", str(out)).code


BOOK = ["hunter2-text of the first page", "hunter2-text of the second", "{deed} here", "hunter2-text of the fourth"]


@pytest.mark.parametrize(
    ("deed", "kind"), [("CRASH", "ParserCrashed"), ("HANG", "ParserTimedOut"), ("EAT", "ParserOutOfMemory")]
)
def test_page_that_kills(
    deadly: None,
    pipeline: Pipeline,
    tmp_path: Path,
    deed: str,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The page at fault alone is in the folder, fails in the same way elsewhere, and nothing private comes with it."""
    if deed == "HANG":
        pipeline.settings = replace(pipeline.settings, page_seconds=1.5)
        pipeline.sandbox.page_seconds = 1.5
    ingest(pipeline, pdf.pages([text.format(deed=deed) for text in BOOK], title="hunter2-title"))
    assert status_of(pipeline.connection, "hunter2-name.pdf") == ("indexed", None)
    out = tmp_path / "out"
    found = made(pipeline, out)
    assert (found.reproduced, found.document, found.pages) == (True, "pages-3-3.pdf", (3, 3))
    assert sorted(path.name for path in out.iterdir()) == [
        "README.txt", "ledger.json", "pages-3-3.pdf", "replay.json", "timeline.txt"
    ]  # fmt: skip
    assert report_of(out)["gaps"] == [{"page_from": 3, "page_to": 3, "reason": kind}]
    assert f"{deed} here" in pypdf.PdfReader(out / "pages-3-3.pdf").pages[0].extract_text()
    assert leaks(out) == []
    assert replayed(pipeline, out, monkeypatch, capsys) == 0


def test_real_memory(pipeline: Pipeline, tmp_path: Path) -> None:
    """A page on which pdfium itself runs out of memory can be cut out with more, and fails alone under the limit."""
    ingest(pipeline, greedy_pdf())
    found = made(pipeline, tmp_path / "out")
    assert (found.reason, found.reproduced, found.pages) == ("UnreadableDocument", True, (1, 1))
    spec = read_spec((tmp_path / "out" / "replay.json").read_text())
    assert spec.expected == ("ParserOutOfMemory",)
    assert spec.limits.parser_memory_bytes == budget_of(pipeline.settings).parser_bytes


def test_cured_parser(
    deadly: None,
    pipeline: Pipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A replay in which the failure does not come is code 1; an autopsy of it has no pages and says so."""
    ingest(pipeline, pdf.pages(["a good page", "CRASH here"]))
    pipeline.settings = replace(pipeline.settings, page_seconds=7)  # since then
    made(pipeline, tmp_path / "out")
    assert read_spec((tmp_path / "out" / "replay.json").read_text()).limits.page_seconds == 20
    monkeypatch.setenv("PYTHONPATH", os.environ["PYTHONPATH"].partition(os.pathsep)[2])
    assert replayed(pipeline, tmp_path / "out", monkeypatch, capsys) == 1
    again = made(pipeline, tmp_path / "again")
    assert (again.reproduced, again.document, again.note) == (False, None, "it does not fail now")
    assert "Here it did not." in (tmp_path / "again" / "README.txt").read_text()


def test_gap_of_the_document(pipeline: Pipeline, tmp_path: Path) -> None:
    """Where pages alone do not fail, nothing of the document is handed over unless asked; then with its name."""
    ingest(pipeline, pdf.broken_second_branch())
    found = made(pipeline, tmp_path / "without")
    assert (found.reproduced, found.document) == (True, None)
    assert "--with-document adds the document" in found.note
    assert leaks(tmp_path / "without") == []
    found = made(pipeline, tmp_path / "with", with_document=True)
    assert (found.document, found.pages) == ("document.pdf", None)
    assert (tmp_path / "with" / "document.pdf").read_bytes() == pdf.broken_second_branch()
    assert leaks(tmp_path / "with") == ["hunter2-name"]
    assert report_of(tmp_path / "with")["name"] == "hunter2-name.pdf"
    assert "THE WHOLE DOCUMENT" in (tmp_path / "with" / "README.txt").read_text()


def test_message_may_quote(pipeline: Pipeline, tmp_path: Path) -> None:
    """A parser's message that holds the document's text is not in the folder; our own, with numbers, is."""
    ingest(pipeline, b'{"a": "hunter2-text" hunter2-text}', "hunter2-name.json")
    made(pipeline, tmp_path / "json", "hunter2-name.json")
    assert leaks(tmp_path / "json") == []
    ingest(pipeline, pdf.scan(), "hunter2-name-scan.pdf")
    made(pipeline, tmp_path / "scan", "hunter2-name-scan.pdf")
    assert leaks(tmp_path / "scan") == []
    message = report_of(tmp_path / "scan")["message"]
    assert message.startswith("file-")
    assert message.endswith("without a text layer, probably scanned: it needs OCR first")


def test_password_is_no_hash(pipeline: Pipeline, tmp_path: Path) -> None:
    """Of a locked document neither passwords nor what the ledger keeps of them are handed over."""
    ingest(pipeline, pdf.locked("AES-256", user="other"))
    found = made(pipeline, tmp_path / "out")
    assert (found.reason, found.reproduced, found.document) == ("EncryptedDocument", True, None)
    kept = pipeline.connection.execute("SELECT split_part(fingerprint, '+', 2) FROM files").fetchone()
    assert kept is not None
    assert kept[0]
    assert kept[0] not in (tmp_path / "out" / "ledger.json").read_text()
    assert report_of(tmp_path / "out")["same_settings_as_then"] is False  # the pipeline of tests has its own
    assert leaks(tmp_path / "out") == []


def test_zip(deadly: None, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The same in one file, which can be replayed as it is; nothing private is in it, nor is a half one left."""
    ingest(pipeline, pdf.pages([text.format(deed="CRASH") for text in BOOK], title="hunter2-title"))
    out = tmp_path / "out.zip"
    made(pipeline, out)
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "unpacked")
    assert len(list((tmp_path / "unpacked").iterdir())) == 5
    assert leaks(tmp_path / "unpacked") == []
    assert replayed(pipeline, out, monkeypatch, capsys) == 0
    assert not list(tmp_path.glob(".autopsy*"))


@pytest.mark.parametrize("damage", ["away", "changed", "gone"])
def test_without_the_source(pipeline: Pipeline, tmp_path: Path, damage: str) -> None:
    """A source that is away, a file that changed or is gone: everything but the document, and a note."""
    ingest(pipeline, pdf.broken_second_branch())
    source = Path(pipeline.settings.sources[0])
    if damage == "away":
        source.rename(tmp_path / "moved")
    elif damage == "changed":
        (source / "hunter2-name.pdf").write_bytes(b"other")
    else:
        (source / "hunter2-name.pdf").unlink()
    found = made(pipeline, tmp_path / "out", with_document=True)
    assert (found.reproduced, found.document) == (None, None)
    assert found.note.startswith("the document could not be read: File")
    assert report_of(tmp_path / "out")["attempts"][0]["outcome"] == "done"
    assert "was not tried" in (tmp_path / "out" / "README.txt").read_text()


def test_changed_meanwhile(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that changes while it is examined is not handed over as if it were the one that failed."""
    ingest(pipeline, pdf.broken_second_branch())

    def observed(*arguments: Any) -> Observed:
        (Path(pipeline.settings.sources[0]) / "hunter2-name.pdf").write_bytes(b"hunter2-text")
        return observe(*arguments)

    monkeypatch.setattr(autopsy_document, "observe", observed)
    found = made(pipeline, tmp_path / "out", with_document=True)
    assert (found.document, found.note) == (None, "the document could not be read: FileChanged")
    assert not (tmp_path / "out" / "document.pdf").exists()


def test_killed_runs(pipeline: Pipeline, private: Settings, tmp_path: Path) -> None:
    """Attempts with their memory, how the runs ended, and incidents by their cause; no message and no log."""
    connection = pipeline.connection
    ingest(pipeline, b"hunter2-text " * 50, "hunter2-name.txt")
    connection.execute("UPDATE files SET status = 'synced', generation_id = NULL, batch = NULL")
    runs = private.home / "runs"
    runs.mkdir(parents=True)
    for number in range(3):
        key, run = seal(connection), f"killed{number}"
        batches.begin_batch(connection, key, run)
        [file] = files_of(connection, key).values()
        ledger.open_attempt(connection, file, batch=key, run_id=run, stage="chunks")
        batches.reconcile_batch(connection, key, run, killed=True, canceled=False, message="/hunter2-folder")
        record = {"code": -9, "cause": "SIGKILL: killed from outside", "oom_kills": 1, "group_peak_bytes": 400 * MIB}
        (runs / f"{run}.json").write_text(json.dumps(record | {"command": "hunter2-text"}))
        (runs / f"{run}.log").write_text("hunter2-text")
    found = made(pipeline, tmp_path / "out", "hunter2-name.txt")
    assert (found.reason, found.reproduced) == ("KilledRepeatedly", False)
    report = report_of(tmp_path / "out")
    assert [row["outcome"] for row in report["attempts"][-3:]] == ["killed"] * 3
    assert report["runs"]["killed1"] == {"code": -9, "cause": "SIGKILL", "oom_kills": 1, "group_peak_bytes": 400 * MIB}
    assert report["versions"]["postgres"]
    assert report["versions"]["pypdfium2"]
    lines = (tmp_path / "out" / "timeline.txt").read_text()
    assert lines.count("its run ended: SIGKILL, 1 processes killed for memory, peak of its group 400.0 MiB") == 3
    assert json.loads((tmp_path / "out" / "replay.json").read_text())["limits"]["width"] == 4
    assert leaks(tmp_path / "out") == []


def test_no_parser_at_fault(pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """A file that was refused before parsing has rows and versions, and nothing to replay."""
    ingest(pipeline, b"hunter2-text", "hunter2-name.txt")
    row = pipeline.connection.execute("SELECT file_id FROM files").fetchone()
    assert row is not None
    name = f"{pipeline.settings.sources[0]}/hunter2-name.txt"
    error = FileNeedsMoreMemory(f"{name}: needs 2 GiB, a run has 1 GiB; raise INGEST_RUN_MEMORY")
    store_files.refuse_file(pipeline.connection, row[0], error, fingerprint="f")
    found = made(pipeline, tmp_path / "out", "hunter2-name.txt", with_document=False)
    assert (found.reason, found.reproduced, found.document) == ("FileNeedsMoreMemory", None, None)
    assert report_of(tmp_path / "out")["message"].startswith(f"file-{row[0]}.txt: needs 2 GiB")
    assert leaks(tmp_path / "out") == []
    assert replayed(pipeline, tmp_path / "out", monkeypatch, capsys) == 2


def test_document_in_pieces(pipeline: Pipeline, tmp_path: Path) -> None:
    """A document of 48 MB is copied in less than 3 MB of memory, into a folder and into a .zip."""
    pipeline.settings = replace(pipeline.settings, max_pages=1)
    ingest(pipeline, b"some words of a long text\n" * 1_900_000, "long.txt")
    assert status_of(pipeline.connection, "long.txt") == ("failed", "TooManyPages")
    for out in (tmp_path / "out", tmp_path / "out.zip"):
        tracemalloc.start()
        found = made(pipeline, out, "long.txt", with_document=True)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (found.reproduced, found.document) == (True, "document.txt")
        assert peak < 3 * MIB
    assert (tmp_path / "out" / "document.txt").stat().st_size == 49_400_000


def test_mistakes(pipeline: Pipeline, tmp_path: Path) -> None:
    """No such file, nothing wrong with it, and a folder that exists: one sentence each, and nothing is written."""
    ingest(pipeline, b"some words " * 20, "good.txt")
    (tmp_path / "there").mkdir()
    add_file(pipeline.connection, "bad.txt")
    pipeline.connection.execute("UPDATE files SET status = 'failed', error = 'NoText' WHERE path = 'bad.txt'")
    for path, out, message in (
        ("none.txt", "out", "the ledger has no such file"),
        ("good.txt", "out", "indexed, without gaps"),
        ("bad.txt", "there", "exists already"),
        ("bad.txt", "no/such/folder", "No such file or directory"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            made(pipeline, tmp_path / out, path)
    assert not (tmp_path / "out").exists()


SPEC = ReplaySpec("file-1.pdf", "application/pdf", ("ParserCrashed",), Limits(10**8, 4.0, 60.0, 9, 10**6, 10**6, True))


def test_spec_comes_back() -> None:
    """What is written is what is read."""
    assert read_spec(SPEC.written()) == SPEC


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"media_type": "application/x-shell"},
        {"limits": {"parser_memory_bytes": "all"}},
        {"document": {"file": "../../etc/passwd", "sha256": "", "size_bytes": 1, "pages": None}},
        {"document": {"file": "/etc/passwd", "sha256": "", "size_bytes": 1, "pages": None}},
        {"command": "rm"},
        {"name": "a\x1b[2J"},
    ],
)
def test_hostile_spec(change: dict[str, Any], tmp_path: Path) -> None:
    """A replay.json that somebody sent names no path, no other format and nothing that is unknown."""
    with pytest.raises(ConfigurationError, match=r"replay\.json"):
        read_spec(json.dumps(json.loads(SPEC.written()) | change))


def test_replay_needs_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """A replay under more memory than there is would be no replay, and is refused."""
    large = replace(SPEC, limits=replace(SPEC.limits, parser_memory_bytes=2**50))
    (tmp_path / "replay.json").write_text(large.written())
    (tmp_path / "mine.pdf").write_bytes(pdf.scan())
    command = Command(Settings(), monkeypatch, capsys)
    message = command.mistake("autopsy", "--replay", str(tmp_path), "--document", str(tmp_path / "mine.pdf"))
    assert "which this machine has not" in message


def test_replay_of_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no autopsy is a mistake of one line; so is one whose document was exchanged."""
    command = Command(Settings(), monkeypatch, capsys)
    (tmp_path / "a.zip").write_bytes(b"no archive")
    assert "not a folder or .zip" in command.mistake("autopsy", "--replay", str(tmp_path / "a.zip"))
    empty_folder = command.mistake("autopsy", "--replay", str(tmp_path))
    assert empty_folder.rstrip().endswith("not a folder or .zip of `ingest autopsy`: No such file or directory")
    assert "name a file" in command.mistake("autopsy")
    (tmp_path / "replay.json").write_text(SPEC.written())
    assert "--document FILE" in command.mistake("autopsy", "--replay", str(tmp_path))
    document = {"file": "document.pdf", "sha256": "0", "size_bytes": 1, "pages": None}
    (tmp_path / "replay.json").write_text(json.dumps(json.loads(SPEC.written()) | {"document": document}))
    (tmp_path / "document.pdf").write_bytes(b"x")
    assert "is not the one" in command.mistake("autopsy", "--replay", str(tmp_path))


def test_replay_with_own_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Whoever has the document replays an autopsy that has none; the message is for the screen."""
    spec = replace(SPEC, expected=("NoText",), name="file-1.pdf")
    (tmp_path / "replay.json").write_text(
        replace(spec, limits=replace(SPEC.limits, parser_memory_bytes=2**29)).written()
    )
    (tmp_path / "mine.pdf").write_bytes(pdf.scan())
    command = Command(Settings(), monkeypatch, capsys)
    [row] = command.json("autopsy", "--replay", str(tmp_path), "--document", str(tmp_path / "mine.pdf"))
    assert (row["reproduced"], row["failed_with"], row["expected"]) == (True, "NoText", ["NoText"])
    assert "it needs OCR" in row["message"]


@pytest.mark.parametrize(
    ("media_type", "gaps", "failing", "expected"),
    [
        (PDF, [(5, 9)], [], [(5, 5), (5, 9)]),
        (PDF, [(5, 90)], [], [(5, 5), (5, 14)]),
        (PDF, [(3, 3)], [2, 3], [(3, 3), (2, 2), (2, 3)]),
        (PDF, [], [1, 1, 2], [(1, 1), (1, 2)]),
        (PDF, [], [], []),
        (HTML, [(5, 9)], [5], []),
    ],
)
def test_pages_at_fault(
    media_type: str, gaps: list[tuple[int, int]], failing: list[int], expected: list[tuple[int, int]]
) -> None:
    """The first page of a gap alone, then that on which a child failed, then all of them, ten at most; of PDFs only."""
    children = tuple(ChildEnd(page, None, 0, "ParserCrashed", 1.0, 1) for page in failing)
    found = Observed(None, "", 9, tuple(Gap(*pages, "ParserCrashed") for pages in gaps), children, 1, 1.0)
    assert pages_at_fault(found, media_type, most=10) == expected


def test_kinds_of_gaps() -> None:
    """An error type, ours or a parser's, and nothing of the text behind it."""
    assert kind_of("ParserTimedOut; given up from here on") == "ParserTimedOut"
    assert kind_of("PdfiumError: Failed to load page hunter2; pypdf: Damaged") == "PdfiumError"
    assert kind_of("chapter hunter2.xhtml: gone") == "unreadable page"


def test_command(
    deadly: None, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The command makes it, says what of the document is in it, and reminds to read before sending."""
    ingest(pipeline, pdf.pages(["a good page", "CRASH here"]))
    command = Command(pipeline.settings, monkeypatch, capsys)
    lines = command("autopsy", "hunter2-name.pdf", "--out", str(tmp_path / "out")).splitlines()
    assert lines[0].endswith("out: indexed; it came again")
    assert lines[1] == "page 2 of the document: pages-2-2.pdf"
    assert lines[-1] == "Read its README.txt before you send it."
    [row] = command.json("autopsy", "hunter2-name.pdf", "--out", str(tmp_path / "two.zip"))
    assert list(row) == ["out", "file_id", "status", "reason", "reproduced", "document", "pages", "note"]
    replay = command("autopsy", "--replay", str(tmp_path / "two.zip")).splitlines()
    assert replay[:2] == ["expected: ParserCrashed", "came:     UnreadableDocument, ParserCrashed (the same failure)"]


@pytest.mark.timeout(600)
def test_bad_files_of_the_corpus(pipeline: Pipeline, corpus: Path, tmp_path: Path) -> None:
    """Every failure of a real bad file comes again in the sandbox; what no parser is for has nothing to replay."""
    settings = replace(pipeline.settings, sources=(str(corpus / "bad"),), pdf_passwords=(), run_memory=2**30)
    pipeline.settings = settings
    pipeline.sandbox.memory_limit_bytes = budget_of(settings).parser_bytes
    pipeline.scan()
    for key in pipeline.seal().batches:
        pipeline.chunk(pipeline.run(key))
    rows = pipeline.connection.execute("SELECT path, error FROM files WHERE error IS NOT NULL OR gaps <> '[]'")
    ended = {path: (error, made(pipeline, tmp_path / f"{n}", path)) for n, (path, error) in enumerate(rows.fetchall())}
    parsed = {path: one for path, (error, one) in ended.items() if error != "UnsupportedFormat"}
    assert len(parsed) >= 20
    assert [path for path, one in parsed.items() if not one.reproduced] == []
    for number in range(len(ended)):
        spec = read_spec((tmp_path / f"{number}" / "replay.json").read_text())
        assert bool(spec.expected) == (spec.media_type in SUPPORTED)


def test_archive_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An archive whose document unpacks to more than replay.json says is refused before it is unpacked."""
    document = {"file": "document.pdf", "sha256": "0", "size_bytes": 1000, "pages": None}
    with zipfile.ZipFile(tmp_path / "a.zip", "x", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("replay.json", json.dumps(json.loads(SPEC.written()) | {"document": document}))
        archive.writestr("document.pdf", bytes(10**6))
    message = Command(Settings(), monkeypatch, capsys).mistake("autopsy", "--replay", str(tmp_path / "a.zip"))
    assert "document.pdf is larger than replay.json says" in message
