"""The command `metrics`: numbers for a monitor."""

from __future__ import annotations

import argparse
import sys

from ingest_pipeline.cli import rows
from ingest_pipeline.cli.codes import OK
from ingest_pipeline.cli.command import Commands, Parser, add_command
from ingest_pipeline.cli.opening import opened_store
from ingest_pipeline.settings import Settings


def add_commands(commands: Commands[Parser]) -> None:
    """Add the command to the parser."""
    add_command(commands, "metrics", metrics, "counts, queue, memory, seconds and kills in Prometheus' text format")


def metrics(options: argparse.Namespace, settings: Settings) -> int:
    """Print the metrics."""
    from ingest_pipeline.stages.metrics import all_metrics, metrics_text

    with opened_store(settings) as connection:
        if not options.json:
            sys.stdout.write(metrics_text(connection, settings).decode())
            return OK
        rows.print_rows(
            {"metric": metric.name, "labels": dict(zip(metric.labels, labels, strict=True)), "value": value}
            for metric in all_metrics(connection, settings)
            for labels, value in metric.samples
        )
    return OK
