"""The folder or .zip of an autopsy: written whole or not at all, and read with suspicion."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.stages.autopsy_replay import sha256_of
from ingest_pipeline.stages.autopsy_spec import ReplaySpec, read_spec

REPLAY, LEDGER, TIMELINE, README = "replay.json", "ledger.json", "timeline.txt", "README.txt"
MAX_JSON_BYTES, MAX_DOCUMENT_BYTES = 1024**2, 1024**3
"""Of what an archive unpacks to: it may be a bomb."""
ZIP = ".zip"


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`; at the end it becomes `out`, or is packed into it if that ends in `.zip`.

    Raises:
        ConfigurationError: `out` exists, or cannot be written.
    """
    try:
        if out.exists():
            raise ConfigurationError(f"--out {out}: exists already; name a new folder or .zip")
        with tempfile.TemporaryDirectory(prefix=".autopsy-", dir=out.parent) as temporary:
            folder = Path(temporary) / "autopsy"
            folder.mkdir(mode=0o700)
            yield folder
            finished = _packed(folder, Path(temporary) / "autopsy.zip") if out.suffix.lower() == ZIP else folder
            finished.rename(out)
    except OSError as error:
        raise ConfigurationError(f"--out {out}: {error.strerror}") from error


def _packed(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "x", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.iterdir()):
            packed.write(path, path.name)  # in pieces: a document is never in memory
    archive.chmod(0o600)
    return archive


@contextmanager
def opened_replay(place: Path, document: Path | None) -> Iterator[tuple[ReplaySpec, BinaryIO]]:
    """Yield what the `replay.json` of a folder or .zip says, and its document open for reading.

    Args:
        place: of the autopsy.
        document: to read instead of the document of the folder, which may have none.

    Raises:
        ConfigurationError: this is no autopsy, or it has no document, or another one than it was made of.
    """
    with ExitStack() as stack:
        try:
            temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder = _unpacked(place, temporary) if place.is_file() else place
            spec = read_spec(_text(folder / REPLAY))
            stream = stack.enter_context(_document_of(folder, spec, document).open("rb"))
            if document is None and spec.document and sha256_of(stream) != spec.document.sha256:
                raise ConfigurationError(f"{place}: its document is not the one that replay.json was written for")
        except (OSError, UnicodeError, zipfile.BadZipFile, KeyError) as error:
            raise ConfigurationError(
                f"--replay {place}: not a folder or .zip of `ingest autopsy`: {_reason(error)}"
            ) from None
        yield spec, stream


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _document_of(folder: Path, spec: ReplaySpec, document: Path | None) -> Path:
    if document:
        return document
    if spec.document is None:
        raise ConfigurationError("the autopsy has no document: name yours by --document FILE")
    return folder / spec.document.file


def _text(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(MAX_JSON_BYTES).decode()


def _unpacked(archive: Path, folder: Path) -> Path:
    """Unpack what a replay needs, and no more than it says: the archive comes from somebody else."""
    with zipfile.ZipFile(archive) as packed:
        _extract(packed, REPLAY, folder, MAX_JSON_BYTES)
        document = read_spec(_text(folder / REPLAY)).document
        if document:
            _extract(packed, document.file, folder, min(document.size_bytes, MAX_DOCUMENT_BYTES))
    return folder


def _extract(packed: zipfile.ZipFile, name: str, folder: Path, most_bytes: int) -> None:
    entry = packed.getinfo(name)
    if entry.file_size > most_bytes:
        raise zipfile.BadZipFile(f"{name} is larger than replay.json says, or than may be")
    with packed.open(entry) as stream, (folder / name).open("xb") as output:
        shutil.copyfileobj(stream, output, 256 * 1024)
