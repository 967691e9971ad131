"""An LLM is asked about the sections of one document, outside of a batch; stored answers are not asked for again."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ingest_pipeline.errors import BadSetting, ConfigurationError, FileError
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.models import RawFile
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.extract_plan import plan_file, spec_of, unplanned
from ingest_pipeline.stages.extracts import ExtractRun, extract_run
from ingest_pipeline.stages.run import run_without_batch
from ingest_pipeline.store import extracts, generations, ledger
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.generations import Generation

logger = logging.getLogger(__name__)
UNANSWERED = ("waiting", "failed")
"""What a section is before it is asked about; one that failed may be asked about again."""


def extract_document(connection: Connection, path: str, *, settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield what is known of each section of a document, in order, as soon as those before it were asked about.

    Who stops reading ends it: no further section is asked about.

    Args:
        connection: to the store.
        path: of a file that readers see, with or without its source.
        settings: what to ask, in `extract`.

    Raises:
        ConfigurationError: readers see no such file, or several.
        BadSetting: it is not said what to ask, or the client library or the key is missing.
        ServiceUnavailable: the LLM's server cannot be used.
    """
    spec = spec_of(settings)
    if spec is None:
        raise BadSetting("INGEST_EXTRACT", "", "a YAML file that says what to ask, here or with --prompt")
    matching = ledger.shown_files(connection, path)
    if len(matching) != 1:
        why = (
            "several files have this path: write it with its source" if matching else "no searchable file has this path"
        )
        raise ConfigurationError(f"{path}: {why}; `ingest files` lists them, `ingest add` adds one")
    run = replace(run_without_batch(connection, settings), run_id=f"{extracts.COMMAND_RUN}{uuid.uuid4()}")
    budget = run.budget
    limits = {"page_seconds": settings.page_seconds, "file_seconds": settings.file_seconds}
    with (
        Sandbox(memory_limit_bytes=budget.parser_bytes, **limits) as sandbox,
        TreeWatch(Degradation(limit_bytes=settings.run_memory)) as watch,
    ):
        asking = extract_run(run, sandbox=sandbox, watch=watch)
        asking.delete_abandoned()
        generation = generations.shown_of(connection, matching[0])
        if generation is not None:
            yield from _in_order(asking, matching[0], generation)


def _in_order(asking: ExtractRun, file: RawFile, generation: Generation) -> Iterator[dict[str, Any]]:
    connection, prompt, after = asking.run.connection, asking.spec.name, -1
    for waiting in _waiting(asking, file, generation):
        for row in extracts.answers_of(connection, generation.generation_id, prompt, after=after):
            if row["section"] in waiting and row["status"] in UNANSWERED:
                break
            after = row["section"]
            yield row
    yield from extracts.answers_of(connection, generation.generation_id, prompt, after=after)


def _waiting(asking: ExtractRun, file: RawFile, generation: Generation) -> Iterator[set[int]]:
    """Ask about one file; yield the numbers of the sections that wait, before each question and after the last."""
    connection, waiting = asking.run.connection, set[int]()
    try:
        key = plan_file(connection, asking.spec, file, generation, asking.run.settings)
    except FileError as error:
        logger.warning("file %d: its sections file cannot be used: %s", file.file_id, error.reason)
        extracts.fail_plan(connection, unplanned(asking.spec, generation), error)
        return
    waiting |= {part.ordinal for part in extracts.waiting_parts(connection, key)}
    yield waiting
    try:
        for section in asking.stored(file, key):
            waiting.discard(section)
            yield waiting
    except FileError as error:
        logger.warning("file %d was not asked about: %s", file.file_id, error.reason)
