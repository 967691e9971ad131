"""Files that are handed over are written into a source; the next catalog run takes them up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ingest_pipeline.errors import ConfigurationError, IngestError, UploadRefused
from ingest_pipeline.settings import Settings
from ingest_pipeline.sources import canonical_source, spelled_source, takes_files
from ingest_pipeline.sources.upload import add_file, refuse_name
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


def add_stream(name: str, stream: BinaryIO, *, to: str, replace: bool, settings: Settings) -> Added:
    """Stream one file into a source.

    Args:
        name: in the source, with `/` for folders.
        stream: read in pieces of 256 KiB.
        to: the source, as `upload_source` returns it.
        replace: whether a file of this name gets a new version.
        settings: the limit of a file, and how the source is reached.

    Raises:
        UploadRefused: the name cannot be used or is taken, or the source cannot be written.
        FileTooLarge: more bytes came than `INGEST_MAX_FILE_SIZE`.
        BadSetting, SourceUnavailable: the source cannot be used.
    """
    limit, access = settings.max_file_size, access_of(settings)
    return Added(to, name, add_file(to, name, stream, access, max_bytes=limit, replace=replace))


def refuse_upload_name(name: str) -> None:
    """Make sure that a name is one of a document inside a source, before its bytes are read.

    Raises:
        UploadRefused: it leaves the source, is hidden or too long.
    """
    refuse_name(name)


def upload_source(named: str | None, settings: Settings) -> str:
    """Return the source of the settings that takes an upload: the one that is named, or the only one.

    A name that is none of the settings' is never used as a path: whoever uploads may be on another machine.

    Raises:
        ConfigurationError: there is no such source, or none is named and there are several.
        BadSetting: its folder does not exist.
    """
    own = {spelled_source(source): source for source in settings.sources if source not in Settings().sources}
    takers = {spelled: source for spelled, source in own.items() if takes_files(spelled)}
    chosen = [spelled for spelled, source in takers.items() if named in (None, spelled, source)]
    if len(chosen) == 1:
        return canonical_source(chosen[0])
    if not takers:
        raise ConfigurationError("no source takes uploads: set INGEST_SOURCES to a folder or a bucket")
    wanted = "say to which source" if named is None else "no source of this name takes uploads"
    raise ConfigurationError(f"source: {wanted}; one of {', '.join(takers)}")


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
