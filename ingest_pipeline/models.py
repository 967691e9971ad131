"""The nouns of the pipeline: frozen dataclasses that rooms pass to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ingest_pipeline.errors import FileError

FileStatus = Literal["synced", "processing", "processed", "indexed", "failed", "deleted"]
FILE_STATUSES: tuple[FileStatus, ...] = ("synced", "processing", "processed", "indexed", "failed", "deleted")
BatchStatus = Literal["waiting", "running", "done", "failed"]
BATCH_STATUSES: tuple[BatchStatus, ...] = ("waiting", "running", "done", "failed")


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file as its source lists it; no bytes were read."""

    path: str
    """Relative to the source, with `/` between the parts."""
    size_bytes: int
    """As the source says; 0 where it does not say."""
    revision: str = ""
    """What the source says cheaply to show that the file is unchanged. Opaque: only compared, never parsed.

    '' cannot be compared: the file is always read.
    """
    refusal: FileError | None = None
    """Why this file must not be opened (a link that leaves the source), or None."""


@dataclass(frozen=True, slots=True)
class RawFile:
    """One file version that a batch asks for, as the ledger knows it."""

    file_id: int
    source: str
    path: str
    version: str
    """SHA-256 of the bytes, in hex."""
    size_bytes: int
    revision: str
    """As its source said when the file was catalogued; '' where it must be read again."""
    media_type: str
    status: FileStatus = "synced"
    predicted_peak_bytes: int = 0
    kills: int = 0
    """Runs that were killed while it was open: its next attempt takes smaller steps."""

    @property
    def name(self) -> str:
        """Source and path in one string, for messages."""
        return f"{self.source.rstrip('/')}/{self.path}"


@dataclass(frozen=True, slots=True)
class Page:
    """The unit that a parser yields: a PDF page, an EPUB chapter, an HTML section, a slab of text."""

    number: int
    """From 1. Two consecutive pages may share a number (the sections of one EPUB chapter)."""
    text: str
    heading: str | None = None
    continues: bool = False
    """True when the text goes on from the page before without a boundary (the next slab of one text)."""
    label: str | None = None
    """What is printed on the page where that is not its number: `xii`, `A-3`."""
    whole: bool = True
    """False when more text with the same number may follow."""
    section: int | None = None
    """The ordinal of the section that the page begins in; a parser does not know it."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Pages that could not be read, and why. Recorded, never silent."""

    page_from: int
    page_to: int
    reason: str


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading as a parser meets it: an outline entry of a PDF, a heading of a text. Comes before its page."""

    level: int
    """From 1."""
    title: str
    page: int


@dataclass(frozen=True, slots=True)
class ParseWarning:
    """What should be recorded beside a file that can be read: a guessed encoding, attachments that are not read."""

    text: str


@dataclass(frozen=True, slots=True)
class Properties:
    """What a parser learns of the whole document; may come more than once, a field that is None says nothing."""

    title: str | None = None
    total_pages: int | None = None


@dataclass(frozen=True, slots=True)
class ParseCost:
    """What parsing has cost so far."""

    peak_memory_bytes: int
    """Of the parser's process."""
    seconds: float
    """Of the parser's process."""
    waited_seconds: float = 0.0
    """That the run waited for it; deadlines count this."""


@dataclass(frozen=True, slots=True)
class Done:
    """The end of what was asked for."""

    pages: int
    """The number of the last page, read or not."""
    more: bool = False
    """The file goes on behind the last page that was asked for."""


ParseEvent = Page | Gap | Heading | ParseWarning | Properties | ParseCost | Done
"""What comes of a file while it is parsed; a format's parser yields the first five kinds."""


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What is known of a file beside its text once it is parsed."""

    pages: int = 0
    title: str | None = None
    gaps: tuple[Gap, ...] = ()
    sections: tuple[Section, ...] = ()
    warnings: tuple[str, ...] = ()
    peak_memory_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document with a title: from its heading to the next one that is not below it."""

    ordinal: int
    """From 0, in document order."""
    level: int
    title: str
    path: str
    """Its own and all its parents' titles, the outermost first, with ` › ` between them."""
    page_from: int
    page_to: int | None = None
    """None while the file is read."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where chunking may be taken up again: a page boundary with nothing carried over."""

    pages: int
    """Number of the last page that is wholly in the chunks so far."""
    characters: int
    chunks: int


START = Checkpoint(pages=0, characters=0, chunks=0)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of text of at most `max_tokens` tokens, with its exact place in the file."""

    ordinal: int
    text: str
    tokens: int
    page_from: int
    page_to: int
    char_from: int
    """Offset in the file's text: all its pages, one after another."""
    char_to: int
    heading: str | None = None
    page_label: str | None = None
    section: int | None = None
    """The ordinal of the section that the chunk begins in."""


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk's text waiting for its vector."""

    ordinal: int
    text: str
    text_hash: bytes
    tokens: int


@dataclass(frozen=True, slots=True)
class Observation:
    """One file version as it was measured."""

    name: str
    media_type: str
    size_bytes: int
    peak_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CostRate:
    """How files of one media type cost."""

    base_bytes: float
    bytes_per_byte: float
    factor: float
    """From the middle to the upper bound."""
    seconds_per_mib: float
    seen_bytes: int = 0
    """The largest file that the line was fitted on; beyond it the shipped slope goes on."""
    observations: int = 0
    """0: shipped."""


@dataclass(frozen=True, slots=True)
class CostModel:
    """The rates of all types, and which edition they are: 0 is shipped, each refit that changes something adds one."""

    version: int
    rates: dict[str, CostRate]


@dataclass(frozen=True, slots=True)
class FileCost:
    """What a file is predicted to cost, before it is parsed."""

    file_id: int
    name: str
    version: str
    predicted_peak_bytes: int
    predicted_seconds: float
    alone: bool = False
    """True when the file must have a batch of its own: it was open when a run was killed."""
    why: str = ""
    """In words, where the prediction comes from."""


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """Files that one run will process, and what the run is predicted to cost."""

    costs: tuple[FileCost, ...]
    predicted_peak_bytes: int
    predicted_seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Every waiting file in exactly one place: a batch, or refused because no budget holds it."""

    batches: tuple[PlannedBatch, ...]
    refused: tuple[FileCost, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """A sealed list of file versions that one run processes; its key is a Dagster partition."""

    key: str
    status: BatchStatus
    predicted_peak_bytes: int
    predicted_seconds: float
    memory_limit_bytes: int
    files: int
    runs: int
    """How many runs have begun on it."""
    failures: int = 0
    """How many of them in a row ended without finishing it, with no file to charge."""
    run_id: str | None = None
    measured_peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ScanCounts:
    """What a catalog scan found."""

    listed: int = 0
    new: int = 0
    changed: int = 0
    renamed: int = 0
    """New paths whose bytes are searchable already: nothing to parse."""
    deleted: int = 0
    refused: int = 0
    hashed_bytes: int = 0

    def __add__(self, other: ScanCounts) -> ScanCounts:
        return ScanCounts(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Which embedding model: its name, its exact weights, and the shape of its work."""

    name: str
    identity: str
    """SHA-256 of the weights, in hex."""
    dimension: int
    max_tokens: int
    """Tokens of text in one chunk; the model's special tokens are not counted."""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One chunk that answers a query, best first."""

    score: float
    source: str
    path: str
    page_from: int
    page_to: int
    text: str
    heading: str | None = None
    page_label: str | None = None
    section: str | None = None
    """The path of the section that the chunk begins in."""
