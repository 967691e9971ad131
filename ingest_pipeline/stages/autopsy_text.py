"""The pages of an autopsy that a person reads: what is in the folder, and what happened to the file."""

from __future__ import annotations

from typing import Any

from ingest_pipeline.sizes import format_size
from ingest_pipeline.stages.autopsy_document import Examined
from ingest_pipeline.stages.autopsy_spec import ReplaySpec

README = """\
AUTOPSY OF FILE {file_id}
{headline}

Made by `ingest autopsy`, to be handed to somebody who can find the cause. Read this before you send it.

What is in this folder
  README.txt     this page
  timeline.txt   each attempt on the file: when, in which stage, how it ended, with how much memory
  ledger.json    the ledger's rows of the file, its attempts, batches and incidents; how its runs ended; versions of
                 the product, its libraries, Python, kernel, libc, Postgres and pgvector
  replay.json    what a replay needs: type of the document, limits in bytes and seconds, the failure to expect
{document}

What is not in it
{left_out}

To replay the failure, in a sandbox and under the same limits:

    ingest autopsy --replay FOLDER{argument}

Exit code 0: the same failure came. 1: it did not. Here it {here}.
{notes}"""

PAGES = """\
  {file}
                 {pages} of the document, with the fonts and images referred to. Whoever gets this folder can read
                 this. It is here because it alone fails in the same way.
"""
WHOLE = """\
  {file}
                 THE WHOLE DOCUMENT, because you asked for it (--with-document)
"""
LEFT_OUT = """\
  The document's name and where it is, its text and titles, messages that may quote it. No value of a setting, no URL,
  no credential: limits are numbers. The SHA-256 of its bytes is in it, by which somebody who has the document can
  recognize it.
"""
LEFT_OUT_WITH_DOCUMENT = """\
  Where the document is. No value of a setting, no URL, no credential: limits are numbers. The name of the document and
  all messages are in it.
"""


def readme(report: dict[str, Any], spec: ReplaySpec, examined: Examined, *, with_document: bool) -> str:
    """Return the page for the person who decides whether to send the folder."""
    [row] = report["files"]
    what = f"{row['media_type']}, {format_size(row['size_bytes'])}, version {row['version'][:12]}"
    why = row["error"] or (f"gaps: {len(report['gaps'])}" if report["gaps"] else "runs were killed while it was open")
    return README.format(
        file_id=row["file_id"],
        headline=f"{row['status']}: {why}. {what}.",
        document=_document(spec),
        left_out=(LEFT_OUT_WITH_DOCUMENT if with_document else LEFT_OUT).rstrip(),
        argument="" if spec.document else " --document FILE",
        here={True: "did", False: "did not", None: "was not tried"}[examined.reproduced],
        notes="".join(f"Note: {note}.\n" for note in _notes(report, spec, examined)),
    )


def _document(spec: ReplaySpec) -> str:
    if spec.document is None:
        return "  (nothing of the document)"
    if spec.document.pages is None:
        return WHOLE.format(file=spec.document.file).rstrip()
    return PAGES.format(file=spec.document.file, pages=in_words(*spec.document.pages)).rstrip()


def in_words(first: int, last: int) -> str:
    """Return a range of pages: `page 3`, `pages 3 to 5`."""
    return f"page {first}" if first == last else f"pages {first} to {last}"


def _notes(report: dict[str, Any], spec: ReplaySpec, examined: Examined) -> list[str]:
    notes = [examined.note] if examined.note else []
    if report["same_settings_as_then"] is False:
        notes.append("the limits are those of now; the file failed under others")
    if spec.passwords:
        notes.append("passwords were tried on it; a replay takes those of INGEST_PDF_PASSWORDS where it runs")
    if spec.record_template:
        notes.append("a template made its text; a replay takes that of INGEST_RECORD_TEXT where it runs")
    return notes


def timeline(report: dict[str, Any]) -> str:
    """Return a line for each attempt, in order."""
    limits = {row["batch"]: row["memory_limit_bytes"] for row in report["batches"]}
    head = f"{'began (UTC)':<19}  {'run':<8}  {'stage':<11}  {'ended':<18}{'pages':>8}{'seconds':>9}"
    lines = [f"{head}{'parsing':>12}{'embedding':>12}{'run limit':>12}"]
    for row in report["attempts"]:
        ended = "open" if row["open"] else row["error"] or row["outcome"] or "-"
        seconds = row["parse_seconds"] + row["embed_seconds"]
        peaks = (row["parse_peak_bytes"], row["embed_peak_bytes"], limits.get(row["batch"]))
        sizes = "".join(f"{format_size(peak) if peak else '-':>12}" for peak in peaks)
        began = f"{row['started_at']:%Y-%m-%d %H:%M:%S}"
        lines.append(
            f"{began}  {row['run_id'][:8]:<8}  {row['stage']:<11}  {ended:<18}{row['pages']:>8}{seconds:>9.1f}{sizes}"
        )
        if ending := _ending(report["runs"].get(str(row["run_id"]))):
            lines.append(f"{'':21}{ending}")
    return "\n".join([*lines, *_incidents(report)]) + "\n"


def _ending(run: dict[str, Any] | None) -> str:
    if not run:
        return ""
    kills = f", {run['oom_kills']} processes killed for memory" if run.get("oom_kills") else ""
    peak = f", peak of its group {format_size(run['group_peak_bytes'])}" if run.get("group_peak_bytes") else ""
    return f"its run ended: {run['cause'] or 'no end is recorded'}{kills}{peak}"


def _incidents(report: dict[str, Any]) -> list[str]:
    return [
        f"{row['happened_at']:%Y-%m-%d %H:%M:%S}  {row['run_id'][:8]:<8}  incident     {row['cause']}"
        for row in report["incidents"]
    ]
