"""What the command prints for people: columns that stand under their heads, whatever a file is called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len

from ingest_pipeline.cli import tables, text
from ingest_pipeline.models import BATCH_STATUSES, FILE_STATUSES, CostModel, FileCost, Plan, PlannedBatch
from ingest_pipeline.planning.predict import Outcome
from ingest_pipeline.search_models import Coverage, SearchAnswer, SearchHit
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.account import Account
from ingest_pipeline.stages.costs import MemoryReport, RunOutcome
from ingest_pipeline.stages.uploads import Added

MIB = 1024**2
Captured = pytest.CaptureFixture[str]
ROW: dict[str, Any] = {
    "source": "/documents",
    "path": "a.txt",
    "bytes": 2048,
    "pages": 3,
    "status": "indexed",
    "error": None,
    "message": None,
    "gaps": [],
    "chunks": 7,
    "predicted_peak_bytes": 26 * MIB,
    "measured_peak_bytes": 21 * MIB,
    "embed_peak_bytes": 400 * MIB,
    "seconds": 1.26,
}
HEADS = ("status", "file", "size", "pages", "chunks", "predicted", "parsing", "embedding", "seconds", "reason")


def cost(name: str, **changes: Any) -> FileCost:
    return FileCost(**{
        "file_id": 1, "name": name, "version": "v", "predicted_peak_bytes": 26 * MIB, "predicted_seconds": 1.5,
        "why": "text/plain: shipped rates", **changes,
    })  # fmt: skip


def counts(**files: int) -> dict[str, Any]:
    return {
        "files": dict.fromkeys(FILE_STATUSES, 0) | files,
        "chunks": 1234,
        "embeddings": 1200,
        "batches": dict.fromkeys(BATCH_STATUSES, 0) | {"done": 2},
    }


def account(**changes: Any) -> Account:
    work = {"parsed": 2, "pages": 1500, "embedded": 1200}
    kind = {
        "media_type": "application/pdf", "files": 2, "pages": 1500, "chunks": 1200, "parse_seconds": 3.25,
        "embed_seconds": 61.0, "parse_peak_bytes": 40 * MIB, "embed_peak_bytes": None,
    }  # fmt: skip
    values: dict[str, Any] = {
        "counts": counts(indexed=2), "work": work, "work_by_type": [kind], "failures": {},
        "peak_memory_bytes": 600 * MIB, "runs": 3, "batches": ["b1"], "seconds": 65.2, "stopped": None,
        "usage": [],
    }  # fmt: skip
    return Account(**{**values, **changes})


def printed_line(captured: Captured, **changes: Any) -> str:
    tables.print_files([{**ROW, **changes}])
    _, line = captured.readouterr().out.splitlines()
    return line


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain.txt", "plain.txt"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[2Jwiped", "\\x1b[2Jwiped"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("tab\there", "tab\\there"),
        ("\U000e0041tag", "\\U000e0041tag"),
        ("пісня 歌.md", "пісня 歌.md"),
        ("\udcff", "\\udcff"),
    ],
)
def test_control_characters_escaped(given: str, shown: str) -> None:
    """A name that would move the cursor, turn the line around or clear the screen is written in escapes."""
    assert text.printable(given) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("short", "short     "),
        ("exactly ten"[:10], "exactly te"),
        ("folder/name.txt", "…/name.txt"),
        ("歌歌歌", "歌歌歌    "),
        ("歌歌歌歌歌歌", "…歌歌歌歌 "),
        ("e\u0301te", "e\u0301te       "),
        ("", "          "),
    ],
)
def test_fitted_fills_ten_cells(given: str, shown: str) -> None:
    """A text takes exactly its width in cells of a terminal; a long one keeps its end."""
    assert text.fitted(given, 10) == shown
    assert cell_len(text.fitted(given, 10)) == 10


def test_clock_and_size_are_short() -> None:
    """Seconds below a minute, minutes with two digits of seconds above; a size of nothing is a dash."""
    assert [text.clock(seconds) for seconds in (0, 0.4, 59.4, 59.6, 185, 3661)] == [
        "0s", "0s", "59s", "1m00s", "3m05s", "61m01s",
    ]  # fmt: skip
    assert [text.size(number) for number in (None, 0, 1, 2048, 3 * MIB)] == ["-", "-", "1 B", "2 KiB", "3.0 MiB"]


def test_no_files_print_the_head_alone(capsys: Captured) -> None:
    """An empty ledger is a head without lines."""
    tables.print_files([])
    assert capsys.readouterr().out.split() == list(HEADS)


def test_file_line_has_every_column(capsys: Captured) -> None:
    """Status, name, size, pages, chunks, three peaks and seconds, in the order of the head."""
    line = printed_line(capsys)
    assert line.split() == [
        "indexed", "a.txt", "2", "KiB", "3", "7", "26.0", "MiB", "21.0", "MiB", "400.0", "MiB", "1.3",
    ]  # fmt: skip


def test_numbers_end_under_their_heads(capsys: Captured) -> None:
    """Each right-aligned number ends in the column where its head ends."""
    tables.print_files([ROW])
    head, line = capsys.readouterr().out.splitlines()
    for name, value in (("size", "2 KiB"), ("pages", "3"), ("chunks", "7"), ("predicted", "26.0 MiB"),
                        ("parsing", "21.0 MiB"), ("embedding", "400.0 MiB"), ("seconds", "1.3")):  # fmt: skip
        end = head.index(name) + len(name)
        assert line[:end].endswith(f" {value}"), name


def test_unknown_numbers_stay_blank(capsys: Captured) -> None:
    """A file that waits has no pages, peaks or seconds, and its line ends without spaces."""
    blank = dict.fromkeys(("pages", "predicted_peak_bytes", "measured_peak_bytes", "embed_peak_bytes", "seconds"))
    line = printed_line(capsys, status="synced", chunks=0, **blank)
    assert line.split() == ["synced", "a.txt", "2", "KiB", "0"]
    assert line == line.rstrip()


@pytest.mark.parametrize(
    "path", ["a.txt", "歌" * 15, "歌" * 40, "deep/" * 30 + "a.txt", "x\ny\x1b[31m", "e\u0301" * 30]
)
def test_columns_align_by_cells(capsys: Captured, path: str) -> None:
    """Wide, long, combining and hostile names leave the size in the same cells of the terminal."""
    line = printed_line(capsys, path=path)
    before, _, _ = line.partition("2 KiB")
    assert cell_len(f"{before}2 KiB") == 11 + 44 + 10
    assert "\x1b" not in line


def test_failed_file_says_why_once(capsys: Captured) -> None:
    """The reason and the message; the file's own name is not repeated in it."""
    failed = {"status": "failed", "error": "NoText", "message": "/documents/a.txt: nothing in it"}
    assert printed_line(capsys, **failed).endswith("  NoText: nothing in it")
    assert printed_line(capsys, **failed | {"message": "elsewhere: nothing"}).endswith("  NoText: elsewhere: nothing")
    assert printed_line(capsys, **failed | {"message": None}).endswith("  NoText:")


