"""The error types, by cause: the type of an error determines how it is handled.

IngestError
├── ConfigurationError            of the configuration: one line at start, exit code 2
│   ├── BadSetting
│   └── ModelMismatch
├── UploadRefused                 `ingest add` cannot add this file; the other files are added
├── BackupRefused                 a backup cannot be made, or cannot be restored here; nothing was changed; exit code 1
├── ErrorBudgetSpent              too many errors in a row that no file caused; exit code 3
├── CallError                     one call of a server that embeds or answers; handled where it is made
│   ├── RateLimited               too many calls: it waits, which is no error
│   ├── CallFailed                an error of the server or the network, or an answer that cannot be used
│   └── InputRejected             the server works, and refuses this input
├── ExtractError                  of the answer about one section: recorded, the other sections go on
│   ├── AnswerTruncated           it ends at a limit of tokens
│   ├── AnswerBlocked             the server withholds it, or the model declines
│   ├── AnswerEmpty               it has no text
│   └── AnswerInvalid             it is no JSON, or not of the schema, and neither is the second attempt
├── FileError                     of one file: recorded in the ledger, the other files are processed
│   ├── PermanentError            it will fail again until the file or a setting changes
│   │   ├── UnreadableDocument    damaged, or not of the type that it claims
│   │   ├── UnsupportedFormat
│   │   ├── EncryptedDocument
│   │   ├── NoText                readable, but without text (a scan, an empty file)
│   │   ├── UnreadablePages       pages that no parser could read, and gaps are not allowed
│   │   ├── FileTooLarge
│   │   ├── TooManyPages
│   │   ├── TooMuchText           far more text than a file of its size can contain: a decompression bomb
│   │   ├── LinkLeavesSource
│   │   ├── FileNeedsMoreMemory   refused before parsing: no batch can hold it
│   │   ├── ParserOutOfMemory     the parser's child reached its kernel limit
│   │   ├── ParserTimedOut
│   │   ├── ParserCrashed
│   │   ├── TooManyRejected       the embedder rejected too many of its chunks
│   │   └── KilledRepeatedly      three runs were killed while this file was open
│   └── TransientFileError        it cannot be read now; the next catalog run tries it again
│       ├── FileCutShort          a server keeps breaking off while it sends this file
│       ├── FileChanged           its bytes are no longer those with which the batch was sealed
│       └── FileVanished
└── RunError                      of the run: it stops, what is committed stays, its batch waits; a retry may help
    ├── StoreUnavailable
    ├── SourceUnavailable
    ├── ParserUnavailable         the parser's child cannot start
    ├── RunOutOfMemory            a run stopped by itself before its limit
    ├── ModelExportFailed         the model could not be converted for OpenVINO
    ├── EntityModelUnavailable    the workers that find entities do not start, or end again and again
    ├── TokenLimitReached         INGEST_MAX_TOKENS_PER_RUN: incomplete, the rest waits; exit code 4
    └── ServiceUnavailable        a server that embeds or answers fails with every call: a verdict
        └── AccessRefused         it refuses the key or the model, or the quota is spent

The names of these types are the reasons in the ledger: a contract. A message names the file, what happened, and what to
do.
"""

from __future__ import annotations


class IngestError(Exception):
    """Base class of all errors that this package raises."""

    retryable = False
    is_verdict = False
    """True if one such error is reason enough to start no more runs: it has been tried often enough already."""

    @property
    def reason(self) -> str:
        """The name of the type, as shown in the ledger, the UI and `ingest files`."""
        return type(self).__name__


class ConfigurationError(IngestError):
    """A setting or the machine makes it impossible to start."""


class BadSetting(ConfigurationError):
    """An `INGEST_*` variable has a value that cannot be used."""

    def __init__(self, variable: str, value: str, expected: str) -> None:
        self.variable, self.value, self.expected = variable, value, expected
        super().__init__(f"{variable}={value!r}: expected {expected}")


class ModelMismatch(ConfigurationError):
    """The weights on disk are not those of the expected model."""

    def __init__(self, model: str, found: str, expected: str) -> None:
        self.model, self.found, self.expected = model, found, expected
        super().__init__(
            f"{model}: weights have SHA-256 {found[:12]}…, expected {expected[:12]}…; reinstall the model package"
        )


class UploadRefused(IngestError):
    """A file cannot be added to a source: its name is taken, leaves the source, or the folder cannot be written."""

    def __init__(self, message: str, *, is_taken: bool = False) -> None:
        self.is_taken = is_taken
        """Whether the source has a file of this name already."""
        super().__init__(message)


class BackupRefused(IngestError):
    """A backup cannot be made or restored: the file is damaged, the target not empty, the schema newer."""


class ErrorBudgetSpent(IngestError):
    """Too many errors in a row that no file caused."""


