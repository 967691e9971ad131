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
from ingest_pipeline.models import Page, ParsedFile
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.outline import before_page
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.parsing.sandbox.parent import parent as sandbox
from ingest_pipeline.parsing.sandbox.protocol import (
    MAX_MESSAGE_BYTES,
    Disconnected,
    ProtocolError,
    receive,
    receive_with_descriptor,
    send,
)
from ingest_pipeline.parsing.sandbox.steps import pages_in_steps

MIB = 1024**2
REPOSITORY = Path(sandbox.__file__).parents[2]


class StagedSandbox(Sandbox):
    """A sandbox whose first child runs a script instead of the parser; later children are real.

    The script finds `sock`, `send`, `receive_with_descriptor`, `os`, `time`, `signal` and `page(number)`.
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
            "from ingest_pipeline.parsing.sandbox.protocol import receive_with_descriptor, send\n"
            "os.setsid()\n"
            "sock = socket.socket(fileno=int(sys.argv[1]))\n"
            "def page(number, **more):\n"
            "    send(sock, {'kind': 'page', 'number': number, 'text': 'x', 'heading': None, 'label': None,\n"
            "                'continues': False, 'total': None, 'whole': True, 'peak': 1, 'seconds': 0.0} | more)\n"
            "send(sock, {'kind': 'ready', 'confined': {}})\n"
            "receive_with_descriptor(sock)\n"
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


def request(path: Path, **limits: int) -> ParseRequest:
    """What is asked about a real file."""
    with path.open("rb") as stream:
        return ParseRequest(path.name, detect.media_type(path.name, stream.read(4096)), **limits)


def parse(box: Sandbox, path: Path, parsed: ParsedFile | None = None, **limits: int) -> list[Page]:
    """Parse one file in a sandbox, by one child."""
    with path.open("rb") as stream:
        return list(box.pages(stream, request(path, **limits), ParsedFile() if parsed is None else parsed))


def parse_in_steps(box: Sandbox, path: Path, parsed: ParsedFile | None = None) -> list[Page]:
    """Parse one file by as many children as it takes."""
    with path.open("rb") as stream:
        return list(pages_in_steps(box, stream, request(path), ParsedFile() if parsed is None else parsed))


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


@contextlib.contextmanager
def staged(script: str, *, page_seconds: float = 20.0, file_seconds: float = 20.0) -> Iterator[StagedSandbox]:
    """A sandbox whose first child follows a script."""
    opened = StagedSandbox(memory_limit_bytes=512 * MIB, page_seconds=page_seconds, file_seconds=file_seconds)
    opened.script = script
    with opened:
        yield opened


def test_real_files_of_every_kind_go_through_one_child(box: Sandbox, corpus: Path) -> None:
    """Pages arrive; peak, seconds, title and counts are filled; the child stays the same."""
    pids = set()
    for name, pages, phrase in [
        ("pdf/pdflatex-4-pages.pdf", 4, "Hello, here is some text without a meaning."),
        ("epub/project-history.ko.epub", 31, "데비안 프로젝트는 무엇인가?"),
        ("html/doublecmd-regexp.uk.html", 12, "Синтаксис регулярних виразів"),
        ("md/howtocook/无骨鸡爪.md", 3, "酸辣开胃"),
        ("txt/russian.cp866.txt", 1, "Однажды, в студеную зимнюю пору"),
    ]:
        parsed = ParsedFile()
        found = parse(box, corpus / name, parsed)
        assert len(found) == pages, name
        assert phrase in "".join(page.text for page in found), name
        assert parsed.pages == found[-1].number
        assert parsed.has_text and not parsed.more
        assert 10 * MIB < parsed.peak_memory_bytes < 512 * MIB
        assert 0 < parsed.seconds < 60
        assert parsed.gaps == []
        pids.add(child_pid(box))
    assert len(pids) == 1


def test_title_and_warnings_arrive(box: Sandbox, corpus: Path) -> None:
    """What the parser said beside its pages."""
    parsed = ParsedFile()
    parse(box, corpus / "html" / "tika-arabic-misleading-charset.html", parsed)
    assert parsed.title == "Test Arabic"
    assert parsed.warnings == ["encoding guessed: cp1256"]


def test_pages_arrive_clean(box: Sandbox, tmp_path: Path) -> None:
    """What the parent stores, Postgres takes."""
    path = tmp_path / "a.txt"
    path.write_bytes("a\0b ﬁne e\u0301 \ufffe\nend".encode())
    assert "".join(page.text for page in parse(box, path)) == "ab fine é end"


def test_a_very_long_page_comes_in_parts_that_continue(box: Sandbox, tmp_path: Path) -> None:
    """One page of text may be larger than one message."""
    path = tmp_path / "a.md"
    path.write_text("無" * 100_000)
    found = parse(box, path)
    assert sum(len(page.text) for page in found) == 100_000
    assert [page.continues for page in found] == [False] + [True] * (len(found) - 1)


def test_headings_without_end_are_cut_and_said_so(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text behind them is kept; that it belongs to no section of its own is a warning."""
    monkeypatch.setattr("ingest_pipeline.parsing.sandbox.parent.MAX_SECTIONS", 3)
    path = tmp_path / "many.md"
    path.write_text("".join(f"# Heading {n}\n\n{'word ' * 100}\n\n" for n in range(1, 7)))
    parsed = ParsedFile()
    assert len(parse(box, path, parsed)) == 6
    assert [section.title for section in parsed.sections] == ["Heading 1", "Heading 2", "Heading 3"]
    assert parsed.warnings == ["only the first 3 of its headings are kept as sections"]


