"""Tables of text, by rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def new_table(first: str, *others: str) -> Table:
    """Return a table whose first column is aligned to the left, the others to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    table.add_column(f"  {first}")
    for name in others:
        table.add_column(name, justify="right")
    return table


def print_table(table: Table) -> None:
    """Print a table as lines without trailing spaces."""
    from rich.console import Console

    # A fixed width: rich cuts the table to a narrow terminal, and to 80 columns in a pipe.
    console = Console(highlight=False, markup=False, width=200)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())
