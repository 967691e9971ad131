"""What a backup counts, and the one transaction in which it is restored: a kill in the middle leaves nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from ingest_pipeline.errors import BackupRefused, ConfigurationError
from ingest_pipeline.models import ListedFile
from ingest_pipeline.store import dump, files
from ingest_pipeline.store.connection import SEARCH_PATH, Connection, connected, first_line, scalar
from ingest_pipeline.store.ignored import without_ignored
from ingest_pipeline.store.migrate import APPLIED, CREATE_SCHEMAS, LOCK, migrations, require_pgvector

PUBLIC_FUNCTION = re.compile(r"CREATE OR REPLACE FUNCTION public\.(\w+)")
PUBLIC_VIEW = re.compile(r"CREATE (?:OR REPLACE )?VIEW public\.(\w+)")
# Rows that are there before anything was done: what is applied, and what Dagster notes when it makes its tables.
BOOKKEEPING = ("ingest.migrations", "dagster.alembic_version", "dagster.secondary_indexes", "dagster.kvs",
               "dagster.instance_info")  # fmt: skip
EXPORT = "SELECT pg_export_snapshot()"
HAS_IGNORED = "SELECT to_regclass('ingest.ignored_files') IS NOT NULL"
HAS_LEDGER = "SELECT to_regclass('ingest.migrations') IS NOT NULL"
TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'p') AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""
TABLE_BYTES = """
SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%s) AND c.relkind = 'r'
"""
COUNT = "SELECT count(*) FROM {table}"
FIRST_ROW = "SELECT EXISTS (SELECT FROM {table})"
# With the schema of each type, which a restore translates; without rights, as the dump of all else.
FUNCTIONS = """
SELECT pg_get_functiondef(p.oid) || format(E';\nREVOKE ALL ON FUNCTION %%s FROM PUBLIC;\n', p.oid::regprocedure)
FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY(%s) ORDER BY p.proname
"""
HIDE_SCHEMAS = "SET LOCAL search_path = ''"
# The collation of `folded`, in the order in which migration 0010 prefers them.
FOLDING = """
SELECT format('%I.%I', n.nspname, c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE c.collname IN ('pg_c_utf8', 'und-x-icu', 'C.UTF-8', 'C.utf8', 'default')
  AND c.collencoding IN (-1, pg_char_to_encoding('UTF8'))
ORDER BY array_position(ARRAY['pg_c_utf8', 'und-x-icu', 'C.UTF-8', 'C.utf8', 'default']::name[], c.collname) LIMIT 1
"""
FOLDED = re.compile(r"(?<=normalize\(t, NFKC\) COLLATE )[\w.\"-]+")
EXISTING_VIEWS = "SELECT viewname FROM pg_views WHERE schemaname = 'public' AND viewname = ANY(%s) ORDER BY 1"
# As JSON: columns that an older schema has not are then merely missing.
MODELS = """
SELECT to_jsonb(m) - 'model_id' || jsonb_build_object('vectors', (
    SELECT count(*) FROM ingest.embeddings e WHERE e.model_id = m.model_id)) FROM ingest.models m ORDER BY m.model_id
"""
SOURCES = """
SELECT source AS name, count(*) AS files, coalesce(sum(size_bytes), 0)::bigint AS size_bytes FROM ingest.files
WHERE status <> 'deleted' GROUP BY 1 ORDER BY 1
"""
EXTENSION = """
SELECT e.extversion AS version, n.nspname AS schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
"""
AVAILABLE = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')"
# The names that a dump writes with the schema of the extension before them.
EXTENSION_NAMES = """
SELECT t.typname FROM pg_type t JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid
JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'vector' AND d.deptype = 'e'
UNION
SELECT c.opcname FROM pg_opclass c JOIN pg_depend d ON d.classid = 'pg_opclass'::regclass AND d.objid = c.oid
JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'vector' AND d.deptype = 'e'
"""
# Views first, for they depend on tables; then what no table owns.
OBJECTS = """
SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%s) AND c.relkind IN ('v', 'r', 'p', 'S') AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY array_position(ARRAY['v', 'r', 'p', 'S'], c.relkind::text)
"""
DROP = "DROP {kind} IF EXISTS {name} CASCADE"
ROUTINES = """
SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = ANY(%s) AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
"""
BEGIN_RESTORE = "SET LOCAL lock_timeout = {seconds}; SELECT pg_advisory_xact_lock({lock})"
LOCK_SECONDS = 10
ENCODING = "SHOW server_encoding"
MAY_CREATE = "SELECT has_database_privilege(current_database(), 'CREATE')"
SHOW_SCHEMA = "SELECT set_config('search_path', %s, false)"
KNOWN_VERSIONS = """
SELECT path, coalesce(to_jsonb(f) ->> 'revision', ''), version FROM ingest.files f
WHERE source = %s AND path = ANY(%s)
"""


@contextmanager
def frozen(url: str) -> Iterator[tuple[Connection, str]]:
    """Open a read-only transaction whose snapshot pg_dump shares: yield the connection, and the snapshot's name.

    Raises:
        BackupRefused: there is no ledger in this database.
    """
    with connected(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():
            if not scalar(connection, HAS_LEDGER):
                raise BackupRefused("there is nothing to back up: the database has no ledger; `ingest run` makes it")
            yield connection, str(scalar(connection, EXPORT))


def content_of(connection: Connection) -> dict[str, Any]:
    """Return what a manifest says of the database: its schema, servers, models, sources, and the rows of each table."""
    with connection.cursor(row_factory=dict_row) as cursor:
        extension = cursor.execute(EXTENSION).fetchone() or {}
        sources = cursor.execute(SOURCES).fetchall()
    return {
        "migrations": sorted(name for (name,) in connection.execute(APPLIED)),
        "postgresql": connection.info.parameter_status("server_version"),
        "pgvector": extension,
        "models": [model for (model,) in connection.execute(MODELS)],
        "sources": sources,
        "counts": row_counts(connection),
    }


def row_counts(connection: Connection) -> dict[str, int]:
    """Return how many rows each table of the schemas `ingest` and `dagster` has."""
    return {
        f"{schema}.{table}": int(scalar_of(connection, COUNT, schema, table)) for schema, table in _tables(connection)
    }


def table_bytes(connection: Connection) -> int:
    """Return the size of all tables on the disk, without their indexes."""
    return int(scalar(connection, TABLE_BYTES, (list(dump.SCHEMAS),)))


def public_views(connection: Connection) -> list[str]:
    """Return the names of our views in the schema `public` that this database has; other views there are not ours."""
    ours = {name for _, text in migrations() for name in PUBLIC_VIEW.findall(text)}
    return [name for (name,) in connection.execute(EXISTING_VIEWS, (sorted(ours),))]


def public_functions(connection: Connection) -> str:
    """Return the SQL of our functions in the schema `public`; other functions there are not ours."""
    ours = sorted({name for _, text in migrations() for name in PUBLIC_FUNCTION.findall(text)})
    with connection.transaction():
        connection.execute(HIDE_SCHEMAS)
        return "".join(text for (text,) in connection.execute(FUNCTIONS, (ours,)))


def versions_of(connection: Connection, source: str, listed: Sequence[ListedFile]) -> list[tuple[ListedFile, str]]:
    """Return the listed files that are not ignored, each with its version; '' if the ledger has another revision."""
    if scalar(connection, HAS_IGNORED):  # an older schema has no such table
        listed = without_ignored(connection, source, listed)
    rows = connection.execute(KNOWN_VERSIONS, (source, [file.path for file in listed]))
    known = {(path, revision): version for path, revision, version in rows if revision}
    return [(file, known.get((file.path, file.revision), "")) for file in listed]


def refuse_newer(manifest: Mapping[str, Any], path: object) -> None:
    """Make sure that this version knows the schema of a backup.

    Raises:
        BackupRefused: it does not.
    """
    unknown = sorted(set(manifest["migrations"]) - {name for name, _ in migrations()})
    if unknown:
        raise BackupRefused(
            f"{path}: its schema is newer ({unknown[-1]}): ingest-pipeline {manifest['version']} wrote it; upgrade "
            "this one first"
        )


def missing_migrations(manifest: Mapping[str, Any]) -> list[str]:
    """Return what the schema of a backup lacks to be the present one."""
    return [name for name, _ in migrations() if name not in manifest["migrations"]]


def check_target(connection: Connection) -> None:
    """Make sure that a backup can be restored into a database; nothing is changed.

    Raises:
        BackupRefused: there are rows in it.
        ConfigurationError: it has another encoding, the role may not create schemas, or pgvector is not installed.
    """
    filled = [
        f"{schema}.{table}" for schema, table in _tables(connection)
        if f"{schema}.{table}" not in BOOKKEEPING and scalar_of(connection, FIRST_ROW, schema, table)
    ]  # fmt: skip
    if filled:
        raise BackupRefused(
            f"the database is not empty: there are rows in {', '.join(filled[:3])}; restore into another one: --to, "
            "INGEST_DATABASE_URL, or another INGEST_HOME"
        )
    if scalar(connection, ENCODING) != "UTF8":
        raise ConfigurationError("the database must have the encoding UTF8: CREATE DATABASE … ENCODING 'UTF8'")
    if not scalar(connection, MAY_CREATE):
        raise ConfigurationError("the role may not create schemas in this database; make it the database's owner")
    if not scalar(connection, AVAILABLE):
        raise ConfigurationError("pgvector 0.8 or later is not installed on this server")


@contextmanager
def restoring(url: str) -> Iterator[Connection]:
    """Open the one transaction of a restore into an empty database; it is committed at the end, or leaves nothing.

    Raises:
        BackupRefused: the database is not empty, is in use, or refuses a statement.
        ConfigurationError: it cannot be used.
    """
    with connected(url) as connection, _named_refusals(), connection.transaction():
        connection.execute(
            sql.SQL(BEGIN_RESTORE).format(seconds=sql.Literal(f"{LOCK_SECONDS}s"), lock=sql.Literal(LOCK))
        )
        check_target(connection)
        _drop_empty(connection)
        connection.execute(CREATE_SCHEMAS)
        require_pgvector(connection)
        yield connection


@contextmanager
def _named_refusals() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        raise BackupRefused("the database is in use: end `ingest ui` and what else is connected to it") from None
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.IntegrityError, psycopg.NotSupportedError) as error:
        raise BackupRefused(f"Postgres refuses the restore, nothing was changed: {first_line(error)}") from error


def run_dump(connection: Connection, script: BinaryIO, manifest: Mapping[str, Any]) -> dump.Timing:
    """Execute the script of a dump, with the names of pgvector's types and of collations as this database has them."""
    names = [name for (name,) in connection.execute(EXTENSION_NAMES)]
    with connection.cursor(row_factory=dict_row) as cursor:
        here = (cursor.execute(EXTENSION).fetchone() or {}).get("schema", "")
    if here not in SEARCH_PATH.split(","):
        raise ConfigurationError(f"pgvector is in the schema {here}; it must be in one of {SEARCH_PATH}")
    before = str(manifest["pgvector"].get("schema", here))
    folding = str(scalar(connection, FOLDING))
    qualified = re.compile(rf"(?<![\w\".]){re.escape(before)}\.({'|'.join(map(re.escape, names))})\b")

    def rewrite(text: str) -> str:
        text = qualified.sub(rf"{here}.\1", text) if before != here else text
        text = FOLDED.sub(folding, text)  # another version of Postgres has other collations
        return text.replace("CREATE SCHEMA ", "CREATE SCHEMA IF NOT EXISTS ")

    return dump.run_script(connection, script, rewrite)


