"""What the parser's child gives up before it sees a file: network, other files, signals, privileges.

No library: the two that wrap Landlock and seccomp for Python are unreleased or need a system library. The calls are the
kernel's own (landlock(7), unshare(2)); where a kernel or a container does not allow one, the child works without it and
says so.
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
OOM_SCORE_ADJ = 1000  # if the kernel must choose, it takes the child, never the run

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
RULE_PATH_BENEATH, ABI_VERSION = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
READ = EXECUTE | READ_FILE | READ_DIR
FILE_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many kinds of access to files each version of Landlock knows; all of them are taken away."""
TCP_ABI, TCP_BIND_AND_CONNECT = 4, 0b11
SCOPE_ABI, SCOPE_SOCKETS_AND_SIGNALS = 6, 0b11
PARSER_LIBRARIES = (
    "lxml", "pypdfium2", "pypdfium2_raw", "pypdf", "charset_normalizer", "orjson", "ijson", "pyarrow", "numpy",
    "cryptography", "cffi", "typing_extensions",
)  # fmt: skip
SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/urandom", "/dev/null", "/proc/cpuinfo")


def confine(limit_bytes: int, parent_pid: int) -> dict[str, str]:
    """Take everything from this process that a parser does not need; return in words how far that went.

    Args:
        limit_bytes: RLIMIT_DATA.
        parent_pid: who must live; this process ends with it.

    Returns:
        `network` and `files`: what keeps this process from them, or `open`.
    """
    os.setsid()
    if sys.platform != "linux":
        limit_data_bytes(limit_bytes)
        return {"network": "open", "files": "open"}
    libc = ctypes.CDLL(None, use_errno=True)
    cut_off = _without_network(libc)
    libc.prctl(PR_SET_DUMPABLE, 1)  # a new namespace took it, and with it the right to read /proc/self
    end_with_parent(parent_pid)
    prefer_for_oom_kill(OOM_SCORE_ADJ)
    limit_data_bytes(limit_bytes)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    abi = _landlocked(libc)
    network = "namespace" if cut_off else "landlock (tcp)" if abi >= TCP_ABI else "open"
    return {"network": network, "files": f"landlock {abi}" if abi else "open"}


def _without_network(libc: ctypes.CDLL) -> bool:
    """Move into a network namespace without interfaces: as root directly, else inside a user namespace."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNET) == 0:
        return True
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return False
    with suppress(OSError):  # unmapped, this process would be `nobody`: enough to work, but not to be asked about
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def _landlocked(libc: ctypes.CDLL) -> int:
    """Give up every file but Python's own; return the version of Landlock, 0 where there is none."""
    abi = max(0, libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(ABI_VERSION)))
    if not abi:
        return 0
    rights = (1 << FILE_RIGHTS_BY_ABI[min(abi, max(FILE_RIGHTS_BY_ABI))]) - 1
    attributes = struct.pack("=Q", rights)
    attributes += struct.pack("=Q", TCP_BIND_AND_CONNECT) if abi >= TCP_ABI else b""
    attributes += struct.pack("=Q", SCOPE_SOCKETS_AND_SIGNALS) if abi >= SCOPE_ABI else b""
    ruleset = libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        return 0
    try:
        for path in _readable():
            _allow(libc, ruleset, path, READ)
        # Its own peak is read and reset there; Python opens for writing with O_TRUNC.
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


def _readable() -> Iterator[str]:
    """Yield where Python, its libraries and this package are: parsers are imported when a file needs them."""
    yield from SYSTEM_FOLDERS
    yield from {sys.prefix, sys.base_prefix, str(Path(os.__file__).parent), str(Path(ingest_pipeline.__file__).parent)}
    specs = (find_spec(name) for name in PARSER_LIBRARIES)  # they may be installed anywhere: `pip --target`
    yield from (str(Path(spec.origin).parent) for spec in specs if spec and spec.origin)
    # Not every folder on the path: an editable installation puts the repository there, with all that lies in it.
    yield from (path for path in sys.path if path.endswith(("site-packages", "dist-packages")))
