"""Starts and ends the parser's child process, and explains how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from ingest_pipeline.parsing.sandbox.protocol import OUT_OF_MEMORY_EXIT

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

OUT_OF_MEMORY_CODES = {
    -signal.SIGKILL: "was killed (SIGKILL), most likely by the kernel for memory",
    -signal.SIGABRT: "aborted (SIGABRT), as pdfium does when an allocation fails",
    OUT_OF_MEMORY_EXIT: "ran out of memory while it reported that it was out of memory",
}
# No other variables: a parser that a document takes over must not find credentials.
KEPT_ENVIRONMENT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "TZ",
)


def launched(theirs: socket.socket, memory_limit_bytes: int) -> subprocess.Popen[bytes]:
    """Start a child that serves one end of a socket pair; it inherits no other descriptor.

    The kernel ends a child with the thread that started it, so only a thread that lasts as long as the process does so.
    """
    if threading.current_thread() is threading.main_thread():
        return _started(theirs, memory_limit_bytes)
    return _lasting_thread().submit(_started, theirs, memory_limit_bytes).result()


@cache
def _lasting_thread() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(1, thread_name_prefix="starts parsers")


def _started(theirs: socket.socket, memory_limit_bytes: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            # -P: modules in the current folder must not replace the real ones.
            sys.executable, "-P", "-m", "ingest_pipeline.parsing.sandbox.child",
            str(theirs.fileno()), str(memory_limit_bytes), str(os.getpid()),
        ],
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # parsers of hostile files must not fill the logs
        stderr=subprocess.DEVNULL,
        env=scrubbed_environment(),
    )  # fmt: skip


def scrubbed_environment() -> dict[str, str]:
    """Return the environment of the child: what Python needs to start, and nothing else."""
    kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    return kept | {"PYTHONNOUSERSITE": "1", "MALLOC_ARENA_MAX": "1"}  # one arena: less memory is kept after free()


def kill_group(child: subprocess.Popen[Any]) -> None:
    """Kill a child and all processes that it started."""
    for kill in (lambda: os.killpg(child.pid, signal.SIGKILL), child.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill()  # the process group exists once the child has called setsid; before that only the child does
    child.wait()


def exit_code_of(child: subprocess.Popen[Any]) -> int:
    """Return the exit code of a child whose socket is closed; a child that does not end is killed."""
    try:
        return child.wait(timeout=5)
    except subprocess.TimeoutExpired:  # it closed its socket without ending
        kill_group(child)
        return child.wait()


def ending(code: int) -> str:
    """Return the signal or the exit code by which a child ended, for a message."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
