"""All about one file, for its page and for programs: the ledger's row, what to do, attempts, memory, content."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ingest_pipeline.settings import Settings
from ingest_pipeline.stages.memory_history import memory_of_file
from ingest_pipeline.stages.remedies import REMEDIES, remedy_for
from ingest_pipeline.store import file_details as store
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.facets import FacetCount, Facets, FileFilter, facet_counts

PAGE_FILES = 50
"""Files on one page of the list."""
MOST_ATTEMPTS, MOST_SECTIONS, MOST_EXTRACTS, MOST_ENTITIES, MOST_COPIES = 20, 200, 25, 40, 10
"""Of one file's page: its counts are exact, and say what is left out."""
Row = dict[str, Any]


def file_details(connection: Connection, file_id: int, *, settings: Settings) -> Row | None:
    """Return what is known of a file, in types that JSON has; None if there is no such file.

    Names, order and types are a contract; new keys go to the end.

    Args:
        connection: to the store.
        file_id: its number in the ledger.
        settings: where the records of this machine's runs are.
    """
    file = store.file_row(connection, file_id)
    if file is None:
        return None
    gaps, warnings = file.pop("gaps"), file.pop("warnings")
    batch = store.batch_of(connection, file_id)
    memory = memory_of_file(connection, settings, file_id)
    details = file | {
        "advice": _advice(file),
        "gaps": [gap | {"advice": _advice_on_gap(gap["reason"])} for gap in gaps],
        "warnings": warnings,
        "unembedded": store.unembedded_counts(connection, file_id),
        "batch_details": batch,
        "attempts": store.attempts(connection, file_id, limit=MOST_ATTEMPTS),
        "has_memory": bool(memory),
        "memory_of_file": any(file_id in record.file_ids for record in memory),
        "section_count": store.section_count(connection, file_id),
        "sections": store.sections(connection, file_id, limit=MOST_SECTIONS),
        "extract_counts": store.extract_counts(connection, file_id),
        "extracts": store.extracts(connection, file_id, limit=MOST_EXTRACTS),
        "entities": store.top_entities(connection, file_id, limit=MOST_ENTITIES),
        "same_bytes": store.same_bytes(connection, file_id, limit=MOST_COPIES),
    }
    plain: Row = _plain(details)
    return plain


def file_list(
    connection: Connection, chosen: FileFilter, *, after: int | None = None, before: int | None = None
) -> Row:
    """Return a page of the list of files, the counts of all that the filter means, and where the list goes on.

    Args:
        connection: to the store.
        chosen: which files.
        after: the id of the file after which the page begins.
        before: the id of the file before which it ends.
    """
    rows = store.listed_files(connection, chosen, limit=PAGE_FILES + 1, after=after, before=before)
    more = len(rows) > PAGE_FILES
    shown = rows[:PAGE_FILES] if before is None else rows[-PAGE_FILES:]
    has_next, has_previous = (more, after is not None) if before is None else (True, more)
    return {
        "files": _plain(shown),
        "after": shown[-1]["file_id"] if shown and has_next else None,
        "before": shown[0]["file_id"] if shown and has_previous else None,
        "facets": facets_row(facet_counts(connection, chosen)),
    }


def file_sections(connection: Connection, file_id: int, *, after: int = -1) -> Row | None:
    """Return the sections of a file after one of them, 200 at most; None if there is no such file."""
    file = store.file_row(connection, file_id)
    if file is None:
        return None
    rows = store.sections(connection, file_id, limit=MOST_SECTIONS + 1, after=after)
    shown = rows[:MOST_SECTIONS]
    return {
        "file_id": file_id,
        "source": file["source"],
        "path": file["path"],
        "title": file["title"],
        "section_count": store.section_count(connection, file_id),
        "sections": shown,
        "after": shown[-1]["ordinal"] if len(rows) > MOST_SECTIONS else None,
    }


def facets_row(facets: Facets) -> Row:
    """Return the counts of all facets for programs."""
    return {
        "files": facets.files,
        "source": _counts(facets.sources),
        "media_type": _counts(facets.types),
        "status": _counts(facets.statuses),
    }


def _counts(counts: Iterable[FacetCount]) -> list[Row]:
    return [{"value": count.value, "files": count.files, "chosen": count.chosen} for count in counts]


def _advice(file: Row) -> Row | None:
    if not file["error"]:
        return None
    remedy = remedy_for(file["error"])
    name = shlex.quote(f"{file['source'].rstrip('/')}/{file['path']}")
    return {"text": remedy.advice.replace("PATH", name), "command": remedy.command.replace("PATH", name)}


def _advice_on_gap(reason: str) -> str | None:
    """Return what to do about pages that could not be read, if the reason is one of the ledger's."""
    kind = reason.partition(":")[0].partition(";")[0]
    return REMEDIES[kind].advice if kind in REMEDIES else None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
