"""Confines the parser's child before it reads a file: no network, no other files, no signals, no new privileges.

By system calls (landlock(7), unshare(2)) and without a library: those that wrap Landlock and seccomp for Python are
unreleased or need a system library. Where a kernel or a container refuses a call, the child works without that
restriction and reports it.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import ingest_pipeline
from ingest_pipeline.memory.process import end_with_parent, limit_data_bytes, prefer_for_oom_kill

PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
OOM_SCORE_ADJ = 1000  # the highest: the kernel's OOM killer kills the child before the run

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
RULE_PATH_BENEATH, ABI_VERSION = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
READ = EXECUTE | READ_FILE | READ_DIR
FILE_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many file access rights each ABI version of Landlock defines; all of them are restricted."""
TCP_ABI, TCP_BIND_AND_CONNECT = 4, 0b11
SCOPE_ABI, SCOPE_SOCKETS_AND_SIGNALS = 6, 0b11
PARSER_LIBRARIES = (
    "lxml", "pypdfium2", "pypdfium2_raw", "pypdf", "charset_normalizer", "orjson", "ijson", "pyarrow", "numpy",
    "cryptography", "cffi", "typing_extensions",
)  # fmt: skip
SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/urandom", "/dev/null", "/proc/cpuinfo")


def confine(limit_bytes: int, parent_pid: int) -> dict[str, str]:
    """Drop the rights of this process that a parser does not need.

    Args:
        limit_bytes: RLIMIT_DATA.
        parent_pid: the parent; the kernel kills this process when the parent ends.

    Returns:
        `network` and `files`: what restricts access to them, or `open`.
    """
    os.setsid()  # a process group of its own, so that the parent can kill whatever a parser starts
    if sys.platform != "linux":
        limit_data_bytes(limit_bytes)
        return {"network": "open", "files": "open"}
    libc = ctypes.CDLL(None, use_errno=True)
    cut_off = _leave_network(libc)
    libc.prctl(PR_SET_DUMPABLE, 1)  # a new user namespace clears it, and with it access to /proc/self
    end_with_parent(parent_pid)
    prefer_for_oom_kill(OOM_SCORE_ADJ)
    limit_data_bytes(limit_bytes)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # required by Landlock
    abi = _restrict_files(libc)
    network = "namespace" if cut_off else "landlock (tcp)" if abi >= TCP_ABI else "open"
    return {"network": network, "files": f"landlock {abi}" if abi else "open"}


def _leave_network(libc: ctypes.CDLL) -> bool:
    """Move into a network namespace without interfaces; return whether it is allowed."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNET) == 0:  # as root; others need a user namespace for it
        return True
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return False
    with suppress(OSError):  # without the maps this process has the uid of `nobody`: parsing works all the same
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def _restrict_files(libc: ctypes.CDLL) -> int:
    """Drop access to all files except Python's own; return the ABI version of Landlock, 0 if it is not available."""
    abi = max(0, libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(ABI_VERSION)))
    if not abi:
        return 0
    rights = (1 << FILE_RIGHTS_BY_ABI[min(abi, max(FILE_RIGHTS_BY_ABI))]) - 1
    # The struct grows with the version: an older kernel refuses one with fields that it does not know.
    attributes = struct.pack("=Q", rights)
    attributes += struct.pack("=Q", TCP_BIND_AND_CONNECT) if abi >= TCP_ABI else b""
    attributes += struct.pack("=Q", SCOPE_SOCKETS_AND_SIGNALS) if abi >= SCOPE_ABI else b""
    ruleset = libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        return 0
    try:
        for path in _readable_paths():
            _allow(libc, ruleset, path, READ)
        # The child reads and resets its own peak there; TRUNCATE, because Python opens for writing with O_TRUNC.
        _allow(libc, ruleset, "/proc/self", (READ | WRITE_FILE | TRUNCATE) & rights)
        return abi if libc.syscall(RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) == 0 else 0
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        allowed = rights if Path(path).is_dir() else rights & ~READ_DIR
        rule = struct.pack("=Qi", allowed, descriptor)
        libc.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _readable_paths() -> Iterator[str]:
    """Yield the folders of Python, its libraries and this package: parsers are imported when a file needs them."""
    yield from SYSTEM_FOLDERS
    yield from {sys.prefix, sys.base_prefix, str(Path(os.__file__).parent), str(Path(ingest_pipeline.__file__).parent)}
    specs = (find_spec(name) for name in PARSER_LIBRARIES)  # with `pip --target` they may be anywhere
    yield from (str(Path(spec.origin).parent) for spec in specs if spec and spec.origin)
    # Not every folder of sys.path: an editable installation adds the repository, with all files in it.
    yield from (path for path in sys.path if path.endswith(("site-packages", "dist-packages")))
