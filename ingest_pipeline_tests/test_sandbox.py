"""The sandbox on real files, and against children that die, hang, lie, and flood."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ingest_pipeline import errors
from ingest_pipeline.errors import (
    EncryptedDocument,
    FileChanged,
    NoText,
    ParserCrashed,
    ParserOutOfMemory,
    ParserTimedOut,
    ParserUnavailable,
    PermanentError,
    TooManyPages,
    UnreadableDocument,
)
from ingest_pipeline.models import Gap, Page, ParseCost
from ingest_pipeline.parsing.sandbox import launch
from ingest_pipeline.parsing.sandbox import parent as sandbox
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.parsing.sandbox.protocol import (
    MAX_MESSAGE_BYTES,
    Disconnected,
    ProtocolError,
    close_all,
    receive,
    receive_with_descriptors,
    send,
)
from ingest_pipeline_tests.folding import Recorded, before_page, parse, parse_in_steps, request
from ingest_pipeline_tests.made import epub, office, pdf
from ingest_pipeline_tests.made import pages as html
from ingest_pipeline_tests.made.catalogue import CATALOGUE, content_of
from ingest_pipeline_tests.made.words import ARABIC, GREEK, RUSSIAN, UKRAINIAN, paragraphs

MIB = 1024**2
REPOSITORY = Path(sandbox.__file__).parents[2]


class StagedSandbox(Sandbox):
    """A sandbox whose first child runs a script instead of the parser; later children are real.

    The script finds `sock`, `request`, `descriptors`, `send`, `os`, `time`, `signal` and `page(number)`.
    """

    script = ""

    def _start(self) -> None:
        if not self.script:
            super()._start()
            return
        script, self.script = self.script, ""
        self._files = 1
        ours, theirs = socket.socketpair()
        prologue = (
            "import os, signal, socket, struct, sys, time\n"
            "from ingest_pipeline.parsing.sandbox.protocol import receive_with_descriptors, send\n"
            "os.setsid()\n"
            "sock = socket.socket(fileno=int(sys.argv[1]))\n"
            "def page(number, **more):\n"
            "    send(sock, {'kind': 'page', 'number': number, 'text': 'x', 'heading': None, 'label': None,\n"
            "                'continues': False, 'whole': True, 'section': None} | more)\n"
            "def cost(**more):\n"
            "    send(sock, {'kind': 'cost', 'peak_memory_bytes': 1, 'seconds': 0.0, 'waited_seconds': 0.0} | more)\n"
            "def done(pages):\n"
            "    send(sock, {'kind': 'done', 'pages': pages, 'more': False})\n"
            "send(sock, {'kind': 'ready', 'confined': {}})\n"
            "request, descriptors = receive_with_descriptors(sock)\n"
        )
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-c", prologue + textwrap.dedent(script), str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._socket = ours
        self._greet(ours)


def child_pid(box: Sandbox) -> int:
    """The process that parses now."""
    assert box._child is not None
    return box._child.pid


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether the condition came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """A sandbox as a run has it."""
    with Sandbox(memory_limit_bytes=512 * MIB, page_seconds=30, file_seconds=60) as opened:
        yield opened


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A small text."""
    path = tmp_path / "note.txt"
    path.write_text("A small text that any parser can read.\n")
    return path