class CallError(IngestError):
    """One call of a server that embeds or answers failed."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        self.retry_after_seconds = retry_after_seconds
        """For how long the server asks to wait; None where it does not say."""
        super().__init__(message)


class RateLimited(CallError):
    """The server wants fewer calls."""


class CallFailed(CallError):
    """An error of the server or of the network, or an answer that cannot be used; it may pass."""


class InputRejected(CallError):
    """The server works, and refuses this input."""


class ExtractError(IngestError):
    """The answer about one section cannot be used: recorded; the other sections go on."""

    MAX_RAW_BYTES = 64 * 1024
    """What is kept of an answer: it shows what is wrong, and a store of failures must not fill a disk."""

    def __init__(self, message: str, raw: str = "") -> None:
        # Postgres stores no NUL and no half of a surrogate pair.
        kept = raw.replace("\x00", "\ufffd").encode("utf-8", "replace")[: self.MAX_RAW_BYTES]
        self.raw = kept.decode("utf-8", "ignore")
        """The answer as it came, cut at 64 KiB; it is content, and no part of the message."""
        super().__init__(message)


class AnswerTruncated(ExtractError):
    """The answer ends at a limit of tokens: `max_output_tokens`, or the model's context."""


class AnswerBlocked(ExtractError):
    """The server withholds the answer (safety, recitation), or the model declines."""


class AnswerEmpty(ExtractError):
    """The server answers without a text."""


class AnswerInvalid(ExtractError):
    """The answer is no JSON, or not of the schema."""


class FileError(IngestError):
    """One file cannot be ingested: recorded in the ledger; the other files are processed."""


class PermanentError(FileError):
    """The same file under the same settings would fail again: not retried until one of them changes."""


class UnreadableDocument(PermanentError):
    """Damaged, or not of the type that it claims."""


class UnsupportedFormat(PermanentError):
    """No parser for this type of file."""


class EncryptedDocument(PermanentError):
    """The document needs a password."""


class NoText(PermanentError):
    """Readable, but without text."""


class UnreadablePages(PermanentError):
    """Some pages could not be read, and `INGEST_ALLOW_GAPS` is off."""


class FileTooLarge(PermanentError):
    """Larger than `INGEST_MAX_FILE_SIZE`, or pages of it are larger than a cut may be."""


class TooManyPages(PermanentError):
    """More pages than `INGEST_MAX_PAGES`."""


class TooMuchText(PermanentError):
    """Far more text than a file of its size can contain."""


class LinkLeavesSource(PermanentError):
    """A symbolic link that points outside its source; such links are never followed."""


class FileNeedsMoreMemory(PermanentError):
    """The predicted peak of this file exceeds the run budget."""


class ParserOutOfMemory(PermanentError):
    """The parser's child process reached its kernel limit."""


class ParserTimedOut(PermanentError):
    """The parser's child process passed its deadline."""


class ParserCrashed(PermanentError):
    """The parser's child process crashed, or sent an invalid message."""


class TooManyRejected(PermanentError):
    """The embedder rejected too many chunks of this file."""


class KilledRepeatedly(PermanentError):
    """Several runs were killed while this file was open."""


class TransientFileError(FileError):
    """One file cannot be read now: the next catalog run tries it again."""

    retryable = True


class RunError(IngestError):
    """No file is the cause: the run stops, what is committed stays, its batch waits for another run."""

    retryable = True


class StoreUnavailable(RunError):
    """Postgres cannot be reached, or the connection was lost."""


class SourceUnavailable(RunError):
    """The source cannot be listed."""


class ParserUnavailable(RunError):
    """The parser's child process cannot start."""


class RunOutOfMemory(RunError):
    """A run stopped by itself before it reached its limit."""


class ModelExportFailed(RunError):
    """The child that converts a model for OpenVINO failed."""


class EntityModelUnavailable(RunError):
    """The workers that find entities do not start, or end again and again."""


class TokenLimitReached(RunError):
    """A run has used the tokens that it may use: what is left waits."""


class ServiceUnavailable(RunError):
    """A server that embeds or answers cannot be used: it failed with every call."""

    is_verdict = True


class AccessRefused(ServiceUnavailable):
    """A server refuses the key or the model, or the quota of the account is spent."""


class FileCutShort(TransientFileError):
    """A server responds, but breaks off at the same place of this file again and again."""


class FileChanged(TransientFileError):
    """The bytes are no longer those with which the batch was sealed; the next catalog run finds the new version."""


class FileVanished(TransientFileError):
    """The file no longer exists, but did at the last catalog run; the next one marks it as deleted."""


def error_named(reason: str) -> type[IngestError]:
    """Return the error type with this name, for a reason that another process sent.

    Raises:
        KeyError: no such type.
    """
    # From the classes themselves: a new error type needs no entry in a table.
    return {kind.__name__: kind for kind in _tree(IngestError)}[reason]


def _tree(kind: type[IngestError]) -> list[type[IngestError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _tree(child))]
