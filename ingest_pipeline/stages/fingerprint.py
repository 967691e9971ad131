"""The fingerprint: everything but a file's bytes that decides its text, or why it was refused.

The model is no part of it: vectors belong to texts. How texts are cut into chunks for a model (its tokenizer and its
limit) is known of each generation, so that a model which takes the chunks of another one needs no parsing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from ingest_pipeline import chunking
from ingest_pipeline.errors import (
    EncryptedDocument,
    FileError,
    ParserOutOfMemory,
    ParserTimedOut,
    TooManyPages,
    TooManyRejected,
)
from ingest_pipeline.parsing import detect
from ingest_pipeline.settings import Settings

PARSER_VERSION = 3
"""Raise it when a parser would give other text for the same bytes: every file is then parsed anew."""


def fingerprint_of(settings: Settings) -> str:
    """Return a short name for parser, chunker and the settings that change texts; others are outdated."""
    deciding = (PARSER_VERSION, chunking.VERSION, settings.record_text, settings.record_id)
    return hashlib.sha256(repr(deciding).encode()).hexdigest()[:16]


def generation_fingerprint(fingerprint: str, media_type: str) -> str:
    """Return the fingerprint of one generation: the same bytes read as Markdown and as text give other pages."""
    return f"{fingerprint}:{media_type}"


def formats_fingerprint() -> str:
    """Return under what a file is refused that no parser is for: when a format is added, it is read again."""
    return "formats:" + hashlib.sha256(" ".join(sorted(detect.SUPPORTED)).encode()).hexdigest()[:16]


def refusal_fingerprint(error: FileError, fingerprint: str, settings: Settings) -> str:
    """Return under what a file is refused: when a setting that decides the refusal changes, it is outdated."""
    decides = DECIDING_SETTINGS.get(type(error))
    return f"{fingerprint}+{decides(fingerprint, settings)}" if decides else fingerprint


def valid_fingerprints(fingerprint: str, settings: Settings) -> list[str]:
    """Return the fingerprints that are not outdated under these settings: of generations, and of every refusal."""
    return [fingerprint, *(f"{fingerprint}+{decides(fingerprint, settings)}" for decides in DECIDING_SETTINGS.values())]


def _passwords(fingerprint: str, settings: Settings) -> str:
    """Return a name for the passwords that tells as little of them as scrypt can: the ledger keeps it."""
    if not settings.pdf_passwords:
        return "none"
    secret = "\n".join(sorted(settings.pdf_passwords)).encode()
    return hashlib.scrypt(secret, salt=fingerprint.encode(), n=2**14, r=8, p=1, dklen=8).hex()


DECIDING_SETTINGS: dict[type[FileError], Callable[[str, Settings], str]] = {
    EncryptedDocument: _passwords,
    TooManyPages: lambda _, settings: f"pages={settings.max_pages}",
    ParserTimedOut: lambda _, settings: f"seconds={settings.page_seconds:g},{settings.file_seconds:g}",
    ParserOutOfMemory: lambda _, settings: f"memory={settings.run_memory}",
    TooManyRejected: lambda _, settings: (
        f"model={settings.embedder},{settings.model},{settings.passage_prefix},{settings.max_rejected}"
    ),
}
"""Reasons that the message tells to raise a setting for: the next catalog run takes such a file up again."""
