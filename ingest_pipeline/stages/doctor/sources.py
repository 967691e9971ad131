"""The sources: each is listed and read as a run reads it, up to its first document; and the names of settings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import partial

from ingest_pipeline.models import Finding
from ingest_pipeline.settings import Settings, variable
from ingest_pipeline.sources.registry import canonical_source, source_of
from ingest_pipeline.stages.access import access_of
from ingest_pipeline.stages.doctor.bounded import Seen, fail, looked, ok, warn

PATIENCE_SECONDS = 5.0
"""A run waits a minute for a server that is away; a diagnosis does not."""
LOOKED_AT = 100
"""Documents of which one must be readable."""
OF_TESTS = ("INGEST_CORPUS", "INGEST_REQUIRE_CORPUS", "INGEST_PROOF")


def checks(settings: Settings) -> Iterator[Finding]:
    """Yield the findings about the settings' names, and about each source."""
    yield looked("settings", lambda: _settings(os.environ), advice="")
    for source in settings.sources:
        advice = f"mend access to {source}, or correct INGEST_SOURCES"
        yield looked("source", partial(_source, source, settings), advice=advice)


def _settings(environ: Mapping[str, str]) -> Seen:
    known = {variable(setting.name) for setting in fields(Settings)}
    written = [name for name in environ if name.startswith("INGEST_") and name not in OF_TESTS]
    unknown = sorted(set(written) - known)
    if unknown:
        return warn(f"no such setting: {', '.join(unknown)}", "correct the name; docs/settings.md has all of them")
    return ok(f"{len(written)} variables set")


def _source(name: str, settings: Settings) -> Seen:
    source = source_of(
        canonical_source(name),
        replace(access_of(settings), stall_seconds=PATIENCE_SECONDS, patience_seconds=PATIENCE_SECONDS),
    )
    refused = None
    for number, file in enumerate(source.files()):
        if file.refusal is None:
            source.read_head(file.path)
            return ok(f"{source.name}: can be listed and read")
        refused = file.refusal
        if number == LOOKED_AT:
            break
    if refused:
        return fail(f"{source.name}: no document can be read: {refused}", "let this user read them")
    return warn(f"{source.name}: can be listed, and holds no document", "add some, or correct INGEST_SOURCES")
