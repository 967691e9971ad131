"""Commands that repair: `errors`, `reset`, `cleanup`, `forget`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ingest_pipeline.cli import rows
from ingest_pipeline.cli.codes import FAILED, OK
from ingest_pipeline.cli.command import Commands, Parser, add_command, ledger_name
from ingest_pipeline.cli.opening import opened_store
from ingest_pipeline.cli.text import printable
from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import counted

if TYPE_CHECKING:
    from ingest_pipeline.stages.failures import Failure
    from ingest_pipeline.stages.forget import Receipt
    from ingest_pipeline.store.connection import Connection
    from ingest_pipeline.store.damage import Damage
    from ingest_pipeline.store.reset import ResetFile, ResetSelection

ACTIONS = {
    "try again": "to be tried again",
    "read again": "to be read again by the next catalog run",
    "release": "stuck until now, to be tried again",
    "parse again": "with gaps, to be parsed again; until then readers see what they see now",
    "none": "with nothing to reset",
}
WHATS = {"file": "files", "gap": "files with gaps", "section": "sections", "batch": "batches", "incident": "runs"}


def add_commands(commands: Commands[Parser]) -> None:
    """Add the commands of this module to the parser."""
    add_command(commands, "errors", errors, "what failed, by reason: how often, an example, what to do about it")
    command = add_command(commands, "reset", reset, "try files again that failed, are stuck, or have gaps")
    command.add_argument(
        "paths", nargs="*", type=ledger_name, metavar="PATH", help="files or folders, with or without their source"
    )
    command.add_argument("--failed", action="store_true", help="all failed files")
    command.add_argument("--stuck", action="store_true", help="unfinished files that no run is at work on")
    command.add_argument(
        "--reason", type=ledger_name, metavar="R",
        help="files that failed, or have gaps, for this reason, such as ParserTimedOut",
    )  # fmt: skip
    command.add_argument("--dry-run", action="store_true", help="only say what would be done")
    command = add_command(
        commands, "cleanup", cleanup, "find what is damaged or left over; exit code 1 if something is"
    )
    command.add_argument(
        "--auto-fix", action="store_true", help="repair it; the next `ingest run` does what is missing"
    )

    command = add_command(commands, "forget", forget, "erase documents everywhere; print a receipt")
    command.add_argument(
        "paths", nargs="+", type=ledger_name, metavar="PATH", help="of a file, with or without its source"
    )
    command.add_argument("--and-ignore", action="store_true", help="keep it out, though its source holds it")
    command.add_argument("--stop-ignoring", action="store_true", help="let the next catalog run take it up again")
    command.add_argument("--dry-run", action="store_true", help="only say what would be erased")


def errors(options: argparse.Namespace, settings: Settings) -> int:
    """Print what failed, by reason."""
    from ingest_pipeline.stages.failures import failures

    with opened_store(settings) as connection:
        groups = list(failures(connection))
    if options.json:
        rows.print_rows(asdict(group) for group in groups)
        return OK
    for group in groups:
        _print_failure(group)
    if not groups:
        print("nothing failed")
    return OK


def _print_failure(group: Failure) -> None:
    what = WHATS[group.kind] if group.count != 1 else WHATS[group.kind].replace("files", "file").removesuffix("s")
    print(f"{group.count:,} {what}: {printable(group.reason) or 'no reason was recorded'}")
    message = printable(group.message).removeprefix(f"{printable(group.example)}: ")
    print(f"    example      {printable(group.example)}{f': {message}' if message else ''}")
    print(f"    what to do   {group.advice}\n    then         {group.command}")


def reset(options: argparse.Namespace, settings: Settings) -> int:
    """Reset files; print what becomes of them."""
    from ingest_pipeline.store.reset import ResetSelection

    selection = ResetSelection(options.failed, options.stuck, options.reason, options.paths)
    if not (options.failed or options.stuck or options.reason or options.paths):
        raise ConfigurationError("say what to reset: --failed, --stuck, --reason R, or paths; `ingest errors` helps")
    with _opened(settings, with_instance=selection.stuck) as (instance, connection):
        selected = _reset(instance, connection, selection, dry_run=options.dry_run)
    missing = [path for path in options.paths if not any(_names(file, path) for file in selected)]
    for path in missing:
        print(
            f"ingest: {printable(path)}: no file of the ledger has this path; `ingest files` lists them",
            file=sys.stderr,
        )
    if options.json:
        rows.print_rows(asdict(file) | {"dry_run": options.dry_run} for file in selected)
    else:
        _print_reset(selected, dry_run=options.dry_run)
    return FAILED if missing else OK


def _reset(instance: Any, connection: Connection, selection: ResetSelection, *, dry_run: bool) -> list[ResetFile]:
    if instance is None:
        from ingest_pipeline.stages.reset import reset_files

        return reset_files(connection, selection, dry_run=dry_run)
    from ingest_pipeline.instance.maintenance import reset as reset_with_instance

    return reset_with_instance(instance, connection, selection, dry_run=dry_run)


def _names(file: ResetFile, wanted: str) -> bool:
    wanted = wanted.rstrip("/")
    return any(name == wanted or name.startswith(f"{wanted}/") for name in (file.path, f"{file.source}/{file.path}"))


def _print_reset(selected: Sequence[ResetFile], *, dry_run: bool) -> None:
    for action, count in Counter(file.action for file in selected).items():
        print(f"{counted(count, 'file')}: {ACTIONS[action]}")
    if not selected:
        print("no file to reset")
    elif dry_run:
        print("nothing was changed: --dry-run")
    else:
        print("`ingest run` goes on with them")


def cleanup(options: argparse.Namespace, settings: Settings) -> int:
    """Print what is damaged or left over, or repair it."""
    from ingest_pipeline.instance import maintenance

    with _opened(settings, with_instance=True) as (instance, connection):
        work = maintenance.repair_damage if options.auto_fix else maintenance.find_damage
        kinds = work(instance, connection, settings)
    if options.json:
        rows.print_rows(asdict(kind) | {"repaired": options.auto_fix} for kind in kinds)
    else:
        _print_damage(kinds, repaired=options.auto_fix)
    return FAILED if kinds and not options.auto_fix else OK


def _print_damage(kinds: Sequence[Damage], *, repaired: bool) -> None:
    for kind in kinds:
        print(f"{kind.severity:<9}{kind.text}: {kind.count:,}\n{'':<9}for example {printable(kind.example)}")
        print(f"{'':<9}{'repaired' if repaired else 'with --auto-fix'}: {kind.repair}")
    if not kinds:
        print("nothing to clean up: ledger, tables, files and Dagster's records agree")
    elif repaired:
        print("`ingest run` does what is missing now")


def forget(options: argparse.Namespace, settings: Settings) -> int:
    """Erase documents, and print a receipt for each."""
    from ingest_pipeline.stages import forget as erasing

    if options.stop_ignoring and (options.and_ignore or options.dry_run):
        raise ConfigurationError("--stop-ignoring goes with no other option")
    code = OK
    with opened_store(settings) as connection:
        for path in options.paths:
            if options.stop_ignoring:
                code = code if _admitted(options, path, erasing.admit(connection, path, settings=settings)) else FAILED
                continue
            for receipt in erasing.forget(
                connection, path, settings=settings, and_ignore=options.and_ignore, dry_run=options.dry_run
            ):
                rows.print_rows([asdict(receipt)]) if options.json else _print_receipt(receipt)
    return code


def _admitted(options: argparse.Namespace, path: str, admitted: bool) -> bool:
    if options.json:
        rows.print_rows([{"path": path, "admitted": admitted}])
    else:
        print(f"{printable(path)}: {'not ignored any more' if admitted else 'it was not ignored'}")
    return admitted


def _print_receipt(receipt: Receipt) -> None:
    from ingest_pipeline.cli.table import new_table, print_table

    name = f"{printable(receipt.source)}/{printable(receipt.path)}"
    print(f"{name}: {'would be erased' if receipt.dry_run else 'erased'}")
    table = new_table("table", "rows before", *([] if receipt.dry_run else ["after", "dead rows"]))
    for kind, before in receipt.before.items():
        numbers = [before] if receipt.dry_run else [before, receipt.after[kind], receipt.dead_rows.get(kind, 0)]
        table.add_row(f"  {kind}", *map(str, numbers))
    print_table(table)
    if not receipt.dry_run:
        where = f"{counted(receipt.dagster_rows, 'row')} of Dagster's and {counted(receipt.log_files, 'log file')}"
        print(f"its name was erased in {where}")
    if sum(receipt.after.values()) and not receipt.dry_run:
        print("what is left belongs to texts that other documents have as well")
    for copy in receipt.copies:
        print(f"the same bytes stay searchable as {printable(copy)}")
    print(_what_comes(receipt))


def _what_comes(receipt: Receipt) -> str:
    if receipt.ignored:
        return "it is kept out from now on; `ingest forget --stop-ignoring` admits it again"
    if receipt.is_in_source is False:
        return "its source does not hold it any more"
    if receipt.is_in_source is None:
        return "its source cannot be asked: if it still holds it, the next catalog run brings it back (--and-ignore)"
    return "its source still holds it: the next catalog run brings it back; --and-ignore keeps it out"


@contextmanager
def _opened(settings: Settings, *, with_instance: bool) -> Iterator[tuple[Any, Connection]]:
    """Open the store, and Dagster's instance if it is needed: that takes a second."""
    with opened_store(settings) as connection:
        if not with_instance:
            yield None, connection
            return
        from ingest_pipeline.instance.home import open_instance

        with open_instance(settings) as instance:
            yield instance, connection