def test_message_cannot_break_its_line(capsys: Captured) -> None:
    """A message with a line break and a terminal sequence stays one line."""
    line = printed_line(capsys, status="failed", error="UnreadableDocument", message="bad\nobject \x1b]0;title\x07")
    assert line.endswith("UnreadableDocument: bad\\nobject \\x1b]0;title\\x07")


def test_gaps_name_their_pages(capsys: Captured) -> None:
    """Single pages and ranges; more than five gaps are counted, not listed."""
    gaps = [{"page_from": 2, "page_to": 2}, {"page_from": 5, "page_to": 9}]
    assert printed_line(capsys, gaps=gaps).endswith("  2 gaps: pages 2, 5-9")
    many = [{"page_from": page, "page_to": page} for page in range(1, 8)]
    assert printed_line(capsys, gaps=many).endswith("  7 gaps: pages 1, 2, 3, 4, 5")


def test_an_error_goes_before_gaps(capsys: Captured) -> None:
    """A file that failed for its gaps shows the error."""
    gaps = [{"page_from": 1, "page_to": 4}]
    assert printed_line(capsys, error="UnreadablePages", message="4 pages", gaps=gaps).endswith(
        "UnreadablePages: 4 pages"
    )


def test_files_are_printed_as_they_come(capsys: Captured) -> None:
    """The line of a file is out before the next file is asked for."""

    def rows() -> Any:
        yield ROW
        assert "a.txt" in capsys.readouterr().out
        yield {**ROW, "path": "b.txt"}

    tables.print_files(rows())
    assert capsys.readouterr().out.split()[:2] == ["indexed", "b.txt"]


