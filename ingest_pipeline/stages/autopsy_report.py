"""What an autopsy says of a file: the ledger's rows, how its runs ended, versions, the machine.

What may hold a name, a setting or content (messages, warnings, reasons of gaps) is left out or reduced to the name of
its error type, unless the document itself is handed over.
"""

from __future__ import annotations

import contextlib
import json
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ingest_pipeline import errors
from ingest_pipeline.errors import FileError, error_named
from ingest_pipeline.memory.machine import machine_memory_bytes, usable_cores
from ingest_pipeline.models import RawFile
from ingest_pipeline.parsing.sandbox.steps import CHILD_FAILURES
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.autopsy_replay import kind_of
from ingest_pipeline.stages.fingerprint import fingerprint_of, refusal_fingerprint
from ingest_pipeline.store import history
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.history import FileWords

LIBRARIES = (
    "ingest-pipeline", "pypdfium2", "pypdf", "lxml", "charset-normalizer", "orjson", "ijson", "pyarrow", "cryptography",
    "openvino", "torch", "tokenizers", "dagster", "psycopg",
)  # fmt: skip
OWN_MESSAGES = (
    errors.EncryptedDocument, errors.NoText, errors.FileTooLarge, errors.TooManyPages, errors.TooMuchText,
    errors.FileNeedsMoreMemory, errors.KilledRepeatedly, *CHILD_FAILURES,
)  # fmt: skip
"""Reasons whose message is ours, with numbers; those of the other parsers' errors may quote the document."""
RUN_NUMBERS = ("limit_bytes", "code", "group_peak_bytes", "oom_kills", "cpu_seconds", "ended")
RUN_CAUSE = re.compile(r"exit code \d+|SIG[A-Z0-9]+|signal \d+")
GIVEN_UP = "given up from here on"


def report_of(
    connection: Connection,
    file: RawFile,
    rows: dict[str, list[dict[str, Any]]],
    settings: Settings,
    *,
    shown: str | None,
) -> dict[str, Any]:
    """Return everything that is known of a file and its attempts.

    Args:
        connection: to the store.
        file: as the ledger knows it.
        rows: of the ledger, without words.
        settings: of this machine; none of their values is in the report.
        shown: instead of the file's name; None: its name and all words are in the report.
    """
    words = history.words_of(connection, file)
    return {
        "name": shown or file.path,
        **rows,
        "message": _message(file, rows["files"][0]["error"], words, shown),
        "gaps": [_gap(gap, whole=shown is None) for gap in words.gaps],
        "warnings": [_without_source(text, file) for text in words.warnings] if shown is None else None,
        "same_settings_as_then": _same_settings(rows["files"][0]["error"], words, settings),
        "runs": {run: _run(settings.home, run) for run in sorted({str(row["run_id"]) for row in rows["attempts"]})},
        "versions": _versions() | history.server_versions(connection),
        "machine": {"memory_bytes": machine_memory_bytes(), "cores": usable_cores(), "processor": platform.machine()},
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _message(file: RawFile, error: str | None, words: FileWords, shown: str | None) -> str | None:
    """Return the message of a failure without names; None where it may hold more than numbers."""
    if not words.message:
        return None
    if shown is None:
        return _without_source(words.message, file)
    if error not in {kind.__name__ for kind in OWN_MESSAGES}:
        return None
    message = words.message.replace(file.name, shown)
    # Whatever a later release writes into a message: it must not tell where the file is.
    return None if file.path in message or file.source in message else message


def _without_source(text: str, file: RawFile) -> str:
    """Return a text without the source, which may be a URL."""
    return text.replace(file.name, file.path).replace(file.source, "…")


def _gap(gap: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    reason = str(gap["reason"])
    told = reason if whole else f"{kind_of(reason)}; {GIVEN_UP}" if GIVEN_UP in reason else kind_of(reason)
    return {"page_from": gap["page_from"], "page_to": gap["page_to"], "reason": told}


def _same_settings(error: str | None, words: FileWords, settings: Settings) -> bool | None:
    """Return whether the settings that decided a refusal are those of now; None if none decides it."""
    if not error or not words.fingerprint or "+" not in words.fingerprint:
        return None
    kind = error_named(error)
    assert issubclass(kind, FileError)  # of a file, as every reason in its row
    return refusal_fingerprint(kind(""), fingerprint_of(settings), settings) == words.fingerprint


def _run(home: Path, run_id: str) -> dict[str, Any] | None:
    """Return how a run's process ended, from its supervisor's record; None if it is gone. Its log may hold names."""
    with contextlib.suppress(OSError, ValueError):
        written = json.loads((home / "runs" / f"{run_id}.json").read_text())
        cause = RUN_CAUSE.match(str(written.get("cause", "")))
        numbers = {name: written[name] for name in RUN_NUMBERS if isinstance(written.get(name), int | float)}
        return numbers | {"cause": cause[0] if cause else None}
    return None


def _versions() -> dict[str, str | None]:
    system = {"python": platform.python_version(), "kernel": platform.release(), "libc": " ".join(platform.libc_ver())}
    return system | {name: _version(name) for name in LIBRARIES}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
