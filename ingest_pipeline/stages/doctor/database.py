"""The database: whether it answers, and as what; the extension, the schema, sessions, connections, the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from ingest_pipeline.models import Finding
from ingest_pipeline.settings import Settings
from ingest_pipeline.sizes import counted
from ingest_pipeline.stages.doctor.bounded import Seen, fail, looked, ok, warn
from ingest_pipeline.stages.doctor.machine import runs_at_once
from ingest_pipeline.store.health import (
    ServerHealth,
    is_old_pgvector,
    server_health,
    url_without_start,
    why_not_startable,
)

START = "nothing, if it is stopped on purpose: every command starts it, and so does `ingest db start`"
LATER = "once `database` answers, look again"
LEAST_OF_PROCESS, MOST_OF_PROCESS = 2, 4
"""One for the ledger, one for each of Dagster's three storages once it is used: `ingest run` with one run had 4 in all
(2026-11, the samples)."""
CONNECTIONS_OF_SERVICES = 3 * MOST_OF_PROCESS + 20
"""Of webserver, daemon and code server; 20 more for a moment (instance/storage.py)."""
WARN_CLOCK_SECONDS, FAIL_CLOCK_SECONDS = 5.0, 60.0
"""A schedule or a log is confusing above the first; S3 refuses requests that are minutes off."""
INSTALL_PGVECTOR = "install pgvector 0.8 or later on the server (Debian: postgresql-NN-pgvector)"


def checks(settings: Settings) -> Iterator[Finding]:
    """Yield the findings about the database; it is asked once, and not started."""
    asked: list[ServerHealth] = []
    yield looked("database", lambda: _database(settings, asked), advice=_advice(settings))
    parts: tuple[tuple[str, Callable[[ServerHealth], Seen]], ...] = (
        ("session", _session),
        ("pgvector", _pgvector),
        ("schema", _schema),
        ("connections", lambda server: _connections(server, runs_at_once(settings))),
        ("clock", _clock),
    )
    for check, look in parts:
        if asked:
            yield looked(check, partial(look, asked[0]), advice="")
        else:
            yield Finding(check, "warn", "not looked at: the database does not answer", LATER)


def _advice(settings: Settings) -> str:
    if settings.database_url:
        return "start your server, or correct INGEST_DATABASE_URL (host, port, password, name of the database)"
    return f"read {settings.home / 'postgres' / 'server.log'}, then `ingest db start`"


def _database(settings: Settings, asked: list[ServerHealth]) -> Seen:
    url = url_without_start(settings)
    if url is None:
        obstacle = why_not_startable(settings)
        if obstacle:
            return fail(f"the embedded one is not running: {obstacle}", "mend that, or set INGEST_DATABASE_URL")
        return warn("the embedded one is not running", START)
    server = server_health(url)
    asked.append(server)
    whose = "your own" if settings.database_url else "embedded"
    if server.read_only:
        return fail(f"PostgreSQL {server.version}, {whose}, read only", "connect to the primary server, not a standby")
    return ok(f"PostgreSQL {server.version}, {whose}")


def _session(server: ServerHealth) -> Seen:
    if server.session_error:
        return fail(str(server.session_error), "connect directly, or let the pooler keep a session for each client")
    return ok(server.session)


def _pgvector(server: ServerHealth) -> Seen:
    installed, available = server.pgvector, server.pgvector_available
    if installed is None and available is None:
        return fail("the server has no pgvector", INSTALL_PGVECTOR)
    version = installed or available or "0"
    if is_old_pgvector(version):
        update = "" if not available or is_old_pgvector(available) else ", then `ALTER EXTENSION vector UPDATE`"
        return fail(f"pgvector {version}", f"{INSTALL_PGVECTOR}{update}")
    if installed is None and not server.may_create:
        return fail(
            f"pgvector {version} can be created, but not by this role",
            "let an administrator run CREATE EXTENSION vector",
        )
    return ok(f"pgvector {version}" + (", not created yet" if installed is None else ""))


def _schema(server: ServerHealth) -> Seen:
    if server.unknown:
        return fail(
            f"made by a newer version: this one does not know {', '.join(server.unknown)}",
            "upgrade ingest-pipeline, or restore a backup of before the upgrade",
        )
    if server.missing and not server.may_create:
        return fail(
            f"{len(server.missing)} migrations are missing, and this role may not create anything",
            "GRANT CREATE ON DATABASE to it",
        )
    if not server.applied:
        return warn("there is none yet", "`ingest db start` makes it, and so does any other command")
    if server.missing:
        return warn(f"{len(server.missing)} migrations are missing", "`ingest db start`, or any other command")
    return ok(f"up to date ({server.applied[-1]})")


def _connections(server: ServerHealth, runs: int) -> Seen:
    left = server.connections - server.connections_of_others
    least, most = LEAST_OF_PROCESS * (1 + runs), MOST_OF_PROCESS * (1 + runs) + CONNECTIONS_OF_SERVICES
    seen = f"{left} may be opened, {counted(runs, 'run')} at once"
    advice = f"raise max_connections (or the limit of the role or database) to {100 + server.connections_of_others}"
    if left < least:
        return fail(f"{seen}: {least} are needed", advice)
    if left < most:
        return warn(f"{seen} with Dagster's services may need {most}", advice)
    return ok(seen)


def _clock(server: ServerHealth) -> Seen:
    newest, ahead = server.newest_ahead_seconds or 0.0, server.clock_ahead_seconds
    if newest > FAIL_CLOCK_SECONDS:
        return fail(
            f"the ledger has rows of {newest:.0f} s after the database's now: its clock was set back",
            "set the clock of the database's machine (NTP)",
        )
    seen = f"the database's is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) > FAIL_CLOCK_SECONDS:
        return fail(seen, "set the clocks (NTP)")
    return warn(seen, "set the clocks (NTP)") if abs(ahead) > WARN_CLOCK_SECONDS else ok(seen)
