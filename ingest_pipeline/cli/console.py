"""What the command line shows: progress while it works, tables when it is done."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.models import FileCost, Plan, SearchHit
from ingest_pipeline.parsing.detect import short_name
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import format_size

if TYPE_CHECKING:
    from dagster import Definitions

    from ingest_pipeline.instance.headless import HeadlessResult, Progress
    from ingest_pipeline.stages.costs import MemoryReport
    from ingest_pipeline.stages.uploads import Added
    from ingest_pipeline.store.connection import Connection

FULL_TABLE_FILES = 100  # beyond it only what needs attention is listed; `ingest files` has the rest
NAME_WIDTH = 44


def run_and_show(settings: Settings, *, as_json: bool) -> HeadlessResult:
    """Do an `ingest run`: progress on stderr, the account on stdout.

    Raises:
        ConfigurationError, StoreUnavailable: it cannot start.
    """
    from ingest_pipeline import sources
    from ingest_pipeline.embedding.load import prepare_engine

    sources.canonical_sources(settings.sources)  # a folder that is not there is said before anything starts
    # Before Dagster is in memory: a small machine must not hold it beside the exporter.
    prepare_engine(settings)

    from ingest_pipeline.definitions import defs
    from ingest_pipeline.embedding.model import model_card
    from ingest_pipeline.instance.headless import Headless, HeadlessResult
    from ingest_pipeline.instance.home import open_instance
    from ingest_pipeline.instance.reconnect import with_reconnect
    from ingest_pipeline.stages.fingerprint import fingerprint_of
    from ingest_pipeline.store import reports
    from ingest_pipeline.store.connection import connected, database_url, store

    settings = _settings_of_runs(defs, settings)
    fingerprint, began, line = fingerprint_of(model_card(settings.model), settings), time.monotonic(), ProgressLine()
    with connected(database_url(settings)) as connection:
        result = HeadlessResult(since=reports.now(connection))

    def work() -> None:
        with open_instance(settings) as instance, store(database_url(settings)) as connection:
            headless = Headless(
                instance, connection, settings, definitions=defs, fingerprint=fingerprint, result=result
            )
            try:
                line.say("looking through the sources")
                headless.run(line.show)
            except KeyboardInterrupt:
                line.say("stopping; what is committed stays, and the next run goes on from there")
                headless.stop()
                raise
            line.end()
            seconds = time.monotonic() - began
            _print_json(connection, result, seconds) if as_json else _print_account(connection, result, seconds)

    with_reconnect(work, max_errors=settings.max_errors, say=line.say)
    return result


def _settings_of_runs(definitions: Definitions, asked: Settings) -> Settings:
    """Return the settings that runs have: fields of the `ingest` resource win over the environment.

    Raises:
        ConfigurationError: the resource reads other sources than were asked for.
    """
    settings: Settings = definitions.resources["ingest"].settings()  # type: ignore[index]
    if settings.sources != asked.sources:
        raise ConfigurationError(f"the `ingest` resource reads other sources: {', '.join(settings.sources)}")
    return settings


class ProgressLine:
    """One line that rewrites itself on a terminal; a line now and then elsewhere."""

    EVERY_SECONDS = 15.0

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = 0.0
        self._width = 0

    def show(self, progress: Progress) -> None:
        """Show how far the batches have come."""
        if not self._terminal and time.monotonic() - self._last < self.EVERY_SECONDS:
            return
        eta = progress.eta_seconds
        parts = [
            f"{progress.files_done}/{progress.files} files",
            f"{progress.embedded:,} chunks embedded",
            f"{progress.running} runs at work, {progress.waiting} batches wait",
            f"{_clock(progress.seconds)} gone, " + (f"about {_clock(eta)} to go" if eta is not None else "first batch"),
        ]
        self.say(" · ".join(parts))

    def say(self, text: str) -> None:
        """Show a line."""
        self._last = time.monotonic()
        if self._terminal:
            print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line."""
        if self._terminal:
            print(f"\r{'':<{self._width}}\r", end="", file=sys.stderr, flush=True)


def print_files(rows: Iterable[dict[str, Any]]) -> None:
    """Print a line for each file."""
    print(
        f"{'status':<11}{'file':<{NAME_WIDTH}}{'size':>10}{'pages':>7}{'chunks':>8}"
        f"{'promised':>11}{'parsing':>11}{'embedding':>11}{'seconds':>9}  reason"
    )
    for row in rows:
        print(_file_line(row))


