"""The parser's child, in this process: what it says of a file, and how it fails."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.errors import NoText, TooManyPages, TooMuchText, UnreadableDocument, UnsupportedFormat
from ingest_pipeline.models import Done, Gap, Heading, Page, ParseCost, ParseEvent, ParseWarning, Properties
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.request import ParseRequest, without_text
from ingest_pipeline.parsing.sandbox import child
from ingest_pipeline.parsing.sandbox.outline import MAX_TITLE_CHARACTERS
from ingest_pipeline.parsing.sandbox.protocol import (
    MAX_PAGE_CHARACTERS,
    OUT_OF_MEMORY_EXIT,
    DeadlinePassed,
    Disconnected,
    Message,
    ProtocolError,
    decode,
    encode,
    receive,
    receive_with_descriptors,
    send,
)
from ingest_pipeline_tests.made import pages, pdf
from ingest_pipeline_tests.made.catalogue import CATALOGUE, Made, content_of
from ingest_pipeline_tests.made.words import RUSSIAN, paragraphs
from ingest_pipeline_tests.parsers import parser_for


def told(name: str, content: bytes, **fields: Any) -> list[ParseEvent]:
    """What the parent is told about a file."""
    media_type = detect.media_type(name, content[: detect.HEAD_BYTES])
    return list(child.parsed_events(io.BytesIO(content), ParseRequest(name, media_type, **fields)))


def kinds(events: list[ParseEvent]) -> list[str]:
    """The kind of each event."""
    return [type(event).__name__ for event in events]


def pages_of(events: list[ParseEvent]) -> list[Page]:
    """The pages."""
    return [event for event in events if isinstance(event, Page)]


def numbers(events: list[ParseEvent]) -> list[int]:
    """The number of each page."""
    return [page.number for page in pages_of(events)]


def warnings_of(events: list[ParseEvent]) -> list[str]:
    """The text of each warning."""
    return [event.text for event in events if isinstance(event, ParseWarning)]


# ------------------------------------------------------------------------------------------- what is said of a file


@pytest.mark.parametrize("made", CATALOGUE, ids=[made.name for made in CATALOGUE])
def test_every_format(made: Made) -> None:
    """Of a document of each format the parent is told pages, sections and the title, in messages that JSON can hold."""
    events = told(made.name, content_of(made.name))
    assert [decode(json.loads(json.dumps(encode(event)))) for event in events] == events
    assert events[-1] == Done(made.pages)
    titles = [event.title for event in events if isinstance(event, Properties) and event.title]
    assert (titles[0] if titles else None) == made.title
    text = "".join("".join(page.text.split()) for page in pages_of(events))
    for phrase in made.phrases:
        assert "".join(phrase.split()) in text
    assert "Gap" not in kinds(events)


def test_pages_and_sections() -> None:
    """Sections come before their page; the last page of each number is whole; PDF says how many there are."""
    events = told("book.pdf", pdf.book())
    assert kinds(events) == [
        "Properties", "Page", "Heading", "Heading", "Page", "Page", "Heading", "Page", "Heading", "Page", "Page",
        "Done",
    ]  # fmt: skip
    assert isinstance(events[0], Properties)
    assert events[0].total_pages == 6
    assert events[2] == Heading(1, "Part one", 2)
    assert all(page.whole for page in pages_of(events))
    assert pages_of(events)[0].label == "i"


def test_step_between_pages() -> None:
    """A step has the pages from its first to its last, and a word on whether more follow."""
    content = paragraphs(RUSSIAN, 95_000).encode()
    events = told("a.txt", content, first_page=2, last_page=3)
    assert (numbers(events), events[-1]) == ([2, 3], Done(3, more=True))
    events = told("a.txt", content, first_page=5, last_page=9)
    assert (numbers(events), events[-1]) == ([5], Done(5))
    events = told("a.txt", content, first_page=9)
    assert (numbers(events), events[-1]) == ([], Done(5))


def test_too_many_pages() -> None:
    """A text with more pages than allowed is refused when they come, with the variable to raise."""
    with pytest.raises(TooManyPages, match=r"a\.txt: over 2 pages; raise INGEST_MAX_PAGES"):
        told("a.txt", paragraphs(RUSSIAN, 95_000).encode(), max_pages=2)


def test_too_much_text() -> None:
    """A file that gives more text than its size allows is a bomb."""
    with pytest.raises(TooMuchText, match=r"a\.txt: over 50,000 characters of text: a bomb"):
        told("a.txt", paragraphs(RUSSIAN, 95_000).encode(), max_characters=50_000)


def test_gaps() -> None:
    """A page that cannot be read is a gap, and counts as the last page."""
    *_, page, gap, done = told("a.pdf", pdf.broken_second_branch())
    assert isinstance(page, Page)
    assert isinstance(gap, Gap)
    assert (gap.page_from, gap.page_to, done) == (2, 2, Done(2))


def test_empty_file() -> None:
    """A file of no bytes has no text."""
    with pytest.raises(NoText, match=r"a\.txt: the file is empty"):
        told("a.txt", b"")


def test_disagreement() -> None:
    """A name that says something else than the bytes is a warning."""
    said = "named like application/pdf, but holds text/plain: read as that"
    assert warnings_of(told("a.pdf", b"plain words")) == [said]
    assert warnings_of(told("a.txt", b"plain words")) == []


def test_unsupported_type() -> None:
    """A type that has no parser is unsupported, packed or not."""
    for media_type in (detect.UNKNOWN, detect.UNKNOWN + detect.GZIPPED):
        with pytest.raises(UnsupportedFormat, match="no parser for application/octet-stream"):
            parser_for(media_type)


def test_long_page_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that is longer than a message comes in parts that continue; the last of them is the whole of it."""
    text = "無" * (2 * MAX_PAGE_CHARACTERS + 7)
    parts = pages_of(from_events(monkeypatch, Page(1, text, "Heading", label="x" * 90)))
    assert [len(part.text) for part in parts] == [MAX_PAGE_CHARACTERS, MAX_PAGE_CHARACTERS, 7]
    assert [part.continues for part in parts] == [False, True, True]
    assert [part.whole for part in parts] == [False, False, True]
    assert {(part.heading, part.label) for part in parts} == {("Heading", "x" * 50)}


