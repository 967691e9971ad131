"""Pages cut out of PDFs by the sandbox: real children, children that lie, and the child's function in this process."""

from __future__ import annotations

import errno
import io
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import pypdf
import pytest
from pypdf.generic import ArrayObject, NameObject

from ingest_pipeline.errors import (
    EncryptedDocument,
    FileTooLarge,
    ParserCrashed,
    ParserOutOfMemory,
    ParserTimedOut,
    PermanentError,
    UnreadableDocument,
)
from ingest_pipeline.memory.process import limit_file_bytes
from ingest_pipeline.models import CutPages
from ingest_pipeline.parsing.request import CutRequest
from ingest_pipeline.parsing.sandbox import child
from ingest_pipeline.parsing.sandbox import cut as cutting
from ingest_pipeline.parsing.sandbox import parent as sandbox
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.parsing.sandbox.protocol import (
    DeadlinePassed,
    Disconnected,
    receive,
    receive_with_descriptors,
    send,
)
from ingest_pipeline_tests.folding import parse
from ingest_pipeline_tests.made import pdf
from ingest_pipeline_tests.test_sandbox import child_pid, open_files, staged, wait_until

MIB = 1024**2
LIMIT_BYTES = 100 * MIB
REPORT = "send(sock, {{'kind': 'cut', 'pages': {pages}, 'size_bytes': {size}, 'peak_memory_bytes': 1}})\ntime.sleep(60)"


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """A sandbox as a run has it."""
    with Sandbox(memory_limit_bytes=512 * MIB, page_seconds=30, file_seconds=60) as opened:
        yield opened


@pytest.fixture
def output() -> Iterator[BinaryIO]:
    """The file into which the child writes."""
    with tempfile.TemporaryFile() as opened:
        yield opened


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Six pages."""
    path = tmp_path / "book.pdf"
    path.write_bytes(pdf.book())
    return path


def request(page_from: int, page_to: int, **more: Any) -> CutRequest:
    """A request with a limit that nothing reaches."""
    return CutRequest("a.pdf", page_from, page_to, **{"max_bytes": LIMIT_BYTES} | more)


def cut(box: Sandbox, path: Path, asked: CutRequest, output: BinaryIO) -> CutPages:
    """Cut pages out of a file."""
    with path.open("rb") as stream:
        return box.cut(stream, asked, output)


def texts(output: BinaryIO) -> list[str]:
    """The text of each page of the output, as pypdf reads it."""
    return [page.extract_text() for page in pypdf.PdfReader(output).pages]


def written(tmp_path: Path, content: bytes) -> Path:
    """A file with this content."""
    path = tmp_path / "a.pdf"
    path.write_bytes(content)
    return path


# ------------------------------------------------------------------------------------------------ in a real child


@pytest.mark.parametrize(
    ("page_from", "page_to", "expected"),
    [
        (1, 1, [1]),
        (6, 6, [6]),
        (2, 4, [2, 3, 4]),
        (1, 6, [1, 2, 3, 4, 5, 6]),
        (5, 9, [5, 6]),
    ],
)
def test_exactly_these_pages(
    box: Sandbox, book: Path, output: BinaryIO, page_from: int, page_to: int, expected: list[int]
) -> None:
    """The output has the requested pages with their whole text, and no others; pages past the end are not missed."""
    whole = [page.extract_text() for page in pypdf.PdfReader(book).pages]
    made = cut(box, book, request(page_from, page_to), output)
    assert texts(output) == [whole[number - 1] for number in expected]
    assert f"Page {expected[0]} of the mill book." in texts(output)[0]
    assert made.pages == len(expected)
    assert made.size_bytes == os.fstat(output.fileno()).st_size
    assert 10 * MIB < made.peak_memory_bytes < 64 * MIB


def test_starts_past_the_end(box: Sandbox, book: Path, output: BinaryIO) -> None:
    """A range that begins after the last page cannot be cut, and the same child cuts the next."""
    with pytest.raises(UnreadableDocument, match=r"a\.pdf: no page 7: the document has 6"):
        cut(box, book, request(7, 9), output)
    pid = child_pid(box)
    assert cut(box, book, request(6, 9), output).pages == 1
    assert child_pid(box) == pid


def test_outlives_the_thread_that_asked(box: Sandbox, book: Path, output: BinaryIO) -> None:
    """The kernel ends a child with the thread that started it; sections are cut by threads that end at once."""
    pids = set()
    for _ in range(3):
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(cut, box, book, request(1, 2), output).result().pages == 2
        time.sleep(0.1)  # a signal of the ended thread would have come
        pids.add(child_pid(box))
        assert not box._child or box._child.poll() is None
    assert len(pids) == 1


@pytest.mark.parametrize(("page_from", "page_to"), [(0, 3), (4, 3)])
def test_no_range(page_from: int, page_to: int) -> None:
    """A range that is none in any document is an error of the caller."""
    with pytest.raises(ValueError, match="are no range"):
        request(page_from, page_to)


def test_encrypted(box: Sandbox, tmp_path: Path, output: BinaryIO) -> None:
    """A password that opens the document gives an output that needs none; without it the document is encrypted."""
    path = written(tmp_path, pdf.locked("AES-256", user="secret"))
    for passwords, said in (((), "set INGEST_PDF_PASSWORDS"), (("no",), "none of the 1 in INGEST_PDF_PASSWORDS")):
        with pytest.raises(EncryptedDocument, match=said):
            cut(box, path, request(1, 1, passwords=passwords), output)
    assert cut(box, path, request(2, 2, passwords=("no", "secret")), output).pages == 1
    assert not pypdf.PdfReader(output).is_encrypted
    assert "Bäckerei" in texts(output)[0]


def test_owner_password(box: Sandbox, tmp_path: Path, output: BinaryIO) -> None:
    """A document that only its owner's password locks is cut without one."""
    path = written(tmp_path, pdf.locked("RC4-128", user=""))
    assert cut(box, path, request(1, 2), output).pages == 2
    assert "Bäckerei" in texts(output)[1]