def show_schema(connection: Connection) -> None:
    """Have our schema in sight again: a dump hides every one."""
    connection.execute(SHOW_SCHEMA, (SEARCH_PATH,))


def refuse_other_counts(connection: Connection, counts: Mapping[str, int]) -> None:
    """Make sure that each table has as many rows as the manifest says.

    Raises:
        BackupRefused: one has not.
    """
    restored = row_counts(connection)
    for table, rows in counts.items():
        if restored.get(table) != rows:
            raise BackupRefused(
                f"{table} has {restored.get(table, 0):,} rows after the restore, the manifest says {rows:,}; nothing "
                "was changed"
            )


def rename_sources(connection: Connection, names: Mapping[str, str]) -> None:
    """Give sources of the ledger other names: their files are the same ones.

    First names that no source has: of two sources one may get the name that the other had.
    """
    marks = {before: f"\x01{number}" for number, before in enumerate(names)}
    for before, mark in marks.items():
        files.rename_source(connection, before, mark)
    for before, mark in marks.items():
        files.rename_source(connection, mark, names[before])


def scalar_of(connection: Connection, statement: str, schema: str, table: str) -> Any:
    """Return the first column of a statement about one table."""
    text = sql.SQL(statement).format(table=sql.Identifier(schema, table))
    row = connection.execute(text).fetchone()
    return row[0] if row else None


def _tables(connection: Connection) -> list[tuple[str, str]]:
    return [(schema, table) for schema, table in connection.execute(TABLES, (list(dump.SCHEMAS),))]


def _drop_empty(connection: Connection) -> None:
    """Drop the empty tables that a first command made here; an extension in our schema stays."""
    for kind, schema, name in connection.execute(OBJECTS, (list(dump.SCHEMAS),)).fetchall():
        statement = sql.SQL(DROP).format(kind=sql.SQL(kind), name=sql.Identifier(schema, name))
        connection.execute(statement)
    for (routine,) in connection.execute(ROUTINES, (list(dump.SCHEMAS),)).fetchall():
        connection.execute(sql.SQL(f"DROP ROUTINE IF EXISTS {routine} CASCADE"))
