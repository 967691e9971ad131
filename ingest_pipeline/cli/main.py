"""The `ingest` command: parses arguments and calls the same functions as the assets."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ingest_pipeline.cli import answers, rows
from ingest_pipeline.cli.codes import BAD_USAGE, FAILED, INCOMPLETE, INTERRUPTED, OK, STOPPED
from ingest_pipeline.cli.opening import opened_store
from ingest_pipeline.errors import ConfigurationError, ErrorBudgetSpent, IngestError
from ingest_pipeline.models import FILE_STATUSES
from ingest_pipeline.settings import Settings, read_settings

# Other modules are imported by the commands that need them: `ingest --help` must not load Dagster, psycopg or rich.
if TYPE_CHECKING:
    from ingest_pipeline.stages.account import Account
    from ingest_pipeline.store.connection import Connection

EXIT_CODES = """exit codes:
  0    done; files that failed are listed, they are not an exit code
  1    something was refused, or a service that is needed was not there
  2    bad usage, or a setting that cannot be used
  3    stopped before the end; the message says why
  4    incomplete by a limit that was asked for, such as INGEST_MAX_TOKENS_PER_RUN; the rest waits
  130  interrupted; what is committed stays, and the next run goes on from there
"""


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


def _run_command(arguments: Sequence[str] | None) -> None:
    try:
        options = _parser().parse_args(arguments)
        sys.exit(options.command(options, read_settings()))
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
    run = _command(
        commands,
        "run",
        _run,
        "process all files of the sources until each is searchable, or failed with a reason",
    )
    run.add_argument("sources", nargs="*", metavar="SOURCE", help="folders, buckets, lists; default INGEST_SOURCES")
    add = _command(commands, "add", _add, "copy files into a source, for the next run to take up")
    add.add_argument("files", nargs="+", metavar="FILE", help="`-` is the standard input, and needs --name")
    add.add_argument(
        "--to", metavar="SOURCE", help="a folder or s3://bucket/prefix; default INGEST_SOURCES, if it is one"
    )
    add.add_argument("--name", help="its name in the source, with / for folders; default its own")
    add.add_argument("--replace", action="store_true", help="make it the new version of a file of that name")
    _command(
        commands,
        "ui",
        _ui,
        "webserver, daemon and code location on 127.0.0.1 until Ctrl-C",
        json_output=False,
    )
    _command(commands, "status", _status, "counts of files, chunks, embeddings and batches")
    files = _command(commands, "files", _files, "what happened to every file")
    files.add_argument("--status", choices=FILE_STATUSES)
    search = _command(commands, "search", answers.search, "the passages that match a query, with pages")
    search.add_argument("query")
    search.add_argument("--top", type=_count, default=5, metavar="N")
    search.add_argument("--entity", metavar="NAME", help="only passages in which this name was found")
    search.add_argument("--model", metavar="NAME", help="a model of `ingest models`; default INGEST_MODEL")
    embed = _command(commands, "embed", answers.embed, "make vectors on demand: of texts, of a file, of all that wait")
    embed.add_argument("texts", nargs="*", metavar="TEXT")
    embed.add_argument("--file", metavar="PATH", help="the chunks of this file")
    embed.add_argument("--waiting", action="store_true", help="all chunks that have no vector yet")
    embed.add_argument("--query", action="store_true", help="the texts are queries, for models that make a difference")
    models = _command(commands, "models", answers.models, "the models that have vectors, with counts; or drop one")
    models.add_argument("--drop", metavar="NAME", help="delete the vectors and the index of a model")
    models.add_argument("--dry-run", action="store_true", help="with --drop: only say what would go")
    extract = _command(commands, "extract", answers.extract, "ask an LLM about the sections of one document")
    extract.add_argument("path", metavar="PATH", help="of a file of a source, with or without its source")
    extract.add_argument("--prompt", metavar="FILE", help="a YAML file as for INGEST_EXTRACT, which is the default")
    _command(commands, "plan", _plan, "the batches that the waiting files would make; changes nothing")
    memory = _command(commands, "memory", _memory, "predicted and measured peaks of files and runs, and the errors")
    memory.add_argument("--plot", metavar="FILE.svg", help="also write an SVG plot")
    database = _command(commands, "db", _db, "the embedded Postgres", json_output=False)
    database.add_argument("action", choices=("start", "stop", "url"))
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    function: Callable[[argparse.Namespace, Settings], int],
    text: str,
    *,
    json_output: bool = True,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(command=function)
    if json_output:
        command.add_argument("--json", action="store_true", help="print JSON lines")
    return command


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 0")
    return int(text)


def _run(options: argparse.Namespace, settings: Settings) -> int:
    from ingest_pipeline.cli import progress
    from ingest_pipeline.cli.run import run_everything

    # SIGINT is ignored in a process that a script starts with `&`; a container is stopped by SIGTERM.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if options.sources:
        if any("," in source or not source.strip() for source in options.sources):
            raise ConfigurationError("a source's name must not be empty or contain a comma")
        os.environ.update(replace(settings, sources=tuple(options.sources)).environ())  # the runs' processes inherit it
        settings = read_settings()  # with absolute paths, as the runs read them
    result = run_everything(settings, progress.reporter(), _print_json if options.json else _print_account)
    if result.incomplete:
        return INCOMPLETE
    return STOPPED if result.stopped else OK


def _print_json(connection: Connection, account: Account) -> None:
    rows.print_rows([rows.account_row(account)])


def _print_account(connection: Connection, account: Account) -> None:
    from ingest_pipeline.cli import tables
    from ingest_pipeline.store import reports

    status = None if account.files <= tables.FULL_TABLE_FILES else "failed"  # of many files only the failed ones
    files = (row for row in reports.files(connection, status=status) if row["status"] != "deleted")
    tables.print_account(account, files)


def _add(options: argparse.Namespace, settings: Settings) -> int:
    from ingest_pipeline.cli import tables
    from ingest_pipeline.stages.uploads import add_files

    if options.name and len(options.files) > 1:
        raise ConfigurationError("--name is for one file")
    refused = 0
    for added in add_files(
        options.files, to=options.to, name=options.name, replace=options.replace, settings=settings,
        stdin=sys.stdin.buffer,
    ):  # fmt: skip
        refused += added.error is not None
        rows.print_rows([rows.added_row(added)]) if options.json else tables.print_added(added)
    return FAILED if refused else OK


def _ui(options: argparse.Namespace, settings: Settings) -> int:
    from ingest_pipeline.instance.services import serve

    return serve(settings)


def _status(options: argparse.Namespace, settings: Settings) -> int:
    from ingest_pipeline.cli import tables
    from ingest_pipeline.memory.machine import machine_budget_bytes
    from ingest_pipeline.store.reports import status_counts

    with opened_store(settings) as connection:
        counts = status_counts(connection)
    counts |= {
        "model": settings.model,
        "run_budget_bytes": settings.run_memory,
        "machine_budget_bytes": machine_budget_bytes(settings.machine_memory),
    }
    rows.print_rows([counts]) if options.json else tables.print_status(counts)
    return OK


def _files(options: argparse.Namespace, settings: Settings) -> int:
    from ingest_pipeline.cli import tables
    from ingest_pipeline.store.reports import files

    with opened_store(settings) as connection:
        show = rows.print_rows if options.json else tables.print_files
        show(files(connection, status=options.status))  # printed within the connection: rows are read as they are shown
    return OK


def _plan(options: argparse.Namespace, settings: Settings) -> int:
    from ingest_pipeline.cli import tables
    from ingest_pipeline.stages.preview import preview

    with opened_store(settings) as connection:
        plan = preview(connection, settings=settings)
    rows.print_rows([rows.plan_row(plan)]) if options.json else tables.print_plan(plan, settings)
    return OK


def _memory(options: argparse.Namespace, settings: Settings) -> int:
    from ingest_pipeline.cli import tables
    from ingest_pipeline.cli.memory_plot import memory_plot
    from ingest_pipeline.stages.costs import memory_report

    with opened_store(settings) as connection:
        report = memory_report(connection)
    rows.print_rows([rows.memory_row(report)]) if options.json else tables.print_memory(report)
    if options.plot:
        try:
            Path(options.plot).write_text(memory_plot(report.left_out))
        except OSError as error:
            raise ConfigurationError(f"--plot {options.plot}: {error.strerror}") from None
    return OK


def _db(options: argparse.Namespace, settings: Settings) -> int:
    from ingest_pipeline.store.connection import database_url
    from ingest_pipeline.store.migrate import migrate
    from ingest_pipeline.store.server import EmbeddedServer

    server = EmbeddedServer(settings.home)
    if options.action == "stop":
        # A user's own Postgres is never stopped.
        print("stopped" if not settings.database_url and server.stop() else "not running")
        return OK
    if options.action == "url":
        print(settings.database_url or server.url)
        return OK
    url = database_url(settings)
    applied = migrate(url)
    # The URL of a user's own Postgres may contain a password.
    print(f"{url if not settings.database_url else 'your own Postgres'}  ({len(applied)} migrations applied)")
    return OK
