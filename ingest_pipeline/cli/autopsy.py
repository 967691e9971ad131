"""The command `autopsy`: a failure to hand over, and its replay."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ingest_pipeline.cli import rows
from ingest_pipeline.cli.codes import FAILED, OK
from ingest_pipeline.cli.command import Commands, Parser, add_command, ledger_name
from ingest_pipeline.cli.opening import opened_store
from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import format_size

if TYPE_CHECKING:
    from ingest_pipeline.stages.autopsy import Autopsy
    from ingest_pipeline.stages.autopsy_replay import Observed
    from ingest_pipeline.stages.autopsy_spec import ReplaySpec


def add_commands(commands: Commands[Parser]) -> None:
    """Add the commands of this module to the parser."""
    command = add_command(
        commands, "autopsy", autopsy, "what is known of a failed or gapped file, in a folder to hand to a developer"
    )
    command.add_argument(
        "path", nargs="?", type=ledger_name, metavar="PATH", help="of the file, as `ingest files` shows it"
    )
    command.add_argument("--out", metavar="FOLDER", help="new folder, or FILE.zip; default autopsy-ID")
    command.add_argument(
        "--with-document", action="store_true", help="put the whole document in, with its name and all messages"
    )
    command.add_argument("--replay", metavar="FOLDER", help="replay the failure of an autopsy, a folder or a .zip")
    command.add_argument("--document", metavar="FILE", help="the document, for an autopsy that has none")


def autopsy(options: argparse.Namespace, settings: Settings) -> int:
    """Make an autopsy, or replay one: code 0 if the same failure came, 1 if not."""
    if (options.path is None) == (options.replay is None):
        raise ConfigurationError("autopsy: name a file, or --replay FOLDER")
    if options.replay is not None:
        return _replay(options, settings)
    from ingest_pipeline.stages import autopsy as stage

    out = Path(options.out) if options.out else None
    with opened_store(settings) as connection:
        made = stage.autopsy(connection, options.path, settings=settings, out=out, with_document=options.with_document)
    rows.print_rows([asdict(made)]) if options.json else _print_made(made)
    return OK


def _replay(options: argparse.Namespace, settings: Settings) -> int:
    from ingest_pipeline.stages import autopsy as stage

    document = Path(options.document) if options.document else None
    spec, observed = stage.replay(Path(options.replay), document, settings)
    same = observed.is_one_of(spec.expected)
    row = {"expected": list(spec.expected), "reproduced": same, "message": observed.message, **observed.row()}
    rows.print_rows([row]) if options.json else _print_replayed(spec, observed, same=same)
    return OK if same else FAILED


def _print_made(made: Autopsy) -> None:
    from ingest_pipeline.stages.autopsy_text import in_words

    came = {True: "it came again", False: "it did not come again", None: "it was not replayed"}[made.reproduced]
    print(f"{made.out}: {made.reason or made.status}; {came}")
    if made.document:
        what = f"{in_words(*made.pages)} of the document" if made.pages else "the whole document"
        print(f"{what}: {made.document}")
    if made.note:
        print(made.note)
    print("Read its README.txt before you send it.")


def _print_replayed(spec: ReplaySpec, observed: Observed, *, same: bool) -> None:
    from ingest_pipeline.cli.text import printable

    came = ", ".join(observed.kinds) or f"no failure: {observed.pages} pages"
    print(f"expected: {' or '.join(spec.expected)}\ncame:     {came}{' (the same failure)' if same else ''}")
    if observed.message:
        print(printable(observed.message))
    limit = format_size(spec.limits.parser_memory_bytes)
    print(f"peak {format_size(observed.peak_memory_bytes)} of {limit}, {observed.seconds:.1f} s")