def test_an_upload_is_one_line(capsys: Captured) -> None:
    """Name, size and source on stdout, or the refusal on stderr."""
    tables.print_added(Added("/documents", "a\nb.txt", 57))
    assert capsys.readouterr() == ("a\\nb.txt  57 B  added to /documents\n", "")
    tables.print_added(Added("/documents", "a.txt", error="a\x1b.txt: its name is taken"))
    assert capsys.readouterr() == ("", "ingest: a\\x1b.txt: its name is taken\n")


def test_no_hits_say_what_to_do(capsys: Captured) -> None:
    """A search without an answer points at `ingest status`."""
    tables.print_answer(SearchAnswer((), Coverage()))
    assert capsys.readouterr().out.splitlines() == [
        "nothing found: is anything indexed? `ingest status`", "Searched 0 of 0 files in this scope.",
    ]  # fmt: skip


def test_answers_say_what_they_cover(capsys: Captured) -> None:
    """After the hits come the counts of the scope, and what could not be asked."""
    covered = Coverage(
        3275, 3251, 20, 4, 1, 61, 9, failed_matching=2, failed_names=("a\x1b.pdf", "b.pdf")
    )  # fmt: skip
    tables.print_answer(SearchAnswer((), covered, notes=("one model is left out",)))
    assert capsys.readouterr().out.splitlines() == [
        "nothing found",
        "Searched 3,251 of 3,275 files in this scope; 20 not searchable yet; 4 failed; 1 in an older version; "
        "61 unreadable pages in 9 files; 2 failed files' names match your words (a\\x1b.pdf, b.pdf).",
        "Note: one model is left out",
    ]  # fmt: skip


def test_hits_are_numbered_places(capsys: Captured) -> None:
    """Score, file, page or pages, the printed page label, and the section before the heading."""
    hit = SearchHit(0.87654, "/documents", "manual.pdf", 6, 6, "Descale  the\nsteam boxes.", heading="Care")
    tables.print_answer(SearchAnswer((
        hit,
        replace(hit, page_from=6, page_to=8, page_label="iv", section="Oven › Care", places=3),
        replace(hit, heading=None, path="two\nlines.pdf", before=("Before it.",), after=("After it.",)),
    ), Coverage()))  # fmt: skip
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "1. 0.877  manual.pdf, page 6 · Care",
        "   Descale the steam boxes.",
        "2. 0.877  manual.pdf, pages 6-8 (printed iv) · Oven › Care · and 2 other places",
        "   Descale the steam boxes.",
        "3. 0.877  two\\nlines.pdf, page 6",
        "   Before it.",
        "   Descale the steam boxes.",
        "   After it.",
    ]


def test_long_hits_are_cut_and_wrapped(capsys: Captured) -> None:
    """At most 320 characters of a text, in lines of at most 100, and a mark where it was cut."""
    tables.print_answer(SearchAnswer((SearchHit(0.5, "/documents", "a.txt", 1, 1, "word " * 200),), Coverage()))
    _, *lines, _ = capsys.readouterr().out.splitlines()
    assert all(line.startswith("   word") and len(line) <= 103 for line in lines)
    assert lines[-1].endswith("word …")
    assert len(" ".join(line.strip() for line in lines)) <= 322


