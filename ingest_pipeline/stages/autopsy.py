"""A failed file becomes a folder to hand over: the ledger's rows, versions, limits, and a replay of the failure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ingest_pipeline import errors
from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.memory.machine import machine_memory_bytes
from ingest_pipeline.models import START, RawFile
from ingest_pipeline.parsing.detect import CSV, JSON, JSONL, PARQUET, PDF, SUPPORTED, TSV, short_name
from ingest_pipeline.parsing.sandbox.steps import CHILD_FAILURES, STEP_AFTER_KILLS
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import format_size
from ingest_pipeline.stages import autopsy_folder as folders
from ingest_pipeline.stages.autopsy_document import Examined, examine
from ingest_pipeline.stages.autopsy_replay import Observed, kind_of, observe
from ingest_pipeline.stages.autopsy_report import report_of
from ingest_pipeline.stages.autopsy_spec import Limits, ReplaySpec
from ingest_pipeline.stages.autopsy_text import readme, timeline
from ingest_pipeline.stages.chunks import request_for
from ingest_pipeline.stages.gaps import parse_limits
from ingest_pipeline.store import history
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.history import FileWords

PARSER_REASONS = (
    errors.UnreadableDocument, errors.EncryptedDocument, errors.NoText, errors.UnreadablePages, errors.TooManyPages,
    errors.TooMuchText, *CHILD_FAILURES,
)  # fmt: skip
"""Reasons that a parser gives: these can be replayed."""

RECORDS = (CSV, TSV, JSON, JSONL, PARQUET)


@dataclass(frozen=True, slots=True)
class Autopsy:
    """What was made."""

    out: str
    file_id: int
    status: str
    reason: str | None
    """Why the file failed; None: it has gaps, or runs were killed while it was open."""
    reproduced: bool | None
    """Whether the failure came again; None: it was not tried."""
    document: str | None
    """What of the document is in it."""
    pages: tuple[int, int] | None
    """Which pages, if not all."""
    note: str


def autopsy(connection: Connection, path: str, *, settings: Settings, out: Path | None, with_document: bool) -> Autopsy:
    """Write the autopsy of a file into a new folder or .zip, and return what is in it.

    Args:
        connection: to the store.
        path: of the file, with or without its source.
        settings: of this machine.
        out: a folder that does not exist, or a name that ends in `.zip`; None: `autopsy-ID` in the current folder.
        with_document: hand over the whole document, its name and all messages, too.

    Raises:
        ConfigurationError: there is no such file, or several, or nothing is wrong with it; or `out` cannot be written.
        ParserUnavailable: the parser's child cannot start under the limits of the run.
    """
    file = _file_named(connection, path)
    rows, words = history.rows_of(connection, file), history.words_of(connection, file)
    [row] = rows["files"]
    _require_fault(file, row, words, rows["attempts"])
    spec = _spec(connection, file, row["error"], words, settings)
    target = out or Path(f"autopsy-{file.file_id}")
    with folders.new_folder(target) as folder:
        examined = examine(file, spec, folder, settings, with_document=with_document)
        spec = _handed_over(spec, examined)
        report = report_of(connection, file, rows, settings, shown=None if with_document else spec.name)
        report |= {"replay_here": examined.row()}
        (folder / folders.REPLAY).write_text(spec.written())
        (folder / folders.LEDGER).write_text(json.dumps(report, indent=2, default=str))
        (folder / folders.TIMELINE).write_text(timeline(report))
        (folder / folders.README).write_text(readme(report, spec, examined, with_document=with_document))
    document = spec.document
    return Autopsy(
        out=str(target), file_id=file.file_id, status=row["status"], reason=row["error"],
        reproduced=examined.reproduced, document=document.file if document else None,
        pages=document.pages if document else None, note=examined.note,
    )  # fmt: skip


def _handed_over(spec: ReplaySpec, examined: Examined) -> ReplaySpec:
    """Return the spec for the document in the folder: pages alone are expected to fail as they did in the document."""
    document, observed = examined.document, examined.observed
    expected = observed.causes if observed and document and document.pages else spec.expected
    return replace(spec, document=document, expected=expected)


def replay(place: Path, document: Path | None, settings: Settings) -> tuple[ReplaySpec, Observed]:
    """Replay the failure of an autopsy that somebody handed over; return what was expected, and what came.

    Raises:
        ConfigurationError: this is no autopsy, or there is no document, or no parser is at fault.
        ParserUnavailable: the parser's child cannot start under the limits.
    """
    with folders.opened_replay(place, document) as (spec, stream):
        if not spec.expected:
            raise ConfigurationError(f"{place}: no parser is at fault: there is nothing to replay")
        if spec.limits.parser_memory_bytes > machine_memory_bytes():  # also where somebody wrote it by hand
            raise ConfigurationError(
                f"{place}: its parser had {format_size(spec.limits.parser_memory_bytes)} of memory, "
                "which this machine has not"
            )
        return spec, observe(stream, spec, settings)


def _file_named(connection: Connection, path: str) -> RawFile:
    matching = history.files_named(connection, path)
    if len(matching) == 1:
        return matching[0]
    why = "several files have this path: write it with its source" if matching else "the ledger has no such file"
    raise ConfigurationError(f"{path}: {why}; `ingest files` lists them")


def _require_fault(file: RawFile, row: dict[str, Any], words: FileWords, attempts: list[dict[str, Any]]) -> None:
    killed = any(attempt["outcome"] == "killed" for attempt in attempts)
    if not (row["error"] or words.gaps or killed):
        raise ConfigurationError(f"{file.path}: {row['status']}, without gaps: it neither failed nor killed a run")


def _spec(connection: Connection, file: RawFile, error: str | None, words: FileWords, settings: Settings) -> ReplaySpec:
    """Return how a file was parsed, as far as the ledger and the settings know it."""
    suffix = re.sub(r"[^a-z0-9.]", "", short_name(file.media_type).rpartition("/")[2])
    request, run_memory = request_for(file, settings, START), history.memory_limit_bytes(connection, file)
    # The limits of a gap are known; those of a failure are the batch's memory, and the present settings.
    then = parse_limits(replace(settings, run_memory=run_memory or settings.run_memory))
    then |= history.parse_limits(connection, file)
    limits = Limits(
        parser_memory_bytes=int(then["parser_bytes"]),
        page_seconds=then["page_seconds"],
        file_seconds=then["file_seconds"],
        max_pages=request.max_pages,
        max_characters=request.max_characters,
        max_expanded_bytes=request.max_expanded_bytes,
        allow_gaps=settings.allow_gaps,
        width=STEP_AFTER_KILLS[min(file.kills, len(STEP_AFTER_KILLS) - 1)],
    )
    plain = Settings()
    return ReplaySpec(
        name=f"file-{file.file_id}.{suffix or 'bin'}",
        media_type=file.media_type,
        expected=_expected(file, error, words),
        limits=limits,
        passwords=bool(settings.pdf_passwords) and file.media_type == PDF,
        record_template=file.media_type.removesuffix("+gzip") in RECORDS
        and (settings.record_text, settings.record_id) != (plain.record_text, plain.record_id),
    )


def _expected(file: RawFile, error: str | None, words: FileWords) -> tuple[str, ...]:
    """Return the kinds of failure of which a replay must bring one; none if no parser is at fault."""
    if not file.version or file.media_type not in SUPPORTED:
        return ()
    if error in {kind.__name__ for kind in PARSER_REASONS}:
        return (str(error),)
    if error is None and words.gaps:
        return tuple(dict.fromkeys(kind_of(gap["reason"]) for gap in words.gaps))
    if error in (None, errors.KilledRepeatedly.__name__):  # a child that fails alone explains why runs were killed
        return tuple(kind.__name__ for kind in CHILD_FAILURES)
    return ()
