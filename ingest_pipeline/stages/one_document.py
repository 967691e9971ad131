"""An LLM is asked about the sections of one document, outside of a batch; stored answers are not asked for again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ingest_pipeline.errors import BadSetting, ConfigurationError
from ingest_pipeline.memory.degradation import Degradation
from ingest_pipeline.memory.watch import TreeWatch
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.extract_plan import spec_of
from ingest_pipeline.stages.extracts import extract_run
from ingest_pipeline.stages.run import run_without_batch
from ingest_pipeline.store import extracts, generations, ledger
from ingest_pipeline.store.connection import Connection


def extract_document(connection: Connection, path: str, *, settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield what is known of each section of a document after asking about those that wait.

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
            asking.file(matching[0], generation)
            yield from extracts.answers_of(connection, generation.generation_id, spec.name)
