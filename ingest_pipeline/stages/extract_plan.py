"""Which parts of a document an LLM is asked about, and what it reads of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from ingest_pipeline.errors import FileError, FileVanished
from ingest_pipeline.extraction.sections import (
    MAX_SECTIONS_BYTES,
    Part,
    Row,
    parts_of,
    sections_path,
    sections_rows,
)
from ingest_pipeline.extraction.spec import ExtractSpec, read_spec
from ingest_pipeline.models import RawFile
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import source_of
from ingest_pipeline.stages.access import access_of
from ingest_pipeline.store import extracts, files, generations, ledger
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.extracts import PlanKey, PlannedPart
from ingest_pipeline.store.generations import Generation

MAX_PROMPT_CHARACTERS = 2 * 1024**2
"""Of the text in one question: the largest models take 2,097,152 tokens at four characters, and answer no better."""


def spec_of(settings: Settings) -> ExtractSpec | None:
    """Return what is asked about sections; None if nothing is.

    Raises:
        BadSetting: the file cannot be used.
    """
    if not settings.extract:
        return None
    path = Path(settings.extract).expanduser()
    changed_ns = path.stat().st_mtime_ns if path.is_file() else 0
    return _spec(path, changed_ns)


@lru_cache(maxsize=4)
def _spec(path: Path, changed_ns: int) -> ExtractSpec:
    return read_spec(path)


def plan_version(spec: ExtractSpec) -> str:
    """Return a short name for everything that decides which questions are asked."""
    return hashlib.sha256(repr(asdict(spec)).encode()).hexdigest()[:16]


def requeue_for_extracts(connection: Connection, settings: Settings, *, given_up: bool) -> int:
    """Put back in line the files that have sections to ask about; return how many."""
    spec = spec_of(settings)
    if spec is None:
        return 0
    return files.requeue_without_extract(
        connection, prompt=spec.name, plan_version=plan_version(spec), max_attempts=extracts.MAX_ATTEMPTS,
        given_up=given_up,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SectionsFile:
    """The rows beside a document that say what its sections are, and the version of that file."""

    rows: list[Row] | None
    version: str


def plan_file(
    connection: Connection, spec: ExtractSpec, file: RawFile, generation: Generation, settings: Settings
) -> PlanKey:
    """Write down the parts of a file that are asked about, unless that is done; return what they are known by.

    Raises:
        FileError: the sections file beside it cannot be read.
    """
    beside = _sections_file(connection, spec, file, settings)
    version = plan_version(spec) + beside.version[:16]
    key = PlanKey(generation.generation_id, spec.name, spec.prompt_version, spec.model_key, version)
    if not extracts.is_planned(connection, key):
        parts = _parts(connection, spec, generation, beside.rows) if spec.takes(file.path) else iter(())
        extracts.write_plan(connection, key, (_planned(connection, spec, file, generation, part) for part in parts))
    return key


def unplanned(spec: ExtractSpec, generation: Generation) -> PlanKey:
    """Return what a file is known by that cannot be divided: it is tried again when it or the spec changes."""
    version = f"{plan_version(spec)} failed"
    return PlanKey(generation.generation_id, spec.name, spec.prompt_version, spec.model_key, version)


def text_of(connection: Connection, spec: ExtractSpec, generation_id: int, part: Part) -> Iterator[tuple[str, bytes]]:
    """Yield text and hash of each chunk of a part."""
    if spec.sections.by == "chunk":
        yield extracts.chunk_text(connection, generation_id, part.ordinal)
    else:
        yield from extracts.texts_of_pages(connection, generation_id, part.page_from, part.page_to)


def _parts(connection: Connection, spec: ExtractSpec, generation: Generation, rows: list[Row] | None) -> Iterator[Part]:
    if spec.sections.by == "chunk":
        for ordinal, heading, page_from, page_to in extracts.chunk_places(connection, generation.generation_id):
            yield Part(ordinal, heading or f"chunk {ordinal}", page_from, page_to)
        return
    sections = generations.sections_of(connection, generation.generation_id)
    yield from parts_of(spec.sections, pages=generation.pages, sections=sections, rows=rows)


def _planned(
    connection: Connection, spec: ExtractSpec, file: RawFile, generation: Generation, part: Part
) -> PlannedPart:
    """Return a part with the hash of what the question would be: its text, and title and pages if they are asked."""
    digest = hashlib.sha256(spec.prompt_for(title=part.title, pages=part.pages, text="").encode())
    empty = True
    for text, _ in text_of(connection, spec, generation.generation_id, part):
        empty = False
        digest.update(text.encode("utf-8", "replace") + b"\0")
    if empty:  # a scan: nothing but the bytes of the document tells one section from another
        digest.update(f"{file.version} {part.pages}".encode())
    return PlannedPart(part.ordinal, part.title, part.page_from, part.page_to, digest.digest())


def _sections_file(connection: Connection, spec: ExtractSpec, file: RawFile, settings: Settings) -> SectionsFile:
    if spec.sections.by != "file":
        return SectionsFile(None, "")
    source = source_of(file.source, access_of(settings))
    path = sections_path(file.path, spec.sections)
    known = ledger.known_files(connection, file.source, [path]).get(path)
    if known is None or known.status == "deleted":
        return SectionsFile(None, "none")
    try:
        version, size, _ = source.read_version(path, max_bytes=MAX_SECTIONS_BYTES)
        beside = RawFile(0, file.source, path, version, size, known.revision, "")
        with source.open_version(beside, max_bytes=MAX_SECTIONS_BYTES) as stream:
            return SectionsFile(sections_rows(path, stream.read(MAX_SECTIONS_BYTES + 1)), version)
    except FileVanished:
        return SectionsFile(None, "none")
    except FileError as error:
        raise type(error)(f"{file.name}: its sections file: {error}") from None