def test_pypdf_takes_over(box: Sandbox, tmp_path: Path, output: BinaryIO) -> None:
    """What pdfium does not open and pypdf does is cut by pypdf, in the confined child."""
    made = cut(box, written(tmp_path, pdf.without_header()), request(1, 5), output)
    assert made.pages == 1
    assert texts(output) == [pdf.HELLO]


def test_blank_pages(box: Sandbox, tmp_path: Path, output: BinaryIO) -> None:
    """A page on which pdfium finds nothing is cut by pypdf, also one that is blank."""
    path = written(tmp_path, pdf.written(pdf.many_objects(b"", pdf.content_stream("words"))))
    for page_from, expected in ((1, ["", "words"]), (2, ["words"])):
        assert cut(box, path, request(page_from, 2), output).pages == len(expected)
        assert texts(output) == expected
    assert cut(box, path, request(1, 1), output).pages == 1
    assert texts(output) == [""]


@pytest.mark.parametrize("name", ["no document catalog", "torn", "second page", "nothing", "text"])
def test_damaged(box: Sandbox, book: Path, tmp_path: Path, output: BinaryIO, name: str) -> None:
    """Bytes that no library can cut are an error of the document, and the sandbox cuts the next."""
    content = {
        "no document catalog": pdf.UNREADABLE["no document catalog"](),
        "torn": pdf.book()[:300],
        "second page": pdf.broken_second_branch(),
        "nothing": b"",
        "text": b"plain words",
    }[name]
    with pytest.raises(UnreadableDocument, match=r"a\.pdf: neither pdfium nor pypdf can cut it"):
        cut(box, written(tmp_path, content), request(1, 2), output)
    assert cut(box, book, request(1, 2), output).pages == 2


