"""What of a document goes into an autopsy: the pages at fault if these alone still fail, or all of it if asked for."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from ingest_pipeline.errors import IngestError, PermanentError
from ingest_pipeline.models import RawFile
from ingest_pipeline.parsing.request import CutRequest
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import source_of
from ingest_pipeline.stages.access import access_of
from ingest_pipeline.stages.autopsy_replay import (
    Observed,
    observe,
    pages_at_fault,
    pieces_of,
    sha256_of,
)
from ingest_pipeline.stages.autopsy_spec import ReplayedDocument, ReplaySpec

MOST_PAGES, MOST_CUT_BYTES = 20, 20 * 1024**2
"""Of what is cut out: more is not minimal."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What was learned from the document, and what of it is in the folder."""

    document: ReplayedDocument | None = None
    observed: Observed | None = None
    """How the whole document ended now; None: it could not be read, or no parser is at fault."""
    reproduced: bool | None = None
    """Whether that is the failure of the ledger."""
    note: str = ""
    """Why it was not read, or why no pages were cut out; without names."""

    def row(self) -> dict[str, Any]:
        """Return what the report says of it."""
        observed = self.observed.row() if self.observed else None
        return {"reproduced": self.reproduced, "note": self.note, "observed": observed}


def examine(file: RawFile, spec: ReplaySpec, folder: Path, settings: Settings, *, with_document: bool) -> Examined:
    """Replay a file from its source, and write what may be handed over of it into a folder.

    Args:
        file: as the ledger knows it.
        spec: how it is parsed.
        folder: gets `document.*` or `pages-*.pdf`.
        settings: how sources are reached, and passwords.
        with_document: write the whole document, whatever the replay brings.
    """
    examined = Examined()
    try:
        source = source_of(file.source, access_of(settings))
        with source.open_version(file, max_bytes=settings.max_file_size) as stream:
            examined = _examined(stream, spec, folder, settings, with_document=with_document)
    except IngestError as error:
        if examined.document:  # it changed meanwhile
            (folder / examined.document.file).unlink()
        return Examined(note=f"the document could not be read: {error.reason}")
    if with_document and examined.document and examined.document.sha256 != file.version:
        return replace(examined, note="the document has changed since it failed")
    return examined


def _examined(stream: BinaryIO, spec: ReplaySpec, folder: Path, settings: Settings, *, with_document: bool) -> Examined:
    observed = observe(stream, spec, settings) if spec.expected else None
    reproduced = observed.is_one_of(spec.expected) if observed else None
    if with_document:
        target = folder / f"document{Path(spec.name).suffix}"
        return Examined(_copied(stream, target), observed, reproduced)
    if not observed or not reproduced:
        note = "no parser is at fault: there is nothing to replay" if not observed else "it does not fail now"
        return Examined(None, observed, reproduced, note)
    spec = replace(spec, expected=observed.causes)
    for pages in pages_at_fault(observed, spec.media_type, most=MOST_PAGES):
        if document := _cut(stream, pages, spec, folder, settings):
            return Examined(document, observed, reproduced)
    return Examined(
        None, observed, reproduced, "no pages of it alone fail in the same way; --with-document adds the document"
    )


def _cut(
    stream: BinaryIO, pages: tuple[int, int], spec: ReplaySpec, folder: Path, settings: Settings
) -> ReplayedDocument | None:
    """Cut out pages; return them if they alone fail in the same way, else leave nothing."""
    request = CutRequest(spec.name, *pages, max_bytes=MOST_CUT_BYTES, passwords=settings.pdf_passwords)
    with tempfile.TemporaryFile(dir=folder) as output:
        try:
            with spec.roomy().sandbox() as sandbox:
                sandbox.cut(stream, request, output)
        except PermanentError:
            return None
        if not observe(output, spec, settings).is_one_of(spec.expected):
            return None
        first, last = pages
        return replace(_copied(output, folder / f"pages-{first}-{last}.pdf"), pages=pages)


def _copied(stream: BinaryIO, target: Path) -> ReplayedDocument:
    """Copy a document in pieces; return what it is."""
    with target.open("xb") as output:
        output.writelines(pieces_of(stream))
    with target.open("rb") as copy:
        return ReplayedDocument(target.name, sha256_of(copy), target.stat().st_size)
