"""Migrations from every schema that there was, which lose their connection at each statement and are run again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import psycopg

from ingest_pipeline.errors import StoreUnavailable
from ingest_pipeline.store import migrate as module
from ingest_pipeline.store.connection import SEARCH_PATH
from ingest_pipeline.store.migrate import migrate, migrations
from ingest_pipeline_tests.crash.killing import Killed, MortalConnection

DIE = "; SELECT pg_terminate_backend(pg_backend_pid()); SELECT pg_sleep(5)"
MOST_EXCHANGES = 500
# What a release that ended with this migration had in its store. Each adds to those before it.
ROWS = {
    "0001": """
        INSERT INTO models (name, identity, dimension, max_tokens) VALUES ('m', 'i', 2, 256), ('n', 'j', 2, 128);
        INSERT INTO generations (version, recipe, model_id, complete, pages) VALUES
            ('v1', 'r', 1, true, 2), ('v2', 'r', 1, false, 0), ('v3', 'r', 2, true, 1);
        INSERT INTO chunks (generation_id, ordinal, page_from, page_to, char_from, char_to, tokens, text, text_hash)
        VALUES (1, 0, 1, 1, 0, 3, 2, 'one', '\\x01'), (1, 1, 2, 2, 4, 7, 2, 'two', '\\x02'),
               (3, 0, 1, 1, 0, 3, 2, 'six', '\\x03');
        INSERT INTO embeddings VALUES (1, '\\x01', '[1,0]'), (1, '\\x02', '[0,1]'), (2, '\\x03', '[1,0]');
        INSERT INTO batches (batch, memory_limit_bytes, predicted_peak_bytes, predicted_seconds, status)
        VALUES ('b1', 1, 2, 3, 'done'), ('b2', 1, 2, 3, 'running');
        INSERT INTO files (source, path, size_bytes, modified_ns, version, media_type, status, batch, generation_id,
                           recipe)
        VALUES ('s', 'indexed', 1, 1, 'v1', 't', 'indexed', 'b1', 1, 'r'),
               ('s', 'old', 1, 1, 'v3', 't', 'indexed', 'b1', 3, 'r'),
               ('s', 'processed', 1, -1, 'v2', 't', 'processed', 'b2', NULL, NULL),
               ('s3://b/p', 'deleted', 1, 1000000000, 'v4', 't', 'deleted', NULL, NULL, 'r');
        INSERT INTO batch_files SELECT batch, file_id, version FROM files WHERE batch IS NOT NULL;
        INSERT INTO attempts (file_id, batch, run_id, version, stage)
        SELECT file_id, batch, 'run', version, 'chunks' FROM files WHERE status = 'processed'""",
    "0002": """
        INSERT INTO incidents (batch, run_id, cause, message) VALUES ('b2', 'run', 'OSError', 'gone');
        INSERT INTO cost_models VALUES (1, 't', 1, 2, 3, 4, 5, 6)""",
    "0003": """
        UPDATE files SET etag = 'e' WHERE source LIKE 's3:%';
        INSERT INTO sections VALUES (1, 0, 1, 'title', 'title', 1, 2);
        UPDATE chunks SET section = 0, page_label = 'i' WHERE generation_id = 1""",
    "0004": "UPDATE files SET revision = '7 7' WHERE path = 'old'",
    "0005": "UPDATE files SET kills = 2 WHERE status = 'processed'; UPDATE incidents SET reset = true",
    "0006": "UPDATE files SET predicted_seconds = 7 WHERE status = 'indexed'",
    "0007": """
        INSERT INTO unembedded_texts VALUES (2, '\\x01', 'rejected', 'why'), (2, '\\x02', 'deferred', '');
        INSERT INTO entity_texts VALUES ('e', '\\x01');
        INSERT INTO entities VALUES ('e', '\\x01', 0, 3, 'PERSON', 'One');
        INSERT INTO extract_plans VALUES (1, 'p', 'v');
        INSERT INTO remote_files VALUES ('ingest-1', 'gemini', 'run')""",
    "0008": """
        INSERT INTO ignored_files (name_hash) VALUES ('\\x01');
        UPDATE generations SET limits = '{"page_seconds": 30}' WHERE generation_id = 1""",
    "0009": """
        INSERT INTO run_ends (run_id, batch, host, cause, ended_at) VALUES ('r', 'b1', 'h', 'killed', '2026-11-01Z');
        INSERT INTO memory_records (run_id, stage, batch, began_at, limit_bytes, seconds_per_point, used_kib, file_ids,
                                    pages, steps, shown)
        VALUES ('r', 'chunks', 'b1', '2026-11-01Z', 1, 1, '{1}', '{1}', '{1}', '[]', false)""",
}
SCHEMA = """
SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
    SELECT format('%s.%s %s %s %s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull,
                  attidentity, pg_get_expr(adbin, adrelid)) AS line
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attnum > 0 AND NOT attisdropped AND c.relnamespace IN ('ingest'::regnamespace, 'public'::regnamespace)
    UNION ALL SELECT format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
              WHERE connamespace = 'ingest'::regnamespace AND contype <> 'n'
    UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'ingest'
    UNION ALL SELECT format('%s.%s %s', schemaname, viewname, definition) FROM pg_views
              WHERE schemaname IN ('ingest', 'public')
    UNION ALL SELECT format('%s %s', sequencename, data_type) FROM pg_sequences WHERE schemaname = 'ingest'
    UNION ALL SELECT format('%s %s', objoid::regclass, description) FROM pg_description
              WHERE classoid = 'pg_class'::regclass AND objoid::regclass::text !~ '^pg_|information_schema'
) s (line)
"""
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'ingest' ORDER BY 1"


PART = re.compile(r"\$(\w*)\$.*?\$\1\$|'(?:[^']|'')*'|--[^\n]*|;|.", re.DOTALL)
"""The body of a function, a string, a comment, the end of a statement, or a character."""


def statements(text: str) -> list[str]:
    """Return the statements of a migration."""
    parts = (match.group() for match in PART.finditer(text))
    plain = "".join("\0" if part == ";" else part for part in parts if not part.startswith("--"))
    return [one.strip() for one in plain.split("\0") if one.strip()]


def build(url: str, last: str) -> None:
    """Make the store of a release that ended with this migration, with the rows that it would have."""
    for name, _ in migrations():
        if name[:4] <= last:
            with only_up_to(name):
                migrate(url)
            with psycopg.connect(url, options="-csearch_path=ingest,public", autocommit=True) as connection:
                connection.execute(ROWS.get(name[:4], "SELECT 1").encode())


@contextmanager
def only_up_to(last: str, *, instead: str | None = None) -> Iterator[None]:
    """As if the migrations ended here; the last one may have another text."""
    known = [(name, text) for name, text in migrations() if name <= last]
    if instead is not None:
        known[-1] = (last, instead)
    with patch.object(module, "migrations", lambda: known):
        yield


def content(url: str) -> dict[str, Any]:
    """Return the schema, and the rows of every table but for the moments at which migrations were applied."""
    with psycopg.connect(url, options="-csearch_path=ingest,public", autocommit=True) as connection:
        row = connection.execute(SCHEMA).fetchone()
        tables = [name for (name,) in connection.execute(TABLES)]
        rows = {name: _rows(connection, name) for name in tables}
    return {"schema": row[0] if row else ""} | rows


def _rows(connection: psycopg.Connection[Any], table: str) -> list[str]:
    columns = "name" if table == "migrations" else "t.*"
    return sorted(str(row) for row in connection.execute(f"SELECT {columns} FROM {table} t"))  # type: ignore[arg-type]


def interrupt_each_statement(url: str) -> int:
    """Lose the connection after each statement of each missing migration, then apply it; return how often.

    Raises:
        AssertionError: something of an interrupted migration stayed.
    """
    interrupted = 0
    for name, text in missing(url):
        before, parts = content(url), statements(text)
        for count in range(len(parts) + 1):
            with only_up_to(name, instead=";".join(parts[:count] or ["SELECT 1"]) + DIE):
                try:
                    migrate(url)
                except (StoreUnavailable, psycopg.Error):
                    interrupted += 1
                else:
                    raise AssertionError(f"{name} was not interrupted at statement {count}")
            assert content(url) == before, f"{name}: something of its first {count} statements stayed"
        with only_up_to(name):
            assert migrate(url) == [name]
    return interrupted


def kill_at_each_exchange(url: str, *, after_answer: bool) -> int:
    """Kill the client at its first exchange, then at the second, and so on until it comes to its end; return how often.

    What an earlier try has committed stays, as in life.
    """
    for exchanges in range(MOST_EXCHANGES):
        options = f"-csearch_path={SEARCH_PATH}"
        with MortalConnection.connect(url, autocommit=True, options=options) as connection:
            connection.after_answer, connection.exchanges_left = after_answer, exchanges
            with patch.object(module, "connected", lambda _, one=connection: nullcontext(one)):
                try:
                    migrate(url)
                except (Killed, psycopg.Error):  # what is done after the kill fails, too
                    assert connection.exchanges_left == -1
                else:
                    connection.exchanges_left = None  # it closes in peace
                    return exchanges
    raise AssertionError("it does not come to an end")


def missing(url: str) -> list[tuple[str, str]]:
    """Return the migrations that were not applied yet."""
    with psycopg.connect(url, autocommit=True) as connection:
        applied = {name for (name,) in connection.execute("SELECT name FROM ingest.migrations")}
    return [(name, text) for name, text in migrations() if name not in applied]
