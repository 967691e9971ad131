"""Erases documents from every table, Dagster's included, and counts what was there before and after."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from ingest_pipeline.markdown import escaped
from ingest_pipeline.store import entities, files, locks, vectors
from ingest_pipeline.store.connection import Connection
from ingest_pipeline.store.queries import query

MARK = "(erased)"
"""Stands where the name of an erased file was."""
TEMPORARY = ("erased_generations", "erased_texts", "erased_answers")
DELETIONS = ("delete_generations", "delete_answers", "delete_vectors", "delete_states", "delete_entities",
             "delete_entity_texts")  # fmt: skip
TABLES = ("files", "attempts", "batch_files", "generations", "chunks", "sections", "section_extracts",
          "extract_answers", "embeddings", "unembedded_texts", "entity_texts", "entities")  # fmt: skip
# A name in a plain text, and a row of a Markdown table that begins with it: what follows there is about the document.
ERASE = """
UPDATE dagster.{table} SET {column} = regexp_replace(replace({column}, %(name)s, %(mark)s), %(row)s, %(mark_row)s, 'g')
WHERE position(%(name)s IN {column}) > 0 OR {column} ~ %(row)s
"""
# The configuration of a run of the job `ingest_reset` has paths as they were written into the launchpad.
ERASE_IN_CONFIG = """
UPDATE dagster.runs SET run_body = regexp_replace(run_body, %(row)s, %(mark_row)s) WHERE run_body ~ %(row)s
"""


@dataclass(frozen=True, slots=True)
class ErasableFile:
    """A file of the ledger, and whether a run is at work on its batch."""

    file_id: int
    source: str
    path: str
    is_at_work: bool

    @property
    def name(self) -> str:
        """Source and path in one string, as messages name it."""
        return f"{self.source.rstrip('/')}/{self.path}"


@dataclass(frozen=True, slots=True)
class ErasedRows:
    """The rows of a document in each table, before and after."""

    before: dict[str, int]
    after: dict[str, int]


def select_files(connection: Connection, path: str) -> list[ErasableFile]:
    """Return the files of a path, locked until the transaction ends."""
    return [ErasableFile(*row) for row in connection.execute(query("erasure", "select_files"), {"path": path})]


def copies_of(connection: Connection, file: ErasableFile) -> list[str]:
    """Return the names of up to ten other files with the same bytes, which stay."""
    return [name for (name,) in connection.execute(query("erasure", "copies"), {"file_id": file.file_id})]


def count_rows(connection: Connection, file: ErasableFile) -> dict[str, int]:
    """Return the rows that would go, and those of texts that other documents have, too; changes nothing."""
    with connection.transaction(force_rollback=True):
        _note(connection, file)
        return _counts(connection, file)


def erase(connection: Connection, file: ErasableFile) -> ErasedRows:
    """Delete all rows of a document that no other document relies on; to be called within a transaction."""
    ids = {"file_ids": [file.file_id]}
    connection.execute(query("erasure", "hold_batches"), ids)
    locks.hold_vectors(connection)
    _note(connection, file)
    before = _counts(connection, file)
    connection.execute(query("erasure", "delete_attempts"), ids)
    connection.execute(query("erasure", "delete_batch_files"), ids)
    files.erase_files(connection, [file.file_id])
    for name in DELETIONS:
        connection.execute(query("erasure", name))
    after = _counts(connection, file)
    for name in ("erase_in_batches", "erase_in_incidents"):
        connection.execute(query("erasure", name), {"name": file.name, "mark": MARK})
    for table in TEMPORARY:
        connection.execute(sql.SQL("DROP TABLE {table}").format(table=sql.Identifier(table)))
    return ErasedRows(before, after)


def erase_replaced(connection: Connection) -> None:
    """Delete what was made of versions that were replaced: their chunks are gone, and it is not known whose it is."""
    with connection.transaction():
        connection.execute(query("erasure", "hold_sections"))
        connection.execute(query("erasure", "delete_unused_answers"))
    vectors.drop_unused_vectors(connection)
    entities.drop_unused_entities(connection)


def erase_in_dagster(connection: Connection, file: ErasableFile) -> int:
    """Erase the name of a document in Dagster's tables, and what tables in metadata say of it; return how many rows."""
    erased = 0
    tables = set[str]()
    for table, column in connection.execute(query("erasure", "text_columns")).fetchall():
        statement = sql.SQL(ERASE).format(table=sql.Identifier(table), column=sql.Identifier(column))
        for name, row in _forms(file):
            wanted = {"name": name, "mark": MARK, "row": row, "mark_row": rf"| {MARK} |\1"}
            changed = connection.execute(statement, wanted).rowcount
            erased += changed
            tables |= {table} if changed else set()
        if (table, column) == ("runs", "run_body") and (changed := _erase_in_configuration(connection, file)):
            erased += changed
            tables |= {table}
    for table in tables:  # the rows as they were
        connection.execute(sql.SQL("VACUUM {table}").format(table=sql.Identifier("dagster", table)))
    return erased


def _erase_in_configuration(connection: Connection, file: ErasableFile) -> int:
    erased = 0
    for ascii_only in (True, False) if file.path != MARK else ():
        path = re.escape(_in_json(file.path, ascii_only))
        wanted = {"row": rf'("paths": \[(?:"(?:\\.|[^"\\])*", )*)"{path}/?"', "mark_row": rf'\1"{MARK}"'}
        while changed := connection.execute(ERASE_IN_CONFIG, wanted).rowcount:  # it may be there twice
            erased += changed
    return erased


def vacuum(connection: Connection) -> dict[str, int]:
    """Remove the dead rows of these tables; return those that are left in each."""
    for table in TABLES:
        connection.execute(sql.SQL("VACUUM {table}").format(table=sql.Identifier(table)))
    rows = connection.execute(query("erasure", "dead_rows"), {"tables": list(TABLES)})
    return {table: dead for table, dead in rows if dead}


def _note(connection: Connection, file: ErasableFile) -> None:
    connection.execute(query("erasure", "note_generations"), {"file_ids": [file.file_id]})
    connection.execute(query("erasure", "note_texts"))
    connection.execute(query("erasure", "note_answers"))


def _counts(connection: Connection, file: ErasableFile) -> dict[str, int]:
    return dict(connection.execute(query("erasure", "count_rows"), {"file_ids": [file.file_id]}).fetchall())


def _forms(file: ErasableFile) -> Iterator[tuple[str, str]]:
    """Yield the name as Dagster stores it, and a pattern of the row of a Markdown table that is about it.

    Dagster stores JSON, with characters beyond ASCII escaped or not.
    """
    for ascii_only in (True, False):
        name, path = (_in_json(text, ascii_only) for text in (file.name, escaped(file.path)))
        # Escapes are taken in pairs: a quotation mark in a cell must not end the row, and its half must not stay.
        yield name, rf"\| {re.escape(path)} \|(?:\\[^n]|[^\"\\])*(\\n|\")"
    yield file.name, rf"\| {re.escape(escaped(file.path))} \|[^\n]*(\n|$)"


def _in_json(text: str, ascii_only: bool) -> str:
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]
