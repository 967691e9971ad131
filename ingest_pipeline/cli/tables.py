"""Output for people, on stdout."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ingest_pipeline.cli.table import new_table, print_table
from ingest_pipeline.cli.text import clock, fitted, passage, printable, size
from ingest_pipeline.models import BATCH_STATUSES, FILE_STATUSES, Plan
from ingest_pipeline.parsing.detect import short_name
from ingest_pipeline.search_models import SearchAnswer, SearchHit
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import counted, format_size

if TYPE_CHECKING:
    from rich.table import Table

    from ingest_pipeline.memory.record import MemoryRecord
    from ingest_pipeline.planning.predict import Outcome
    from ingest_pipeline.stages.account import Account
    from ingest_pipeline.stages.costs import MemoryReport
    from ingest_pipeline.stages.model_list import ListedModel
    from ingest_pipeline.stages.on_demand import EmbeddedText
    from ingest_pipeline.stages.uploads import Added

SHOWN_NUMBERS = 4
FULL_TABLE_FILES = 100  # of more files only those that need attention are listed; `ingest files` lists all
NAME_WIDTH, SHOWN_GAPS = 44, 5


def print_files(rows: Iterable[dict[str, Any]]) -> None:
    """Print one line for each file as it arrives; columns have fixed widths, so that rows need not be in memory."""
    print(
        f"{'status':<11}{'file':<{NAME_WIDTH}}{'size':>10}{'pages':>7}{'chunks':>8}"
        f"{'predicted':>11}{'parsing':>11}{'embedding':>11}{'seconds':>9}  reason"
    )
    for row in rows:
        print(_file_line(row))


def _file_line(row: dict[str, Any]) -> str:
    columns = (row["predicted_peak_bytes"], row["measured_peak_bytes"], row["embed_peak_bytes"])
    peaks = "".join(f"{'' if peak is None else format_size(peak):>11}" for peak in columns)
    seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
    pages = "" if row["pages"] is None else row["pages"]
    # The end of a long path is shown: it has the file's name.
    name = f"{fitted(printable(row['path']), NAME_WIDTH - 2)}  "
    return (
        f"{row['status']:<11}{name}{format_size(row['bytes']):>10}{pages:>7}{row['chunks']:>8}"
        f"{peaks}{seconds:>9}  {printable(_reason(row))}"
    ).rstrip()


def _reason(row: dict[str, Any]) -> str:
    if row["error"]:
        # The line shows the path already.
        message = str(row["message"] or "").removeprefix(f"{row['source']}/{row['path']}: ")
        return f"{row['error']}: {message}"
    if row["gaps"]:
        return f"{counted(len(row['gaps']), 'gap')}: pages {', '.join(_gap(gap) for gap in row['gaps'][:SHOWN_GAPS])}"
    return ""


def _gap(gap: dict[str, Any]) -> str:
    return str(gap["page_from"]) if gap["page_from"] == gap["page_to"] else f"{gap['page_from']}-{gap['page_to']}"


def print_added(added: Added) -> None:
    """Print the result of one upload."""
    if added.error:
        print(f"ingest: {printable(added.error)}", file=sys.stderr)
    else:
        print(f"{printable(added.name)}  {format_size(added.size_bytes)}  added to {added.source}")


def print_answer(answer: SearchAnswer) -> None:
    """Print search results, and what was searched."""
    if not answer.hits:
        print("nothing found" if answer.coverage.searched else "nothing found: is anything indexed? `ingest status`")
    for number, hit in enumerate(answer.hits, start=1):
        _print_hit(number, hit)
    print(answer.coverage.sentence[0].upper() + printable(answer.coverage.sentence[1:]) + ".")
    for note in answer.notes:
        print(f"Note: {printable(note)}")


def _print_hit(number: int, hit: SearchHit) -> None:
    pages = f"page {hit.page_from}" if hit.page_from == hit.page_to else f"pages {hit.page_from}-{hit.page_to}"
    label = f" (printed {hit.page_label})" if hit.page_label else ""
    place = passage(hit.section or hit.heading or "")
    others = f" · and {counted(hit.places - 1, 'other place')}" if hit.places > 1 else ""
    print(f"{number}. {hit.score:.3f}  {printable(hit.path)}, {pages}{label}{f' · {place}' if place else ''}{others}")
    begin, end = hit.snippet
    shown = ("… " if begin else "") + passage(hit.text[begin:end]) + (" …" if end < len(hit.text) else "")
    for text in hit.before:
        print(_paragraph(passage(text)))
    print(_marked(_paragraph(shown), {hit.text[mark[0] : mark[1]] for mark in hit.marks}))
    for text in hit.after:
        print(_paragraph(passage(text)))


def _paragraph(text: str) -> str:
    return textwrap.indent(textwrap.fill(text, 100), "   ")


def _marked(text: str, words: set[str]) -> str:
    """Return a text with words in bold on a terminal."""
    if not words or not sys.stdout.isatty():
        return text
    either = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.sub(rf"(?<!\w)({either})(?!\w)", "\033[1m\\1\033[0m", text)


def print_embedded(embedded: Sequence[EmbeddedText]) -> None:
    """Print the beginning of each text's vector."""
    for one in embedded:
        numbers = ", ".join(f"{number:.4f}" for number in one.vector[:SHOWN_NUMBERS])
        origin = "from the store" if one.known else "computed"
        text = textwrap.shorten(passage(one.text), 60, placeholder=" …")
        print(f"[{numbers}, …]  {len(one.vector)} dimensions, {origin}  {text}")