def _file_line(row: dict[str, Any]) -> str:
    columns = (row["predicted_peak_bytes"], row["measured_peak_bytes"], row["embed_peak_bytes"])
    peaks = "".join(f"{'' if peak is None else format_size(peak):>11}" for peak in columns)
    seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
    gaps = f"{len(row['gaps'])} gaps: pages {', '.join(_gap(gap) for gap in row['gaps'][:5])}" if row["gaps"] else ""
    reason = f"{row['error']}: {_without_path(row)}" if row["error"] else gaps
    name = _shortened(printable(row["path"]), NAME_WIDTH - 2)
    pages = "" if row["pages"] is None else row["pages"]
    return (
        f"{row['status']:<11}{name:<{NAME_WIDTH}}{format_size(row['bytes']):>10}{pages:>7}{row['chunks']:>8}"
        f"{peaks}{seconds:>9}  {printable(reason)}"
    ).rstrip()


def printable(text: str) -> str:
    """Return a text that moves no cursor and stays on one line: a file's name may hold anything."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _without_path(row: dict[str, Any]) -> str:
    name = f"{row['source']}/{row['path']}: "
    return str(row["message"] or "").removeprefix(name)


def _gap(gap: dict[str, Any]) -> str:
    return str(gap["page_from"]) if gap["page_from"] == gap["page_to"] else f"{gap['page_from']}-{gap['page_to']}"


def _shortened(text: str, width: int) -> str:
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= width else "…" + text[-(width - 1) :]


def print_added(added: Iterable[Added], *, as_json: bool) -> int:
    """Print what became of each upload as it ends; return how many were refused."""
    refused = 0
    for upload in added:
        refused += upload.error is not None
        if as_json:
            print(json.dumps(asdict(upload)))
        elif upload.error:
            print(f"ingest: {printable(upload.error)}", file=sys.stderr)
        else:
            print(f"{printable(upload.name)}  {format_size(upload.size_bytes)}  added to {upload.source}")
    return refused


def print_hits(hits: Sequence[SearchHit]) -> None:
    """Print search results for reading."""
    if not hits:
        print("nothing found: is anything indexed? `ingest status`")
    for number, hit in enumerate(hits, start=1):
        pages = f"page {hit.page_from}" if hit.page_from == hit.page_to else f"pages {hit.page_from}-{hit.page_to}"
        label = f" (printed {hit.page_label})" if hit.page_label else ""
        place = hit.section or hit.heading
        print(f"{number}. {hit.score:.3f}  {printable(hit.path)}, {pages}{label}{f' · {place}' if place else ''}")
        print(textwrap.indent(textwrap.fill(textwrap.shorten(hit.text, 320, placeholder=" …"), 100), "   "))


def print_plan(plan: Plan, settings: Settings, *, as_json: bool) -> None:
    """Print a dry run's batches and refusals."""
    if as_json:
        batches = [
            {
                "files": [_cost_row(cost) for cost in batch.costs],
                "predicted_peak_bytes": batch.predicted_peak_bytes,
                "predicted_seconds": batch.predicted_seconds,
            }
            for batch in plan.batches
        ]
        print(
            json.dumps(
                {"batches": batches, "refused": [_cost_row(cost) for cost in plan.refused]},
                ensure_ascii=False,
            )
        )
        return
    if not plan.batches and not plan.refused:
        print("nothing waits: every file of the sources is accounted for")
    for number, batch in enumerate(plan.batches, start=1):
        peak = f"{format_size(batch.predicted_peak_bytes)} of {format_size(settings.run_memory)}"
        print(f"batch {number}: {len(batch.costs)} files, peak {peak}, about {_clock(batch.predicted_seconds)}")
        for cost in batch.costs:
            promised = f"{format_size(cost.predicted_peak_bytes):>10}  {cost.predicted_seconds:>7.1f} s"
            print(f"  {promised}  {printable(cost.name)}\n{'':>25}{cost.why}")
    for cost in plan.refused:
        print(f"refused: {printable(cost.name)}: its parser alone needs {format_size(cost.predicted_peak_bytes)}")


def _cost_row(cost: FileCost) -> dict[str, Any]:
    row = asdict(cost)
    return {name: row[name] for name in ("name", "predicted_peak_bytes", "predicted_seconds", "alone", "why")}


def _print_json(connection: Connection, result: HeadlessResult, seconds: float) -> None:
    from ingest_pipeline.store import reports

    work = reports.work_since(connection, result.since)
    account = reports.status_counts(connection) | {
        "files_parsed": work["parsed"],
        "pages_parsed": work["pages"],
        "chunks_embedded": work["embedded"],
        "runs": result.runs,
        "batches_run": result.batches,
        "failed": reports.failures_by_reason(connection),
        "seconds": round(seconds, 2),
        "peak_memory_bytes": reports.peak_of_batches(connection, result.batches),
        "stopped": result.stopped,
    }
    print(json.dumps(account, ensure_ascii=False))