def test_a_gap_is_recorded(box: Sandbox, corpus: Path) -> None:
    """A page that cannot be read is in `gaps`; when there is no other, the file has no text."""
    parsed = ParsedFile()
    pages = parse(box, corpus / "bad" / "pdfjs-Pages-tree-refs.pdf", parsed)
    assert len(pages) == 1
    assert len(parsed.gaps) == 1
    assert parsed.gaps[0].reason
    assert parsed.pages == 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bad/cabinet-encryption_openpassword.pdf", EncryptedDocument),
        ("bad/pdfplumber-empty.pdf", NoText),
        ("bad/qpdf-bad35.pdf", UnreadableDocument),
        ("bad/tika-password.docx", EncryptedDocument),
        ("pdf/grayscale-image.pdf", NoText),
    ],
)
def test_what_the_parser_says_of_a_file_is_raised(
    box: Sandbox,
    corpus: Path,
    text_file: Path,
    name: str,
    expected: type[PermanentError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the file's name, once; and the same child goes on with the next file, whatever it keeps of this one."""
    monkeypatch.setattr(sandbox, "MAX_KEPT_BYTES", 2**40)
    parsed = ParsedFile()
    with pytest.raises(expected) as caught:
        parse_in_steps(box, corpus / name, parsed)
    assert str(caught.value).count(Path(name).name) == 1
    assert type(caught.value) is expected
    assert parsed.peak_memory_bytes > 0
    pid = child_pid(box)
    assert len(parse(box, text_file)) == 1
    assert child_pid(box) == pid


def test_an_empty_text_has_no_text(box: Sandbox, tmp_path: Path) -> None:
    """Nothing, or space alone."""
    for content, why in ((b"", "the file is empty"), (b" \n\t ", "there is no text in it")):
        (tmp_path / "a.txt").write_bytes(content)
        with pytest.raises(NoText, match=why):
            parse_in_steps(box, tmp_path / "a.txt")


def test_more_pages_than_allowed_are_refused(box: Sandbox, corpus: Path) -> None:
    """For PDFs and for texts."""
    with pytest.raises(TooManyPages, match="INGEST_MAX_PAGES"):
        parse(box, corpus / "pdf" / "pdflatex-4-pages.pdf", max_pages=3)
    with pytest.raises(TooManyPages, match="INGEST_MAX_PAGES"):
        parse(box, corpus / "txt" / "debian-faq.pt.txt", max_pages=9)


def test_parsing_goes_on_where_it_was_left(box: Sandbox, corpus: Path) -> None:
    """The first page is the one that was asked for."""
    found = parse(box, corpus / "pdf" / "pdflatex-4-pages.pdf", first_page=3)
    assert [page.number for page in found] == [3, 4]


@pytest.mark.parametrize("name", ["pdf/pdflatex-4-pages.pdf", "txt/debian-faq.pt.txt", "epub/project-history.ko.epub"])
def test_a_step_ends_where_it_was_told_to(box: Sandbox, corpus: Path, name: str) -> None:
    """Pages and sections between first and last, the same as in the whole file, and a word on whether more follow."""
    entire = ParsedFile()
    whole = parse(box, corpus / name, entire)
    parsed = ParsedFile(sections=before_page(entire.sections, 2))
    assert parse(box, corpus / name, parsed, first_page=2, last_page=3) == [
        page for page in whole if page.number in (2, 3)
    ]
    assert parsed.more
    assert parsed.sections == before_page(entire.sections, 4)
    last, parsed = whole[-1].number, ParsedFile(sections=before_page(entire.sections, whole[-1].number))
    assert parse(box, corpus / name, parsed, first_page=last, last_page=last + 5)[-1] == whole[-1]
    assert parsed.sections == entire.sections
    assert not parsed.more


def test_a_file_that_needs_more_than_the_limit_is_out_of_memory(tmp_path: Path, text_file: Path) -> None:
    """The kernel stops the child, nobody else; the next file parses."""
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


def test_a_child_that_cannot_start_is_nobodys_fault(text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the file's: a retry may help, and the message says what to look at."""
    monkeypatch.setattr(sandbox.sys, "executable", "/bin/false")
    with Sandbox(memory_limit_bytes=512 * MIB) as box:
        with pytest.raises(ParserUnavailable, match="INGEST_RUN_MEMORY") as caught:
            parse(box, text_file)
        assert caught.value.retryable
        assert box._child is None


def test_a_limit_below_zero_is_not_no_limit(text_file: Path) -> None:
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
@pytest.mark.parametrize("name", ["txt/russian.cp866.txt", "txt/California_SOTS.txt"])
def test_a_limit_that_is_far_too_small_is_never_called_damage_or_a_crash(corpus: Path, limit: int, name: str) -> None:
    """Also where memory ends during an import or outside the parser: the reason is memory, or it parses."""
    with Sandbox(memory_limit_bytes=limit) as box:
        try:
            outcome = str(len(parse(box, corpus / name)) > 0)
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
def test_the_death_of_a_child_is_named_and_the_next_file_parses(
    text_file: Path, script: str, expected: type[PermanentError], cause: str
) -> None:
    """The cause is in the message; the file that follows meets a new child."""
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
    "an unknown kind": "send(sock, {'kind': 'gift', 'peak': 1, 'seconds': 0})",
    "no cost": "send(sock, {'kind': 'page', 'number': 1, 'text': 'x'})",
    "a page without text": "send(sock, {'kind': 'page', 'number': 1, 'peak': 1, 'seconds': 0})",
    "a number that is none": "page('one')",
    "no number at all": "page(None)",
    "an endless peak": "page(1, peak=float('inf'))",
    "an endless number": "page(float('inf'))",
    "seconds of a list": "page(1, seconds=[])",
    "a gap without end": "send(sock, {'kind': 'gap', 'from': 1, 'peak': 1, 'seconds': 0})",
    "warnings that are a number": (
        "send(sock, {'kind': 'done', 'more': False, 'pages': 1, 'title': None, 'warnings': 5, 'peak': 1, 'seconds': 0})"
    ),
    "a title that is a list": (
        "send(sock, {'kind': 'done', 'more': False, 'pages': 1, 'title': [1], 'warnings': [], 'peak': 1, 'seconds': 0})"
    ),
    "brackets without end": "sock.sendall(struct.pack('!I', 900_000) + b'[' * 900_000)",
    "not UTF-8": "sock.sendall(struct.pack('!I', 4) + b'\\xff\\xfe\\xfd\\xfc')",
    "random bytes": "sock.sendall(os.urandom(100_000))",
}


@pytest.mark.parametrize("script", NONSENSE.values(), ids=list(NONSENSE))
def test_nonsense_is_a_crash_and_the_next_file_parses(text_file: Path, script: str) -> None:
    """Whoever took the child over cannot make the parent stumble: the child is ended, typed."""
    with staged(f"{script}\ntime.sleep(60)") as box:
        began = time.monotonic()
        with pytest.raises(ParserCrashed, match=r"note\.txt"):
            parse(box, text_file)
        assert time.monotonic() - began < 15
        assert box._child is None
        assert len(parse(box, text_file)) == 1


def test_a_reason_that_is_no_permanent_error_becomes_one(text_file: Path) -> None:
    """A child cannot ask for retries, nor name a type outside the tree."""
    for reason in ("FileChanged", "BadSetting", "SystemExit", "NoSuchError"):
        script = f"send(sock, {{'kind': 'failed', 'reason': '{reason}', 'message': 'm', 'peak': 1, 'seconds': 0}})"
        with staged(f"{script}\ntime.sleep(60)") as box, pytest.raises(UnreadableDocument, match=r"note\.txt: m"):
            parse(box, text_file)
    assert issubclass(FileChanged, errors.TransientError)


def test_a_child_that_hangs_is_timed_out_and_the_next_file_parses(text_file: Path) -> None:
    """No page came: the deadline of a page ends the wait and the child."""
    with staged("time.sleep(60)", page_seconds=0.5) as box:
        pid: list[int] = []
        began = time.monotonic()
        with pytest.raises(ParserTimedOut, match="INGEST_PAGE_SECONDS"):
            for _ in box.pages(text_file.open("rb"), request(text_file), ParsedFile()):
                pid.append(child_pid(box))
        assert time.monotonic() - began < 10
        box.page_seconds = 30
        assert len(parse(box, text_file)) == 1


def test_a_child_that_hangs_in_the_middle_of_a_message_is_timed_out(text_file: Path) -> None:
    """Half a message is not a page."""
    script = "sock.sendall(struct.pack('!I', 500) + b'{')\ntime.sleep(60)"
    with staged(script, page_seconds=0.5) as box, pytest.raises(ParserTimedOut):
        parse(box, text_file)


def test_a_child_that_ignores_signals_and_has_children_is_ended_with_them(tmp_path: Path, text_file: Path) -> None:
    """The whole group goes."""
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


def test_pages_that_trickle_are_ended_by_the_deadline_of_the_file(text_file: Path) -> None:
    """Each page is in time, all together are not."""
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


def test_a_slow_consumer_does_not_time_the_parser_out(text_file: Path) -> None:
    """Only waiting for the child counts: a page may be embedded for as long as it takes."""
    script = """
        for number in range(1, 6):
            page(number)
        done = {'kind': 'done', 'more': False, 'pages': 5, 'title': None, 'warnings': []}
        send(sock, done | {'peak': 1, 'seconds': 0.1})
        time.sleep(60)
    """
    with staged(script, page_seconds=0.6, file_seconds=0.6) as box, text_file.open("rb") as stream:
        numbers = []
        for page in box.pages(stream, request(text_file), ParsedFile()):
            numbers.append(page.number)
            time.sleep(0.3)
    assert numbers == [1, 2, 3, 4, 5]


def test_a_flood_of_output_floods_nothing(text_file: Path) -> None:
    """A parser library that prints megabytes neither blocks nor fills anything."""
    script = """
        for _ in range(50):
            os.write(1, b'noise ' * 20_000)
            os.write(2, b'noise ' * 20_000)
        page(1)
        done = {'kind': 'done', 'more': False, 'pages': 1, 'title': None, 'warnings': []}
        send(sock, done | {'peak': 1, 'seconds': 0.1})
        time.sleep(60)
    """
    with staged(script) as box:
        assert [page.number for page in parse(box, text_file)] == [1]


def test_a_flood_of_pages_ends_at_the_limit_of_pages(text_file: Path) -> None:
    """The parent counts too: a child that was taken over cannot fill the database."""
    script = """
        number = 0
        while True:
            number += 1
            page(number)
    """
    with staged(script) as box, text_file.open("rb") as stream:
        seen = 0
        with pytest.raises((TooManyPages, ParserCrashed)):
            for _ in box.pages(stream, request(text_file, max_pages=50), ParsedFile()):
                seen += 1
                if seen > 2000:
                    break
        assert seen <= 60


def test_a_child_waits_while_the_caller_works(corpus: Path) -> None:
    """The pipe pushes back: what is parsed ahead is bounded by the socket's buffer."""
    with Sandbox(memory_limit_bytes=512 * MIB) as box, (corpus / "pdf" / "bashref.pdf").open("rb") as stream:
        pages = box.pages(stream, request(corpus / "pdf" / "bashref.pdf"), ParsedFile())
        next(pages)
        process = psutil.Process(child_pid(box))
        assert wait_until(lambda: process.status() == psutil.STATUS_SLEEPING, 20)
        time.sleep(0.3)
        busy = sum(process.cpu_times()[:2])
        time.sleep(0.5)
        assert sum(process.cpu_times()[:2]) - busy < 0.2
        pages.close()  # type: ignore[attr-defined]


def test_a_file_that_is_given_up_leaves_nothing_for_the_next(box: Sandbox, corpus: Path, text_file: Path) -> None:
    """Pages of an abandoned file must not turn up in another."""
    path = corpus / "pdf" / "bashref.pdf"
    with path.open("rb") as stream:
        pages = box.pages(stream, request(path), ParsedFile())
        next(pages)
        pages.close()  # type: ignore[attr-defined]
    found = parse(box, text_file)
    assert [page.text.strip() for page in found] == ["A small text that any parser can read."]


def test_a_child_that_died_between_two_files_is_replaced(box: Sandbox, text_file: Path) -> None:
    """The file that comes next is not attributed with it."""
    parse(box, text_file)
    pid = child_pid(box)
    os.kill(pid, signal.SIGKILL)
    assert box._child is not None
    box._child.wait(timeout=10)
    assert len(parse(box, text_file)) == 1
    assert child_pid(box) != pid


def test_a_child_is_replaced_after_some_files(box: Sandbox, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a parser library leaks is given back."""
    monkeypatch.setattr(sandbox, "FILES_PER_CHILD", 3)
    pids = []
    for _ in range(7):
        parse(box, text_file)
        pids.append(child_pid(box))
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]


def test_a_child_that_keeps_much_of_a_file_is_replaced(
    box: Sandbox, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next file's peak is its own, not what was left of the one before."""
    parse(box, text_file)
    pid = child_pid(box)
    parse(box, text_file)
    assert child_pid(box) == pid
    monkeypatch.setattr(sandbox, "MAX_KEPT_BYTES", -(2**40))
    parse(box, text_file)
    assert child_pid(box) != pid


def test_a_small_file_behind_a_large_one_is_measured_as_small(box: Sandbox, tmp_path: Path, text_file: Path) -> None:
    """Its peak is about what it is in a fresh child."""
    alone, behind = ParsedFile(), ParsedFile()
    parse(box, text_file, alone)
    path = tmp_path / "greedy.pdf"
    path.write_bytes(greedy_pdf())
    large = ParsedFile()
    parse(box, path, large)
    parse(box, text_file, behind)
    assert large.peak_memory_bytes > alone.peak_memory_bytes + 40 * MIB
    assert behind.peak_memory_bytes < alone.peak_memory_bytes + 24 * MIB


def test_no_process_is_left_after_closing(text_file: Path) -> None:
    """Nor a zombie; closing twice is no error."""
    with Sandbox(memory_limit_bytes=512 * MIB) as box:
        parse(box, text_file)
        pid = child_pid(box)
        assert is_running(pid)
    assert not psutil.pid_exists(pid)
    box.close()


def test_a_sandbox_starts_no_child_before_the_first_file() -> None:
    """And one that never parsed closes as well."""
    with Sandbox(memory_limit_bytes=512 * MIB) as box:
        assert box._child is None


def test_no_descriptor_is_left_open(text_file: Path) -> None:
    """Many sandboxes, many files: as many descriptors as before."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with Sandbox(memory_limit_bytes=512 * MIB) as box:
            parse(box, text_file)
            parse(box, text_file)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_child_has_no_credentials(box: Sandbox, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever takes it over finds no password in its environment, nor an open socket of ours."""
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


def test_the_child_inherits_no_descriptor_but_its_socket(box: Sandbox, tmp_path: Path, text_file: Path) -> None:
    """Not even one that was made inheritable; and the file is closed after it was parsed."""
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        parse(box, text_file)
        folder = Path(f"/proc/{child_pid(box)}/fd")
        targets = [str(link.readlink()) for link in folder.iterdir()]
    assert sum(target.startswith("socket:") for target in targets) == 1
    assert not any("secret" in target for target in targets)
    assert wait_until(lambda: not any("note.txt" in str(link.readlink()) for link in folder.iterdir()))


def test_the_child_is_what_the_kernel_takes_first(box: Sandbox, text_file: Path) -> None:
    """If memory runs out, the child goes, never the run."""
    parse(box, text_file)
    assert Path(f"/proc/{child_pid(box)}/oom_score_adj").read_text().strip() == "1000"
    assert str(512 * MIB) in Path(f"/proc/{child_pid(box)}/limits").read_text()


def test_the_death_of_the_parent_ends_the_child(text_file: Path) -> None:
    """Killed with SIGKILL, a run leaves no parser behind, not even a busy one."""
    code = f"""
import time
from pathlib import Path
from ingest_pipeline.models import ParsedFile
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline.parsing.sandbox.steps import pages_in_steps
box = Sandbox(memory_limit_bytes={512 * MIB})
with open({str(text_file)!r}, "rb") as stream:
    list(box.pages(stream, ParseRequest("n", "text/plain"), ParsedFile()))
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


def test_two_sandboxes_do_not_disturb_each_other(text_file: Path, corpus: Path) -> None:
    """Each has its own child, its own socket, its own file."""
    path = corpus / "pdf" / "pdflatex-4-pages.pdf"
    with (
        Sandbox(memory_limit_bytes=512 * MIB) as one,
        Sandbox(memory_limit_bytes=512 * MIB) as other,
        path.open("rb") as stream,
    ):
        pages = one.pages(stream, request(path), ParsedFile())
        first = next(pages)
        assert len(parse(other, text_file)) == 1
        other.close()
        assert [first.number, *(page.number for page in pages)] == [1, 2, 3, 4]


def test_messages_go_through_a_socket_whole() -> None:
    """With every script in them, one after another, with and without a file."""
    ours, theirs = socket.socketpair()
    with ours, theirs, io.FileIO(os.memfd_create("x"), "rb") as file:
        messages = [{"kind": "a", "text": "無骨 \U0001f600 \x00"}, {"kind": "b", "text": "x" * 5000}]
        for message in messages:
            send(ours, message)
        send(ours, {"kind": "c"}, (file.fileno(),))
        assert [receive(theirs), receive(theirs)] == messages
        message, descriptor = receive_with_descriptor(theirs)
        assert message == {"kind": "c"}
        assert descriptor is not None
        os.close(descriptor)
        ours.close()
        with pytest.raises(Disconnected):
            receive(theirs)


def test_a_message_over_the_limit_is_not_read() -> None:
    """A length is a promise that nobody has to believe."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall((MAX_MESSAGE_BYTES + 1).to_bytes(4, "big"))
        with pytest.raises(ProtocolError):
            receive(theirs, deadline=time.monotonic() + 5)
