"""What a parser that was taken over can still do: nothing that matters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ingest_pipeline.models import ParsedFile
from ingest_pipeline.parsing import detect
from ingest_pipeline.parsing.request import ParseRequest
from ingest_pipeline.parsing.sandbox.parent import Sandbox

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


def test_this_machine_allows_both_fences(tried: dict[str, object]) -> None:
    """CI must prove the fences, not their absence: where the kernel has none, this says so."""
    reached = tried["reached"]
    assert isinstance(reached, dict)
    assert reached["network"] != "open"
    assert str(reached["files"]).startswith("landlock")


@pytest.mark.parametrize("what", ["tcp", "udp", "passwd", "secret", "list", "write", "reopen"])
def test_network_and_files_are_out_of_reach(tried: dict[str, object], what: str) -> None:
    """Also the one file that it holds cannot be opened for writing through /proc."""
    assert tried[what] in ("PermissionError", "OSError")


def test_the_run_cannot_be_signalled(tried: dict[str, object]) -> None:
    """A parser that was taken over must not kill its neighbours."""
    reached = tried["reached"]
    assert isinstance(reached, dict)
    if int(str(reached["files"]).split()[1]) >= 6:
        assert tried["signal"] == "PermissionError"
    else:  # an older kernel has no such fence
        assert tried["signal"] == "done"


@pytest.mark.parametrize("what", ["own_peak", "reset_peak", "library"])
def test_what_a_parser_needs_still_works(tried: dict[str, object], what: str) -> None:
    """Its own peak of memory, and libraries that are imported when a file needs them."""
    assert tried[what] == "done"


def test_the_sandbox_says_what_confines_its_child(corpus: Path) -> None:
    """For logs and for whoever asks."""
    path = corpus / "pdf" / "minimal-document.pdf"
    with Sandbox(memory_limit_bytes=512 * 1024**2) as box, path.open("rb") as stream:
        assert len(list(box.pages(stream, ParseRequest(path.name, detect.PDF), ParsedFile()))) == 1
        assert box.confined["network"] != "open"


def test_no_credentials_reach_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is made anew: nothing of ours, of S3 or of Postgres."""
    from ingest_pipeline.parsing.sandbox.parent import _scrubbed_environment

    for name in ("AWS_SECRET_ACCESS_KEY", "INGEST_DATABASE_URL", "INGEST_PDF_PASSWORDS", "PGPASSWORD", "HOME"):
        monkeypatch.setenv(name, "hunter2")
    kept = _scrubbed_environment()
    assert "hunter2" not in kept.values()
    assert "PATH" in kept
    assert os.environ["PGPASSWORD"] == "hunter2"
