"""How a command is added to the parser of `ingest`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ingest_pipeline.settings import Settings

Commands = argparse._SubParsersAction
"""What `ArgumentParser.add_subparsers` returns."""
MOST = 2**31 - 1
Parser = argparse.ArgumentParser


def add_command(
    commands: Commands[Parser],
    name: str,
    function: Callable[[argparse.Namespace, Settings], int],
    text: str,
    *,
    json_output: bool = True,
) -> Parser:
    """Add a command whose function returns its exit code.

    Args:
        commands: the parser's commands.
        name: as the user writes it.
        function: gets the options and the settings.
        text: one line of help.
        json_output: whether it takes `--json`.
    """
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(command=function)
    if json_output:
        command.add_argument("--json", action="store_true", help="print JSON lines")
    return command


def positive_count(text: str) -> int:
    """Return a whole number above 0.

    Raises:
        ArgumentTypeError: it is none, or more than PostgreSQL's integer.
    """
    if not text.isdecimal() or not 0 < int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 0, at most {MOST:,}")
    return int(text)


def ledger_name(text: str) -> str:
    """Return a name or path that the ledger can have.

    Raises:
        ArgumentTypeError: it is empty, as `"$UNSET"` is, or not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("it is not UTF-8; write it as `ingest files` shows it") from None
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text
