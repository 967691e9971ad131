"""Names in the Markdown that Dagster's UI shows, and that `forget` looks for there."""

from __future__ import annotations

SPECIAL = "|\\`*_[]<>"


def escaped(text: str) -> str:
    """Return a text as Markdown shows it, on one line: a file may be named `[click](https://...)`."""
    return "".join(f"\\{character}" if character in SPECIAL else character for character in text.replace("\n", " "))
