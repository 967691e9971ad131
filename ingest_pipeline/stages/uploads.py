"""Files that are handed over are written into a source; the next catalog run takes them up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ingest_pipeline.errors import ConfigurationError, IngestError, UploadRefused
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import canonical_source
from ingest_pipeline.sources.upload import add_file
from ingest_pipeline.stages.access import access_of

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Added:
    """What became of one upload."""

    source: str
    name: str
    size_bytes: int = 0
    error: str | None = None


def add_files(
    files: Sequence[str], *, to: str | None, name: str | None, replace: bool, settings: Settings, stdin: BinaryIO
) -> Iterator[Added]:
    """Stream files into a source one after another; yield what became of each: one that is refused stops no other.

    Raises:
        BadSetting, ConfigurationError: the source cannot be used, or none is named.
    """
    source = _target(to, settings)
    for file in files:
        as_named = name or Path(file).name
        try:
            with _opened(file, name, stdin) as stream:
                access, limit = access_of(settings), settings.max_file_size
                size = add_file(source, as_named, stream, access, max_bytes=limit, replace=replace)
        except ConfigurationError:  # the source itself cannot be used: every file would fail like this one
            raise
        except IngestError as error:
            yield Added(source, as_named, error=str(error))
        else:
            yield Added(source, as_named, size)


def _target(to: str | None, settings: Settings) -> str:
    if to is None and (len(settings.sources) != 1 or settings.sources == Settings().sources):
        raise ConfigurationError("say --to SOURCE, or set INGEST_SOURCES to one folder or bucket")
    return canonical_source(to or settings.sources[0])


def _opened(file: str, name: str | None, stdin: BinaryIO) -> AbstractContextManager[BinaryIO]:
    if file == STDIN:
        if not name:
            raise UploadRefused("-: the standard input has no name; say --name NAME")
        return nullcontext(stdin)
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise UploadRefused(f"{file}: cannot be read: {error.strerror}") from None
