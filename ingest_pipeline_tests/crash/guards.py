"""The guards in the store's SQL: conditions, row locks and advisory locks that keep two things from going wrong.

A program finds them in the text of every statement that writes or that decides what is written, so that a new guard
cannot be forgotten. A guard is taken away at run time: `(true OR condition)`, no `FOR UPDATE`, a lock without effect.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from psycopg import sql

from ingest_pipeline import store
from ingest_pipeline.store import generations, locks, queries

SQL_FILES = ("files", "repairs")
READS_THAT_DECIDE = {
    "batches.UNFINISHED", "batches.COUNT_FILES", "batches.LOCK_BATCH", "ledger.WAITING", "ledger.BATCH_FILES",
    "generations.LIVE", "generations.LOCK_UNUSED", "generations.PROCESSED_SIZES", "generations.COMPLETE_ONES",
    "generations.SELECT_CLAIMED", "generations.SELECT_SHOWN", "entities.BATCH_GENERATIONS", "entities.PENDING",
    "extracts.NEXT_PARTS", "extracts.ABANDONED",
}  # fmt: skip
"""Beside the statements that write. What only counts or lists for people is no guard."""
WRITES = re.compile(r"\b(?:INSERT INTO|UPDATE \w+|DELETE FROM)\b")
ROW_LOCK = re.compile(r"\s*\bFOR (?:NO KEY UPDATE|UPDATE|KEY SHARE|SHARE)(?: OF \w+| SKIP LOCKED)?\b")
LITERALS = r"(?:'\w+'|\w+\.\w+|%\(\w+\)s|%s|ANY\((?:%\(\w+\)s|[^()]*)\))"
CONDITION = re.compile(
    rf"""(?<![\w.])(?P<condition>
        (?:\w+\.)?version\ (?:=|<>)\ {LITERALS}
      | (?:\w+\.)?status\ (?:=|<>)\ {LITERALS}
      | (?:\w+\.)?status\ IN\ \([^)]*\)
      | (?:NOT\ )?(?:\w+\.)?complete\b
      | (?:\w+\.)?batch\ (?:IS\ (?:NOT\ )?NULL|=\ (?:\w+\.\w+|%\(batch\)s))
      | (?:\w+\.)?run_id\ =\ {LITERALS}
    )""",
    re.VERBOSE,
)
EXISTS = re.compile(r"(?:NOT )?EXISTS \(")
CONFLICT = re.compile(
    r"ON CONFLICT [^;]*? DO UPDATE SET\s(?:(?!\bWHERE\b|\n\)).)*\bWHERE (?P<condition>[^\n]*)", re.DOTALL
)
KEY_OF_BATCH = r"(?:\w+\.)?batch = %\(batch\)s"
"""Outside of files.sql this names the row, and guards nothing."""
CALL_SITES = {
    "hold_sealing": (
        "ingest_pipeline.store.batches", "ingest_pipeline.stages.scan", "ingest_pipeline.store.generations",
    ),
    "rely_on_vectors": ("ingest_pipeline.store.generations",),
    "hold_vectors": (
        "ingest_pipeline.store.vectors", "ingest_pipeline.store.entities", "ingest_pipeline.store.embedding_models",
        "ingest_pipeline.store.damage",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard, and how it is taken away."""

    name: str
    """Where it is, what it is, and which of several: `files.publish: status = 'processed'`."""
    text: str
    """The statement without it; or the name of the lock."""
    remove: Callable[[], None]

    @property
    def digest(self) -> str:
        """What a result is known by: another statement is another mutant."""
        return hashlib.sha256(f"{self.name}\n{self.text}".encode()).hexdigest()[:12]


def guards() -> list[Guard]:
    """Return every guard: of `.sql` files, of locks, of statements beside their functions."""
    return [*_of_files(), *_of_locks(), *_of_constants()]


def _of_constants() -> Iterator[Guard]:
    for entry in pkgutil.iter_modules(store.__path__):
        module = importlib.import_module(f"{store.__name__}.{entry.name}")
        for name, value in vars(module).items():
            if name.isupper() and isinstance(value, str) and _decides(f"{entry.name}.{name}", value):
                for what, without in without_guards(value):
                    if re.fullmatch(KEY_OF_BATCH, what):
                        continue
                    yield Guard(
                        f"{entry.name}.{name}: {what}", without,
                        lambda m=module, n=name, w=without: setattr(m, n, w),  # type: ignore[misc]
                    )  # fmt: skip


def _of_files() -> Iterator[Guard]:
    for file in SQL_FILES:
        for name, statement in queries._queries(file).items():
            text = statement.as_string()
            if _decides(f"{file}.{name}", text):
                for what, without in without_guards(text):
                    yield Guard(
                        f"{file}.{name}: {what}", without,
                        lambda f=file, n=name, w=without: queries._queries(f).__setitem__(n, sql.SQL(w)),  # type: ignore[misc]
                    )  # fmt: skip


def _of_locks() -> Iterator[Guard]:
    for lock, modules in CALL_SITES.items():
        for path in modules:
            name = path.removeprefix("ingest_pipeline.").removeprefix("store.")
            yield Guard(f"{name}: locks.{lock}", lock, lambda p=path, n=lock: _take_lock(p, n))  # type: ignore[misc]
    yield Guard("generations: lock of a generation", "HOLD", lambda: setattr(generations, "HOLD", "SELECT %s, %s"))


def _take_lock(path: str, lock: str) -> None:
    kept: dict[str, Any] = {name: getattr(locks, name) for name in CALL_SITES}
    without = SimpleNamespace(**kept | {lock: lambda connection: None})
    importlib.import_module(path).locks = without  # type: ignore[attr-defined]


def _decides(name: str, statement: str) -> bool:
    return bool(WRITES.search(statement)) or name in READS_THAT_DECIDE


def without_guards(statement: str) -> Iterator[tuple[str, str]]:
    """Yield each guard of a statement, in a few words, with the statement without it."""
    body = re.sub(r"--[^\n]*", lambda comment: " " * len(comment[0]), statement)
    places = [(match.start(), match.end(), "") for match in ROW_LOCK.finditer(body)]
    places += [
        (*match.span("condition"), "true")
        for match in CONDITION.finditer(body)
        if re.search(r"\b(?:WHERE|AND|ON)\s+$|\bAND \($|IS NULL OR $", body[: match.start("condition")])
    ]
    places += [
        (match.start(), _closing(body, match.end()), "true")
        for match in EXISTS.finditer(body)
        if _in_where(body, match.start())
    ]
    places += [(*match.span("condition"), "true") for match in CONFLICT.finditer(body)]
    seen: dict[str, int] = {}
    for start, end, instead in sorted(set(places)):
        what = " ".join(body[start:end].split())
        seen[what] = seen.get(what, 0) + 1
        label = what if len(what) < 60 else what[:57] + "..."
        replacement = f"(true OR {body[start:end]})" if instead else ""
        yield f"{label} #{seen[what]}" if seen[what] > 1 else label, body[:start] + replacement + body[end:]


def _in_where(body: str, start: int) -> bool:
    return bool(re.search(r"\b(?:WHERE|AND)\s+\(?$", body[:start]))


def _closing(body: str, start: int) -> int:
    depth = 1
    for position in range(start, len(body)):
        depth += {"(": 1, ")": -1}.get(body[position], 0)
        if depth == 0:
            return position + 1
    raise ValueError(f"a parenthesis is not closed: {body}")
