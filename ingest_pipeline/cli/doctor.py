"""The command `doctor`: what is needed for a run, one line each, and what to do where it fails."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict

from ingest_pipeline.cli import rows
from ingest_pipeline.cli.codes import FAILED, OK
from ingest_pipeline.cli.command import Commands, Parser, add_command
from ingest_pipeline.cli.text import passage
from ingest_pipeline.models import Finding
from ingest_pipeline.settings import Settings

WIDTHS = (6, 14)


def add_commands(commands: Commands[Parser]) -> None:
    """Add the commands of this module to the parser."""
    add_command(
        commands,
        "doctor",
        doctor,
        "whether all is there that a run needs; starts and changes nothing",
    )


def doctor(options: argparse.Namespace, settings: Settings) -> int:
    """Print a line for each check; the exit code says whether one fails."""
    failed = False
    for finding in findings(settings):
        rows.print_rows([asdict(finding)]) if options.json else _print(finding)
        failed = failed or finding.state == "fail"
    return FAILED if failed else OK


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield what each check saw, without secrets, as soon as it has looked."""
    from ingest_pipeline.instance import doctor as instance
    from ingest_pipeline.stages.doctor import database, machine, models, sources
    from ingest_pipeline.stages.doctor.secrets import without_secrets

    for module in (database, models, machine, instance, sources):
        for finding in module.checks(settings):
            yield without_secrets(finding, settings)


def _print(finding: Finding) -> None:
    state, check = WIDTHS
    print(f"{finding.state:{state}}{finding.check:{check}}{passage(finding.seen)}", flush=True)
    if finding.advice:
        print(f"{'':{state + check}}-> {passage(finding.advice)}", flush=True)