def test_too_large(box: Sandbox, book: Path, tmp_path: Path, output: BinaryIO) -> None:
    """An output over the limit is refused by either library; one of exactly the limit is not."""
    size = cut(box, book, request(1, 3), output).size_bytes
    with pytest.raises(FileTooLarge, match=r"a\.pdf: pages 1 to 3 are too large: the limit is [\d,]+ bytes"):
        cut(box, book, request(1, 3, max_bytes=size - 1), output)
    assert os.fstat(output.fileno()).st_size < size
    assert cut(box, book, request(1, 3, max_bytes=size), output).size_bytes == size
    with pytest.raises(FileTooLarge):
        cut(box, written(tmp_path, pdf.without_header()), request(1, 1, max_bytes=50), output)


def test_output_is_emptied(box: Sandbox, book: Path, output: BinaryIO) -> None:
    """What an output holds from an earlier cut does not stay in it."""
    first = cut(box, book, request(1, 6), output)
    second = cut(box, book, request(1, 1), output)
    assert second.size_bytes < first.size_bytes
    assert len(texts(output)) == 1


def test_parse_and_cut_in_one_child(box: Sandbox, book: Path, output: BinaryIO) -> None:
    """One child parses after a cut and cuts after a parse."""
    assert cut(box, book, request(2, 3), output).pages == 2
    pid = child_pid(box)
    assert len(parse(box, book)) == 6
    assert cut(box, book, request(4, 6), output).pages == 3
    assert len(parse(box, book)) == 6
    assert child_pid(box) == pid


def test_the_cut_parses(box: Sandbox, book: Path, tmp_path: Path, output: BinaryIO) -> None:
    """The sandbox parses what it has cut, with the text of the original pages."""
    whole = parse(box, book)
    cut(box, book, request(3, 4), output)
    parsed = parse(box, written(tmp_path, output.read()))
    assert [page.text for page in parsed] == [page.text for page in whole[2:4]]


def test_no_file_stays_open(box: Sandbox, book: Path, output: BinaryIO, tmp_path: Path) -> None:
    """After a cut, also one that fails, the child holds neither the document nor the output."""
    for asked in (request(1, 1), request(9, 9)):
        try:
            cut(box, book, asked, output)
        except UnreadableDocument:
            assert asked.page_from == 9
        assert wait_until(lambda: not any("book.pdf" in name or "deleted" in name for name in held(box)))


def held(box: Sandbox) -> list[str]:
    """What the child's descriptors are open on."""
    return open_files(child_pid(box))


def test_memory_stays_flat(box: Sandbox, tmp_path: Path, output: BinaryIO) -> None:
    """Seventy cuts of three pages leave the peak of the child, and its size, as they were after the first."""
    path = written(tmp_path, pdf.pages([f"Page {number}. {'word ' * 300}" for number in range(1, 211)]))
    peaks = [cut(box, path, request(first, first + 2), output).peak_memory_bytes for first in range(1, 211, 3)]
    assert len(peaks) == 70
    assert peaks[-1] - peaks[1] < 3 * MIB
    assert max(peaks) < 40 * MIB


# ------------------------------------------------------------------------------------------------ children that fail


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("os.write(descriptors[1], b'%PDF-1.7')\nos.kill(os.getpid(), signal.SIGKILL)", ParserOutOfMemory),
        ("os.kill(os.getpid(), signal.SIGSEGV)", ParserCrashed),
        ("os._exit(0)", ParserCrashed),
        ("time.sleep(60)", ParserTimedOut),
        ("while True:\n    cost()\n    time.sleep(0.05)", ParserTimedOut),
    ],
)
def test_child_fails(book: Path, output: BinaryIO, script: str, expected: type[PermanentError]) -> None:
    """A child that is killed, crashes or hangs in the middle is a typed error of the document; the next cut works."""
    with staged(script, page_seconds=0.5) as box:
        with pytest.raises(expected, match=r"a\.pdf"):
            cut(box, book, request(1, 2), output)
        assert box._child is None
        box.page_seconds = 30
        assert cut(box, book, request(1, 2), output).pages == 2


