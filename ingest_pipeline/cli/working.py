"""Commands that work on documents: `run`, `process`, `index`, `add`, `ui`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ingest_pipeline.cli import rows
from ingest_pipeline.cli.codes import FAILED, INCOMPLETE, OK, STOPPED
from ingest_pipeline.cli.command import Commands, Parser, add_command, positive_count
from ingest_pipeline.cli.opening import opened_store
from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.settings import Settings, read_settings

if TYPE_CHECKING:
    from ingest_pipeline.cli.run import Finish, Work
    from ingest_pipeline.stages.account import Account
    from ingest_pipeline.store.connection import Connection


def add_commands(commands: Commands[Parser]) -> None:
    """Add the commands of this module to the parser."""
    command = add_command(
        commands, "run", run, "process all files of the sources until each is searchable, or failed with a reason"
    )
    command.add_argument("sources", nargs="*", metavar="SOURCE", help="folders, buckets, lists; default INGEST_SOURCES")
    command = add_command(
        commands, "process", process, "process the files that wait, without listing the sources or keeping up the index"
    )
    command.add_argument(
        "--max-files", type=positive_count, metavar="N", help="at most so many; exit code 4 if others still wait"
    )
    command = add_command(commands, "index", index, "bring the vector index into order; say how well it finds")
    command.add_argument("--rebuild", action="store_true", help="build the index of the model anew; searches go on")
    command = add_command(commands, "add", add, "copy files into a source, for the next run to take up")
    command.add_argument("files", nargs="+", metavar="FILE", help="`-` is the standard input, and needs --name")
    command.add_argument(
        "--to", metavar="SOURCE", help="a folder or s3://bucket/prefix; default INGEST_SOURCES, if it is one"
    )
    command.add_argument("--name", help="its name in the source, with / for folders; default its own")
    command.add_argument("--replace", action="store_true", help="make it the new version of a file of that name")
    add_command(commands, "ui", ui, "webserver, daemon and code location until Ctrl-C", json_output=False)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Process the sources; print the account."""
    from ingest_pipeline.cli.run import EVERYTHING

    if options.sources:
        if any("," in source or not source.strip() for source in options.sources):
            raise ConfigurationError("a source's name must not be empty or contain a comma")
        os.environ.update(replace(settings, sources=tuple(options.sources)).environ())  # the runs' processes inherit it
        settings = read_settings()  # with absolute paths, as the runs read them
    return _worked(options, settings, EVERYTHING)


def process(options: argparse.Namespace, settings: Settings) -> int:
    """Process files that wait; print the account."""
    from ingest_pipeline.cli.run import Work

    work = Work(
        "processing the files that wait", lambda headless, report: headless.process(report, max_files=options.max_files)
    )
    return _worked(options, settings, work)


def index(options: argparse.Namespace, settings: Settings) -> int:
    """Bring the vector index into order, and print what was done and how well it finds."""
    from ingest_pipeline.cli.run import Work
    from ingest_pipeline.stages.index import rebuild_index

    if options.rebuild:
        with opened_store(settings) as connection:
            rebuild_index(connection, settings)
    work = Work("bringing the index into order", lambda headless, report: headless.index(report))
    return _worked(options, settings, work, finish=_print_index_json if options.json else _print_index)


def _worked(options: argparse.Namespace, settings: Settings, work: Work, *, finish: Finish | None = None) -> int:
    """Do work without Dagster's services; return the exit code."""
    from ingest_pipeline.cli import progress
    from ingest_pipeline.cli.run import run_headless

    # SIGINT is ignored in a process that a script starts with `&`; a container is stopped by SIGTERM.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    finish = finish or (_print_json if options.json else _print_account)
    result = run_headless(settings, progress.reporter(), finish, work)
    if result.incomplete:
        return INCOMPLETE
    return STOPPED if result.stopped else OK


def _index_row(connection: Connection, account: Account) -> dict[str, Any]:
    from ingest_pipeline.stages.index import measure_recall

    recall = asdict(measure_recall(connection, read_settings()))
    return {"seconds": round(account.seconds, 2), "stopped": account.stopped} | recall


def _print_index_json(connection: Connection, account: Account) -> None:
    rows.print_rows([_index_row(connection, account)])


def _print_index(connection: Connection, account: Account) -> None:
    row = _index_row(connection, account)
    print(f"{row['model']}: {row['vectors']:,} vectors, the index in order after {row['seconds']:.1f} s")
    if row["queries"]:
        print(
            f"recall@{row['top']} {row['recall']:.3f} against exact search, over {row['queries']} stored vectors; "
            f"{row['index_ms']:.1f} ms a query by the index, {row['exact_ms']:.1f} exact"
        )
    if account.stopped:
        print(f"Stopped before the end: {account.stopped}")


def _print_json(connection: Connection, account: Account) -> None:
    rows.print_rows([rows.account_row(account)])


def _print_account(connection: Connection, account: Account) -> None:
    from ingest_pipeline.cli import tables
    from ingest_pipeline.store import reports

    status = None if account.files <= tables.FULL_TABLE_FILES else "failed"  # of many files only the failed ones
    files = (row for row in reports.files(connection, status=status) if row["status"] != "deleted")
    tables.print_account(account, files)


def add(options: argparse.Namespace, settings: Settings) -> int:
    """Copy files into a source; print what became of each."""
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


def ui(options: argparse.Namespace, settings: Settings) -> int:
    """Run Dagster's services until Ctrl-C."""
    from ingest_pipeline.instance.services import serve

    return serve(settings)
