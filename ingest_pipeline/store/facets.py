"""Which files of the ledger are meant, and how many there are of each source, type and status."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg import sql
from psycopg.rows import args_row

from ingest_pipeline.search_models import SearchScope
from ingest_pipeline.store.connection import Connection, scalar
from ingest_pipeline.store.scope import scope_json

# One row for each combination: from a few dozen of them the counts of every facet add up.
COUNT = """
SELECT f.source, f.media_type, f.status, count(*)::int AS files FROM files f WHERE {chosen}
GROUP BY f.source, f.media_type, f.status
"""
# What a search asks of files, too.
CONDITION = "SELECT file_condition(%s)"


@dataclass(frozen=True, slots=True)
class FileFilter:
    """Which files are meant: those that meet all of these; a field that is None asks for nothing."""

    source: str | None = None
    media_type: str | None = None
    """`application/pdf`; `text/*` is every kind of text."""
    status: str | None = None
    error: str | None = None
    """The reason of failure."""
    path: str | None = None
    """The beginning of a path, or with `*` or `?` a pattern for the whole path."""
    batch: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def of_scope(cls, scope: SearchScope) -> FileFilter:
        """Return the files of a search's scope."""
        names = ("source", "media_type", "path", "batch", "since", "until")
        return cls(**{name: getattr(scope, name) for name in names})


@dataclass(frozen=True, slots=True)
class FacetCount:
    """How many files have one value of a facet, if the other facets stay as they are chosen."""

    value: str
    files: int
    chosen: bool


@dataclass(frozen=True, slots=True)
class Facets:
    """The counts of all facets; the most frequent values first."""

    files: int
    """That meet the whole filter."""
    sources: tuple[FacetCount, ...]
    types: tuple[FacetCount, ...]
    statuses: tuple[FacetCount, ...]


@dataclass(frozen=True, slots=True)
class _Group:
    source: str
    media_type: str
    status: str
    files: int


def condition_of(connection: Connection, chosen: FileFilter) -> sql.SQL:
    """Return the condition that a filter means, for the rows `f` of `files`; for a statement that has parameters."""
    return sql.SQL(scalar(connection, CONDITION, (scope_json(chosen),)).replace("%", "%%"))


def facet_counts(connection: Connection, chosen: FileFilter) -> Facets:
    """Return exact counts of the files that a filter means, by source, type and status.

    Each facet is counted as if nothing of itself were chosen: so one can see where else there is something.
    """
    others = replace(chosen, source=None, media_type=None, status=None)
    with connection.cursor(row_factory=args_row(_Group)) as cursor:
        groups = cursor.execute(sql.SQL(COUNT).format(chosen=condition_of(connection, others)), {}).fetchall()
    return Facets(
        sum(group.files for group in groups if _meets(group, chosen)),
        _facet(groups, "source", chosen),
        _facet(groups, "media_type", chosen),
        _facet(groups, "status", chosen),
    )


def _facet(groups: list[_Group], name: str, chosen: FileFilter) -> tuple[FacetCount, ...]:
    counts: Counter[str] = Counter()
    for group in groups:
        if _meets(group, replace(chosen, **{name: None})):
            counts[getattr(group, name)] += group.files
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    wanted = getattr(chosen, name)
    return tuple(FacetCount(value, files, wanted is not None and _is(value, wanted)) for value, files in ordered)


def _meets(group: _Group, chosen: FileFilter) -> bool:
    wanted = ((group.source, chosen.source), (group.media_type, chosen.media_type), (group.status, chosen.status))
    return all(asked is None or _is(value, asked) for value, asked in wanted)


def _is(value: str, asked: str) -> bool:
    """Return whether a value is what was asked for, in which `*` stands for any text: `text/*`."""
    first, *rest = asked.split("*")
    if not rest:
        return value == asked
    at = len(first) if value.startswith(first) else -1
    for part in rest[:-1]:  # no regular expression: one of many `*` may take forever
        at = value.find(part, at) + len(part) if at >= 0 and part in value[at:] else -1
    return at >= 0 and value.endswith(rest[-1]) and len(value) - len(rest[-1]) >= at