def test_out_of_memory(book: Path, output: BinaryIO) -> None:
    """A child that reports that its memory ran out is replaced."""
    script = "send(sock, {'kind': 'failed', 'reason': 'ParserOutOfMemory', 'message': 'm'})\ntime.sleep(60)"
    with staged(script) as box:
        with pytest.raises(ParserOutOfMemory, match=r"a\.pdf: m"):
            cut(box, book, request(1, 2), output)
        assert box._child is None


@pytest.mark.parametrize(
    ("content", "pages", "size", "said"),
    [
        (b"%PDF-1.7", 1, 9, "the output has 8 bytes, 9 were reported"),
        (b"%PDF-1.7", 0, 8, "0 pages were reported, 2 requested"),
        (b"%PDF-1.7", 3, 8, "3 pages were reported, 2 requested"),
        (b"MZ\x90\0\0\0\0\0", 2, 8, "the output is not a PDF"),
        (b"", 2, 0, "the output is not a PDF"),
    ],
)
def test_child_lies(book: Path, output: BinaryIO, content: bytes, pages: int, size: int, said: str) -> None:
    """A child whose report does not fit the output, or the request, is replaced."""
    script = f"os.write(descriptors[1], {content!r})\n" + REPORT.format(pages=pages, size=size)
    with staged(script) as box:
        with pytest.raises(ParserCrashed, match=f"sent an invalid message: {said}"):
            cut(box, book, request(1, 2), output)
        assert box._child is None
        assert cut(box, book, request(1, 2), output).pages == 2


@pytest.mark.parametrize("message", ["{'kind': 'done', 'pages': 2, 'more': False}", "{'kind': 'cut', 'pages': 2}"])
def test_other_message(book: Path, output: BinaryIO, message: str) -> None:
    """An event of a parse, or half of a report, is no answer to a cut."""
    with staged(f"send(sock, {message})\ntime.sleep(60)") as box, pytest.raises(ParserCrashed, match="not an event"):
        cut(box, book, request(1, 2), output)


def test_cut_is_no_event(book: Path) -> None:
    """The report of a cut is no answer to a parse."""
    with staged(REPORT.format(pages=1, size=1)) as box, pytest.raises(ParserCrashed, match="not an event"):
        parse(box, book)


def test_writes_past_the_limit(book: Path, output: BinaryIO) -> None:
    """The kernel stops a child that writes more than was asked for; it cannot raise its limit."""
    script = """
        import resource
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
        except (ValueError, OSError):
            pass
        try:
            for _ in range(100):
                os.write(descriptors[1], b'%PDF-' * 1000)
        except OSError as error:
            send(sock, {'kind': 'failed', 'reason': 'NoText', 'message': 'errno %d' % error.errno})
    """
    if os.geteuid() == 0:  # root may raise a limit
        script = script.replace("resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))", "pass")
    with staged(script) as box, pytest.raises(PermanentError, match=f"errno {errno.EFBIG}"):
        cut(box, book, request(1, 2, max_bytes=20_000), output)
    assert os.fstat(output.fileno()).st_size <= 20_000


def test_higher_limit(box: Sandbox, book: Path, output: BinaryIO) -> None:
    """A child whose limit is too low for the next cut is replaced; one with a higher limit is not."""
    pids = []
    for max_bytes in (50_000, 50_000, 40_000, 60_000):
        assert cut(box, book, request(1, 1, max_bytes=max_bytes), output).pages == 1
        pids.append(child_pid(box))
    assert [pids.index(pid) for pid in pids] == [0, 0, 0, 3]


def test_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a container forbids to limit a child's files, the child works without the limit."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("resource.prlimit", refuse)
    assert limit_file_bytes(os.getpid(), 1)


