"""SQL statements that live in `.sql` files, found by their names."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from psycopg import sql

NAME = re.compile(r"^-- (\w+) --$", re.MULTILINE)


def query(file: str, name: str) -> sql.SQL:
    """Return a statement of `<file>.sql`.

    Raises:
        KeyError: there is none of this name.
    """
    return _queries(file)[name]


@cache
def _queries(file: str) -> dict[str, sql.SQL]:
    text = (resources.files("ingest_pipeline.store") / f"{file}.sql").read_text()
    _, *parts = NAME.split(text)
    return {name: sql.SQL(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}