def print_models(models: Sequence[ListedModel]) -> None:
    """Print the models that have vectors."""
    if not models:
        print("no model yet: `ingest run`")
        return
    table = new_table("model", "number", "embedder", "dimension", "vectors", "rejected", "deferred", "files shown")
    for listed in models:
        one = listed.model
        counts = (one.model_id, one.embedder, one.dimension, one.vectors, one.rejected, one.deferred, one.files)
        table.add_row(f"{'*' if listed.is_default else ' '} {printable(one.name)}", *map(str, counts))
    print_table(table)
    print("* the model of the settings: runs embed and searches ask with it")


def print_plan(plan: Plan, settings: Settings) -> None:
    """Print the batches and refusals of a plan."""
    if not plan.batches and not plan.refused:
        print("nothing waits: every file of the sources is accounted for")
    for number, batch in enumerate(plan.batches, start=1):
        peak = f"{format_size(batch.predicted_peak_bytes)} of {format_size(settings.run_memory)}"
        print(
            f"batch {number}: {counted(len(batch.costs), 'file')}, peak {peak}, about {clock(batch.predicted_seconds)}"
        )
        for cost in batch.costs:
            predicted = f"{format_size(cost.predicted_peak_bytes):>10}  {cost.predicted_seconds:>7.1f} s"
            print(f"  {predicted}  {printable(cost.name)}\n{'':>25}{cost.why}")
    for cost in plan.refused:
        print(f"refused: {printable(cost.name)}: its parser alone needs {format_size(cost.predicted_peak_bytes)}")


def print_status(counts: dict[str, Any]) -> None:
    """Print the counts of the ledger."""
    for name, statuses in (("files", FILE_STATUSES), ("batches", BATCH_STATUSES)):
        print(f"{name:<12}" + "  ".join(f"{status} {counts[name][status]}" for status in statuses))
    print(f"{'chunks':<12}{counts['chunks']:,}\n{'embeddings':<12}{counts['embeddings']:,}  by {counts['model']}")
    run, machine = format_size(counts["run_budget_bytes"]), format_size(counts["machine_budget_bytes"])
    print(f"{'memory':<12}{run} for a run, {machine} for everything together")


