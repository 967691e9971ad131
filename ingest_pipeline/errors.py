"""Errors are types, by whose fault it is; who catches one knows what to do.

IngestError
├── ConfigurationError            the configuration's: one clear line at start, exit 2
│   ├── BadSetting
│   └── ModelMismatch
├── UploadRefused                 `ingest add` cannot put this file there; the other files go on
├── ErrorBudgetSpent              too many errors in a row that are no file's fault; exit 3
├── FileError                     the file's: a row in the ledger, its neighbours go on
│   ├── PermanentError            it will fail again until the file or a setting changes
│   │   ├── UnreadableDocument    damaged, or not what it claims to be
│   │   ├── UnsupportedFormat
│   │   ├── EncryptedDocument
│   │   ├── NoText                opened well, but holds no text (a scan, an empty file)
│   │   ├── UnreadablePages       pages that no parser could read, and gaps are not allowed
│   │   ├── FileTooLarge
│   │   ├── TooManyPages
│   │   ├── TooMuchText           far more text than a file of its size can hold: a decompression bomb
│   │   ├── LinkLeavesSource
│   │   ├── FileNeedsMoreMemory   refused before parsing: no batch can hold it
│   │   ├── ParserOutOfMemory     the parser's child reached its kernel limit
│   │   ├── ParserTimedOut
│   │   ├── ParserCrashed
│   │   └── KilledRepeatedly      three runs were killed while this file was open
│   └── TransientFileError        it cannot be read now; the next catalog run looks at it again
│       ├── FileCutShort          a server keeps breaking off while it sends this file
│       ├── FileChanged           its bytes are no longer those that the batch was sealed with
│       └── FileVanished
└── RunError                      the run's: it stops, what is committed stays, its batch waits; a retry may help
    ├── StoreUnavailable
    ├── SourceUnavailable
    ├── ParserUnavailable         the parser's child cannot even start
    ├── RunOutOfMemory            a run stopped by itself before its limit
    └── ModelExportFailed         the OpenVINO form of the model could not be made

Attributes carry the data; the message names the file, what happened, and what to do.
"""

from __future__ import annotations


class IngestError(Exception):
    """Everything that this package raises on purpose."""

    retryable = False

    @property
    def reason(self) -> str:
        """The type's name: what the ledger, the UI and `ingest files` call it."""
        return type(self).__name__


class ConfigurationError(IngestError):
    """A setting or the machine does not allow a start."""


class BadSetting(ConfigurationError):
    """An `INGEST_*` variable has a value that cannot be used."""

    def __init__(self, variable: str, value: str, expected: str) -> None:
        self.variable, self.value, self.expected = variable, value, expected
        super().__init__(f"{variable}={value!r}: expected {expected}")


class ModelMismatch(ConfigurationError):
    """The weights on disk are not the ones that the package is known to carry."""

    def __init__(self, model: str, found: str, expected: str) -> None:
        self.model, self.found, self.expected = model, found, expected
        super().__init__(
            f"{model}: weights have SHA-256 {found[:12]}…, expected {expected[:12]}…; reinstall the model package"
        )


class UploadRefused(IngestError):
    """A file cannot be added to a source: its name is taken, leaves the source, or the folder cannot be written."""


class ErrorBudgetSpent(IngestError):
    """Too many errors in a row that are no file's fault."""


class FileError(IngestError):
    """One file cannot be ingested: recorded in the ledger; its neighbours go on."""


class PermanentError(FileError):
    """The same file under the same settings would fail again: not retried until one of them changes."""


class UnreadableDocument(PermanentError):
    """Damaged, or not what it claims to be."""


class UnsupportedFormat(PermanentError):
    """No parser for this type of file."""


class EncryptedDocument(PermanentError):
    """The document needs a password."""


class NoText(PermanentError):
    """Opened well, but there is no text in it."""


class UnreadablePages(PermanentError):
    """Some pages could not be read, and `INGEST_ALLOW_GAPS` is off."""


class FileTooLarge(PermanentError):
    """Larger than `INGEST_MAX_FILE_SIZE`."""


class TooManyPages(PermanentError):
    """More pages than `INGEST_MAX_PAGES`."""


class TooMuchText(PermanentError):
    """Far more text than a file of its size can hold."""


class LinkLeavesSource(PermanentError):
    """A symbolic link that points outside its source is never followed."""


class FileNeedsMoreMemory(PermanentError):
    """No batch within the run budget can hold this file."""


class ParserOutOfMemory(PermanentError):
    """The parser's child process reached its kernel limit."""


class ParserTimedOut(PermanentError):
    """The parser's child process passed its deadline."""


class ParserCrashed(PermanentError):
    """The parser's child process crashed, or sent an invalid message."""


class KilledRepeatedly(PermanentError):
    """Runs kept being killed while this file was open."""


class TransientFileError(FileError):
    """One file cannot be read now: the next catalog run looks at it again."""

    retryable = True


class RunError(IngestError):
    """Something that is no file's fault: the run stops, what is committed stays, its batch waits for another run."""

    retryable = True


class StoreUnavailable(RunError):
    """Postgres cannot be reached, or went away."""


class SourceUnavailable(RunError):
    """The source cannot be listed."""


class ParserUnavailable(RunError):
    """The parser's child process cannot start."""


class RunOutOfMemory(RunError):
    """A run stopped by itself before it reached its limit."""


class ModelExportFailed(RunError):
    """The child that converts a model for OpenVINO failed."""


class FileCutShort(TransientFileError):
    """A server answers, but breaks off at the same place of this file again and again."""


class FileChanged(TransientFileError):
    """The bytes are no longer those that the batch was sealed with; the next catalog run takes them up."""


class FileVanished(TransientFileError):
    """The file was there when the catalog looked; the next catalog run takes note."""


def error_named(reason: str) -> type[IngestError]:
    """The error type with this name, for a reason that crossed a process boundary.

    Raises:
        KeyError: no such type.
    """
    return {kind.__name__: kind for kind in _tree(IngestError)}[reason]


def _tree(kind: type[IngestError]) -> list[type[IngestError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _tree(child))]
