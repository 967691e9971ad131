"""What is looked for, and what an answer says: the nouns of search, for the command, the service and Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from ingest_pipeline.sizes import counted


@dataclass(frozen=True, slots=True)
class SearchScope:
    """Where is looked: only passages that meet all of these; a field that is None asks for nothing."""

    source: str | None = None
    """As `ingest files` shows it."""
    path: str | None = None
    """The beginning of a path within its source; with `*` or `?` a pattern for the whole path (`*` also meets `/`)."""
    media_type: str | None = None
    """`application/pdf`; `text/*` is every kind of text."""
    page_from: int | None = None
    """The passage has text of this page or a later one."""
    page_to: int | None = None
    """The passage has text of this page or an earlier one."""
    section: str | None = None
    """The title of the passage's section, or of one above it, contains these words, in upper or lower case."""
    since: datetime | None = None
    """The file became what it is in the ledger at this time or later."""
    until: datetime | None = None
    """The file became what it is in the ledger before this time."""
    batch: str | None = None
    """The file's batch: the name of its Dagster partition."""
    entity: str | None = None
    """This name was found in the passage, in upper or lower case."""

    @property
    def of_files(self) -> bool:
        """Whether files are chosen, not only passages in them."""
        return any(
            value is not None for value in (self.source, self.path, self.media_type, self.since, self.until, self.batch)
        )


EVERYWHERE = SearchScope()


def moment_of(text: str) -> datetime:
    """Return a date or a time of ISO 8601, in UTC: PostgreSQL does not know every offset that Python does.

    Raises:
        ValueError: it is none.
    """
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(text) from error


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What is looked for."""

    text: str
    """Words or a sentence."""
    top: int = 5
    """Hits at most."""
    scope: SearchScope = EVERYWHERE
    context: int = 0
    """How many chunks before and after each hit come with it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Another place where the text of a hit stands."""

    source: str
    path: str
    page_from: int
    page_to: int


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One text that matches a query, at the first place where it stands."""

    score: float
    """By which hits are in order: the sum over both arms of weight / (60 + rank)."""
    source: str
    path: str
    page_from: int
    page_to: int
    text: str
    heading: str | None = None
    page_label: str | None = None
    section: str | None = None
    """The path of the section in which the chunk begins."""
    file_id: int = 0
    ordinal: int = 0
    """Of the chunk in its file, from 0."""
    char_from: int = 0
    """Offset in the file's text."""
    char_to: int = 0
    media_type: str = ""
    title: str | None = None
    """Of the document."""
    vector_score: float | None = None
    """Cosine of the query's vector and the text's; None where the vectors did not find it."""
    lexical_score: float | None = None
    """Sum over the query's words of their rarity and frequency in the text; None where no word led here."""
    marks: tuple[tuple[int, int], ...] = ()
    """Where in `text` the query's words stand: from, to."""
    also_at: tuple[Place, ...] = ()
    """Further places of the same text, within the scope; at most MAX_PLACES are named."""
    places: int = 1
    """At how many places the text stands, within the scope."""
    before: tuple[str, ...] = ()
    """Texts of the chunks before it, in document order, if they were asked for."""
    after: tuple[str, ...] = ()

    @property
    def snippet(self) -> tuple[int, int]:
        """The part of the text to show where there is little room, around its first marks: from, to."""
        return snippet_of(self.text, self.marks)


SNIPPET_CHARACTERS = 320
MAX_PLACES = 10


def snippet_of(text: str, marks: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """Return where the part of a text with the most marks begins and ends, at spaces where there are some."""
    if len(text) <= SNIPPET_CHARACTERS:
        return 0, len(text)
    starts = [mark[0] for mark in marks]
    best = max(
        starts, key=lambda start: sum(start <= other < start + SNIPPET_CHARACTERS - 40 for other in starts), default=0
    )
    begin = max(0, min(best - 40, len(text) - SNIPPET_CHARACTERS))
    end = begin + SNIPPET_CHARACTERS
    if begin and (space := text.find(" ", begin, begin + 40)) > 0 and space < best:
        begin = space + 1
    if end < len(text) and (space := text.rfind(" ", end - 40, end)) > 0:
        end = space
    return begin, min(end, len(text))


@dataclass(frozen=True, slots=True)
class Coverage:
    """What an answer covers: exact counts of the files in its scope."""

    files: int = 0
    """Files that their sources hold, in the scope."""
    searched: int = 0
    """Of them those of which readers see a version under a model that was asked."""
    waiting: int = 0
    """Not searchable yet: they wait or are worked on."""
    failed: int = 0
    """Not searchable: they failed."""
    outdated: int = 0
    """Searched in an older version; the new one waits, is worked on, or failed."""
    unreadable_pages: int = 0
    files_with_gaps: int = 0
    """Searched files that have unreadable pages."""
    failed_matching: int = 0
    """Failed files whose names have a word of the query."""
    failed_names: tuple[str, ...] = ()
    """Some of their names."""
    seconds: float = field(default=0.0, compare=False)
    """What it took to count."""

    @property
    def sentence(self) -> str:
        """All of it for people: `searched 3,251 of 3,275 files in this scope; 61 unreadable pages in 9 files; …`."""
        parts = [f"searched {self.searched:,} of {counted(self.files, 'file')} in this scope"]
        if self.waiting:
            parts.append(f"{self.waiting:,} not searchable yet")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        if self.outdated:
            parts.append(f"{self.outdated:,} in an older version")
        if self.unreadable_pages:
            parts.append(
                f"{counted(self.unreadable_pages, 'unreadable page')} in {counted(self.files_with_gaps, 'file')}"
            )
        if self.failed_matching:
            one = self.failed_matching == 1
            names = "1 failed file's name matches" if one else f"{self.failed_matching:,} failed files' names match"
            parts.append(f"{names} your words ({', '.join(self.failed_names)})")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The hits of a query, best first, and what was searched."""

    hits: tuple[SearchHit, ...]
    coverage: Coverage
    models: tuple[str, ...] = ()
    """Whose vectors were asked."""
    notes: tuple[str, ...] = ()
    """What could not be done: a model that could not be loaded; words that were left out."""