def print_account(account: Account, files: Iterable[dict[str, Any]]) -> None:
    """Print the result of a run.

    Args:
        account: its counts and costs.
        files: the rows to list; of many files, only those that need attention.
    """
    print_files(files)
    if account.files > FULL_TABLE_FILES:
        print(f"({account.files - account.counts['files']['failed']:,} files more: `ingest files`)")
    print()
    if account.did_nothing:
        print(
            f"Nothing changed: {counted(account.files, 'file')} known, 0 parsed, 0 chunks embedded, "
            f"in {account.seconds:.1f} s."
        )
    else:
        _print_costs(account)
    states = ", ".join(f"{count:,} {status}" for status, count in account.counts["files"].items() if count)
    print(f"Files: {states or 'none'}. Searchable: {counted(account.counts['chunks'], 'chunk')}.")
    if account.stopped:
        print(f"Stopped before the end: {account.stopped}")


def _print_costs(account: Account) -> None:
    print("Where time and memory went:")
    table = new_table("format", "files", "pages", "chunks", "parsing", "its peak", "embedding", "its peak")
    for row in account.work_by_type:
        parsing = (f"{row['parse_seconds']:.1f}s", size(row["parse_peak_bytes"]))
        embedding = (f"{row['embed_seconds']:.1f}s", size(row["embed_peak_bytes"]))
        counts = (str(row["files"]), str(row["pages"]), str(row["chunks"]))
        table.add_row(short_name(row["media_type"]), *counts, *parsing, *embedding)
    print_table(table)
    for used in account.usage:
        calls = f"{used['calls']:,} calls ({used['failed_calls']:,} failed)"
        tokens = f"{used['prompt_tokens']:,} tokens sent, {used['completion_tokens']:,} received"
        print(f"{used['stage']} by {printable(used['model'])}: {calls}, {tokens}.")
    work = account.work
    print(
        f"{counted(work['parsed'], 'file')} parsed, {counted(work['pages'], 'page')}, "
        f"{counted(work['embedded'], 'chunk')} embedded in {clock(account.seconds)} by {counted(account.runs, 'run')}; "
        f"highest peak of a run {size(account.peak_memory_bytes)}."
    )


def print_memory(report: MemoryReport) -> None:
    """Print the errors of memory predictions: leave-one-out, as planned, and for runs."""
    from ingest_pipeline.planning.predict import summarize

    if not report.left_out:
        print("nothing measured yet: `ingest run`")
        return
    print(f"Cost model {report.model.version}. Each file as predicted by all the others (leave one out):")
    table = new_table("format", "files", "expected: p50", "p95", "predicted: p50", "p95", "too low")
    for kind in sorted({outcome.media_type for outcome in report.left_out}):
        _add_errors(table, short_name(kind), [outcome for outcome in report.left_out if outcome.media_type == kind])
    _add_errors(table, "all", report.left_out)
    print_table(table)
    planned = summarize([outcome.error for outcome in report.files])
    runs = summarize([run.error for run in report.runs])
    print(f"Files as they were planned: {planned.count}, error p50 {planned.p50:.0%}, p95 {planned.p95:.0%}.")
    over = report.runs_over_budget
    print(f"Runs: {runs.count}, error p50 {runs.p50:.0%}, p95 {runs.p95:.0%}; over their budget: {over}.")


def print_memory_records(records: Iterable[MemoryRecord]) -> None:
    """Print the stages of runs with what they used."""
    table = new_table("run", "stage", "began", "took", "peak", "budget", "degradation steps")
    for record in records:
        began = datetime.fromtimestamp(record.began_at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        memory = (size(record.peak_bytes), size(record.limit_bytes))
        steps = ", ".join(f"{step.step.replace('_', ' ')} at {size(step.used_bytes)}" for step in record.steps)
        table.add_row(f"  {record.run_id}", record.stage, began, clock(record.seconds), *memory, steps or "none")
    print_table(table)


def _add_errors(table: Table, name: str, outcomes: Sequence[Outcome]) -> None:
    from ingest_pipeline.planning.predict import summarize

    expected = summarize([outcome.expected_error for outcome in outcomes])
    bound = summarize([outcome.error for outcome in outcomes])
    shares = (f"{share:.0%}" for share in (expected.p50, expected.p95, bound.p50, bound.p95))
    table.add_row(name, str(expected.count), *shares, str(bound.too_low))
