"""What is said of a file that cannot be had, in one wording for folders, buckets and lists."""

from __future__ import annotations

from ingest_pipeline.errors import FileChanged, FileTooLarge, FileVanished


def vanished(name: str) -> FileVanished:
    """Return the refusal of a file that was listed and is gone."""
    return FileVanished(f"{name}: no longer there; the next catalog settles it")


def changed(name: str, when: str = "since it was catalogued") -> FileChanged:
    """Return the refusal of a file that is no longer what it was."""
    return FileChanged(f"{name}: changed {when}; the next catalog takes it up")


def too_large(name: str, size_bytes: int, max_bytes: int) -> FileTooLarge:
    """Return the refusal of a file over the size limit."""
    return FileTooLarge(
        f"{name}: {size_bytes:,} bytes or more, over the limit of {max_bytes:,}; raise INGEST_MAX_FILE_SIZE"
    )


def is_utf8(name: str) -> bool:
    """Return whether a name can be written into the ledger; those of a disk may hold any bytes."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
