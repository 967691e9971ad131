"""The database role of sessions that only read: the second thing, beside a read-only transaction, that refuses a write.

It protects from mistakes in this package: whoever can run any statement can also `RESET ROLE`.
"""

from __future__ import annotations

import logging

import psycopg
from psycopg import sql

from ingest_pipeline.store.backup import public_views
from ingest_pipeline.store.connection import Connection, connected, first_line, scalar
from ingest_pipeline.store.migrate import LOCK

logger = logging.getLogger(__name__)

READER = "ingest_reader"
EXISTS = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)"
CREATE = sql.SQL("CREATE ROLE {reader} NOLOGIN")
# The extension's operators are found only by who may use its schema.
SCHEMAS = "SELECT 'ingest' UNION SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
USE = sql.SQL("GRANT USAGE ON SCHEMA {schema} TO {reader}")
READ_VIEW = sql.SQL("GRANT SELECT ON public.{view} TO {reader}")
GRANTS = (
    sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA ingest TO {reader}"),
    # Of tables that this user makes later: a migration, the vectors of another model.
    sql.SQL("ALTER DEFAULT PRIVILEGES IN SCHEMA ingest GRANT SELECT ON TABLES TO {reader}"),
    # Since PostgreSQL 16 who makes a role may not take it before that.
    sql.SQL("GRANT {reader} TO CURRENT_USER"),
)
WAIT_FOR_OTHERS = "SELECT pg_advisory_xact_lock(%s)"
# It can be taken, it reads, it does not write, and nobody gave it rights that no grant limits.
USABLE = """
SELECT pg_has_role(current_user, rolname, %(mode)s)
    AND has_table_privilege(rolname, 'ingest.files', 'SELECT')
    AND NOT has_table_privilege(rolname, 'ingest.files', 'INSERT, UPDATE, DELETE, TRUNCATE')
    AND NOT (rolsuper OR rolcreaterole OR rolcreatedb)
FROM pg_roles WHERE rolname = %(role)s
"""
SET_IS_A_RIGHT = 160_000
"""From this version of PostgreSQL on a member of a role may be forbidden to take it."""


def prepare_reader(url: str) -> str | None:
    """Make the role, or bring its rights up to date; return its name, or None where sessions cannot take it.

    A user of the database who may not make roles leaves that to its administrator: the role is taken if it is there.

    Raises:
        StoreUnavailable: Postgres cannot be reached.
    """
    with connected(url) as connection:
        reason = _made(connection)
        if _is_usable(connection):
            return READER
    logger.warning(
        "readers have no role of their own (%s): their transactions are read-only all the same; see docs/service.md",
        reason or f"the role {READER} cannot be taken, or may do more than read",
    )
    return None


def _made(connection: Connection) -> str | None:
    """Make the role and give it its rights; return why that was not possible."""
    reader = sql.Identifier(READER)
    try:
        if not scalar(connection, EXISTS, (READER,)):
            _create(connection, reader)
        with connection.transaction():
            connection.execute(WAIT_FOR_OTHERS, (LOCK,))  # two that grant at once fail with each other
            for (schema,) in connection.execute(SCHEMAS).fetchall():
                connection.execute(USE.format(schema=sql.Identifier(schema), reader=reader))
            for view in public_views(connection):
                connection.execute(READ_VIEW.format(view=sql.Identifier(view), reader=reader))
            for grant in GRANTS:
                connection.execute(grant.format(reader=reader))
    except psycopg.errors.InsufficientPrivilege as error:
        return first_line(error)
    return None


def _create(connection: Connection, reader: sql.Identifier) -> None:
    try:
        connection.execute(CREATE.format(reader=reader))
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return  # a service of another database of this server made it just now


def _is_usable(connection: Connection) -> bool:
    mode = "SET" if connection.info.server_version >= SET_IS_A_RIGHT else "MEMBER"
    return bool(scalar(connection, USABLE, {"mode": mode, "role": READER}))
