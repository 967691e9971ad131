"""What a parser that was taken over can still do: nothing that matters."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ingest_pipeline.memory import process
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox import confinement as confining
from ingest_pipeline.parsing.sandbox.fold import ParseFold
from ingest_pipeline.parsing.sandbox.parent import Sandbox
from ingest_pipeline_tests.made.pdf import hello

TRY = """
import json, os, socket, sys
from ingest_pipeline.parsing.sandbox.confinement import confine
reached = confine(512 * 1024**2, os.getppid())

def tries(what):
    try:
        return what() or "done"
    except OSError as error:
        return type(error).__name__

def connect(kind):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(2)
        sock.connect(("127.0.0.1", int(sys.argv[2])))

secret = sys.argv[1]
print(json.dumps({
    "reached": reached,
    "tcp": tries(lambda: connect(socket.SOCK_STREAM)),
    "udp": tries(lambda: connect(socket.SOCK_DGRAM)),
    "passwd": tries(lambda: open("/etc/passwd").read() and None),
    "secret": tries(lambda: open(secret).read() and None),
    "list": tries(lambda: os.listdir(os.path.dirname(secret)) and None),
    "write": tries(lambda: open("/tmp/ingest-test-written", "w").write("x") and None),
    "signal": tries(lambda: os.kill(os.getppid(), 0)),
    "reopen": tries(lambda: open("/proc/self/fd/%s" % sys.argv[3], "r+b") and None),
    "own_peak": tries(lambda: open("/proc/self/status").read() and None),
    "reset_peak": tries(lambda: open("/proc/self/clear_refs", "w").write("5") and None),
    "library": tries(lambda: __import__("lxml.etree") and None),
}))
"""


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a confined process reached, with a server listening and a document in its hands."""
    import socket

    secret = tmp_path_factory.mktemp("documents") / "secret.txt"
    secret.write_text("do not read")
    with socket.create_server(("127.0.0.1", 0)) as server, secret.open("rb") as document:
        port, descriptor = server.getsockname()[1], document.fileno()
        done = subprocess.run(
            [sys.executable, "-P", "-c", TRY, str(secret), str(port), str(descriptor)],
            capture_output=True, text=True, check=True, pass_fds=(descriptor,), timeout=60,
        )  # fmt: skip
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_fences_of_this_machine(tried: dict[str, object]) -> None:
    """This machine allows both fences: tests must prove them, not their absence."""
    reached = tried["reached"]
    assert isinstance(reached, dict)
    assert reached["network"] != "open"
    assert str(reached["files"]).startswith("landlock")


@pytest.mark.parametrize("what", ["tcp", "udp", "passwd", "secret", "list", "write", "reopen"])
def test_out_of_reach(tried: dict[str, object], what: str) -> None:
    """Network and files are out of reach; the one file that it holds cannot be opened for writing through /proc."""
    assert tried[what] in ("PermissionError", "OSError")


def test_signals(tried: dict[str, object]) -> None:
    """A parser that was taken over cannot signal the run."""
    reached = tried["reached"]
    assert isinstance(reached, dict)
    if int(str(reached["files"]).split()[1]) >= 6:
        assert tried["signal"] == "PermissionError"
    else:  # an older kernel has no such fence
        assert tried["signal"] == "done"


@pytest.mark.parametrize("what", ["own_peak", "reset_peak", "library"])
def test_what_a_parser_needs(tried: dict[str, object], what: str) -> None:
    """A parser can read and reset its own peak, and import libraries."""
    assert tried[what] == "done"


def test_sandbox_says_so(tmp_path: Path) -> None:
    """The sandbox says what confines its child."""
    path = tmp_path / "hello.pdf"
    path.write_bytes(hello())
    with Sandbox(memory_limit_bytes=512 * 1024**2) as box, path.open("rb") as stream:
        assert len(list(ParseFold().pages_of(box.events(stream, ParseRequest(path.name, detect.PDF))))) == 1
        assert box.confined["network"] != "open"


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's environment is made anew: nothing of ours, of S3 or of Postgres."""
    from ingest_pipeline.parsing.sandbox.launch import scrubbed_environment

    for name in ("AWS_SECRET_ACCESS_KEY", "INGEST_DATABASE_URL", "INGEST_PDF_PASSWORDS", "PGPASSWORD", "HOME"):
        monkeypatch.setenv(name, "hunter2")
    kept = scrubbed_environment()
    assert "hunter2" not in kept.values()
    assert "PATH" in kept
    assert os.environ["PGPASSWORD"] == "hunter2"