def test_full_disk(book: Path, output: BinaryIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut that fails on a full disk is no fault of the document."""
    monkeypatch.setattr(cutting, "FULL_BYTES", 2**80)
    script = "send(sock, {'kind': 'failed', 'reason': 'UnreadableDocument', 'message': 'm'})\ntime.sleep(60)"
    with staged(script) as box, pytest.raises(OSError, match="No space left"):
        cut(box, book, request(1, 2), output)


# ------------------------------------------------------------------------------------------------ in this process


def cut_here(content: bytes, asked: CutRequest) -> tuple[CutPages, BinaryIO]:
    """What the child's function writes and reports."""
    with tempfile.TemporaryFile() as stream:
        stream.write(content)
        stream.seek(0)
        output = tempfile.TemporaryFile()  # noqa: SIM115
        (made,) = child.cut_pages(stream, output, asked)
    output.seek(0)
    return made, output


def by_pypdf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pdfium write half of an output and fail."""

    def failing(stream: BinaryIO, asked: CutRequest, output: Any) -> int:
        output.write(b"half of an output, which is longer than a page" * 2000)
        raise ValueError("pdfium")

    monkeypatch.setattr("ingest_pipeline.parsing.formats.pdf_cut._cut_by_pdfium", failing)


def test_function_by_pdfium() -> None:
    """The child's function reports what is in the output."""
    made, output = cut_here(pdf.book(), request(2, 3))
    assert (made.pages, made.size_bytes) == (2, len(output.read()))
    assert [text[:7] for text in texts(output)] == ["Page 2 ", "Page 3 "]


@pytest.mark.parametrize(("page_from", "page_to", "expected"), [(1, 1, [1]), (2, 3, [2, 3]), (5, 9, [5, 6])])
def test_function_by_pypdf(monkeypatch: pytest.MonkeyPatch, page_from: int, page_to: int, expected: list[int]) -> None:
    """Where pdfium fails in the middle, what it wrote is dropped, and pypdf cuts the same pages."""
    by_pypdf(monkeypatch)
    made, output = cut_here(pdf.book(), request(page_from, page_to))
    assert (made.pages, made.size_bytes) == (len(expected), len(output.read()))
    assert [text[:7] for text in texts(output)] == [f"Page {number} " for number in expected]


def test_function_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blank pages are cut by pdfium where pypdf cannot cut them."""

    def failing(stream: BinaryIO, asked: CutRequest, output: Any) -> int:
        output.write(b"half of an output")
        raise UnreadableDocument("pypdf")

    monkeypatch.setattr("ingest_pipeline.parsing.formats.pdf_cut._cut_by_pypdf", failing)
    made, output = cut_here(pdf.written(pdf.many_objects(b"", b"")), request(1, 2))
    assert (made.pages, texts(output)) == (2, ["", ""])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the callback that pdfium ignores
def test_function_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either library refuses a range past the end, a password that is missing, an output too large."""
    with pytest.raises(FileTooLarge):
        cut_here(pdf.book(), request(1, 2, max_bytes=100))
    with pytest.raises(FileTooLarge):
        cut_here(pdf.without_header(), request(1, 1, max_bytes=50))
    with pytest.raises(UnreadableDocument, match="no page 7: the document has 6"):
        cut_here(pdf.book(), request(7, 7))
    by_pypdf(monkeypatch)
    with pytest.raises(UnreadableDocument, match="no page 7: the document has 6"):
        cut_here(pdf.book(), request(7, 7))
    with pytest.raises(EncryptedDocument):
        cut_here(pdf.locked("AES-256", user="secret"), request(1, 1))


def test_function_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory ends, pypdf, which needs more of it, is not tried."""

    def greedy(*_: object) -> int:
        raise MemoryError

    monkeypatch.setattr("ingest_pipeline.parsing.formats.pdf_cut._cut_by_pdfium", greedy)
    with pytest.raises(MemoryError):
        cut_here(pdf.book(), request(1, 1))


def test_function_without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links to other pages bring those pages into the output of neither library."""
    content = linked()
    sizes = [cut_here(content, request(1, 1))[0].size_bytes]
    by_pypdf(monkeypatch)
    sizes.append(cut_here(content, request(1, 1))[0].size_bytes)
    assert max(sizes) < len(content) / 10


def linked() -> bytes:
    """Thirty pages with much on each, of which the first has a link to each other one."""
    reader = pypdf.PdfReader(io.BytesIO(pdf.pages([f"Page {number}. {pdf.ENGLISH * 4}" for number in range(1, 31)])))
    writer = pypdf.PdfWriter(clone_from=reader)
    links = ArrayObject()
    for page in writer.pages[1:]:
        target = ArrayObject([page.indirect_reference, NameObject("/Fit")])  # type: ignore[list-item]
        links.append(writer._add_object(pdf.annotation("/Link", **{"/Dest": target})))
    writer.pages[0][NameObject("/Annots")] = links
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(("kind", "count"), [("cut", 1), ("parse", 2), ("other", 2)])
def test_descriptors_of_no_request(book: Path, kind: str, count: int) -> None:
    """Descriptors that come with no request, or with one that takes another number, are closed without an answer."""
    ours, theirs = socket.socketpair()
    with ours, theirs, book.open("rb") as stream:
        before = open_descriptors()
        send(ours, {"kind": kind, "request": {}}, (stream.fileno(),) * count)
        message, descriptors = receive_with_descriptors(theirs)
        assert len(descriptors) == count
        child._answer(theirs, message, descriptors)
        assert open_descriptors() == before
        with pytest.raises(DeadlinePassed):
            receive(ours, deadline=0.0)


def test_descriptors_of_half_a_message(book: Path) -> None:
    """Descriptors are closed where the message that they belong to ends early, and so are those over the limit."""
    with book.open("rb") as stream:
        before = open_descriptors()
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(ours, [b"\0\0"], [stream.fileno()] * 5)
            ours.close()
            with pytest.raises(Disconnected):
                receive_with_descriptors(theirs)
        assert open_descriptors() == before


def test_request_in_this_process(book: Path) -> None:
    """A request to cut is answered by the cost and the report, or by the failure, and both files are closed."""
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryFile() as output, book.open("rb") as stream:
        before = open_descriptors()
        for asked in (request(1, 2), request(7, 8)):
            message = {"kind": "cut", "request": asdict(asked)}
            send(ours, message, (stream.fileno(), output.fileno()))
            child._answer(theirs, *receive_with_descriptors(theirs))
        found = [receive(ours) for _ in range(4)]
        assert open_descriptors() == before
    assert [message["kind"] for message in found] == ["cost", "cut", "cost", "failed"]
    assert (found[1]["pages"], found[3]["reason"]) == (2, "UnreadableDocument")


# ------------------------------------------------------------------------------------------------ real documents


def test_real_documents(
    box: Sandbox, corpus: Path, output: BinaryIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first three pages of every real PDF with text have the same text in the cut as in the document."""
    monkeypatch.setattr(sandbox, "MAX_KEPT_BYTES", 2**40)
    same = 0
    for path in sorted(corpus.rglob("*.pdf")):
        whole = stripped(box, path, last_page=3)
        # The first are scans, locked or damaged; the second, plain text and five bytes, are no PDF.
        if not any(whole) or path.name in ("tika-plain-text-named.pdf", "qpdf-bad1.pdf"):
            continue
        assert cut(box, path, request(1, 3), output).pages == len(whole), path.name
        assert stripped(box, written(tmp_path, output.read())) == whole, path.name
        same += 1
    assert same >= 70


def stripped(box: Sandbox, path: Path, **more: Any) -> list[str]:
    """The text of each page without its annotations, for a cut has no form; [] where the file cannot be parsed."""
    try:
        return [page.text.strip() for page in parse(box, path, plain=True, **more)]
    except PermanentError:
        return []
