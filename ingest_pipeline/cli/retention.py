"""The command `retention`: Dagster's history is kept small."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from ingest_pipeline.cli import rows
from ingest_pipeline.cli.codes import OK
from ingest_pipeline.cli.command import Commands, Parser, add_command, positive_count
from ingest_pipeline.cli.opening import opened_store
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import counted, format_size

if TYPE_CHECKING:
    from ingest_pipeline.stages.retention import RetentionWork


def add_commands(commands: Commands[Parser]) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "retention", retention, "delete what nobody reads of old runs in Dagster's history")
    command.add_argument(
        "--days", type=positive_count, metavar="N", help="of runs older than N days; default INGEST_RETENTION_DAYS"
    )
    command.add_argument("--dry-run", action="store_true", help="say what would be deleted, and delete nothing")
    command.add_argument(
        "--compact", action="store_true", help="also give the space back to the disk; Dagster waits meanwhile"
    )


def retention(options: argparse.Namespace, settings: Settings) -> int:
    """Prune Dagster's history; print what that did."""
    from ingest_pipeline.stages.retention import prune_history

    settings = replace(settings, retention_days=options.days or settings.retention_days)
    with opened_store(settings) as connection:
        work = prune_history(connection, settings, dry_run=options.dry_run, compact=options.compact)
    if options.json:
        rows.print_rows([asdict(work) | {"seconds": round(work.seconds, 2), "dry_run": options.dry_run}])
    else:
        _print_work(work, dry_run=options.dry_run)
    return OK


def _print_work(work: RetentionWork, *, dry_run: bool) -> None:
    would = "would delete" if dry_run else "deleted"
    rows_of_runs = f"{counted(work.rows_deleted, 'row')} of {counted(work.runs, 'old run')}"
    print(f"{would} {rows_of_runs}, and {counted(work.logs_deleted, 'log')}")
    sizes = (
        format_size(work.bytes_after)
        if dry_run
        else f"{format_size(work.bytes_before)} -> " + format_size(work.bytes_after)
    )
    each = f", {format_size(work.bytes_per_run)} each" if work.runs_in_history else ""
    print(f"history: {sizes} for {counted(work.runs_in_history, 'run')}{each}")
