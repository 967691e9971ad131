"""The commands that serve: `serve` for people and programs, `mcp` for an agent."""

from __future__ import annotations

import argparse
import os
import sys
from threading import Thread

from ingest_pipeline.cli import rows
from ingest_pipeline.cli.codes import OK
from ingest_pipeline.cli.command import Commands, Parser, add_command
from ingest_pipeline.settings import Settings


def add_commands(commands: Commands[Parser]) -> None:
    """Add the commands of this module to the parser."""
    add_command(commands, "serve", serve, "a page for people and an API for programs on INGEST_SERVICE_PORT")
    add_command(
        commands, "mcp", mcp, "tools for an agent (Model Context Protocol) on the standard input and output",
        json_output=False,
    )  # fmt: skip


def serve(options: argparse.Namespace, settings: Settings) -> int:
    """Serve until a signal; print the address once everything is loaded."""
    from ingest_pipeline.memory.service_mark import marked_in_use
    from ingest_pipeline.service import server
    from ingest_pipeline.service.access import Access
    from ingest_pipeline.service.app import create_app
    from ingest_pipeline.service.state import opened_service
    from ingest_pipeline.stages.listening import bound_socket

    Access.of(settings)  # what is not allowed is said before anything is started
    _stay_small()
    with (
        bound_socket(settings.service_host, settings.service_port, service="SERVICE") as bound,
        marked_in_use(settings.home),
        opened_service(settings) as service,
    ):

        def announce() -> None:
            service.models.prepare()
            _print_ready(options, settings)

        # In a thread: `/healthz` answers meanwhile, and a search waits for the model.
        server.serve(create_app(service), bound, Thread(target=announce, daemon=True).start)
    return OK


def _print_ready(options: argparse.Namespace, settings: Settings) -> None:
    url = f"http://{settings.service_host}:{settings.service_port}"
    if options.json:
        rows.print_rows([{"url": url, "pid": os.getpid()}])
    else:
        print(f"{url}  Ctrl-C ends it")
    sys.stdout.flush()


def mcp(options: argparse.Namespace, settings: Settings) -> int:
    """Answer an agent until it ends; nothing but the protocol is on the standard output."""
    import anyio

    from ingest_pipeline.service.mcp import require_sdk, serve_stdio
    from ingest_pipeline.service.state import opened_service

    require_sdk()
    _stay_small()
    with opened_service(settings) as service:
        Thread(target=service.models.prepare, daemon=True).start()
        anyio.run(serve_stdio, service)
    return OK


def _stay_small() -> None:
    """Keep this process's threads few: it answers beside runs that compute with all cores."""
    from ingest_pipeline.memory.process import limit_arenas

    limit_arenas()
    os.environ["OMP_NUM_THREADS"] = "1"  # one query gains nothing by more
