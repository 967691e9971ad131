"""The command `db`: the embedded Postgres."""

from __future__ import annotations

import argparse

from ingest_pipeline.cli.codes import OK
from ingest_pipeline.cli.command import Commands, Parser, add_command
from ingest_pipeline.settings import Settings


def add_commands(commands: Commands[Parser]) -> None:
    """Add the commands of this module to the parser."""
    command = add_command(commands, "db", db, "the embedded Postgres", json_output=False)
    command.add_argument("action", choices=("start", "stop", "url"))


def db(options: argparse.Namespace, settings: Settings) -> int:
    """Start or stop the embedded Postgres, or print its URL."""
    from ingest_pipeline.store.connection import database_url
    from ingest_pipeline.store.migrate import migrate
    from ingest_pipeline.store.server import EmbeddedServer

    server = EmbeddedServer(settings.home)
    if options.action == "stop":
        # A user's own Postgres is never stopped.
        print("stopped" if not settings.database_url and server.stop() else "not running")
        return OK
    if options.action == "url":
        print(settings.database_url or server.url)
        return OK
    url = database_url(settings)
    applied = migrate(url)
    # The URL of a user's own Postgres may contain a password.
    print(f"{url if not settings.database_url else 'your own Postgres'}  ({len(applied)} migrations applied)")
    return OK
