"""Log lines for programs (`INGEST_LOG_FORMAT=json`), and lines that say how much memory the work on a file takes.

Ids and numbers only: no line has a text or a name of a document.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from ingest_pipeline.memory.process import descendants_of, private_bytes, resident_bytes

TEXT, JSON = "text", "json"
NEAR = 0.88
"""Share of the limit from which a line is a warning: there a run takes its first degradation step."""
EVERY = 10
"""Micro-batches from one line about them to the next."""
MB = 1024**2

logger = logging.getLogger(__name__)
_run: ContextVar[str | None] = ContextVar("run", default=None)
_batch: ContextVar[str | None] = ContextVar("batch", default=None)
_file_id: ContextVar[int | None] = ContextVar("file_id", default=None)


def working_on(*, run: str, batch: str) -> None:
    """Name the run and the batch in the lines that follow."""
    _run.set(run or None)
    _batch.set(batch or None)


@contextmanager
def at_file(file_id: int) -> Iterator[None]:
    """Name the file in the lines within."""
    token = _file_id.set(file_id)
    try:
        yield
    finally:
        _file_id.reset(token)


class JsonLines(logging.Formatter):
    """One JSON object for each record, always with the same keys; what is not known is null."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        # What Dagster adds to a record that went through its log manager.
        dagster: dict[str, Any] = getattr(record, "dagster_meta", None) or {}
        line = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": dagster.get("orig_message") or record.getMessage(),
            "run": _run.get() or dagster.get("run_id"),
            "batch": _batch.get() or (dagster.get("job_tags") or {}).get("dagster/partition"),
            "file_id": _file_id.get(),
            "memory_bytes": resident_bytes(os.getpid()),
            "error": _error_of(record, dagster.get("dagster_event")),
        }
        return json.dumps(line, ensure_ascii=False)


def _error_of(record: logging.LogRecord, event: Any) -> str | None:
    """Return the type of the error that a record is about; its message may name a document."""
    if record.exc_info and record.exc_info[0]:
        return record.exc_info[0].__name__
    error = getattr(getattr(event, "event_specific_data", None), "error", None)
    while error is not None and error.cause is not None:
        error = error.cause
    return str(error.cls_name) if error is not None and error.cls_name else None


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what is the standard error now: Dagster redirects it for each step."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _JsonLogger(logging.Logger):
    """A logger whose lines on a terminal are JSON: Dagster gives its own console logger a format of its own."""

    def addHandler(self, handler: logging.Handler) -> None:
        """Add a handler; one that writes to a stream writes JSON."""
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setFormatter(JsonLines())
        super().addHandler(handler)


def log_in(log_format: str) -> None:
    """Set the format of this process's log: of what nobody else writes, and of loggers that are made from now on."""
    if log_format == JSON:
        logging.setLoggerClass(_JsonLogger)
        if logging.lastResort:
            logging.lastResort.setFormatter(JsonLines())


def log_memory_of_run(log_format: str) -> None:
    """Let lines about memory go to the standard error alone, which a run keeps in a file.

    Not into Dagster's event log: a batch of 1,000 files would add thousands of rows to it.
    """
    handler = _StandardError()
    text = logging.Formatter("%(asctime)s - %(levelname)s - %(message)s")
    handler.setFormatter(JsonLines() if log_format == JSON else text)
    logger.addHandler(handler)
    logger.propagate = False


def log_memory(operation: str, *, limit_bytes: int, level: int = logging.INFO) -> None:
    """Log what this process and its children hold now, as `[MEMORY] operation: 213 MB`.

    Args:
        operation: what was done.
        limit_bytes: the memory budget of the run; near it the line is a warning. 0 means no limit.
        level: of the line otherwise.
    """
    if not logger.isEnabledFor(level):
        return
    own = os.getpid()
    used = resident_bytes(own) + sum(private_bytes(pid) for pid in descendants_of(own))
    if limit_bytes and used >= NEAR * limit_bytes:
        logger.warning("[MEMORY] %s: %d MB, near the limit of %d MB", operation, used / MB, limit_bytes / MB)
    else:
        logger.log(level, "[MEMORY] %s: %d MB", operation, used / MB)