def test_empty_plan_says_that_nothing_waits(capsys: Captured) -> None:
    """A plan without batches and refusals is one sentence."""
    tables.print_plan(Plan(()), Settings())
    assert capsys.readouterr().out == "nothing waits: every file of the sources is accounted for\n"


def test_plan_lists_batches_and_refusals(capsys: Captured) -> None:
    """Each batch with its peak, budget and time; each file with its cost and the reason for it; what is refused."""
    batch = PlannedBatch((cost("/d/a\nb.txt"), cost("/d/c.txt", predicted_seconds=12.0)), 300 * MIB, 125.0)
    tables.print_plan(Plan((batch,), (cost("/d/huge.pdf", predicted_peak_bytes=5 * 1024 * MIB),)), Settings())
    assert capsys.readouterr().out.splitlines() == [
        "batch 1: 2 files, peak 300.0 MiB of 1.0 GiB, about 2m05s",
        "    26.0 MiB      1.5 s  /d/a\\nb.txt",
        "                         text/plain: shipped rates",
        "    26.0 MiB     12.0 s  /d/c.txt",
        "                         text/plain: shipped rates",
        "refused: /d/huge.pdf: its parser alone needs 5.0 GiB",
    ]


def test_plan_of_refusals_alone(capsys: Captured) -> None:
    """Where every file is refused, the plan is the refusals and does not say that nothing waits."""
    tables.print_plan(Plan((), (cost("/d/huge.pdf"),)), Settings())
    assert capsys.readouterr().out == "refused: /d/huge.pdf: its parser alone needs 26.0 MiB\n"


def test_status_is_five_lines(capsys: Captured) -> None:
    """Counts of files and batches by status, chunks, embeddings with their model, and the memory."""
    budgets = {"model": "all-MiniLM-L6-v2", "run_budget_bytes": 512 * MIB, "machine_budget_bytes": 3072 * MIB}
    tables.print_status(counts(indexed=5, failed=1) | budgets)
    assert capsys.readouterr().out.splitlines() == [
        "files       synced 0  processing 0  processed 0  indexed 5  failed 1  deleted 0",
        "batches     waiting 0  running 0  done 2  failed 0",
        "chunks      1,234",
        "embeddings  1,200  by all-MiniLM-L6-v2",
        "memory      512.0 MiB for a run, 3.0 GiB for everything together",
    ]


def test_account_shows_files_and_costs(capsys: Captured) -> None:
    """The files, a line for each format with peaks, and the totals."""
    tables.print_account(account(), [ROW])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("indexed    a.txt")
    assert lines[3] == "Where time and memory went:"
    assert lines[4].split() == [
        "format", "files", "pages", "chunks", "parsing", "its", "peak", "embedding", "its", "peak",
    ]  # fmt: skip
    assert lines[5].split() == ["pdf", "2", "1500", "1200", "3.2s", "40.0", "MiB", "61.0s", "-"]
    assert lines[6:] == [
        "2 files parsed, 1,500 pages, 1,200 chunks embedded in 1m05s by 3 runs; highest peak of a run 600.0 MiB.",
        "Files: 2 indexed. Searchable: 1,234 chunks.",
    ]


def test_account_of_nothing_new(capsys: Captured) -> None:
    """Where nothing had changed, one sentence takes the place of the costs."""
    nothing = account(work={"parsed": 0, "pages": 0, "embedded": 0}, work_by_type=[], batches=[], seconds=4.04)
    tables.print_account(nothing, [ROW])
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "Nothing changed: 2 files known, 0 parsed, 0 chunks embedded, in 4.0 s.",
        "Files: 2 indexed. Searchable: 1,234 chunks.",
    ]