def _print_account(connection: Connection, result: HeadlessResult, seconds: float) -> None:
    from ingest_pipeline.store import reports

    counts = reports.status_counts(connection)
    work = reports.work_since(connection, result.since)
    total = sum(counts["files"].values()) - counts["files"]["deleted"]
    if total <= FULL_TABLE_FILES:
        print_files(row for row in reports.files(connection) if row["status"] != "deleted")
    else:
        print_files(row for row in reports.files(connection, status="failed"))
        print(f"({total - counts['files']['failed']:,} files more: `ingest files`)")
    print()
    if not work["parsed"] and not work["embedded"] and not result.batches:
        print(f"Nothing changed: {total:,} files known, 0 parsed, 0 chunks embedded, in {seconds:.1f} s.")
    else:
        _print_costs(connection, result, work, seconds)
    states = ", ".join(f"{count:,} {status}" for status, count in counts["files"].items() if count)
    print(f"Files: {states or 'none'}. Searchable: {counts['chunks']:,} chunks.")
    if result.stopped:
        print(f"Stopped before the end: {result.stopped}")


def _print_costs(connection: Connection, result: HeadlessResult, work: dict[str, Any], seconds: float) -> None:
    from ingest_pipeline.store import reports

    print("Where time and memory went:")
    print(
        f"  {'format':<24}{'files':>6}{'pages':>8}{'chunks':>8}"
        f"{'parsing':>10}{'its peak':>12}{'embedding':>11}{'its peak':>12}"
    )
    for row in reports.work_by_type(connection, result.since):
        print(
            f"  {short_name(row['media_type']):<24}{row['files']:>6}{row['pages']:>8}{row['chunks']:>8}"
            f"{row['parse_seconds']:>9.1f}s"
            f"{_peak(row['parse_peak_bytes']):>12}{row['embed_seconds']:>10.1f}s{_peak(row['embed_peak_bytes']):>12}"
        )
    peak = reports.peak_of_batches(connection, result.batches)
    print(
        f"{work['parsed']:,} files parsed, {work['pages']:,} pages, {work['embedded']:,} chunks embedded in "
        f"{_clock(seconds)} by {result.runs} runs; highest peak of a run {_peak(peak)}."
    )


def print_memory(report: MemoryReport, *, as_json: bool) -> None:
    """Print how well the memory was predicted: files as they were planned, files left out one by one, runs."""
    from ingest_pipeline.planning.predict import summarize

    kinds = sorted({outcome.media_type for outcome in report.left_out})
    rows = [(kind, [outcome for outcome in report.left_out if outcome.media_type == kind]) for kind in kinds]
    summaries = {
        "files_as_planned": summarize([outcome.error for outcome in report.files]),
        "expected_left_out": summarize([outcome.expected_error for outcome in report.left_out]),
        "promised_left_out": summarize([outcome.error for outcome in report.left_out]),
        "runs": summarize([run.error for run in report.runs]),
    }
    if as_json:
        facts = {name: asdict(summary) for name, summary in summaries.items()}
        print(json.dumps(facts | {"model": report.model.version, "runs_over_budget": report.runs_over_budget}))
        return
    if not report.left_out:
        print("nothing measured yet: `ingest run`")
        return
    print(f"Cost model {report.model.version}. Each file as all the others predict it (leave one out):")
    print(f"  {'format':<24}{'files':>6}{'expected: p50':>15}{'p95':>7}{'promised: p50':>16}{'p95':>7}{'too low':>9}")
    for kind, outcomes in [*rows, ("all", report.left_out)]:
        expected = summarize([outcome.expected_error for outcome in outcomes])
        promised = summarize([outcome.error for outcome in outcomes])
        print(
            f"  {short_name(kind):<24}{expected.count:>6}{expected.p50:>15.0%}{expected.p95:>7.0%}"
            f"{promised.p50:>16.0%}{promised.p95:>7.0%}{promised.too_low:>9}"
        )
    planned, runs = summaries["files_as_planned"], summaries["runs"]
    print(f"Files as they were planned: {planned.count}, error p50 {planned.p50:.0%}, p95 {planned.p95:.0%}.")
    over = report.runs_over_budget
    print(f"Runs: {runs.count}, error p50 {runs.p50:.0%}, p95 {runs.p95:.0%}; over their budget: {over}.")


def _peak(size_bytes: int | None) -> str:
    return "-" if not size_bytes else format_size(size_bytes)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