class Kernel:
    """What the C library is to `confine`: remembers what was asked, and allows what it is told to."""

    def __init__(self, *, network: int = 0, abi: int = 6, ruleset: int = 0, restricted: int = 0) -> None:
        """`network`: which attempt at a namespace succeeds, 0 for none; the others are what the calls return."""
        self.network, self.abi, self.ruleset, self.restricted = network, abi, ruleset, restricted
        self.asked: list[int] = []
        self.options: list[int] = []
        self.attributes = b""
        self.rules: list[tuple[int, int]] = []

    def unshare(self, flags: int) -> int:
        self.asked.append(flags)
        return 0 if len(self.asked) == self.network else -1

    def prctl(self, option: int, *_: int) -> int:
        self.options.append(option)
        return 0

    def syscall(self, number: int, *arguments: Any) -> int:
        if number == confining.CREATE_RULESET and arguments[0] is None:
            return self.abi
        if number == confining.CREATE_RULESET:
            self.attributes = arguments[0]
            return os.open("/dev/null", os.O_RDONLY) if self.ruleset == 0 else self.ruleset
        if number == confining.ADD_RULE:
            self.rules.append(struct.unpack("=Qi", arguments[2]))
            return 0
        assert number == confining.RESTRICT_SELF
        return self.restricted


@pytest.fixture
def confined(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Confine a process that only seems to be one: nothing of this one changes but the notes that it takes."""
    notes: dict[str, str] = {}
    monkeypatch.setattr(confining.os, "setsid", lambda: notes.update(session="own"))
    monkeypatch.setattr(confining, "limit_data_bytes", lambda limit: notes.update(limit=str(limit)))
    monkeypatch.setattr(confining.Path, "write_text", lambda path, text: notes.update({str(path): text}))

    def run(kernel: Kernel, *, parent: int | None = None) -> tuple[dict[str, str], dict[str, str]]:
        monkeypatch.setattr(confining.ctypes, "CDLL", lambda *_, **__: kernel)
        return confining.confine(1234, os.getppid() if parent is None else parent), notes

    return run


@pytest.mark.parametrize(
    ("kernel", "network", "files"),
    [
        (Kernel(network=1), "namespace", "landlock 6"),
        (Kernel(network=2), "namespace", "landlock 6"),
        (Kernel(abi=4), "landlock (tcp)", "landlock 4"),
        (Kernel(abi=3), "open", "landlock 3"),
        (Kernel(abi=99), "landlock (tcp)", "landlock 99"),
        (Kernel(abi=-1), "open", "open"),
        (Kernel(network=1, abi=0), "namespace", "open"),
        (Kernel(network=1, ruleset=-1), "namespace", "open"),
        (Kernel(network=1, restricted=-1), "namespace", "open"),
        (Kernel(restricted=-1), "open", "open"),
    ],
)
def test_what_is_reached(confined: Any, kernel: Kernel, network: str, files: str) -> None:
    """What keeps a process from network and files is said as the kernel allows it; the rest is done anyway."""
    reached, notes = confined(kernel)
    assert reached == {"network": network, "files": files}
    assert (notes["session"], notes["limit"], notes["/proc/self/oom_score_adj"]) == ("own", "1234", "1000")
    assert set(kernel.options) == {1, 4, 38}


def test_user_namespace(confined: Any) -> None:
    """Who is not root moves into a user namespace, in which it keeps its own number."""
    kernel = Kernel(network=2)
    _, notes = confined(kernel)
    assert kernel.asked == [0x40000000, 0x50000000]
    assert notes["/proc/self/setgroups"] == "deny"
    assert notes["/proc/self/uid_map"] == f"{os.getuid()} {os.getuid()} 1"
    assert notes["/proc/self/gid_map"] == f"{os.getgid()} {os.getgid()} 1"


@pytest.mark.parametrize(("abi", "length", "rights"), [(1, 8, 13), (3, 8, 15), (5, 16, 16), (6, 24, 16)])
def test_rights_by_version(confined: Any, abi: int, length: int, rights: int) -> None:
    """Each version of Landlock is asked for all that it can take away, and no file but Python's own can be written."""
    kernel = Kernel(abi=abi)
    confined(kernel)
    assert len(kernel.attributes) == length
    assert struct.unpack_from("=Q", kernel.attributes)[0] == (1 << rights) - 1
    write = confining.WRITE_FILE
    assert [allowed & write for allowed, _ in kernel.rules].count(write) == 1
    assert len(kernel.rules) > 5


def test_elsewhere(confined: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another system than Linux the limit of memory is all there is."""
    monkeypatch.setattr(confining.sys, "platform", "darwin")
    reached, notes = confined(Kernel())
    assert reached == {"network": "open", "files": "open"}
    assert notes == {"session": "own", "limit": "1234"}


def test_orphan(confined: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child whose parent ended before it could ask for a signal ends at once."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(process.os, "_exit", leave)
    with pytest.raises(SystemExit):
        confined(Kernel(), parent=-1)
