"""Frozen dataclasses that the packages pass to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ingest_pipeline.errors import FileError

FileStatus = Literal["synced", "processing", "processed", "indexed", "failed", "deleted"]
FILE_STATUSES: tuple[FileStatus, ...] = ("synced", "processing", "processed", "indexed", "failed", "deleted")
BatchStatus = Literal["waiting", "running", "done", "failed"]
BatchKind = Literal["first", "retry", "alone", "requeue"]
BATCH_STATUSES: tuple[BatchStatus, ...] = ("waiting", "running", "done", "failed")
FindingState = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file as its source lists it; no bytes were read."""

    path: str
    """Relative to the source, with `/` between the parts."""
    size_bytes: int
    """As reported by the source; 0 if it does not report a size."""
    revision: str = ""
    """What the source reports without reading the file to show that it is unchanged. Opaque: only compared, never
    parsed. '' cannot be compared: the file is always read.
    """
    refusal: FileError | None = None
    """Why this file must not be opened (a link that leaves the source), or None."""


@dataclass(frozen=True, slots=True)
class RawFile:
    """One file version in a batch, with its state in the ledger."""

    file_id: int
    source: str
    path: str
    version: str
    """SHA-256 of the bytes, in hex."""
    size_bytes: int
    revision: str
    """As reported by the source when the file was catalogued; '' if the file must be read again."""
    media_type: str
    status: FileStatus = "synced"
    predicted_peak_bytes: int = 0
    kills: int = 0
    """Number of runs that were killed while it was open: after a kill it is parsed in smaller steps."""
    next_generation_id: int | None = None
    """If it is processed: the generation that will be shown."""

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
    """True when the text continues the page before without a boundary (the next slab of one text)."""
    label: str | None = None
    """The printed page number, if it differs from `number`: `xii`, `A-3`."""
    whole: bool = True
    """False when more text with the same number may follow."""
    section: int | None = None
    """The ordinal of the section in which the page begins; not set by parsers."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Pages that could not be read, and the reason. Always recorded."""

    page_from: int
    page_to: int
    reason: str


@dataclass(frozen=True, slots=True)
class Heading:
    """An outline entry of a PDF or a heading of a text. Comes before its page."""

    level: int
    """From 1."""
    title: str
    page: int


@dataclass(frozen=True, slots=True)
class ParseWarning:
    """A warning about a file that can be read: a guessed encoding, attachments that are not read."""

    text: str


@dataclass(frozen=True, slots=True)
class Properties:
    """Properties of the whole document; may come more than once, and fields that are None are unknown."""

    title: str | None = None
    total_pages: int | None = None


@dataclass(frozen=True, slots=True)
class ParseCost:
    """The cost of parsing so far."""

    peak_memory_bytes: int
    """Of the parser's process."""
    seconds: float
    """Of the parser's process."""
    waited_seconds: float = 0.0
    """Time for which the run waited for the parser; the deadlines count this."""


@dataclass(frozen=True, slots=True)
class Done:
    """The end of the requested pages."""

    pages: int
    """The number of the last page, read or not."""
    more: bool = False
    """True when the file has pages after the last requested one."""


ParseEvent = Page | Gap | Heading | ParseWarning | Properties | ParseCost | Done
"""The events of a file while it is parsed; the parser of a format yields the first five kinds."""