def test_account_of_an_empty_source(capsys: Captured) -> None:
    """Without a file the account says `none`."""
    tables.print_account(account(counts=counts() | {"chunks": 0}), [])
    assert capsys.readouterr().out.splitlines()[-1] == "Files: none. Searchable: 0 chunks."


def test_stopped_account_ends_with_why(capsys: Captured) -> None:
    """Why a run stopped before the end is the last line."""
    tables.print_account(account(stopped="the catalog failed: no bucket"), [])
    assert capsys.readouterr().out.splitlines()[-1] == "Stopped before the end: the catalog failed: no bucket"


def test_large_account_counts_the_rest(capsys: Captured) -> None:
    """Beyond 100 files the files that are not listed are counted, deleted ones left out."""
    large = account(counts=counts(indexed=1500, failed=2, deleted=50))
    tables.print_account(large, [{**ROW, "status": "failed", "error": "NoText", "message": ""}])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "(1,500 files more: `ingest files`)"
    assert "Files: 1,500 indexed, 2 failed, 50 deleted. Searchable: 1,234 chunks." in lines


def test_formats_are_never_cut(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 40 columns cuts no column of the table of costs, and markup in a type is text."""
    monkeypatch.setenv("COLUMNS", "40")
    row = {**account().work_by_type[0], "media_type": "application/x-[bold]unknown"}
    tables.print_account(account(work_by_type=[row]), [])
    [line] = [line for line in capsys.readouterr().out.splitlines() if "unknown" in line]
    assert line.split() == ["application/x-[bold]unknown", "2", "1500", "1200", "3.2s", "40.0", "MiB", "61.0s", "-"]


def test_memory_without_history(capsys: Captured) -> None:
    """Before anything was measured, one line says what to do."""
    tables.print_memory(MemoryReport(CostModel(0, {}), [], [], []))
    assert capsys.readouterr().out == "nothing measured yet: `ingest run`\n"


def test_memory_compares_by_format(capsys: Captured) -> None:
    """Errors of the middle and of the bound for each format and for all; files as planned; runs over budget."""
    pdf = Outcome("a.pdf", "application/pdf", 150, 100, expected_bytes=110)
    txt = Outcome("b.txt", "text/plain", 90, 100, expected_bytes=80)
    runs = [RunOutcome("b1", 500, 400, 450), RunOutcome("b2", 500, 600, 550)]
    tables.print_memory(MemoryReport(CostModel(4, {}), [pdf], [pdf, txt], runs))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Cost model 4. Each file as predicted by all the others (leave one out):"
    assert [line.split() for line in lines[2:5]] == [
        ["pdf", "1", "10%", "10%", "50%", "50%", "0"],
        ["txt", "1", "20%", "20%", "10%", "10%", "1"],
        ["all", "2", "10%", "20%", "10%", "50%", "1"],
    ]
    assert lines[5:] == [
        "Files as they were planned: 1, error p50 50%, p95 50%.",
        "Runs: 2, error p50 17%, p95 25%; over their budget: 1.",
    ]


def test_passage() -> None:
    """A passage has no control character and no override of direction; joiners of Persian and Hindi words stay."""
    assert text.passage("a\x1b[31m b\u202e c\n\u00a0 d") == "a[31m b c d"
    assert text.passage("می\u200cروم 春\u3000夏") == "می\u200cروم 春 夏"


def test_calls_are_in_the_account(capsys: Captured) -> None:
    """What servers cost is a line for each stage and model."""
    used = {"stage": "extracts", "model": "gemini:m", "calls": 7, "failed_calls": 1}
    tables.print_account(account(usage=[used | {"prompt_tokens": 12_345, "completion_tokens": 67}]), [])
    line = "extracts by gemini:m: 7 calls (1 failed), 12,345 tokens sent, 67 received."
    assert line in capsys.readouterr().out.splitlines()