FILES = {
    "book.pdf": pdf.book,
    "book.epub": lambda: epub.epub3({f"{n}.xhtml": epub.chapter(f"Chapter {n}. {GREEK}") for n in range(1, 7)}),
    "tale.txt": lambda: paragraphs(RUSSIAN, 95_000).encode(),
    "branch.pdf": pdf.broken_second_branch,
    "locked.pdf": lambda: pdf.locked("AES-256", user="secret"),
    "empty.pdf": lambda: b"",
    "torn.pdf": lambda: pdf.UNREADABLE["no document catalog"](),
    "locked.docx": lambda: office.ole("EncryptedPackage"),
    "scan.pdf": pdf.scan,
    "long.txt": lambda: paragraphs(UKRAINIAN, 3_000_000).encode(),
    "lying.html": lambda: html.page(
        head="<meta charset=utf-8>", title="Test", sections=(("1", ARABIC),)
    ).encode("cp1256"),
}  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Path]:
    """Write one of the documents above into a folder."""

    def write(name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(FILES[name]())
        return path

    return write


Write = Callable[[str], Path]


@contextlib.contextmanager
def staged(script: str, *, page_seconds: float = 20.0, file_seconds: float = 20.0) -> Iterator[StagedSandbox]:
    """A sandbox whose first child follows a script."""
    opened = StagedSandbox(memory_limit_bytes=512 * MIB, page_seconds=page_seconds, file_seconds=file_seconds)
    opened.script = script
    with opened:
        yield opened


def test_real_files(box: Sandbox, corpus: Path) -> None:
    """Real files of every kind go through one child: pages arrive; peak, seconds, title and counts are filled."""
    pids = set()
    for name, pages, phrase in [
        ("pdf/pdflatex-4-pages.pdf", 4, "Hello, here is some text without a meaning."),
        ("epub/project-history.ko.epub", 31, "데비안 프로젝트는 무엇인가?"),
        ("html/doublecmd-regexp.uk.html", 12, "Синтаксис регулярних виразів"),
        ("md/howtocook/无骨鸡爪.md", 3, "酸辣开胃"),
        ("txt/russian.cp866.txt", 1, "Однажды, в студеную зимнюю пору"),
    ]:
        parsed = Recorded()
        found = parse(box, corpus / name, parsed)
        assert len(found) == pages, name
        assert phrase in "".join(page.text for page in found), name
        assert parsed.pages == found[-1].number
        assert not parsed.more
        assert 10 * MIB < parsed.cost.peak_memory_bytes < 512 * MIB
        assert 0 < parsed.cost.seconds < 60
        assert parsed.gaps == []
        pids.add(child_pid(box))
    assert len(pids) == 1


def test_every_format(box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document of each format goes through one child: pages arrive; peak, seconds, title and counts are filled."""
    monkeypatch.setattr(sandbox, "MAX_KEPT_BYTES", 2**40)
    pids = set()
    for made in CATALOGUE:
        parsed, path = Recorded(), tmp_path / made.name
        path.write_bytes(content_of(made.name))
        found = parse(box, path, parsed)
        text = "".join("".join(page.text for page in found).split())
        assert all("".join(phrase.split()) in text for phrase in made.phrases), made.name
        assert (parsed.pages, parsed.result().title) == (made.pages, made.title)
        assert not parsed.more
        assert 10 * MIB < parsed.cost.peak_memory_bytes < 512 * MIB
        assert 0 < parsed.cost.seconds < 60
        assert parsed.gaps == []
        pids.add(child_pid(box))
    assert len(pids) == 1


def test_title_and_warnings(box: Sandbox, made: Write) -> None:
    """What the parser said beside its pages arrives."""
    parsed = Recorded()
    parse(box, made("lying.html"), parsed)
    assert parsed.title == "Test"
    assert parsed.warnings == ["encoding guessed: cp1256"]


def test_pages_arrive_clean(box: Sandbox, tmp_path: Path) -> None:
    """What the parent stores, Postgres takes."""
    path = tmp_path / "a.txt"
    path.write_bytes("a\0b ﬁne e\u0301 \ufffe\nend".encode())
    assert "".join(page.text for page in parse(box, path)) == "ab fine é end"


def test_long_page_in_parts(box: Sandbox, tmp_path: Path) -> None:
    """A page of text that is larger than one message comes in parts that continue."""
    path = tmp_path / "a.md"
    path.write_text("無" * 100_000)
    found = parse(box, path)
    assert sum(len(page.text) for page in found) == 100_000
    assert [page.continues for page in found] == [False] + [True] * (len(found) - 1)


def test_too_many_headings(box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headings without end are cut with a warning; the text behind them is kept."""
    monkeypatch.setattr("ingest_pipeline.parsing.sandbox.fold.MAX_SECTIONS", 3)
    path = tmp_path / "many.md"
    path.write_text("".join(f"# Heading {n}\n\n{'word ' * 100}\n\n" for n in range(1, 7)))
    parsed = Recorded()
    assert len(parse(box, path, parsed)) == 6
    assert [section.title for section in parsed.sections] == ["Heading 1", "Heading 2", "Heading 3"]
    assert parsed.warnings == ["only the first 3 of its headings are kept as sections"]


def test_gap_is_recorded(box: Sandbox, made: Write) -> None:
    """A page that cannot be read is in `gaps`, and counts."""
    parsed = Recorded()
    pages = parse(box, made("branch.pdf"), parsed)
    assert len(pages) == 1
    assert len(parsed.gaps) == 1
    assert parsed.gaps[0].reason
    assert parsed.pages == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("locked.pdf", EncryptedDocument),
        ("empty.pdf", NoText),
        ("torn.pdf", UnreadableDocument),
        ("locked.docx", EncryptedDocument),
        ("scan.pdf", NoText),
    ],
)
def test_refusals(
    box: Sandbox,
    made: Write,
    text_file: Path,
    name: str,
    expected: type[PermanentError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the parser says of a file is raised with its name, once; the same child goes on with the next file."""
    monkeypatch.setattr(sandbox, "MAX_KEPT_BYTES", 2**40)
    parsed = Recorded()
    with pytest.raises(expected) as caught:
        parse_in_steps(box, made(name), parsed)
    assert str(caught.value).count(name) == 1
    assert type(caught.value) is expected
    assert parsed.cost.peak_memory_bytes > 0
    pid = child_pid(box)
    assert len(parse(box, text_file)) == 1
    assert child_pid(box) == pid


def test_empty_text(box: Sandbox, tmp_path: Path) -> None:
    """A file of nothing, or of space, has no text."""
    for content, why in ((b"", "the file is empty"), (b" \n\t ", "there is no text in it")):
        (tmp_path / "a.txt").write_bytes(content)
        with pytest.raises(NoText, match=why):
            parse_in_steps(box, tmp_path / "a.txt")


def test_too_many_pages(box: Sandbox, made: Write) -> None:
    """More pages than allowed are refused, for PDFs and for texts."""
    with pytest.raises(TooManyPages, match="INGEST_MAX_PAGES"):
        parse(box, made("book.pdf"), max_pages=5)
    with pytest.raises(TooManyPages, match="INGEST_MAX_PAGES"):
        parse(box, made("tale.txt"), max_pages=4)


def test_goes_on(box: Sandbox, made: Write) -> None:
    """Parsing goes on at the page that was asked for."""
    found = parse(box, made("book.pdf"), first_page=5)
    assert [page.number for page in found] == [5, 6]


@pytest.mark.parametrize("name", ["book.pdf", "tale.txt", "book.epub"])
def test_step_ends(box: Sandbox, made: Write, name: str) -> None:
    """A step has the pages and sections between its first and last, and a word on whether more follow."""
    path, entire = made(name), Recorded()
    whole = parse(box, path, entire)
    parsed = Recorded(sections=before_page(entire.sections, 2))
    assert parse(box, path, parsed, first_page=2, last_page=3) == [page for page in whole if page.number in (2, 3)]
    assert parsed.more
    assert parsed.sections == before_page(entire.sections, 4)
    last, parsed = whole[-1].number, Recorded(sections=before_page(entire.sections, whole[-1].number))
    assert parse(box, path, parsed, first_page=last, last_page=last + 5)[-1] == whole[-1]
    assert parsed.sections == entire.sections
    assert not parsed.more


def test_out_of_memory(tmp_path: Path, text_file: Path) -> None:
    """The kernel stops a child that needs more than its limit, nobody else; the next file parses."""
    path = tmp_path / "greedy.pdf"
    path.write_bytes(greedy_pdf())
    with Sandbox(memory_limit_bytes=96 * MIB, page_seconds=30) as box:
        with pytest.raises(ParserOutOfMemory, match=r"greedy\.pdf"):
            parse(box, path)
        assert len(parse(box, text_file)) == 1


def greedy_pdf() -> bytes:
    """A small PDF that costs pdfium 320 MB: one page of very many text operators."""
    content = zlib.compress(b"BT /F1 9 Tf " + b"1 0 0 1 5 5 Tm (some words that pdfium keeps) Tj " * 400_000 + b"ET")
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    body = b"%PDF-1.4\n" + b"".join(b"%d 0 obj%sendobj\n" % item for item in enumerate(objects, start=1))
    return body + b"trailer<</Root 1 0 R/Size 6>>\n%%EOF"


def test_child_cannot_start(text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That a child cannot start is not the file's fault: a retry may help, and the message says what to look at."""
    monkeypatch.setattr(launch.sys, "executable", "/bin/false")
    with Sandbox(memory_limit_bytes=512 * MIB) as box:
        with pytest.raises(ParserUnavailable, match="INGEST_RUN_MEMORY") as caught:
            parse(box, text_file)
        assert caught.value.retryable
        assert box._child is None


def test_limit_below_zero(text_file: Path) -> None:
    """A budget that leaves nothing for the child must not leave it everything."""
    with Sandbox(memory_limit_bytes=-5 * MIB) as box:
        try:
            parse(box, text_file)
            limits = Path(f"/proc/{child_pid(box)}/limits").read_text()
            found = next(line for line in limits.splitlines() if line.startswith("Max data size")).split()[3]
        except (errors.IngestError, ValueError):
            found = "0"
    assert found.isdigit()
    assert int(found) < 1024 * MIB


@pytest.mark.parametrize("limit", [1 * MIB, 8 * MIB, 12 * MIB])
@pytest.mark.parametrize("encoding", ["cp866", "utf-8"])
def test_tiny_limit(tmp_path: Path, limit: int, encoding: str) -> None:
    """A limit that is far too small is never called damage or a crash: the reason is memory, or it parses."""
    (tmp_path / "a.txt").write_bytes(paragraphs(RUSSIAN, 30_000).encode(encoding))
    with Sandbox(memory_limit_bytes=limit) as box:
        try:
            outcome = str(len(parse(box, tmp_path / "a.txt")) > 0)
        except errors.IngestError as error:
            outcome = error.reason
    assert outcome in ("True", "ParserOutOfMemory", "ParserUnavailable")


DEATHS: list[tuple[str, type[PermanentError], str]] = [
    ("os.kill(os.getpid(), signal.SIGKILL)", ParserOutOfMemory, "SIGKILL"),
    ("page(1); os.kill(os.getpid(), signal.SIGKILL)", ParserOutOfMemory, "SIGKILL"),
    ("import ctypes; ctypes.string_at(0)", ParserCrashed, "SIGSEGV"),
    ("os.abort()", ParserOutOfMemory, "SIGABRT"),
    ("os._exit(3)", ParserCrashed, "exit code 3"),
    ("sys.exit(0)", ParserCrashed, "exit code 0"),
    ("page(1); os._exit(0)", ParserCrashed, "exit code 0"),
    ("sock.sendall(struct.pack('!I', 500) + b'half a message'); os._exit(1)", ParserCrashed, "exit code 1"),
]


@pytest.mark.parametrize(("script", "expected", "cause"), DEATHS, ids=[death[0][:40] for death in DEATHS])
def test_cause_of_death(text_file: Path, script: str, expected: type[PermanentError], cause: str) -> None:
    """How a child died is in the message; the file that follows meets a new child."""
    with staged(script) as box:
        with pytest.raises(expected) as caught:
            parse(box, text_file)
        assert type(caught.value) is expected
        assert cause in str(caught.value)
        assert "note.txt" in str(caught.value)
        assert len(parse(box, text_file)) == 1


NONSENSE = {
    "not JSON": "sock.sendall(struct.pack('!I', 4) + b'oops')",
    "no bytes": "sock.sendall(struct.pack('!I', 0))",
    "a huge length": "sock.sendall(b'\\xff' * 64)",
    "a list": "sock.sendall(struct.pack('!I', 4) + b'[12]')",
    "no kind": "sock.sendall(struct.pack('!I', 2) + b'{}')",
    "an unknown kind": "send(sock, {'kind': 'gift'})",
    "a page without text": "send(sock, {'kind': 'page', 'number': 1})",
    "a field too many": "page(1, colour='red')",
    "a text that is a list": "page(1, text=['x'])",
    "a flag that is a number": "page(1, whole=1)",
    "a number below 0": "page(-1)",
    "a number that no database holds": "page(2**70)",
    "a number that is none": "page('one')",
    "no number at all": "page(None)",
    "an endless peak": "cost(peak_memory_bytes=float('inf'))",
    "an endless number": "page(float('inf'))",
    "seconds of a list": "cost(seconds=[])",
    "endless seconds": "cost(seconds=float('inf'))",
    "a gap without end": "send(sock, {'kind': 'gap', 'page_from': 1, 'reason': 'x'})",
    "a warning that is a number": "send(sock, {'kind': 'warning', 'text': 5})",
    "a title that is a list": "send(sock, {'kind': 'properties', 'title': [1], 'total_pages': None})",
    "brackets without end": "sock.sendall(struct.pack('!I', 900_000) + b'[' * 900_000)",
    "not UTF-8": "sock.sendall(struct.pack('!I', 4) + b'\\xff\\xfe\\xfd\\xfc')",
    "random bytes": "sock.sendall(os.urandom(100_000))",
}


@pytest.mark.parametrize("script", NONSENSE.values(), ids=list(NONSENSE))
def test_nonsense(text_file: Path, script: str) -> None:
    """Whoever took the child over cannot make the parent stumble: the child is ended, typed."""
    with staged(f"{script}\ntime.sleep(60)") as box:
        began = time.monotonic()
        with pytest.raises(ParserCrashed, match=r"note\.txt"):
            parse(box, text_file)
        assert time.monotonic() - began < 15
        assert box._child is None
        assert len(parse(box, text_file)) == 1


def test_reason_of_a_child(text_file: Path) -> None:
    """A child cannot ask for retries, nor name a type outside the tree."""
    for reason in ("FileChanged", "BadSetting", "SystemExit", "NoSuchError"):
        script = f"send(sock, {{'kind': 'failed', 'reason': '{reason}', 'message': 'm'}})"
        with staged(f"{script}\ntime.sleep(60)") as box, pytest.raises(UnreadableDocument, match=r"note\.txt: m"):
            parse(box, text_file)
    assert issubclass(FileChanged, errors.TransientFileError)


def test_child_hangs(text_file: Path) -> None:
    """Where no page comes, the deadline of a page ends the wait and the child; the next file parses."""
    with staged("time.sleep(60)", page_seconds=0.5) as box:
        pid: list[int] = []
        began = time.monotonic()
        with pytest.raises(ParserTimedOut, match="INGEST_PAGE_SECONDS"):
            for _ in Recorded().pages_of(box.events(text_file.open("rb"), request(text_file))):
                pid.append(child_pid(box))
        assert time.monotonic() - began < 10
        box.page_seconds = 30
        assert len(parse(box, text_file)) == 1


def test_child_hangs_in_a_message(text_file: Path) -> None:
    """A child that hangs in the middle of a message is timed out."""
    script = "sock.sendall(struct.pack('!I', 500) + b'{')\ntime.sleep(60)"
    with staged(script, page_seconds=0.5) as box, pytest.raises(ParserTimedOut):
        parse(box, text_file)


def test_child_with_children(tmp_path: Path, text_file: Path) -> None:
    """A child that ignores signals and has children is ended with them."""
    note = tmp_path / "grandchild.pid"
    script = f"""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
        open({str(note)!r}, "w").write(str(pid))
        time.sleep(60)
    """
    with staged(script, page_seconds=1.0) as box, pytest.raises(ParserTimedOut):
        parse(box, text_file)
    assert wait_until(lambda: not is_running(int(note.read_text())))


def test_deadline_of_the_file(text_file: Path) -> None:
    """Pages that are each in time, but all together are not, end at the deadline of the file."""
    script = """
        for number in range(1, 1000):
            page(number)
            time.sleep(0.1)
    """
    with staged(script, page_seconds=5.0, file_seconds=1.0) as box:
        began = time.monotonic()
        with pytest.raises(ParserTimedOut, match="INGEST_FILE_SECONDS"):
            parse(box, text_file)
        assert time.monotonic() - began < 10


def test_slow_consumer(text_file: Path) -> None:
    """Only waiting for the child counts: a page may be embedded for as long as it takes."""
    script = """
        for number in range(1, 6):
            page(number)
        done(5)
        time.sleep(60)
    """
    with staged(script, page_seconds=0.6, file_seconds=0.6) as box, text_file.open("rb") as stream:
        numbers = []
        for page in Recorded().pages_of(box.events(stream, request(text_file))):
            numbers.append(page.number)
            time.sleep(0.3)
    assert numbers == [1, 2, 3, 4, 5]


def test_flood_of_output(text_file: Path) -> None:
    """A parser library that prints megabytes neither blocks nor fills anything."""
    script = """
        for _ in range(50):
            os.write(1, b'noise ' * 20_000)
            os.write(2, b'noise ' * 20_000)
        page(1)
        done(1)
        time.sleep(60)
    """
    with staged(script) as box:
        assert [page.number for page in parse(box, text_file)] == [1]


def test_flood_of_pages(text_file: Path) -> None:
    """The parent counts pages, too: a child that was taken over cannot fill the database."""
    script = """
        number = 0
        while True:
            number += 1
            page(number)
    """
    with staged(script) as box, text_file.open("rb") as stream:
        seen = 0
        with pytest.raises((TooManyPages, ParserCrashed)):
            for _ in Recorded().pages_of(box.events(stream, request(text_file, max_pages=50))):
                seen += 1
                if seen > 2000:
                    break
        assert seen <= 60


def test_child_waits(made: Write) -> None:
    """The pipe pushes back: what is parsed ahead is bounded by the socket's buffer."""
    path = made("long.txt")
    with Sandbox(memory_limit_bytes=512 * MIB) as box, path.open("rb") as stream:
        pages = Recorded().pages_of(box.events(stream, request(path)))
        next(pages)
        process = psutil.Process(child_pid(box))
        assert wait_until(lambda: process.status() == psutil.STATUS_SLEEPING, 20)
        time.sleep(0.3)
        busy = sum(process.cpu_times()[:2])
        time.sleep(0.5)
        assert sum(process.cpu_times()[:2]) - busy < 0.2
        pages.close()  # type: ignore[attr-defined]


def test_abandoned_file(box: Sandbox, made: Write, text_file: Path) -> None:
    """Pages of an abandoned file do not turn up in another."""
    path = made("long.txt")
    with path.open("rb") as stream:
        pages = Recorded().pages_of(box.events(stream, request(path)))
        next(pages)
        pages.close()  # type: ignore[attr-defined]
    found = parse(box, text_file)
    assert [page.text.strip() for page in found] == ["A small text that any parser can read."]


def test_death_between_files(box: Sandbox, text_file: Path) -> None:
    """A child that died between two files is replaced, and the next file is not blamed for it."""
    parse(box, text_file)
    pid = child_pid(box)
    os.kill(pid, signal.SIGKILL)
    assert box._child is not None
    box._child.wait(timeout=10)
    assert len(parse(box, text_file)) == 1
    assert child_pid(box) != pid


def test_replaced_after_files(box: Sandbox, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child is replaced after some files, and with it what a library leaks."""
    monkeypatch.setattr(sandbox, "FILES_PER_CHILD", 3)
    pids = []
    for _ in range(7):
        parse(box, text_file)
        pids.append(child_pid(box))
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]


def test_replaced_when_large(box: Sandbox, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that keeps much of a file is replaced: the next file's peak is its own."""
    parse(box, text_file)
    pid = child_pid(box)
    parse(box, text_file)
    assert child_pid(box) == pid
    monkeypatch.setattr(sandbox, "MAX_KEPT_BYTES", -(2**40))
    parse(box, text_file)
    assert child_pid(box) != pid


def test_small_behind_large(box: Sandbox, tmp_path: Path, text_file: Path) -> None:
    """The peak of a small file behind a large one is about what it is in a fresh child."""
    alone, behind = Recorded(), Recorded()
    parse(box, text_file, alone)
    path = tmp_path / "greedy.pdf"
    path.write_bytes(greedy_pdf())
    large = Recorded()
    parse(box, path, large)
    parse(box, text_file, behind)
    assert large.cost.peak_memory_bytes > alone.cost.peak_memory_bytes + 40 * MIB
    assert behind.cost.peak_memory_bytes < alone.cost.peak_memory_bytes + 24 * MIB


def test_nothing_is_left(text_file: Path) -> None:
    """After closing no process is left, nor a zombie; closing twice is no error."""
    with Sandbox(memory_limit_bytes=512 * MIB) as box:
        parse(box, text_file)
        pid = child_pid(box)
        assert is_running(pid)
    assert not psutil.pid_exists(pid)
    box.close()


def test_no_child_before_a_file() -> None:
    """A sandbox starts no child before the first file, and closes without one."""
    with Sandbox(memory_limit_bytes=512 * MIB) as box:
        assert box._child is None


def test_no_descriptor_is_left(text_file: Path) -> None:
    """After many sandboxes and files there are as many descriptors as before."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with Sandbox(memory_limit_bytes=512 * MIB) as box:
            parse(box, text_file)
            parse(box, text_file)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_no_credentials(box: Sandbox, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever takes the child over finds no password in its environment."""
    secrets = {
        "PGPASSWORD": "hunter2",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "INGEST_DATABASE_URL": "postgresql://u:hunter2@h/d",
        "OPENAI_API_KEY": "hunter2",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    parse(box, text_file)
    environment = Path(f"/proc/{child_pid(box)}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"hunter2" not in environment
    assert not any(name.encode() in environment for name in secrets)


def open_files(pid: int) -> list[str]:
    """What the descriptors of a process are open on; one may be closed while they are listed."""
    targets = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            targets.append(str(link.readlink()))
    return targets


def test_inherited_descriptors(box: Sandbox, tmp_path: Path, text_file: Path) -> None:
    """The child inherits no descriptor but its socket; the file is closed after it was parsed."""
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        parse(box, text_file)
        pid = child_pid(box)
        targets = open_files(pid)
    assert sum(target.startswith("socket:") for target in targets) == 1
    assert not any("secret" in target for target in targets)
    assert wait_until(lambda: not any("note.txt" in target for target in open_files(pid)))


def test_first_to_be_killed(box: Sandbox, text_file: Path) -> None:
    """If memory runs out, the kernel kills the child, never the run."""
    parse(box, text_file)
    assert Path(f"/proc/{child_pid(box)}/oom_score_adj").read_text().strip() == "1000"
    assert str(512 * MIB) in Path(f"/proc/{child_pid(box)}/limits").read_text()


def test_parent_is_killed(text_file: Path) -> None:
    """A run that is killed with SIGKILL leaves no parser behind, not even a busy one."""
    code = f"""
import time
from pathlib import Path
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.parsing.sandbox.steps import events_in_steps
box = Sandbox(memory_limit_bytes={512 * MIB})
with open({str(text_file)!r}, "rb") as stream:
    list(box.events(stream, ParseRequest("n", "text/plain")))
print(box._child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.kill()
    parent.communicate(timeout=10)
    assert wait_until(lambda: not is_running(pid))


def test_many_gaps(text_file: Path) -> None:
    """Of very many gaps those that follow each other are one: they are written anew with each checkpoint."""
    script = """
        page(1)
        for number in range(2, 152):
            send(sock, {'kind': 'gap', 'page_from': number, 'page_to': number, 'reason': 'torn'})
        done(151)
        time.sleep(60)
    """
    parsed = Recorded()
    with staged(script) as box:
        parse(box, text_file, parsed)
    assert parsed.gaps == [*(Gap(number, number, "torn") for number in range(2, 101)), Gap(101, 151, "torn")]
    assert parsed.pages == 151


def test_flood_of_gaps(text_file: Path) -> None:
    """The parent counts gaps, too: a child that was taken over cannot fill the database."""
    script = """
        number = 0
        while True:
            number += 2
            send(sock, {'kind': 'gap', 'page_from': number, 'page_to': number, 'reason': 'x'})
    """
    parsed = Recorded()
    with staged(script) as box, pytest.raises(ParserCrashed, match="more pages or gaps than were asked for"):
        parse(box, text_file, parsed, max_pages=50)
    assert len(parsed.gaps) == 50


def test_two_sandboxes(text_file: Path, made: Write) -> None:
    """Of two sandboxes each has its own child, its own socket, its own file."""
    path = made("book.pdf")
    with (
        Sandbox(memory_limit_bytes=512 * MIB) as one,
        Sandbox(memory_limit_bytes=512 * MIB) as other,
        path.open("rb") as stream,
    ):
        pages = Recorded().pages_of(one.events(stream, request(path)))
        first = next(pages)
        assert len(parse(other, text_file)) == 1
        other.close()
        assert [first.number, *(page.number for page in pages)] == [1, 2, 3, 4, 5, 6]


def test_messages() -> None:
    """Messages go through a socket whole, in every script, with and without a file."""
    ours, theirs = socket.socketpair()
    with ours, theirs, io.FileIO(os.memfd_create("x"), "rb") as file:
        messages = [{"kind": "a", "text": "無骨 \U0001f600 \x00"}, {"kind": "b", "text": "x" * 5000}]
        for message in messages:
            send(ours, message)
        send(ours, {"kind": "c"}, (file.fileno(),))
        assert [receive(theirs), receive(theirs)] == messages
        message, descriptors = receive_with_descriptors(theirs)
        assert message == {"kind": "c"}
        close_all(descriptors)
        ours.close()
        with pytest.raises(Disconnected):
            receive(theirs)


def test_message_over_the_limit() -> None:
    """A message over the limit is not read: a length is only what the other side says."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall((MAX_MESSAGE_BYTES + 1).to_bytes(4, "big"))
        with pytest.raises(ProtocolError):
            receive(theirs, deadline=time.monotonic() + 5)


def test_the_next_pages_are_parsed_meanwhile(tmp_path: Path) -> None:
    """While the run is busy with a page, the child parses on: at the end it has not waited for the run."""
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(f"Paragraph {number}. " + "word " * 100 for number in range(200)))
    began, busy = time.monotonic(), 1.0
    with Sandbox(memory_limit_bytes=256 * MIB, page_seconds=10, file_seconds=60) as box, path.open("rb") as stream:
        events = box.events(stream, request(path))
        first = next(event for event in events if isinstance(event, Page))
        time.sleep(busy)
        rest = list(events)
    assert first.number == 1
    assert len([event for event in rest if isinstance(event, Page)]) >= 4
    *_, cost = [event for event in rest if isinstance(event, ParseCost)]
    assert cost.seconds < busy / 2
    assert time.monotonic() - began >= busy