def test_words_are_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, headings, labels and titles are cleaned and cut; a heading of spaces is none."""
    heading, page, gap, done = from_events(
        monkeypatch,
        Heading(1, " \x00\n ", 1),
        Heading(2, "ﬁne\n  words " + "x" * 400, 1),
        Page(1, "a\x00b\r\nc", "He\x00ad", label="\ufeff1"),
        Gap(2, 3, "r" * 900),
    )
    assert heading == Heading(2, ("fine words " + "x" * 400)[:MAX_TITLE_CHARACTERS], 1)
    assert page == Page(1, "ab\nc", "Head", label="1")
    assert gap == Gap(2, 3, "r" * 500)
    assert done == Done(3)


def from_events(monkeypatch: pytest.MonkeyPatch, *events: ParseEvent) -> list[ParseEvent]:
    """What the parent is told by a parser that yields these."""
    monkeypatch.setattr(child, "parser_for", lambda media_type: lambda *_: iter(events))
    return told("a.txt", b"words")


@pytest.mark.parametrize(
    ("media_type", "pages_", "said"),
    [
        (detect.PDF, 1, "1 page without a text layer, probably scanned: it needs OCR first"),
        (detect.PDF, 7, "7 pages without a text layer, probably scanned: it needs OCR first"),
        (detect.PDF, 0, "there is no text in it"),
        (detect.TEXT, 3, "there is no text in it"),
    ],
)
def test_without_text(media_type: str, pages_: int, said: str) -> None:
    """A scan says what is missing, anything else that there is no text."""
    assert without_text(media_type, pages_) == said


# ------------------------------------------------------------------------------------------------- as a server


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The child's loop in a thread of this process, unconfined; yields the parent's end."""
    monkeypatch.setattr(child, "confine", lambda limit, parent: {"network": f"{limit} {parent}", "files": "open"})
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=child.main, args=([str(theirs.detach()), "77", "1"],))
    thread.start()
    with ours:
        yield ours
        with contextlib.suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=10)
    assert not thread.is_alive()


def answers(sock: socket.socket, path: Path, media_type: str) -> list[Message]:
    """Ask about a file; every message until its end."""
    with path.open("rb") as stream:
        send(sock, {"kind": "parse", "request": asdict(ParseRequest(path.name, media_type))}, (stream.fileno(),))
        found = [receive(sock)]
        while found[-1]["kind"] not in ("done", "failed"):
            found.append(receive(sock))
    return found


