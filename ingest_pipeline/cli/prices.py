"""`ingest plan --memory`: the price list."""

from __future__ import annotations

import argparse
import math
import re
from typing import TYPE_CHECKING, Any

from ingest_pipeline.cli import rows
from ingest_pipeline.cli.codes import FAILED, OK
from ingest_pipeline.cli.command import Parser
from ingest_pipeline.cli.opening import opened_store
from ingest_pipeline.errors import ConfigurationError
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import counted, format_size, parse_size

if TYPE_CHECKING:
    from ingest_pipeline.planning.prices import Price
    from ingest_pipeline.stages.prices import PriceList

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
WITHOUT_MEMORY = "--within and --all are for a price list: say for which machines, --memory 1GiB,4GiB"


def add_options(command: Parser) -> None:
    """Add the options of the price list to `ingest plan`."""
    command.add_argument(
        "--memory", type=_sizes, metavar="SIZE,SIZE,…",
        help="instead a price list: what the unfinished work costs on machines of so much memory, with these cores",
    )  # fmt: skip
    command.add_argument(
        "--within", type=_seconds, metavar="TIME", help="also the smallest of them that ends in time: 90m, 8h, 2d"
    )
    command.add_argument("--all", action="store_true", help="price every known file, as if from the beginning")


def refuse_alone(options: argparse.Namespace) -> None:
    """Refuse the other options without `--memory`.

    Raises:
        ConfigurationError: there is one.
    """
    if options.within or options.all:
        raise ConfigurationError(WITHOUT_MEMORY)


def prices(options: argparse.Namespace, settings: Settings) -> int:
    """Print the price list; code 1 if no machine of it ends in time."""
    from ingest_pipeline.planning.prices import smallest_within
    from ingest_pipeline.stages.prices import price_list

    with opened_store(settings) as connection:
        listed = price_list(connection, settings, options.memory, everything=options.all)
    rows.print_rows(_row(one, listed) for one in listed.prices) if options.json else _print_prices(listed)
    if options.within is None or not (options.json or listed.prices[0].files):
        return OK
    chosen, why = smallest_within(listed.prices, options.within), _verdict(listed, options.within)
    memory = chosen.memory_bytes if chosen else None
    within = {"within_seconds": options.within, "smallest_memory_bytes": memory, "why": why}
    rows.print_rows([within]) if options.json else print(why)
    return OK if chosen else FAILED


def _row(one: Price, listed: PriceList) -> dict[str, Any]:
    row: dict[str, Any] = {"memory_bytes": one.memory_bytes, "run_memory_bytes": one.run_memory_bytes or None}
    row |= {"files": one.files, "too_small": one.too_small or None}
    fits = bool(one.run_memory_bytes)
    row |= {
        "files_refused": one.refused if fits else None,
        "runs_at_once": one.runs,
        "hours": round(one.hours, 4) if fits else None,
        "near_limit_share": round(one.near_share, 4) if fits else None,
        "batches": one.batches if fits else None,
    }
    return row | {"cores": listed.cores, "measured_share": round(listed.measured_share, 4)}


def _print_prices(listed: PriceList) -> None:
    from ingest_pipeline.cli.table import new_table, print_table

    if not listed.prices[0].files:
        print("nothing to price: every file of the sources is accounted for; --all prices them again")
        return
    table = new_table("machine", "run memory", "files", "refused", "runs at once", "time", "near limit", "batches")
    for one in listed.prices:
        table.add_row(f"  {format_size(one.memory_bytes)}", *_cells(one))
    print_table(table)
    for one in listed.prices:
        if one.too_small:
            print(f"{format_size(one.memory_bytes)} is too small: {one.too_small}.")
    print(f"Cores: {listed.cores}, as here. A machine's runs may use 80 % of its memory together.")
    if listed.measured_share < 0.5:
        share = f"{1 - listed.measured_share:.0%}"
        print(f"Not measured yet: {share} of the time is by shipped rates, of a slow core. Run a sample first.")


def _cells(one: Price) -> list[str]:
    if not one.run_memory_bytes:
        return ["-", str(one.files), "all", "none"]
    counts = (str(one.files), str(one.refused), str(one.runs))
    return [format_size(one.run_memory_bytes), *counts, _time(one.seconds), f"{one.near_share:.0%}", str(one.batches)]


def _verdict(listed: PriceList, within: float) -> str:
    from ingest_pipeline.planning.prices import smallest_within

    chosen, fitting = smallest_within(listed.prices, within), [one for one in listed.prices if one.run_memory_bytes]
    if chosen:
        left = f"; it refuses {counted(chosen.refused, 'file')}, as every machine of the list" if chosen.refused else ""
        return f"{format_size(chosen.memory_bytes)} is the smallest that ends within {_time(within)}{left}."
    if not fitting:
        return "None of these machines holds a run."
    fewest = min(one.refused for one in fitting)
    best = min((one for one in fitting if one.refused == fewest), key=lambda one: one.seconds)
    if best.runs < listed.cores:
        reason = f"more memory would let more than {best.runs} run at once on {counted(listed.cores, 'core')}"
    else:
        cores = math.ceil(best.core_seconds / within)
        reason = (
            f"more memory does not help: the limit is {counted(listed.cores, 'core')}, about {cores} would end in time"
        )
    earlier = next((one for one in fitting if one.seconds <= within), None)
    also = (
        f" {format_size(earlier.memory_bytes)} ends in time, but refuses {counted(earlier.refused, 'file')}."
        if earlier
        else ""
    )
    return f"None of these machines ends within {_time(within)}; the best takes {_time(best.seconds)}: {reason}.{also}"


def _time(seconds: float) -> str:
    """Return a duration in the unit that suits it: `40s`, `12m`, `3.5h`."""
    if seconds < 120:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 7200 else f"{round(seconds / 3600, 1):g}h"


def _sizes(text: str) -> list[int]:
    try:
        return [parse_size(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected sizes such as 512MiB,1GiB,4GiB") from None


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a time such as 90m, 8h or 2d")
    return float(match[1]) * UNIT_SECONDS[match[2]]
