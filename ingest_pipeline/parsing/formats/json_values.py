"""JSON, parsed as a stream: an array of objects gives records, any other JSON its values with their names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, TextIO

from ingest_pipeline.errors import UnreadableDocument
from ingest_pipeline.models import ParseEvent
from ingest_pipeline.parsing.formats.encoding import decoded_text
from ingest_pipeline.parsing.formats.page_builder import PageBuilder
from ingest_pipeline.parsing.formats.records import Row, grouped
from ingest_pipeline.parsing.request import ParseRequest

HEAD_CHARACTERS = 4096
MAX_DEPTH = 200  # deeper than any data that people write; ijson builds a path for each value, as long as its depth


def json_pages(stream: BinaryIO, request: ParseRequest) -> Iterator[ParseEvent]:
    """Yield the objects of a JSON array as records, or the values of any other JSON, one on each line with its name.

    Raises:
        UnreadableDocument: its first value is not JSON; an error after that is a gap.
    """
    with decoded_text(stream) as (text, warnings):
        yield from warnings
        head = text.read(HEAD_CHARACTERS).lstrip()
        text.seek(0)
        if head.startswith("[") and head[1:].lstrip().startswith("{"):
            yield from grouped(_items(text), request)
        else:
            yield from _values(text, request)


def _items(text: TextIO) -> Iterator[Row]:
    import ijson

    try:
        for item in ijson.items(ijson.parse(_shallow(text)), "item"):
            yield item if isinstance(item, dict) else "not a JSON object"
    except ijson.JSONError as error:
        yield f"not JSON: {error}"


class _Utf8:
    """A text stream as a stream of UTF-8 bytes, which ijson needs."""

    def __init__(self, text: TextIO) -> None:
        self._text = text

    def read(self, size: int = -1) -> bytes:
        return self._text.read(size).encode("utf-8", "replace")


def _shallow(text: TextIO) -> Iterator[tuple[str, object]]:
    """Yield ijson's events; raise JSONError below a depth of MAX_DEPTH."""
    import ijson

    depth = 0
    for event, value in ijson.basic_parse(_Utf8(text), use_float=True):
        depth += (event in ("start_map", "start_array")) - (event in ("end_map", "end_array"))
        if depth > MAX_DEPTH:
            raise ijson.JSONError(f"nested over {MAX_DEPTH} deep")
        yield event, value


def _values(text: TextIO, request: ParseRequest) -> Iterator[ParseEvent]:
    import ijson

    pager = PageBuilder()

    def added() -> Iterator[None]:
        for path, event, value in ijson.parse(_shallow(text)):
            if event in ("string", "number", "boolean") and str(value).strip():
                # ijson calls every element of an array `item`: the name of the array says more.
                name = next((part for part in reversed(path.split(".")) if part != "item"), "")
                pager.add(f"{name}: {value}\n" if name else f"{value}\n")
                yield

    try:
        yield from pager.pages_while(added(), damage=ijson.JSONError, reason="not JSON from here on")
    except ijson.JSONError as error:
        raise UnreadableDocument(f"{request.name}: not JSON: {error}") from None
