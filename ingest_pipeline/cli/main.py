"""The `ingest` command: parses arguments and calls the same functions as the assets."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from ingest_pipeline.cli import (
    answers,
    autopsy,
    backups,
    database,
    doctor,
    looking,
    maintenance,
    metrics,
    retention,
    serving,
    working,
)
from ingest_pipeline.cli.codes import BAD_USAGE, FAILED, INTERRUPTED, OK, STOPPED
from ingest_pipeline.errors import ConfigurationError, ErrorBudgetSpent, IngestError
from ingest_pipeline.memory.log_lines import log_in
from ingest_pipeline.settings import read_settings

# What a command needs beyond these, its function imports: `ingest --help` must not load Dagster, psycopg or rich.
COMMAND_MODULES = (
    working, looking, answers, maintenance, doctor, autopsy, backups, retention, metrics, serving, database,
)  # fmt: skip
"""In the order of `ingest --help`; a new group of commands is a module with `add_commands`, and a name here."""

EXIT_CODES = """exit codes:
  0    done; files that failed are listed, they are not an exit code
  1    something was refused, found wrong by `cleanup` or `doctor`, or a service that is needed was not there
  2    bad usage, or a setting that cannot be used
  3    stopped before the end; the message says why
  4    incomplete by a limit that was asked for (--max-files, INGEST_MAX_TOKENS_PER_RUN); the rest waits
  130  interrupted; what is committed stays, and the next run goes on from there
"""

OF_USERS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)
"""Errors of a file that another path or another user cures: a home that belongs to somebody else."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake gives one line and exit code 2, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may have characters that the terminal has not
            stream.reconfigure(errors="backslashreplace")
    try:
        _run_command(arguments)
    except ConfigurationError as error:
        _fail(error, BAD_USAGE)
    except ErrorBudgetSpent as error:
        _fail(error, STOPPED)
    except IngestError as error:
        _fail(error, FAILED)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # `ingest files | head`; the interpreter flushes stdout at exit, which would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(OK)
    except OSError as error:
        if error.errno not in OF_USERS or error.filename is None:
            raise
        _fail(f"{os.fsdecode(error.filename)}: {error.strerror}; `ingest doctor` looks at INGEST_HOME", BAD_USAGE)


def _run_command(arguments: Sequence[str] | None) -> None:
    try:
        options, settings = _parser().parse_args(arguments), read_settings()
        log_in(settings.log_format)
        sys.exit(options.command(options, settings))
    finally:
        sys.stdout.flush()  # here, so that a closed pipe is noticed while it can be handled


def _fail(error: object, code: int) -> None:
    print(f"ingest: {error}", file=sys.stderr)
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ingest",
        description="Documents become searchable vectors in Postgres, inside the memory you give it.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ingest {version('ingest-pipeline')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in COMMAND_MODULES:
        module.add_commands(commands)
    return parser
