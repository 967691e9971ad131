"""Commands that show what is known and change nothing: `status`, `files`, `plan`, `memory`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ingest_pipeline.cli import prices, rows
from ingest_pipeline.cli.codes import FAILED, OK
from ingest_pipeline.cli.command import Commands, Parser, add_command, ledger_name
from ingest_pipeline.cli.opening import opened_store
from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.models import FILE_STATUSES
from ingest_pipeline.settings import Settings

if TYPE_CHECKING:
    from ingest_pipeline.store.connection import Connection


def add_commands(commands: Commands[Parser]) -> None:
    """Add the commands of this module to the parser."""
    add_command(commands, "status", status, "counts of files, chunks, embeddings and batches")
    command = add_command(commands, "files", files, "what happened to every file")
    command.add_argument("--status", choices=FILE_STATUSES)
    command = add_command(commands, "plan", plan, "the batches that the waiting files would make; changes nothing")
    prices.add_options(command)
    command = add_command(commands, "memory", memory, "predicted against measured peaks; the memory of a run over time")
    command.add_argument("--plot", metavar="FILE.svg", help="also write an SVG plot")
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--run", type=ledger_name, metavar="RUN_ID", help="the memory of this run over time, also while it is at work"
    )
    which.add_argument("--batch", type=ledger_name, metavar="KEY", help="of each run of this batch")


def status(options: argparse.Namespace, settings: Settings) -> int:
    """Print the counts of the ledger and the budgets."""
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


def files(options: argparse.Namespace, settings: Settings) -> int:
    """Print what happened to every file."""
    from ingest_pipeline.cli import tables
    from ingest_pipeline.store import reports

    with opened_store(settings) as connection:
        show = rows.print_rows if options.json else tables.print_files
        show(
            reports.files(connection, status=options.status)
        )  # printed within the connection: rows are read as they are shown
    return OK


def plan(options: argparse.Namespace, settings: Settings) -> int:
    """Print the batches that the next run would make, or what they cost on other machines."""
    if options.memory:
        return prices.prices(options, settings)
    prices.refuse_alone(options)
    from ingest_pipeline.cli import tables
    from ingest_pipeline.stages.preview import preview

    with opened_store(settings) as connection:
        planned = preview(connection, settings=settings)
    rows.print_rows([rows.plan_row(planned)]) if options.json else tables.print_plan(planned, settings)
    return OK


def memory(options: argparse.Namespace, settings: Settings) -> int:
    """Print predictions beside measurements, or the memory of runs over time."""
    from ingest_pipeline.cli import tables
    from ingest_pipeline.cli.memory_plot import memory_plot
    from ingest_pipeline.stages.costs import memory_report

    with opened_store(settings) as connection:
        if options.run or options.batch:
            return _memory_over_time(connection, options, settings)
        report = memory_report(connection)
    rows.print_rows([rows.memory_row(report)]) if options.json else tables.print_memory(report)
    if options.plot:
        _write_plot(options.plot, memory_plot(report.left_out))
    return OK


def _memory_over_time(connection: Connection, options: argparse.Namespace, settings: Settings) -> int:
    """Print the stages of one run, or of all runs of a batch, with their peaks."""
    from ingest_pipeline.cli import tables
    from ingest_pipeline.stages.memory_history import memory_of_batch, memory_of_run
    from ingest_pipeline.stages.memory_picture import memory_svg
    from ingest_pipeline.store.memory_records import files_of_record

    if options.run:
        records = memory_of_run(connection, settings, options.run)
    else:
        records = memory_of_batch(connection, settings, options.batch)
    if not records:
        print(f"ingest: no memory is recorded of {options.run or options.batch}: `ingest status`", file=sys.stderr)
        return FAILED
    rows.print_rows(map(rows.memory_record_row, records)) if options.json else tables.print_memory_records(records)
    if options.plot:
        stages = [(record, files_of_record(connection, record)) for record in records]
        _write_plot(options.plot, memory_svg(stages, named=True))
    return OK


def _write_plot(path: str, svg: str) -> None:
    try:
        Path(path).write_text(svg)
    except OSError as error:
        raise ConfigurationError(f"--plot {path}: {error.strerror}") from None
