"""Zip archives from untrusted sources: unpacked bytes are limited, XML is read without entities or network access."""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO

from ingest_pipeline.errors import EncryptedDocument, TooMuchText, UnreadableDocument
from ingest_pipeline.parsing.request import ParseRequest

MAX_ENTRIES = 50_000  # the directory of an archive is in memory as a whole
MAX_XML_BYTES = 8 * 1024**2  # a package file of 10,000 chapters is 2 MB
MAX_RATIO = 200  # deflate cannot exceed 1,032:1; prose and markup stay under 20:1 (docs/findings.md, E7)
READS = 5  # an entry is read at most so often: declaration, encoding twice, its navigation, text
FEED_BYTES = 64 * 1024
# What zipfile, its decompressors and the code that reads a damaged directory raise.
DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    EOFError, StopIteration, LookupError, ValueError, TypeError, OSError,
)  # fmt: skip


class _LimitedEntry(io.RawIOBase):
    """An archive entry; raises TooMuchText when all reads of the archive together exceed its limit."""

    def __init__(self, entry: IO[bytes], left: list[int], name: str) -> None:
        self._entry, self._left, self._name = entry, left, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._entry.read(len(buffer))
        self._left[0] -= len(piece)
        if self._left[0] < 0:
            raise TooMuchText(f"{self._name}: unpacks to more than a document may; possibly a decompression bomb")
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._entry.close()
        super().close()


class Archive:
    """An open zip archive with a limit on the bytes read from it."""

    def __init__(self, archive: zipfile.ZipFile, request: ParseRequest) -> None:
        self._archive, self.name = archive, request.name
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            raise UnreadableDocument(f"{request.name}: over {MAX_ENTRIES:,} entries in the archive")
        # 1 MiB on top: in a tiny archive a few repeated lines compress better than 200:1.
        allowed = min(request.max_expanded_bytes, 1024**2 + sum(entry.compress_size for entry in entries) * MAX_RATIO)
        self._left = [allowed * READS]  # a list, because all open entries count down the same number
        self.paths = archive.namelist()

    def __contains__(self, path: str) -> bool:
        return path in self._archive.NameToInfo

    def open(self, path: str) -> BinaryIO:
        """Open an entry by its path in the archive.

        Raises:
            KeyError: no such entry.
        """
        return io.BufferedReader(_LimitedEntry(self._archive.open(path), self._left, self.name))

    def xml(self, path: str) -> Any:
        """Return the root of a small XML entry, read without entities and without network.

        Raises:
            KeyError: no such entry.
            UnreadableDocument: too large, or no XML.
        """
        from lxml import etree

        # The declared size of an entry may be false: only what is read counts.
        with self.open(path) as entry:
            text = entry.read(MAX_XML_BYTES + 1)
        if len(text) > MAX_XML_BYTES:
            raise UnreadableDocument(f"{self.name}: {path} is over {MAX_XML_BYTES:,} bytes")
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, recover=True)
        try:
            root = etree.fromstring(text, parser)
        except etree.XMLSyntaxError:
            root = None
        if root is None:
            raise UnreadableDocument(f"{self.name}: {path} is not XML")
        return root

    def push(self, path: str, target: Any) -> Iterator[None]:
        """Push an XML entry into a parser target, 64 KiB at a time; yield after each: the caller emits pages then.

        Raises:
            KeyError: no such entry.
            UnreadableDocument: the XML is damaged; what came before it was pushed.
        """
        from lxml import etree

        # `huge_tree` stays off, so libxml2's own limits stop deep nesting and long texts.
        parser = etree.XMLParser(
            target=target,
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            remove_comments=True,
            remove_pis=True,
        )
        with self.open(path) as entry:
            try:
                while piece := entry.read(FEED_BYTES):
                    parser.feed(piece)
                    yield
                parser.close()
            except etree.XMLSyntaxError as error:
                raise UnreadableDocument(f"{self.name}: {path}: {error}") from None


@contextmanager
def opened_archive(stream: BinaryIO, request: ParseRequest, *, kind: str) -> Iterator[Archive]:
    """Open a zip archive; every kind of damage becomes UnreadableDocument.

    Args:
        stream: the file.
        request: its name and limits.
        kind: the expected format, for the message: `EPUB`.

    Raises:
        UnreadableDocument: damaged, or unpacks to too much.
        EncryptedDocument: it needs a password.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            yield Archive(archive, request)
    except DAMAGE as error:
        raise UnreadableDocument(f"{request.name}: not a readable {kind}: {error}") from error
    # zipfile raises RuntimeError for encryption, and NotImplementedError, a subclass, for an unknown compression.
    except RuntimeError as error:
        if "encrypted" in str(error) or "password" in str(error):
            raise EncryptedDocument(f"{request.name}: the archive is encrypted") from None
        raise UnreadableDocument(f"{request.name}: not a readable {kind}: {error}") from error
