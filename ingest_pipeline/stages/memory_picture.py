"""The memory of a run over time as a picture: SVG of some kilobytes, small enough for the metadata of an event."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from ingest_pipeline.markdown import escaped
from ingest_pipeline.memory.record import MemoryRecord
from ingest_pipeline.sizes import format_size
from ingest_pipeline.stages.memory_drawing import WIDTH, height_of, stage_svg
from ingest_pipeline.stages.memory_shares import Files, shares_of
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.memory_records import files_of_record

LEGEND = ["", "| | file | pages | peak |", "|--|--|--|--:|"]


def memory_svg(stages: Sequence[tuple[MemoryRecord, Files]], *, named: bool) -> str:
    """Return a picture of some stages, one below the other.

    Args:
        stages: the record of each, and path and pages of its files, by their ids.
        named: whether the legend has the names of the files, or their ids: an event in Dagster must not keep the name
            of a file that is erased in a form that nobody finds.
    """
    parts, height = [], 0
    for record, files in stages:
        shares = shares_of(record, files, named=named)
        parts.append(f'<g transform="translate(0 {height})">{stage_svg(record, shares)}</g>')
        height += height_of(shares)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif"'
    return "".join([head, f' font-size="12"><rect width="{WIDTH}" height="{height}" fill="#fff"/>', *parts, "</svg>\n"])


def memory_markdown(connection: Connection, record: MemoryRecord) -> str:
    """Return a stage's picture and its legend with the names of files as Markdown that Dagster's UI shows."""
    files = files_of_record(connection, record)
    picture = base64.b64encode(memory_svg([(record, files)], named=False).encode()).decode()
    shares = shares_of(record, files, named=False)
    lines = [f"![memory over time](data:image/svg+xml;base64,{picture})", *(LEGEND if shares else [])]
    for share in shares:
        path = files.get(share.file_id, ("", 0))[0]
        lines.append(f"| {share.label} | {escaped(path)} | {share.pages} | {format_size(share.peak_bytes)} |")
    return "\n".join(lines)
