"""The form of an upload (multipart/form-data): parsed as it comes, with one file and a few short fields."""

from __future__ import annotations

from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ingest_pipeline.service.body import Body
from ingest_pipeline.service.refused import BAD_REQUEST, Refused

FILE = "file"
MAX_PARTS = 16
MAX_HEADERS = 8
"""Of a part."""
MAX_HEADER_BYTES = 4096
MAX_FIELD_BYTES = 64 * 1024
"""Of one field: a prompt is the longest."""
OVERHEAD_BYTES = 256 * 1024
"""What a form may have beside its file."""
MULTIPART = "multipart/form-data"


class UploadForm:
    """A form that is read once, from its beginning to its end.

    Args:
        body: of the request.
        content_type: of the request.
        file_fields: what the field of the file may be called.

    Raises:
        Refused: the request is no such form.
    """

    def __init__(self, body: Body, content_type: str, file_fields: tuple[str, ...] = (FILE,)) -> None:
        self.fields: dict[str, str] = {}
        """By name; those that stand behind the file are here when the file was read."""
        self.file_name: str | None = None
        """As the client calls the file; None until its part begins."""
        self._body, self._file_fields = body, file_fields
        self._parser = self._parser_of(content_type)
        self._header, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        """The name of the field that is being read; None within a file."""
        self._content = bytearray()
        self._file_pieces: list[bytes] = []
        self._parts, self._is_over = 0, False

    async def begin(self) -> None:
        """Read until the file begins; without a file to the end.

        Raises:
            Refused, ClientDisconnect: the form cannot be used, or breaks off.
        """
        while self.file_name is None and not self._is_over:
            await self._advance()

    async def piece(self) -> bytes:
        """Return the next piece of the file; b"" when the whole form was read, to its last boundary.

        Raises:
            Refused, ClientDisconnect: the form cannot be used, or breaks off.
        """
        while not self._file_pieces and not self._is_over:
            await self._advance()
        if not self._file_pieces:
            await self._read_on()
            return b""
        content = b"".join(self._file_pieces)
        self._file_pieces.clear()
        return content

    async def _advance(self) -> None:
        piece = await self._body.piece()
        if not piece:
            raise _bad("the form breaks off before its last boundary")
        try:
            self._parser.write(piece)
        except FormParserError:
            raise _bad("the form cannot be read: it is no multipart/form-data, or its headers are too long") from None

    async def _read_on(self) -> None:
        """Read what stands behind the last boundary, which is nothing or a line's end."""
        while await self._body.piece():
            pass

    def _parser_of(self, content_type: str) -> MultipartParser:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != MULTIPART.encode() or not boundary:
            raise _bad(f"the body must be {MULTIPART}, with its boundary in Content-Type")
        callbacks: Any = {
            "on_part_begin": self._part_begins, "on_part_data": self._data, "on_part_end": self._part_ends,
            "on_header_field": self._header_name, "on_header_value": self._header_value,
            "on_header_end": self._header_ends, "on_headers_finished": self._headers_end, "on_end": self._end,
        }  # fmt: skip
        try:
            return MultipartParser(boundary, callbacks, max_header_count=MAX_HEADERS, max_header_size=MAX_HEADER_BYTES)
        except FormParserError:
            raise _bad("the form's boundary is too long") from None

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _bad(f"the form has over {MAX_PARTS} parts")
        self._headers = {}

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _headers_end(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if kind != b"form-data" or b"name" not in options:
            raise _bad("a part of the form has no name in its Content-Disposition")
        name = _text(options[b"name"], "the name of a field")
        if b"filename" in options or (name in self._file_fields and len(self._file_fields) == 1):
            self._file_begins(name, options)
        elif name in self.fields:
            raise _bad(f"the form has the field {name[:60]} twice")
        else:
            self._field = name

    def _file_begins(self, name: str, options: dict[bytes, bytes]) -> None:
        if name not in self._file_fields or b"filename" not in options:
            raise _bad(f"the form's file must be called {self._file_fields[0]}, and have a filename")
        if self.file_name is not None:
            raise _bad("the form has two files; send one after another")
        self.file_name, self._field = _text(options[b"filename"], "the name of the file"), None

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._file_pieces.append(data[start:end])
            return
        self._content += data[start:end]
        if len(self._content) > MAX_FIELD_BYTES:
            raise _bad(f"the field {self._field[:60]} has over {MAX_FIELD_BYTES:,} bytes")

    def _part_ends(self) -> None:
        if self._field is not None:
            self.fields[self._field] = _text(bytes(self._content), f"the field {self._field[:60]}")
            self._content = bytearray()

    def _end(self) -> None:
        self._is_over = True


def _text(content: bytes, what: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _bad(f"{what} is not UTF-8") from None


def _bad(message: str) -> Refused:
    return Refused(BAD_REQUEST, message)