@dataclass(frozen=True, slots=True)
class CutPages:
    """The result of cutting pages out of a document."""

    pages: int
    size_bytes: int
    """Of the document that holds these pages alone."""
    peak_memory_bytes: int
    """Of the parser's process."""


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """The result of parsing a file, without its text."""

    pages: int = 0
    title: str | None = None
    gaps: tuple[Gap, ...] = ()
    sections: tuple[Section, ...] = ()
    warnings: tuple[str, ...] = ()
    peak_memory_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document with a title: from its heading to the next heading that is not below it."""

    ordinal: int
    """From 0, in document order."""
    level: int
    title: str
    path: str
    """The titles of its parents and its own, the outermost first, with ` › ` between them."""
    page_from: int
    page_to: int | None = None
    """None while the file is parsed."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A position from which chunking can continue: a page boundary without pending text."""

    pages: int
    """Number of the last page that is completely in the chunks so far."""
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
    """The ordinal of the section in which the chunk begins."""


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A stored chunk that has no vector yet."""

    generation_id: int
    ordinal: int
    text: str
    text_hash: bytes
    tokens: int


@dataclass(frozen=True, slots=True)
class Entity:
    """A named entity in a text: a person, an organization, a place."""

    label: str
    """What it is, in the words of the model that found it: `PERSON`, `ORG`."""
    char_from: int
    """Offset in the chunk's text."""
    char_to: int
    name: str
    """As it is written there, with single spaces."""


@dataclass(frozen=True, slots=True)
class TextEntities:
    """What one model found in one text; no entities are an answer, too."""

    text_hash: bytes
    entities: tuple[Entity, ...] = ()
    skipped: bool = False
    """True when the model did not read the text: it is in another language, or no worker survives it."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The measured cost of one file version."""

    name: str
    media_type: str
    size_bytes: int
    peak_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CostRate:
    """The rate by which the cost of a file of one media type is predicted."""

    base_bytes: float
    bytes_per_byte: float
    factor: float
    """From the expected peak to the upper bound."""
    seconds_per_mib: float
    seen_bytes: int = 0
    """Size of the largest file in the fit; beyond it the shipped slope is used."""
    observations: int = 0
    """Number of files in the fit; 0 for a shipped rate."""


@dataclass(frozen=True, slots=True)
class CostModel:
    """The rates of all types; version 0 is shipped, and each fit with different rates increases it by one."""

    version: int
    rates: dict[str, CostRate]


@dataclass(frozen=True, slots=True)
class FileCost:
    """The predicted cost of a file."""

    file_id: int
    name: str
    version: str
    predicted_peak_bytes: int
    predicted_seconds: float
    alone: bool = False
    """True when the file must have a batch of its own: it was open when a run was killed."""
    why: str = ""
    """An explanation of the prediction."""


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """Files that one run will process, with the predicted cost of that run."""

    costs: tuple[FileCost, ...]
    predicted_peak_bytes: int
    predicted_seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan for all waiting files: each is in one batch, or refused because it exceeds the budget."""

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
    """How many runs in a row ended without finishing it, and could not be attributed to a file."""
    run_id: str | None = None
    measured_peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ScanCounts:
    """The result of a catalog scan."""

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
    """An embedding model: its name, the hash of its weights, and its shape."""

    name: str
    identity: str
    """What its vectors are known by: the SHA-256 of the weights, in hex; of a model on a server, of its name."""
    dimension: int
    max_tokens: int
    """Tokens of text in one chunk; the model's special tokens are not counted."""
    tokenizer: str = ""
    """What counts them: the SHA-256 of the tokenizer's file, or the name of an estimate."""
    limit_tokens: int = 0
    """Tokens that the model takes, if chunks are made smaller."""
    embedder: str = "local"
    """Who computes the vectors: this machine, or the protocol of a server."""

    @property
    def takes_tokens(self) -> int:
        """Tokens that the model takes: chunks that were made for another model fit if they have no more."""
        return max(self.limit_tokens, self.max_tokens)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model of the store, and what it has there."""

    model_id: int
    name: str
    embedder: str
    dimension: int
    vectors: int
    rejected: int
    deferred: int
    files: int
    """Files that readers see under it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What calls of a server cost."""

    calls: int = 0
    failed_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check of `ingest doctor` saw."""

    check: str
    """Which check: a part of the contract of `--json`."""
    state: FindingState
    """`warn`: it works, and something is not as it should be, or could not be looked at."""
    seen: str
    advice: str = ""
    """What to do; empty where nothing is to be done."""
