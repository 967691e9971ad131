"""The messages of errors that every kind of source raises."""

from __future__ import annotations

from ingest_pipeline.errors import BadSetting, FileChanged, FileTooLarge, FileVanished, UploadRefused
from ingest_pipeline.schemes import known_forms


def not_a_source(text: str) -> BadSetting:
    """Return the error for a source of an unsupported kind."""
    return BadSetting("INGEST_SOURCES", text, known_forms())


def vanished(name: str) -> FileVanished:
    """Return the error for a file that was listed and no longer exists."""
    return FileVanished(f"{name}: no longer there; the next catalog run takes it up")


def changed(name: str, when: str = "since it was catalogued") -> FileChanged:
    """Return the error for a file that is no longer the requested version."""
    return FileChanged(f"{name}: changed {when}; the next catalog run takes it up")


def too_large(name: str, size_bytes: int, max_bytes: int) -> FileTooLarge:
    """Return the error for a file over the size limit."""
    return FileTooLarge(
        f"{name}: {size_bytes:,} bytes or more, over the limit of {max_bytes:,}; raise INGEST_MAX_FILE_SIZE"
    )


def name_taken(source: str, path: str) -> UploadRefused:
    """Return the error for an upload whose name is taken."""
    message = f"{path}: {source} has a file of this name; --replace makes this its new version"
    return UploadRefused(message, is_taken=True)