def test_server_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One child answers for file after file, with what each has cost so far."""
    (tmp_path / "a.pdf").write_bytes(pdf.book())
    (tmp_path / "a.md").write_text(pages.markdown())
    with serving(monkeypatch) as sock:
        assert receive(sock) == {"kind": "ready", "confined": {"network": "77 1", "files": "open"}}
        send(sock, {"kind": "no file came with it"})
        for name, media_type in (("a.pdf", detect.PDF), ("a.md", detect.MARKDOWN)):
            found = answers(sock, tmp_path / name, media_type)
            events = [decode(message) for message in found]
            assert numbers(events) == [1, 2, 3, 4, 5, 6]
            costs = [event for event in events if isinstance(event, ParseCost)]
            assert isinstance(events[-2], ParseCost)
            assert all(cost.peak_memory_bytes > 0 for cost in costs)
            assert [cost.seconds for cost in costs] == sorted(cost.seconds for cost in costs)


@pytest.mark.parametrize(
    ("error", "reason", "said"),
    [
        (UnreadableDocument("a.txt: torn"), "UnreadableDocument", "a.txt: torn"),
        (NoText("a.txt: nothing"), "NoText", "a.txt: nothing"),
        (MemoryError(), "ParserOutOfMemory", "a.txt: the parser reached its memory limit"),
        (ImportError("cannot be mapped"), "ParserOutOfMemory", "a.txt: the parser reached its memory limit"),
        (ValueError("odd"), "UnreadableDocument", "a.txt: ValueError: odd"),
        (RecursionError("deep" * 999), "UnreadableDocument", ("a.txt: RecursionError: " + "deep" * 999)[:1000]),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else "",
)
def test_server_failures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, reason: str, said: str
) -> None:
    """Whatever a parser throws is that file's failure, typed; the child goes on with the next file."""

    def failing(media_type: str) -> Any:
        def parser(*_: object) -> Iterator[Page]:
            yield Page(1, "words")
            raise error

        return parser

    (tmp_path / "a.txt").write_text("words")
    with serving(monkeypatch) as sock, monkeypatch.context() as patch:
        receive(sock)
        patch.setattr(child, "parser_for", failing)
        _, page, _, failed = answers(sock, tmp_path / "a.txt", detect.TEXT)
        assert page["kind"] == "page"
        assert failed == {"kind": "failed", "reason": reason, "message": said}
        patch.undo()
        told_kinds = [message["kind"] for message in answers(sock, tmp_path / "a.txt", detect.TEXT)]
        assert told_kinds == ["cost", "page", "cost", "done"]


def test_server_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory ends outside of a file, the child leaves with the exit code that says so."""

    def greedy(*_: object) -> None:
        raise MemoryError

    left: list[int] = []
    monkeypatch.setattr(child, "confine", lambda limit, parent: {})
    monkeypatch.setattr(child, "_serve", greedy)
    monkeypatch.setattr(child.os, "_exit", left.append)
    child.main(["3", "77", "1"])
    assert left == [OUT_OF_MEMORY_EXIT]


# ------------------------------------------------------------------------------------------------ the protocol


def test_deadline_passes() -> None:
    """A message that does not come, or of which half comes, passes its deadline."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(DeadlinePassed):
            receive(ours, deadline=0.0)
        theirs.sendall((50).to_bytes(4, "big") + b"{")
        with pytest.raises(DeadlinePassed):
            receive(ours, deadline=0.0)


@pytest.mark.parametrize("body", [b"oops", b"[12]", b"{}", b'{"kind": 7}', b"[" * 900_000])
def test_no_message(body: bytes) -> None:
    """Bytes that are no JSON object with a kind are an error of the protocol."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=theirs.sendall, args=(len(body).to_bytes(4, "big") + body,))
        sender.start()
        with pytest.raises(ProtocolError):
            receive(ours)
        sender.join()


def test_other_side_is_gone() -> None:
    """Where the other side is gone, nothing is received, with and without a file, also in the middle of a length."""
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(b"\0\0")
        theirs.close()
        with pytest.raises(Disconnected):
            receive_with_descriptors(ours)
        with pytest.raises(Disconnected):
            receive_with_descriptors(ours)


def test_connection_is_reset() -> None:
    """A connection that is reset is one that ended."""

    class Reset:
        """A socket whose other side was killed."""

        def recv(self, size: int) -> bytes:
            raise ConnectionResetError

    with pytest.raises(Disconnected):
        receive(Reset())  # type: ignore[arg-type]


def test_descriptor_is_handed_over(tmp_path: Path) -> None:
    """A file goes to the other side as an open descriptor."""
    path = tmp_path / "a"
    path.write_bytes(b"words")
    ours, theirs = socket.socketpair()
    with ours, theirs, path.open("rb") as stream:
        send(ours, {"kind": "parse"}, (stream.fileno(),))
        message, (descriptor,) = receive_with_descriptors(theirs)
        assert message == {"kind": "parse"}
        with os.fdopen(descriptor, "rb") as handed:
            assert handed.read() == b"words"
